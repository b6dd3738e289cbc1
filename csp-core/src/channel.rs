//! Channels: typed queues between goroutines, between threads, and between the two.
//!
//! The interface is all of crossbeam-channel's (0.5), with `close()` beside it: a program that says `use crossbeam_channel`
//! may say `use csp::channel` instead. The semantics are Go's. A wait parks the goroutine, or blocks the thread where the
//! caller is not a goroutine. Both kinds may meet on one channel.
//!
//! | constructor | capacity | a send waits | a receive waits |
//! |---|---|---|---|
//! | [`bounded(0)`](bounded) | none: a rendezvous | for a receive | for a send |
//! | [`bounded(n)`](bounded) | `n` messages | while the buffer is full | while it is empty |
//! | [`unbounded()`](unbounded) | no bound | never | while it is empty |
//! | [`after`], [`at`], [`tick`] | | there is no sender | until the time |
//! | [`never()`] | | there is no sender | for ever |
//!
//! A channel is closed by [`close()`](Sender::close) on either side, or when the last handle of one side is dropped.
//! Then sends fail and give the message back, and receivers get what is still in the buffer before they fail as well.
//! The messages that nobody can receive any more are dropped with the last receiver.
//!
//! # Memory
//!
//! A channel is one allocation of two cache lines, and one for the ring if it has a capacity. An unbounded channel
//! holds its messages in blocks of about a kilobyte, and keeps at most one that it does not need. A waiter lives on the
//! stack of the one that waits: waiting allocates nothing.
//!
//! # Select
//!
//! [`select!`] and [`select_biased!`] wait for the first of several operations; [`Select`] does so for a list of them that
//! is made at run time. Where the latter differs from crossbeam's is said there.
//!
//! # Example
//!
//! ```
//! # use csp_core as csp;
//! use std::thread;
//! use csp::channel::bounded;
//!
//! let (tx, rx) = bounded(0);
//! thread::spawn(move || {
//!     for n in 1..=3 {
//!         tx.send(n).unwrap();
//!     }
//! });
//! assert_eq!(rx.iter().collect::<Vec<i32>>(), [1, 2, 3]);
//! ```

pub use crate::chan::batch::{SendManyError, Unsent};
pub use crate::chan::error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError, TryReadyError,
    TryRecvError, TrySelectError, TrySendError,
};
pub use crate::chan::handle::{Receiver, Sender, after, at, bounded, never, tick, unbounded};
pub use crate::chan::iter::{IntoIter, Iter, TryIter};
pub use crate::select::{Select, SelectedOperation};
pub use crate::{select, select_biased};
