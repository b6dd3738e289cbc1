//! A program in the manner of crossbeam-channel's users, compiled three times from one source: with crossbeam-channel on
//! threads, with `csp::channel` on threads, and with `csp::channel` in goroutines. What it finds is the same.

#![allow(clippy::duplicate_mod, reason = "that it is compiled against each is the point")]

#[path = "."]
mod crossbeam {
    use crossbeam_channel as channel;
    use std::thread;

    pub(super) mod program;
}

#[path = "."]
mod threads {
    use csp::channel;
    use std::thread;

    pub(super) mod program;
}

#[path = "."]
mod goroutines {
    use csp::channel;

    mod thread {
        pub(super) use csp::{JoinHandle, spawn};
    }

    pub(super) mod program;
}

macro_rules! same {
    ($($scenario:ident)*) => {$(
        #[test]
        fn $scenario() {
            let expected = crossbeam::program::$scenario();
            assert!(!format!("{expected:?}").is_empty());
            assert_eq!(threads::program::$scenario(), expected);
            let in_goroutine = csp::spawn(goroutines::program::$scenario);
            assert_eq!(in_goroutine.join().unwrap(), expected);
        }
    )*};
}

same! {
    worker_pool_with_shutdown
    ticker_until_timeout
    fan_in_over_a_list_of_channels
    dispatch_to_whoever_is_ready
    requests_with_reply_channels
    pipeline_with_bounded_buffers
    publish_without_waiting_for_slow_subscribers
    batches_by_size_and_by_time
    a_message_is_kept_until_it_is_taken
    try_again_when_ready
    urgent_first
    errors_as_trait_objects
    event_loop_of_boxed_closures
    sieve_of_chained_stages
    optional_channels
    cancellation_by_closing
}
