//! Waiting for several goroutines.

mod wait_group;

pub use wait_group::WaitGroup;
