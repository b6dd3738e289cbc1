//! The two sides of a channel as a user holds them.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use super::iter::{Iter, TryIter};
use super::raw::{Chan, Core, Ending, Progress, Side, is_past};
use super::reply::{Received, Sent, give_away, reply};
use super::timer::{Timer, pause};
use crate::sched::park::{WaitReason, checkpoint};

/// A channel that holds at most `cap` messages.
///
/// With `cap == 0` it is a rendezvous: each send waits for a receive and hands its message over directly.
///
/// # Panics
///
/// If a buffer of `cap` messages is more than can be counted or allocated.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use std::thread;
/// use csp::channel::bounded;
///
/// let (tx, rx) = bounded(1);
/// tx.send(1).unwrap();
/// assert!(tx.is_full());
/// let sender = thread::spawn(move || tx.send(2));   // waits for room
/// assert_eq!(rx.recv(), Ok(1));
/// assert_eq!(rx.recv(), Ok(2));
/// assert_eq!(sender.join().unwrap(), Ok(()));
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    handles(Chan::bounded(cap))
}

/// A channel that holds as many messages as there is memory for: a send never waits.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::unbounded;
///
/// let (tx, rx) = unbounded();
/// (0..1000).for_each(|n| tx.send(n).unwrap());
/// drop(tx);
/// assert_eq!(rx.iter().sum::<i32>(), 499_500);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    handles(Chan::unbounded())
}

/// How many wait to send on a channel, and how many to receive. For tests: only there it is known what it was good for.
pub fn waiting<T>(sender: &Sender<T>) -> (usize, usize) {
    sender.core().waiting()
}

fn handles<T>(chan: NonNull<Chan<T>>) -> (Sender<T>, Receiver<T>) {
    (Sender { chan }, Receiver { flavor: Flavor::Chan(chan) })
}

/// A receiver that never receives: Go's nil channel. Its use is in a select.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{TryRecvError, never};
///
/// let rx = never::<i32>();
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver { flavor: Flavor::Never }
}

/// A receiver that receives one message, the time at which it was due, after `duration`.
///
/// It costs no thread and no timer: waiting on it is waiting with a deadline.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use std::time::{Duration, Instant};
/// use csp::channel::after;
///
/// let start = Instant::now();
/// let due = after(Duration::from_millis(5)).recv().unwrap();
/// assert!(due >= start + Duration::from_millis(5) && Instant::now() >= due);
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    match crate::primitive::now().checked_add(duration) {
        Some(when) => at(when),
        None => never(),
    }
}

/// A receiver that receives one message, `when`, at that time.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use std::time::Instant;
/// use csp::channel::{TryRecvError, at};
///
/// let now = Instant::now();
/// let rx = at(now);
/// assert_eq!(rx.recv(), Ok(now));
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    Receiver { flavor: Flavor::Timer(Arc::new(Timer::at(when))) }
}

/// A receiver that receives a message, the time at which it was due, every `duration`.
///
/// Messages do not pile up: where nobody has received one, the next is due as soon as somebody has.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use std::time::{Duration, Instant};
/// use csp::channel::tick;
///
/// let start = Instant::now();
/// let ticks = tick(Duration::from_millis(2));
/// ticks.recv().unwrap();
/// ticks.recv().unwrap();
/// assert!(start.elapsed() >= Duration::from_millis(4));
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match crate::primitive::now().checked_add(duration) {
        Some(first) => Receiver { flavor: Flavor::Timer(Arc::new(Timer::tick(first, duration))) },
        None => never(),
    }
}

/// The sending side of a channel.
///
/// It can be cloned and shared; when the last one is dropped, the channel is closed.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use std::thread;
/// use csp::channel::unbounded;
///
/// let (tx, rx) = unbounded();
/// let tx2 = tx.clone();
/// thread::spawn(move || tx.send(1).unwrap());
/// thread::spawn(move || tx2.send(2).unwrap());
/// assert_eq!(rx.iter().sum::<i32>(), 3);
/// ```
pub struct Sender<T> {
    chan: NonNull<Chan<T>>,
}

