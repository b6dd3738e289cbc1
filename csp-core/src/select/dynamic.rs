//! `Select`: an interface to select for a number of operations that is known only at run time. It is
//! crossbeam-channel's.
//!
//! The arms are those of `select!`, with one difference: the choice comes first, and what it needs of the user later.
//!
//! - A receive that is chosen takes its message at once, into a [`Place`] whose type is forgotten until
//!   [`SelectedOperation::recv`] names it. All arms share one place, and one state: only one of them is chosen.
//! - A send that is chosen gets a [`Grant`], which [`SelectedOperation::send`] uses.
//!
//! Only the user knows the types: who passes the `Sender` or `Receiver` at the address that was added passes one of the
//! same type, since it is borrowed for as long as the `SelectedOperation` lives and two of them do not overlap.

use std::alloc::{self, Layout};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};
use std::thread;
use std::time::{Duration, Instant};

use super::arm::{Arm, State, Target};
use super::{Aim, Limit, Order, Room, select};
use crate::chan::error::{ReadyTimeoutError, RecvError, SelectTimeoutError, SendError, TryReadyError, TrySelectError};
use crate::chan::handle::{Receiver, Sender};
use crate::chan::raw::{Ending, Grant};
use crate::chan::reply::{Sent, give_away};
use crate::sched::park::checkpoint;

/// A list of channel operations, one of which is to be carried out, or waited for to become ready.
///
/// [`select!`](crate::select!) does the same for operations that are known when the program is written.
///
/// An operation is *ready* if it does not have to wait; also where it will return an error because the channel is
/// closed. Of several that are ready a random one is chosen, each with the same probability; by
/// [`new_biased`](Self::new_biased) the one with the smallest index.
///
/// There are two ways to go on from the list:
///
/// - [`select`](Self::select) and the like choose an operation, which has then begun and **must** be completed.
/// - [`ready`](Self::ready) and the like wait until an operation is ready. It may then be tried, but somebody else may
///   have been faster: try it in a loop.
///
/// The list stays as it is, and can be used again.
///
/// # Compared with crossbeam
///
/// The interface is crossbeam-channel's. These things are different:
///
/// - A [`SelectedOperation`] that is dropped lets go of what it holds before it panics: the receiver that was to get its
///   message waits for another, the room in the buffer is free again. There, both are lost. And it panics only if no
///   panic is under way, where a second one would abort the process.
/// - If the channel is closed between the choice and [`SelectedOperation::send`], that fails and gives the message back.
///   There, `Ok` is returned and the message dropped with the channel, or, on an unbounded channel, the one who drops
///   the last receiver waits for the message.
/// - A message is in its place among the others when it is sent, not when the operation is chosen; and so is it counted.
///   There, a slow [`SelectedOperation::send`] holds up the receivers of later messages.
/// - On a channel without a buffer the choice is for a certain receiver, which waits for its message, and whose timeout
///   no longer counts, as there. If the operation is dropped, that receiver waits behind those that came meanwhile.
/// - [`remove`](Self::remove) keeps the order of the other operations, which matters to a biased choice.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{Receiver, RecvError, Select, unbounded};
///
/// fn recv_any<T>(receivers: &[Receiver<T>]) -> Result<T, RecvError> {
///     let mut select = Select::new();
///     for receiver in receivers {
///         select.recv(receiver);
///     }
///     let operation = select.select();
///     let index = operation.index();
///     operation.recv(&receivers[index])
/// }
///
/// let (senders, receivers): (Vec<_>, Vec<_>) = (0..10).map(|_| unbounded()).unzip();
/// senders[7].send("seven").unwrap();
/// assert_eq!(recv_any(&receivers), Ok("seven"));
/// ```
pub struct Select<'a> {
    arms: Vec<Arm<'a>>,
    /// What there is to the arms beside.
    operations: Vec<Operation>,
    next_index: usize,
    order: Order,
}

