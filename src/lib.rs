//! Goroutines, channels and `select!` for Rust: the CSP model as Go programmers know it, without `async`.
//!
//! This page is a tutorial. Each step is a program that runs.
//!
//! # Hello
//!
//! [`go!`] starts a goroutine; a channel carries its answer back. [`#[csp::main]`](macro@main) makes `main` a goroutine
//! too. Goroutines are cheap: start one per connection, per file, per anything.
//!
//! ```
//! use csp::{Sender, go};
//!
//! fn greet(out: Sender<String>, name: &str) {
//!     out.send(format!("hello, {name}")).unwrap();
//! }
//!
//! #[csp::main]
//! fn main() {
//!     let (tx, rx) = csp::bounded(0);
//!     go!(greet(tx, "gopher"));
//!     assert_eq!(rx.recv(), Ok("hello, gopher".into()));
//! }
//! ```
//!
//! As in Go, `go!(f(a, b))` evaluates `f`, `a` and `b` now and runs the call later. It gives a [`JoinHandle`], which may be
//! dropped: the goroutine goes on.
//!
//! # Channels
//!
//! [`bounded(n)`](bounded) buffers up to `n` messages; with 0, sender and receiver meet. [`unbounded`] never makes a
//! sender wait. Waiting parks the goroutine, not its thread. Both halves can be cloned, and plain threads may use them as
//! well: there a wait blocks the thread.
//!
//! A channel closes when the last sender goes, or by `close()` on either side. Receivers get what is left in it, and then
//! their loops end:
//!
//! ```
//! use csp::go;
//!
//! let (tx, rx) = csp::bounded(8);
//! go! {
//!     for n in 1..=10 {
//!         tx.send(n).unwrap();
//!     }
//! };
//! assert_eq!(rx.iter().sum::<i32>(), 55);
//! ```
//!
//! # Select
//!
//! [`select!`] waits for the first of several operations, in Go's arrow syntax or crossbeam-channel's:
//!
//! ```
//! use std::time::Duration;
//! use csp::{go, select};
//!
//! let (numbers, rx) = csp::bounded::<u32>(0);
//! let (quit, done) = csp::bounded::<()>(0);
//! let producer = go! {
//!     let mut n = 0;
//!     loop {
//!         select! {
//!             sent = numbers <- n => { sent.unwrap(); n += 1; }
//!             _ = <-done => break n,
//!         }
//!     }
//! };
//! assert_eq!((rx.recv(), rx.recv()), (Ok(0), Ok(1)));
//! drop(quit); // closing is a broadcast: every receiver sees it
//! assert_eq!(producer.join().unwrap(), 2);
//!
//! let timed_out = select! {
//!     recv(csp::never::<u32>()) -> _ => false,
//!     recv(csp::after(Duration::from_millis(5))) -> _ => true,
//! };
//! assert!(timed_out);
//! ```
//!
//! # Waiting for goroutines
//!
//! [`WaitGroup`] counts goroutines as Go's does. [`wait_group!`] is a block in which goroutines may borrow from the
//! function around it, since it ends when they have ended.
//!
//! ```
//! use csp::{WaitGroup, go, wait_group};
//!
//! let wg = WaitGroup::new();
//! for n in 0..4 {
//!     go!(wg = &wg, drop(n));
//! }
//! wg.wait();
//!
//! let words = ["to", "be", "or", "not"];
//! let (mut letters, mut longest) = (0, 0);
//! wait_group! {
//!     go!(|| letters = words.concat().len());
//!     go!(|| longest = words.iter().map(|w| w.len()).max().unwrap());
//! }
//! assert_eq!((letters, longest), (9, 3));
//! ```
//!
//! # Panics
//!
//! A panic ends its goroutine and nothing else. The hook reports it with the goroutine's number, name and place of birth,
//! and [`JoinHandle::join`] hands it on. [`runtime::Builder::abort_on_panic`] makes it fatal, as in Go.
//!
//! # Threads
//!
//! A goroutine is a thread as far as code can tell: it has thread-locals of its own, wherever it runs. So a borrow of a
//! thread-local, a held `stdout().lock()`, or tokio's runtime context may live across a wait. What belongs to the *kernel*
//! thread does not follow: for affinity, signal masks, namespaces, and libraries that want one certain thread, use
//! [`lock_os_thread`]; the main goroutine gets the main OS thread.
//!
//! Blocking calls and long computations need no care. A goroutine that does not come back for 10 ms loses its processor
//! to the others; [`blocking`] says so ahead.
//!
//! # What to mind
//!
//! - **Stacks** are 256 KiB with their guard, of which only what is touched takes memory. Deep recursion needs
//!   `go!(stack = bytes, ..)`; running over is reported and aborts.
//! - **Thread-locals persist** from one goroutine to the next on the same slot, as in a thread pool, and are not
//!   destroyed in between. Per-thread registries and allocator caches grow with the number of goroutines that wait at
//!   once, not with the number started.
//! - **Dropping a channel's last handle closes it.** There is no way to stop a goroutine from outside; give it a `done`
//!   channel.
//! - **Different from a thread:** priority-inheritance and robust mutexes, `pthread_exit` and `pthread_cancel`, `fork`
//!   without `exec`, and code that registers rseq itself.
//! - **No unwinding, no `goexit`:** under `panic = "abort"` both end the process.
//! - **The dense mode** ([`runtime::Builder::dense`]) halves the memory of a parked goroutine, and takes a promise about
//!   thread-locals. [`alloc::PerWorker`] keeps allocators from caching something for each goroutine.
//! - **Elsewhere** than on x86-64 Linux with glibc each goroutine is an OS thread: the same semantics, slower. See
//!   [`runtime::Backend`].

#![forbid(unsafe_code)]

pub use csp_core::*;

/// The README's program is compiled as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