/// The receiving side of a channel.
///
/// It can be cloned and shared; each message goes to one receiver. When the last one is dropped, the channel is closed
/// and the messages in its buffer are dropped. If the drop of one panics, the others are dropped first, and then the panic
/// goes on (crossbeam leaks the others).
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{TryRecvError, bounded};
///
/// let (tx, rx) = bounded(3);
/// tx.send("a message").unwrap();
/// let rx2 = rx.clone();
/// assert_eq!(rx2.recv(), Ok("a message"));
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// ```
pub struct Receiver<T> {
    flavor: Flavor<T>,
}

enum Flavor<T> {
    Chan(NonNull<Chan<T>>),
    /// Only where `T` is `Instant`.
    Timer(Arc<Timer>),
    Never,
}

// SAFETY: the channel's own synchronisation (C1, W1 to W6) lets handles be used on any thread; messages go from thread
// to thread by value, which `T: Send` allows. No `&T` is ever shared.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    #[inline]
    pub(super) fn chan(&self) -> &Chan<T> {
        // SAFETY: this handle keeps the channel.
        unsafe { self.chan.as_ref() }
    }

    #[inline]
    pub(crate) fn raw(&self) -> NonNull<Chan<T>> {
        self.chan
    }

    /// Whether a send would have to wait.
    #[inline]
    pub(crate) fn must_wait(&self) -> bool {
        self.core().send_would_block()
    }

    #[inline]
    fn core(&self) -> &Core {
        self.chan().core()
    }

    /// Sends a message; waits while there is no room for it, or, on a channel without capacity, nobody to receive it.
    ///
    /// # Errors
    ///
    /// The message is given back if the channel is closed, or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{SendError, bounded};
    ///
    /// let (tx, rx) = bounded(1);
    /// assert_eq!(tx.send(1), Ok(()));
    /// drop(rx);
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        checkpoint();
        let location = Location::caller();
        give_away()(message, |message| {
            let chan = self.chan();
            chan.core().lock.lock();
            // SAFETY: the lock is held; where it still is after `begin_send`, the send has to wait. The message is given away,
            // and given back where it was not moved out.
            unsafe {
                let ending = match chan.begin_send(message) {
                    Progress::Done => Ending::Done,
                    Progress::Closed => Ending::Closed,
                    Progress::Blocked => chan.wait_send(message, None, location),
                };
                Sent::reply(message, ending)
            }
        })
    }

    /// Sends a message if that needs no wait.
    ///
    /// # Errors
    ///
    /// The message is given back if there is no room for it (on a channel without capacity: nobody is waiting to
    /// receive it), or if the channel is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{TrySendError, bounded};
    ///
    /// let (tx, rx) = bounded(1);
    /// assert_eq!(tx.try_send(1), Ok(()));
    /// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    /// drop(rx);
    /// assert_eq!(tx.try_send(3), Err(TrySendError::Disconnected(3)));
    /// ```
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        checkpoint();
        give_away()(message, |message| {
            let chan = self.chan();
            let core = chan.core();
            let mut ending = Ending::TimedOut;
            // SAFETY: the lock is held until it is released below or by `begin_send`. The message is given away, and given
            // back where it was not moved out.
            unsafe {
                if !core.send_would_block() {
                    core.lock.lock();
                    match chan.begin_send(message) {
                        Progress::Done => ending = Ending::Done,
                        Progress::Closed => ending = Ending::Closed,
                        Progress::Blocked => core.lock.unlock(),
                    }
                }
                Sent::reply(message, ending)
            }
        })
    }

    /// As [`send`](Self::send), but waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// The message is given back if the time is over first, or if the channel is closed or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    /// use csp::channel::{SendTimeoutError, bounded};
    ///
    /// let (tx, rx) = bounded(0);
    /// assert_eq!(tx.send_timeout(1, Duration::from_millis(1)), Err(SendTimeoutError::Timeout(1)));
    /// drop(rx);
    /// assert_eq!(tx.send_timeout(2, Duration::from_millis(1)), Err(SendTimeoutError::Disconnected(2)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        let location = Location::caller();
        give_away()(message, |message| {
            // SAFETY: the message is given away, and given back where it was not moved out.
            unsafe {
                let deadline = || crate::primitive::now().checked_add(timeout);
                let ending = self.chan().send_until(message, deadline, location);
                Sent::reply(message, ending)
            }
        })
    }

    /// As [`send`](Self::send), but waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// The message is given back if the deadline is first, or if the channel is closed or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::{Duration, Instant};
    /// use csp::channel::{SendTimeoutError, bounded};
    ///
    /// let (tx, _rx) = bounded(0);
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(tx.send_deadline(1, deadline), Err(SendTimeoutError::Timeout(1)));
    /// assert!(Instant::now() >= deadline);
    /// ```
    #[inline]
    #[track_caller]
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        let location = Location::caller();
        give_away()(message, |message| {
            // SAFETY: the message is given away, and given back where it was not moved out.
            unsafe {
                let ending = self.chan().send_until(message, || Some(deadline), location);
                Sent::reply(message, ending)
            }
        })
    }

    /// Closes the channel, and says whether it was open.
    ///
    /// From then on every send fails, on every handle; those who are waiting to send get their messages back. Receivers
    /// get what is in the buffer, and then [`RecvError`]. Unlike Go's `close` it may be called from either side and
    /// more than once. (crossbeam-channel has no such method; there, as here, dropping the last handle of a side does
    /// it.) One that was chosen before by a select, for a receiver that was waiting, and makes its message only then
    /// (`send(tx, message)` in `select!`, [`SelectedOperation`](crate::channel::SelectedOperation)), still
    /// reaches that receiver.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{RecvError, SendError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// assert!(tx.close());
    /// assert!(!tx.close());
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    pub fn close(&self) -> bool {
        self.core().close()
    }

    /// Whether the channel is closed. Once closed it stays so.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded::<i32>();
    /// assert!(!tx.is_closed());
    /// drop(rx);
    /// assert!(tx.is_closed());
    /// ```
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.core().is_closed()
    }

    /// Whether the buffer is empty. A channel without capacity always is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// assert!(tx.is_empty());
    /// tx.send(0).unwrap();
    /// assert!(!tx.is_empty());
    /// # drop(rx);
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.core().is_empty()
    }

    /// Whether the buffer is full. A channel without capacity always is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::bounded(1);
    /// assert!(!tx.is_full());
    /// tx.send(0).unwrap();
    /// assert!(tx.is_full());
    /// # drop(rx);
    /// ```
    #[inline]
    pub fn is_full(&self) -> bool {
        self.core().is_full()
    }

    /// The number of messages in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(tx.len(), 2);
    /// # drop(rx);
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.core().len()
    }

    /// How many messages the buffer holds; `None` where there is no bound.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{bounded, unbounded};
    ///
    /// assert_eq!(bounded::<i32>(5).0.capacity(), Some(5));
    /// assert_eq!(unbounded::<i32>().0.capacity(), None);
    /// ```
    #[inline]
    pub fn capacity(&self) -> Option<usize> {
        self.core().capacity()
    }

    /// Whether both send to the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, _) = csp::channel::unbounded::<i32>();
    /// let (tx2, _) = csp::channel::unbounded::<i32>();
    /// assert!(tx.same_channel(&tx.clone()));
    /// assert!(!tx.same_channel(&tx2));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        self.chan == other.chan
    }
}