#[derive(Clone)]
struct Operation {
    index: usize,
    /// The address of the `Sender` or `Receiver`.
    handle: *const (),
    /// That of a message, for a receive.
    message: Layout,
    /// Gives back a grant of this channel.
    abandon: unsafe fn(Grant),
}

// SAFETY: it borrows senders and receivers, and wherever it is used, it uses what is theirs under the locks of their
// channels. It has the messages of a type that is not `Send` neither used nor dropped in another thread: to get at one
// takes the receiver, which cannot be there, and a message that is left in a `SelectedOperation` is leaked. The pointers
// in the arms are written before each use. (crossbeam's is `Send` and `Sync`, too.)
unsafe impl Send for Select<'_> {}
// SAFETY: through a shared reference it can be cloned and no more.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// An empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::Select;
    ///
    /// assert!(Select::new().try_select().is_err());
    /// ```
    pub fn new() -> Select<'a> {
        Self { arms: Vec::with_capacity(4), operations: Vec::with_capacity(4), next_index: 0, order: Order::Random }
    }

    /// An empty list, of which the ready operation with the smallest index will be chosen.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// let mut select = Select::new_biased();
    /// let receive = select.recv(&rx);
    /// select.send(&tx);
    /// let operation = select.select(); // both are ready
    /// assert_eq!(operation.index(), receive);
    /// assert_eq!(operation.recv(&rx), Ok(1));
    /// ```
    pub fn new_biased() -> Self {
        Self { order: Order::Biased, ..Self::new() }
    }

    /// Adds a send, and returns its index.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, unbounded};
    ///
    /// let (tx, rx) = unbounded::<i32>();
    /// let mut select = Select::new();
    /// assert_eq!(select.send(&tx), 0);
    /// assert_eq!(select.recv(&rx), 1);
    /// ```
    pub fn send<T>(&mut self, s: &'a Sender<T>) -> usize {
        self.add(Target::offer(s), ptr::from_ref(s).cast(), Layout::new::<()>(), Grant::abandon::<T>)
    }

    /// Adds a receive, and returns its index.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, unbounded};
    ///
    /// let (_tx, rx) = unbounded::<i32>();
    /// let mut select = Select::new();
    /// assert_eq!(select.recv(&rx), 0);
    /// assert_eq!(select.recv(&rx), 1);
    /// ```
    pub fn recv<T>(&mut self, r: &'a Receiver<T>) -> usize {
        self.add(Target::receive(r), ptr::from_ref(r).cast(), Layout::new::<T>(), Grant::abandon::<T>)
    }

    fn add(&mut self, target: Target<'a>, handle: *const (), message: Layout, abandon: unsafe fn(Grant)) -> usize {
        let index = self.next_index;
        self.arms.push(Arm::new(target));
        self.operations.push(Operation { index, handle, message, abandon });
        self.next_index += 1;
        index
    }

    /// Takes an operation out, for example because its channel is closed. The others keep their indices; its own is not
    /// used again.
    ///
    /// # Panics
    ///
    /// If there is no operation with this index, or no longer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// let (tx2, closed) = unbounded::<i32>();
    /// drop(tx2);
    ///
    /// let mut select = Select::new();
    /// let on_closed = select.recv(&closed);
    /// let on_open = select.recv(&rx);
    ///
    /// let operation = select.select(); // the one that is closed is ready
    /// assert_eq!(operation.index(), on_closed);
    /// assert!(operation.recv(&closed).is_err());
    /// select.remove(on_closed);
    ///
    /// tx.send(10).unwrap();
    /// let operation = select.select();
    /// assert_eq!(operation.index(), on_open);
    /// assert_eq!(operation.recv(&rx), Ok(10));
    /// ```
    #[track_caller]
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        // They are in the order of their indices.
        let Ok(at) = self.operations.binary_search_by_key(&index, |operation| operation.index) else {
            panic!("no operation with this index")
        };
        self.operations.remove(at);
        self.arms.remove(at);
    }

    /// Chooses a ready operation, without waiting for one.
    ///
    /// The operation must be completed, with [`SelectedOperation::send`] or [`SelectedOperation::recv`].
    ///
    /// # Errors
    ///
    /// If none is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, TrySelectError, bounded};
    ///
    /// let (tx, rx) = bounded(0);
    /// let mut select = Select::new();
    /// let receive = select.recv(&rx);
    /// let send = select.send(&tx);
    /// assert_eq!(select.try_select().err(), Some(TrySelectError)); // they do not meet each other
    ///
    /// drop(select);
    /// drop(rx);
    /// let mut select = Select::new();
    /// select.send(&tx);
    /// let operation = select.try_select().unwrap();
    /// assert!(operation.send(&tx, 1).is_err());
    /// # _ = (receive, send);
    /// ```
    #[track_caller]
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.select_until(Limit::Now, Location::caller()).ok_or(TrySelectError)
    }

    /// Waits until an operation is ready, and chooses it.
    ///
    /// The operation must be completed, with [`SelectedOperation::send`] or [`SelectedOperation::recv`].
    ///
    /// # Panics
    ///
    /// If the list is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, bounded};
    ///
    /// let (tx, rx) = bounded(0);
    /// let (tx2, rx2) = bounded(0);
    /// csp::go!(move || tx2.send(20));
    ///
    /// let mut select = Select::new();
    /// let send = select.send(&tx);
    /// let receive = select.recv(&rx2);
    /// let operation = select.select();
    /// match operation.index() {
    ///     index if index == send => operation.send(&tx, 10).unwrap(),
    ///     index if index == receive => assert_eq!(operation.recv(&rx2), Ok(20)),
    ///     _ => unreachable!(),
    /// }
    /// # _ = rx;
    /// ```
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'a> {
        self.assert_not_empty();
        self.select_until(Limit::Never, Location::caller()).expect("there is no end to the wait")
    }

    /// As [`select`](Self::select), but waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// If no operation is ready by then.
    ///
    /// # Panics
    ///
    /// If the list is empty, and the end of the timeout more than the clock can tell.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    /// use csp::channel::{Select, SelectTimeoutError, bounded};
    ///
    /// let (tx, rx) = bounded(1);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// let timeout = Duration::from_millis(1);
    /// assert_eq!(select.select_timeout(timeout).err(), Some(SelectTimeoutError));
    ///
    /// tx.send(1).unwrap();
    /// assert_eq!(select.select_timeout(timeout).unwrap().recv(&rx), Ok(1));
    /// ```
    #[track_caller]
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        match crate::primitive::now().checked_add(timeout) {
            Some(deadline) => self.select_deadline(deadline),
            None => Ok(self.select()),
        }
    }

    /// As [`select`](Self::select), but waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// If no operation is ready by then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::{Duration, Instant};
    /// use csp::channel::{Select, SelectTimeoutError, bounded};
    ///
    /// let (tx, rx) = bounded(1);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(select.select_deadline(deadline).err(), Some(SelectTimeoutError));
    ///
    /// tx.send(1).unwrap();
    /// assert_eq!(select.select_deadline(deadline).unwrap().recv(&rx), Ok(1));
    /// ```
    #[track_caller]
    pub fn select_deadline(&mut self, deadline: Instant) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.select_until(Limit::At(deadline), Location::caller()).ok_or(SelectTimeoutError)
    }

    /// Finds a ready operation, without waiting for one.
    ///
    /// Somebody else may be faster to carry it out. It may also turn out not to have been ready.
    ///
    /// # Errors
    ///
    /// If none is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, TryReadyError, bounded};
    ///
    /// let (tx, rx) = bounded(1);
    /// let mut select = Select::new();
    /// let receive = select.recv(&rx);
    /// assert_eq!(select.try_ready(), Err(TryReadyError));
    /// tx.send(1).unwrap();
    /// assert_eq!(select.try_ready(), Ok(receive));
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// ```
    #[track_caller]
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.ready_until(Limit::Now, Location::caller()).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready, and returns its index.
    ///
    /// Somebody else may be faster to carry it out. It may also turn out not to have been ready.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Receiver, RecvError, Select, bounded};
    ///
    /// fn recv_any<T>(receivers: &[Receiver<T>]) -> Result<T, RecvError> {
    ///     let mut select = Select::new();
    ///     for receiver in receivers {
    ///         select.recv(receiver);
    ///     }
    ///     loop {
    ///         let index = select.ready();
    ///         match receivers[index].try_recv() {
    ///             Err(error) if error.is_empty() => continue, // somebody was faster
    ///             result => return result.map_err(|_| RecvError),
    ///         }
    ///     }
    /// }
    ///
    /// let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| bounded(0)).unzip();
    /// csp::go!({ senders[1].send(5) });
    /// assert_eq!(recv_any(&receivers[1..]), Ok(5));
    /// ```
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        self.assert_not_empty();
        self.ready_until(Limit::Never, Location::caller()).expect("there is no end to the wait")
    }

    /// As [`ready`](Self::ready), but waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// If no operation is ready by then.
    ///
    /// # Panics
    ///
    /// If the list is empty, and the end of the timeout more than the clock can tell.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    /// use csp::channel::{ReadyTimeoutError, Select, bounded};
    ///
    /// let (tx, _rx) = bounded(1);
    /// let mut select = Select::new();
    /// let send = select.send(&tx);
    /// assert_eq!(select.ready_timeout(Duration::from_millis(1)), Ok(send));
    /// tx.send(1).unwrap();
    /// assert_eq!(select.ready_timeout(Duration::from_millis(1)), Err(ReadyTimeoutError));
    /// ```
    #[track_caller]
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        match crate::primitive::now().checked_add(timeout) {
            Some(deadline) => self.ready_deadline(deadline),
            None => Ok(self.ready()),
        }
    }

    /// As [`ready`](Self::ready), but waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// If no operation is ready by then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::{Duration, Instant};
    /// use csp::channel::{ReadyTimeoutError, Select, bounded};
    ///
    /// let (tx, rx) = bounded::<i32>(1);
    /// let mut select = Select::new();
    /// let receive = select.recv(&rx);
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(select.ready_deadline(deadline), Err(ReadyTimeoutError));
    /// drop(tx);
    /// assert_eq!(select.ready_deadline(deadline), Ok(receive)); // it will fail at once, that is
    /// ```
    #[track_caller]
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.ready_until(Limit::At(deadline), Location::caller()).ok_or(ReadyTimeoutError)
    }

    #[track_caller]
    fn assert_not_empty(&self) {
        assert!(!self.arms.is_empty(), "no operations have been added to `Select`");
    }

    fn select_until(&mut self, limit: Limit, location: &'static Location<'static>) -> Option<SelectedOperation<'a>> {
        checkpoint();
        self.choose(|order, arms, room| select(Aim::Operation, order, arms, room, limit, location))
    }

    fn ready_until(&mut self, limit: Limit, location: &'static Location<'static>) -> Option<usize> {
        checkpoint();
        let order = self.order;
        let found =
            with_room(self.arms.len(), |room| select(Aim::Readiness, order, &mut self.arms, room, limit, location));
        self.operations.get(found).map(|operation| operation.index)
    }

    /// Lets `choose` carry out an arm and return its number, or that of all arms.
    fn choose(
        &mut self,
        choose: impl FnOnce(Order, &mut [Arm<'a>], &mut Room<'_>) -> usize,
    ) -> Option<SelectedOperation<'a>> {
        let mut place = Place::new(self.operations.iter().map(|operation| operation.message));
        let mut grant = MaybeUninit::<Grant>::uninit();
        let mut state = State::Idle;
        // Each once: taking the address anew would end the earlier one's right to be used.
        let (to_grant, to_place) = (grant.as_mut_ptr().cast(), place.as_mut_ptr());
        for arm in &mut self.arms {
            let message = if arm.offers() { to_grant } else { to_place };
            arm.set_operation(message, &raw mut state);
        }
        let order = self.order;
        let chosen = with_room(self.arms.len(), |room| choose(order, &mut self.arms, room));
        let arm = self.arms.get(chosen)?;
        let Operation { index, handle, abandon, .. } = self.operations[chosen];
        // SAFETY: written by the arms that were just carried out or tried.
        let state = unsafe { (&raw const state).read() };
        let result = match (state, arm.offers()) {
            // SAFETY: an offer that is done has its grant.
            (State::Done, true) => Outcome::Granted(unsafe { grant.assume_init() }),
            (State::Done, false) => Outcome::Received(place),
            _ => Outcome::Closed,
        };
        Some(SelectedOperation { index, handle, result, abandon, borrow: PhantomData })
    }
}