impl<T> Receiver<T> {
    #[inline]
    pub(crate) fn channel(&self) -> Option<NonNull<Chan<T>>> {
        match self.flavor {
            Flavor::Chan(chan) => Some(chan),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn timer(&self) -> Option<&Timer> {
        match &self.flavor {
            Flavor::Timer(timer) => Some(timer),
            _ => None,
        }
    }

    /// Whether a receive would have to wait. `false` of a timer tells nothing.
    #[inline]
    pub(crate) fn must_wait(&self) -> bool {
        match &self.flavor {
            // SAFETY: this handle keeps the channel.
            Flavor::Chan(chan) => unsafe { (*chan.as_ptr()).core().recv_would_block() },
            Flavor::Timer(_) => false,
            Flavor::Never => true,
        }
    }

    #[inline]
    pub(super) fn chan(&self) -> Option<&Chan<T>> {
        // SAFETY: this handle keeps the channel.
        self.channel().map(|chan| unsafe { &*chan.as_ptr() })
    }

    /// Receives a message; waits while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and empty, or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{RecvError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receive(Location::caller())
    }

    /// What `recv` and the iterators do.
    #[inline]
    pub(super) fn receive<R: Received<T>>(&self, location: &'static Location<'static>) -> R {
        checkpoint();
        let Some(chan) = self.chan() else {
            return self.wait_timer(None, location);
        };
        chan.core().lock.lock();
        // SAFETY: the lock is held; where it still is in the end, the receive has to wait. A message is given away.
        unsafe { chan.begin_recv(|message| reply(message), R::closed, || chan.wait_recv(None, location)) }
    }

    /// Receives a message if there is one, or somebody is waiting to send one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if there is none, [`TryRecvError::Disconnected`] if there will never be one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{TryRecvError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// drop(tx);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.try_receive()
    }

    /// What `try_recv` and the iterator do.
    #[inline]
    pub(super) fn try_receive<R: Received<T>>(&self) -> R {
        checkpoint();
        let Some(chan) = self.chan() else {
            return self.try_timer();
        };
        let core = chan.core();
        if core.recv_would_block() {
            return R::not_yet();
        }
        core.lock.lock();
        // SAFETY: the lock is held until it is released by `begin_recv` or in the last line. A message is given away.
        unsafe {
            chan.begin_recv(
                |message| reply(message),
                R::closed,
                || {
                    core.lock.unlock();
                    R::not_yet()
                },
            )
        }
    }

    /// As [`recv`](Self::recv), but waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if the time is over first, [`RecvTimeoutError::Disconnected`] when the channel is
    /// closed and empty, or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    /// use csp::channel::{RecvTimeoutError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Ok(1));
    /// drop(tx);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Disconnected));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(|| crate::primitive::now().checked_add(timeout))
    }

    /// As [`recv`](Self::recv), but waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if the deadline is first, [`RecvTimeoutError::Disconnected`] when the channel is
    /// closed and empty, or gets closed during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::{Duration, Instant};
    /// use csp::channel::{RecvTimeoutError, unbounded};
    ///
    /// let (_tx, rx) = unbounded::<i32>();
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(rx.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
    /// assert!(Instant::now() >= deadline);
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(|| Some(deadline))
    }

    /// `deadline` is asked only where the receive has to wait.
    #[inline]
    #[track_caller]
    fn recv_until(&self, deadline: impl FnOnce() -> Option<Instant>) -> Result<T, RecvTimeoutError> {
        checkpoint();
        let Some(chan) = self.chan() else {
            return self.timer_until(deadline, Location::caller());
        };
        chan.recv_until(deadline, Location::caller())
    }

    #[cold]
    fn timer_until<R: Received<T>>(
        &self,
        deadline: impl FnOnce() -> Option<Instant>,
        location: &'static Location<'static>,
    ) -> R {
        // What is due now is taken also where the deadline is past.
        if let Some(message) = self.timer().and_then(|timer| timer.try_take(crate::primitive::now())) {
            // SAFETY: a receiver with a timer is a `Receiver<Instant>`.
            return unsafe { as_reply(&message) };
        }
        let deadline = deadline();
        if is_past(deadline) {
            return R::not_yet();
        }
        self.wait_timer(deadline, location)
    }

    #[cold]
    fn wait_timer<R: Received<T>>(&self, deadline: Option<Instant>, location: &'static Location<'static>) -> R {
        match self.timer() {
            Some(timer) => match timer.take(deadline, location) {
                // SAFETY: a receiver with a timer is a `Receiver<Instant>`.
                Some(message) => unsafe { as_reply(&message) },
                None => R::not_yet(),
            },
            None => {
                pause(deadline, WaitReason::Never, location);
                R::not_yet()
            }
        }
    }

    #[cold]
    fn try_timer<R: Received<T>>(&self) -> R {
        match self.timer().and_then(|timer| timer.try_take(crate::primitive::now())) {
            // SAFETY: a receiver with a timer is a `Receiver<Instant>`.
            Some(message) => unsafe { as_reply(&message) },
            None => R::not_yet(),
        }
    }

    /// An iterator that receives until the channel is closed and empty, and waits where there is no message.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::bounded(0);
    /// std::thread::spawn(move || (1..4).for_each(|n| tx.send(n).unwrap()));
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// An iterator that receives for as long as that needs no wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    /// assert_eq!(rx.try_iter().next(), None);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Closes the channel, and says whether it was open. As [`Sender::close`]; this side can still receive what was
    /// sent before.
    ///
    /// A receiver without senders ([`never()`], [`after`], [`at`], [`tick`]) cannot be closed: `false`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{SendError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// assert!(rx.close());
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) -> bool {
        self.chan().is_some_and(|chan| chan.core().close())
    }

    /// Whether the channel is closed. Once closed it stays so; there may still be messages in it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded::<i32>();
    /// assert!(!rx.is_closed());
    /// drop(tx);
    /// assert!(rx.is_closed());
    /// ```
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.chan().is_some_and(|chan| chan.core().is_closed())
    }

    /// Whether the buffer is empty. A channel without capacity always is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// assert!(rx.is_empty());
    /// tx.send(0).unwrap();
    /// assert!(!rx.is_empty());
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.flavor {
            Flavor::Chan(_) => self.chan().is_none_or(|chan| chan.core().is_empty()),
            Flavor::Timer(timer) => timer.is_empty(),
            Flavor::Never => true,
        }
    }

    /// Whether the buffer is full. A channel without capacity always is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::bounded(1);
    /// assert!(!rx.is_full());
    /// tx.send(0).unwrap();
    /// assert!(rx.is_full());
    /// ```
    #[inline]
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            Flavor::Chan(_) => self.chan().is_none_or(|chan| chan.core().is_full()),
            Flavor::Timer(timer) => !timer.is_empty(),
            Flavor::Never => true,
        }
    }

    /// The number of messages in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.len(), 2);
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        match &self.flavor {
            Flavor::Chan(_) => self.chan().map_or(0, |chan| chan.core().len()),
            Flavor::Timer(timer) => usize::from(!timer.is_empty()),
            Flavor::Never => 0,
        }
    }

    /// How many messages the buffer holds; `None` where there is no bound.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{bounded, never, unbounded};
    ///
    /// assert_eq!(bounded::<i32>(5).1.capacity(), Some(5));
    /// assert_eq!(unbounded::<i32>().1.capacity(), None);
    /// assert_eq!(never::<i32>().capacity(), Some(0));
    /// ```
    #[inline]
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            Flavor::Chan(_) => self.chan().and_then(|chan| chan.core().capacity()),
            Flavor::Timer(_) => Some(1),
            Flavor::Never => Some(0),
        }
    }

    /// Whether both receive from the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (_, rx) = csp::channel::unbounded::<i32>();
    /// let (_, rx2) = csp::channel::unbounded::<i32>();
    /// assert!(rx.same_channel(&rx.clone()));
    /// assert!(!rx.same_channel(&rx2));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Chan(a), Flavor::Chan(b)) => a == b,
            (Flavor::Timer(a), Flavor::Timer(b)) => Arc::ptr_eq(a, b),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }
}

/// The reply with a timer's message.
///
/// # Safety
///
/// `T` is [`Instant`].
unsafe fn as_reply<T, R: Received<T>>(message: &Instant) -> R {
    // SAFETY: the caller's promise. An instant can be copied.
    unsafe { reply((&raw const *message).cast()) }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.chan().acquire(Side::Send);
        Self { chan: self.chan }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let flavor = match &self.flavor {
            Flavor::Chan(chan) => {
                // SAFETY: this handle keeps the channel.
                unsafe { chan.as_ref() }.acquire(Side::Receive);
                Flavor::Chan(*chan)
            }
            Flavor::Timer(timer) => Flavor::Timer(Arc::clone(timer)),
            Flavor::Never => Flavor::Never,
        };
        Self { flavor }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is gone after this.
        unsafe { Chan::release(self.chan, Side::Send) };
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Flavor::Chan(chan) = self.flavor {
            // SAFETY: the handle is gone after this.
            unsafe { Chan::release(chan, Side::Receive) };
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}