/// Gives `run` the room that a select of `count` arms needs.
fn with_room<R>(count: usize, run: impl FnOnce(&mut Room<'_>) -> R) -> R {
    fn on_stack<const N: usize, R>(run: impl FnOnce(&mut Room<'_>) -> R) -> R {
        run(&mut Room {
            ready: &mut [0; N],
            locks: &mut [ptr::null(); N],
            waiters: &mut [const { MaybeUninit::uninit() }; N],
        })
    }

    match count {
        0..=4 => on_stack::<4, R>(run),
        5..=16 => on_stack::<16, R>(run),
        _ => run(&mut Room {
            ready: &mut vec![0; count],
            locks: &mut vec![ptr::null(); count],
            waiters: Box::new_uninit_slice(count).as_mut(),
        }),
    }
}

impl Clone for Select<'_> {
    fn clone(&self) -> Self {
        Self {
            arms: self.arms.iter().map(Arm::again).collect(),
            operations: self.operations.clone(),
            next_index: self.next_index,
            order: self.order,
        }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that a [`Select`] has chosen. It has begun and must be completed, by [`send`](Self::send) or
/// [`recv`](Self::recv), whichever it is.
///
/// Until then somebody may be waiting for it: a receiver that was chosen to get the message.
///
/// # Panics
///
/// If it is dropped without being completed. What it holds is let go of, but for a message that was received: that is
/// leaked, since it might be one that must not be dropped here.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{Select, bounded};
///
/// let (tx, rx) = bounded(1);
/// let mut select = Select::new();
/// select.send(&tx);
/// let operation = select.select();
/// operation.send(&tx, "hello").unwrap();
/// assert_eq!(rx.recv(), Ok("hello"));
/// ```
#[must_use]
pub struct SelectedOperation<'a> {
    index: usize,
    /// The address of the `Sender` or `Receiver`.
    handle: *const (),
    result: Outcome,
    abandon: unsafe fn(Grant),
    /// Senders and receivers are borrowed.
    borrow: PhantomData<&'a ()>,
}

// What is behind its pointers is used under locks, and left as it should be wherever a panic can come from.
impl UnwindSafe for SelectedOperation<'_> {}
impl RefUnwindSafe for SelectedOperation<'_> {}

enum Outcome {
    Closed,
    Received(Place),
    Granted(Grant),
    /// There is nothing left to do.
    Completed,
}

impl SelectedOperation<'_> {
    /// The index of the operation, as [`Select::send`] or [`Select::recv`] has returned it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, bounded};
    ///
    /// let (tx, _rx) = bounded(0);
    /// let (tx2, _rx2) = bounded(1);
    /// let mut select = Select::new();
    /// select.send(&tx);
    /// let second = select.send(&tx2);
    /// let operation = select.select(); // only the second is ready
    /// assert_eq!(operation.index(), second);
    /// operation.send(&tx2, ()).unwrap();
    /// # _ = tx.try_send(());
    /// ```
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes a send. It does not wait.
    ///
    /// # Errors
    ///
    /// The message is given back if the channel is closed.
    ///
    /// # Panics
    ///
    /// If `s` is not the very [`Sender`] that was added to the [`Select`]; a clone of it will not do.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{Select, SendError, bounded};
    ///
    /// let (tx, rx) = bounded(0);
    /// drop(rx);
    /// let mut select = Select::new();
    /// select.send(&tx);
    /// assert_eq!(select.select().send(&tx, 10), Err(SendError(10)));
    /// ```
    #[track_caller]
    pub fn send<T>(mut self, s: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        assert!(ptr::from_ref(s).cast() == self.handle, "passed a sender that wasn't selected");
        give_away()(msg, |msg| {
            let ending = match mem::replace(&mut self.result, Outcome::Completed) {
                // SAFETY: the grant is of the channel of that sender, whose messages are of this type, and which keeps it. The
                // message is given away.
                Outcome::Granted(grant) => unsafe { grant.send(msg) },
                Outcome::Closed => Ending::Closed,
                Outcome::Received(_) | Outcome::Completed => unreachable!("the handle is a sender's"),
            };
            // SAFETY: it is there where it was not moved out.
            unsafe { Sent::reply(msg, ending) }
        })
    }

    /// Completes a receive. It does not wait.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if the channel is closed and empty.
    ///
    /// # Panics
    ///
    /// If `r` is not the very [`Receiver`] that was added to the [`Select`]; a clone of it will not do.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{RecvError, Select, bounded};
    ///
    /// let (tx, rx) = bounded::<i32>(0);
    /// drop(tx);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// assert_eq!(select.select().recv(&rx), Err(RecvError));
    /// ```
    #[track_caller]
    pub fn recv<T>(mut self, r: &Receiver<T>) -> Result<T, RecvError> {
        assert!(ptr::from_ref(r).cast() == self.handle, "passed a receiver that wasn't selected");
        match mem::replace(&mut self.result, Outcome::Completed) {
            // SAFETY: there is a message in it, of that receiver's channel, whose messages are of this type. The place
            // does not drop it.
            Outcome::Received(mut place) => Ok(unsafe { place.as_mut_ptr().cast::<T>().read() }),
            Outcome::Closed => Err(RecvError),
            Outcome::Granted(_) | Outcome::Completed => unreachable!("the handle is a receiver's"),
        }
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        match mem::replace(&mut self.result, Outcome::Completed) {
            Outcome::Completed => return,
            // SAFETY: the grant is of the channel that this was made for, which is borrowed.
            Outcome::Granted(grant) => unsafe { (self.abandon)(grant) },
            // The message is leaked: a `Select` may be on a thread where its type must not be.
            Outcome::Received(_) | Outcome::Closed => {}
        }
        if !thread::panicking() {
            panic!("dropped `SelectedOperation` without completing the operation");
        }
    }
}

/// A place for a message of whatever type: in itself where that is small. It does not drop the message.
struct Place {
    small: MaybeUninit<[u64; 8]>,
    /// A block of its own otherwise.
    large: Option<(NonNull<u8>, Layout)>,
}

impl Place {
    /// Room for one of these.
    fn new(messages: impl Iterator<Item = Layout>) -> Self {
        let mut layout = Layout::new::<()>();
        for message in messages {
            let (size, align) = (layout.size().max(message.size()), layout.align().max(message.align()));
            layout = Layout::from_size_align(size, align).unwrap_or_else(|_| panic!("capacity overflow"));
        }
        let fits = layout.size() <= size_of::<[u64; 8]>() && layout.align() <= align_of::<[u64; 8]>();
        let large = (!fits).then(|| {
            let block = match layout.size() {
                0 => ptr::without_provenance_mut(layout.align()),
                // SAFETY: the layout has a size.
                _ => unsafe { alloc::alloc(layout) },
            };
            (NonNull::new(block).unwrap_or_else(|| alloc::handle_alloc_error(layout)), layout)
        });
        Self { small: MaybeUninit::uninit(), large }
    }

    fn as_mut_ptr(&mut self) -> *mut () {
        match self.large {
            Some((block, _)) => block.as_ptr().cast(),
            None => self.small.as_mut_ptr().cast(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((block, layout)) = self.large
            && layout.size() != 0
        {
            // SAFETY: allocated in `new` with this layout.
            unsafe { alloc::dealloc(block.as_ptr(), layout) };
        }
    }
}
