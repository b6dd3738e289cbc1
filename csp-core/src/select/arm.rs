//! The operations of a select: what `select!` makes of its arms.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

use crate::chan::error::{RecvError, SendError};
use crate::chan::handle::{Receiver, Sender};
use crate::chan::raw::{Chan, Core, Grant, Progress, Side};
use crate::chan::reply::{Sent, give_away};
use crate::chan::timer::Timer;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It may be chosen.
    Idle,
    /// It takes no part: a guard said so, or its message is gone.
    Disabled,
    /// Chosen and carried out.
    Done,
    /// Chosen because its channel is closed.
    Closed,
}

/// A receive that may be chosen. See [`recv`].
pub struct Recv<'c, T> {
    receiver: &'c Receiver<T>,
    state: State,
    /// Holds a message exactly in [`State::Done`].
    message: MaybeUninit<T>,
}

/// A send that may be chosen. See [`send`].
pub struct Send<'c, T> {
    sender: &'c Sender<T>,
    state: State,
    has_message: bool,
    /// Holds a message while `has_message`, except in [`State::Done`].
    message: MaybeUninit<T>,
}

/// A send whose message is made when it has been chosen. See [`offer`].
pub struct Offer<'c, T> {
    sender: &'c Sender<T>,
    state: State,
    /// Holds a grant exactly in [`State::Done`].
    grant: MaybeUninit<Grant>,
}

/// The right to send one message without waiting, which an [`Offer`] gets that was chosen. It borrows nothing, so that
/// what makes the message may use whatever the `select!` uses.
///
/// Dropped, it lets somebody else have what it holds.
#[must_use]
pub struct Granted<T> {
    /// `None` once used.
    grant: Option<Grant>,
    /// Keeps the channel, where the grant is for room in it.
    _sender: Option<Sender<T>>,
}

/// An operation as the wait functions see it: any message type, any kind of channel.
pub struct Arm<'a> {
    pub(super) target: Target<'a>,
    pub(super) message: *mut (),
    pub(super) state: *mut State,
    /// The operation is borrowed for as long as the arm is there.
    operation: PhantomData<&'a mut ()>,
}

#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// Nothing will ever happen here.
    Nothing,
    /// Receives a timer's message.
    Timer(&'a Timer),
    /// Sends or receives. `core` is that of a channel whose messages are of the type that `begin` expects, and the
    /// operation keeps the channel.
    Channel { core: *const Core, side: Side, begin: unsafe fn(*const Core, *mut ()) -> Progress, offers: bool },
}

impl<'a> Target<'a> {
    #[inline]
    pub(super) fn receive<T>(receiver: &'a Receiver<T>) -> Self {
        match (receiver.channel(), receiver.timer()) {
            (Some(chan), _) => {
                // SAFETY: the receiver keeps the channel.
                let core = unsafe { Chan::core_of(chan) };
                Self::Channel { core, side: Side::Receive, begin: begin_recv::<T>, offers: false }
            }
            (_, Some(timer)) => Self::Timer(timer),
            _ => Self::Nothing,
        }
    }

    #[inline]
    fn send<T>(sender: &'a Sender<T>) -> Self {
        // SAFETY: the sender keeps the channel.
        let core = unsafe { Chan::core_of(sender.raw()) };
        Self::Channel { core, side: Side::Send, begin: begin_send::<T>, offers: false }
    }

    /// Gets the right to send: the message place is one for a [`Grant`].
    #[inline]
    pub(super) fn offer<T>(sender: &'a Sender<T>) -> Self {
        // SAFETY: the sender keeps the channel.
        let core = unsafe { Chan::core_of(sender.raw()) };
        Self::Channel { core, side: Side::Send, begin: begin_offer, offers: true }
    }
}

/// The arm `recv(receiver)`.
#[inline]
pub fn recv<T>(receiver: &Receiver<T>) -> Recv<'_, T> {
    Recv { receiver, state: State::Idle, message: MaybeUninit::uninit() }
}

/// The arm `send(sender, message)`. The message is dropped with the operation if it was not sent.
#[inline]
pub fn send<T>(sender: &Sender<T>, message: T) -> Send<'_, T> {
    Send { sender, state: State::Idle, has_message: true, message: MaybeUninit::new(message) }
}

/// The arm `send(sender, ..)` whose message is made once it has been chosen.
#[inline]
pub fn offer<T>(sender: &Sender<T>) -> Offer<'_, T> {
    Offer { sender, state: State::Idle, grant: MaybeUninit::uninit() }
}

impl<T> Recv<'_, T> {
    /// Takes the arm out of the select unless `condition` holds.
    #[inline]
    #[must_use]
    pub fn when(mut self, condition: bool) -> Self {
        if !condition {
            self.disable();
        }
        self
    }

    /// Takes the arm out of the select.
    #[inline]
    pub fn disable(&mut self) {
        self.drop_message();
        self.state = State::Disabled;
    }

    /// Whether it would have to wait, at some moment during the call. `false` of a timer tells nothing.
    #[inline]
    pub fn must_wait(&self) -> bool {
        self.state == State::Disabled || self.receiver.must_wait()
    }

    /// What the wait functions take.
    #[inline]
    pub fn arm(&mut self) -> Arm<'_> {
        self.drop_message();
        let target = if self.state == State::Disabled { Target::Nothing } else { Target::receive(self.receiver) };
        Arm { target, message: self.message.as_mut_ptr().cast(), state: &mut self.state, operation: PhantomData }
    }

    /// The result of the operation, after its arm was chosen.
    ///
    /// # Panics
    ///
    /// If it was not.
    #[inline]
    pub fn finish(&mut self) -> Result<T, RecvError> {
        match self.state {
            State::Done => {
                self.state = State::Idle;
                // SAFETY: the state says that there is a message, and no longer does.
                Ok(unsafe { self.message.assume_init_read() })
            }
            State::Closed => {
                self.state = State::Idle;
                Err(RecvError)
            }
            State::Idle | State::Disabled => not_chosen(),
        }
    }

    /// Drops a message that nobody asked for.
    #[inline]
    fn drop_message(&mut self) {
        if self.state == State::Done {
            self.state = State::Idle;
            // SAFETY: the state said that there is a message, and no longer does.
            unsafe { self.message.assume_init_drop() };
        }
    }
}

impl<T> Drop for Recv<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.drop_message();
    }
}

impl<T> Send<'_, T> {
    /// Takes the arm out of the select unless `condition` holds.
    #[inline]
    #[must_use]
    pub fn when(mut self, condition: bool) -> Self {
        if !condition {
            self.disable();
        }
        self
    }

    /// Takes the arm out of the select.
    #[inline]
    pub fn disable(&mut self) {
        self.note_sent();
        self.state = State::Disabled;
    }

    /// Whether it would have to wait, at some moment during the call.
    #[inline]
    pub fn must_wait(&self) -> bool {
        self.state == State::Disabled || !self.has_message || self.sender.must_wait()
    }

    /// What the wait functions take.
    #[inline]
    pub fn arm(&mut self) -> Arm<'_> {
        self.note_sent();
        let target = if self.state == State::Disabled || !self.has_message {
            Target::Nothing
        } else {
            Target::send(self.sender)
        };
        Arm { target, message: self.message.as_mut_ptr().cast(), state: &mut self.state, operation: PhantomData }
    }

    /// The result of the operation, after its arm was chosen.
    ///
    /// # Panics
    ///
    /// If it was not.
    #[inline]
    pub fn finish(&mut self) -> Result<(), SendError<T>> {
        match self.state {
            State::Done => {
                self.note_sent();
                Ok(())
            }
            State::Closed => {
                self.state = State::Disabled;
                self.has_message = false;
                // SAFETY: a closed channel takes no message, so it was still here; the flag no longer says so.
                Err(SendError(unsafe { self.message.assume_init_read() }))
            }
            State::Idle | State::Disabled => not_chosen(),
        }
    }

    #[inline]
    fn note_sent(&mut self) {
        if self.state == State::Done {
            self.has_message = false;
            self.state = State::Disabled;
        }
    }
}

impl<T> Drop for Send<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.has_message && self.state != State::Done {
            // SAFETY: the message was not sent and not given back.
            unsafe { self.message.assume_init_drop() };
        }
    }
}

impl<T> Offer<'_, T> {
    /// Takes the arm out of the select unless `condition` holds.
    #[inline]
    #[must_use]
    pub fn when(mut self, condition: bool) -> Self {
        if !condition {
            self.disable();
        }
        self
    }

    /// Takes the arm out of the select.
    #[inline]
    pub fn disable(&mut self) {
        self.abandon();
        self.state = State::Disabled;
    }

    /// Whether it would have to wait, at some moment during the call.
    #[inline]
    pub fn must_wait(&self) -> bool {
        self.state == State::Disabled || self.sender.must_wait()
    }

    /// What the wait functions take.
    #[inline]
    pub fn arm(&mut self) -> Arm<'_> {
        self.abandon();
        let target = if self.state == State::Disabled { Target::Nothing } else { Target::offer(self.sender) };
        Arm { target, message: self.grant.as_mut_ptr().cast(), state: &mut self.state, operation: PhantomData }
    }

    /// What it got, after its arm was chosen.
    ///
    /// # Panics
    ///
    /// If it was not.
    #[inline]
    pub fn finish(&mut self) -> Granted<T> {
        match self.state {
            State::Done => {
                self.state = State::Idle;
                // SAFETY: the state says that there is a grant, and no longer does.
                let grant = unsafe { self.grant.assume_init_read() };
                let sender = matches!(grant, Grant::Room(_)).then(|| self.sender.clone());
                Granted { grant: Some(grant), _sender: sender }
            }
            State::Closed => {
                self.state = State::Idle;
                Granted { grant: Some(Grant::Closed), _sender: None }
            }
            State::Idle | State::Disabled => not_chosen(),
        }
    }

    /// Gives a grant back that nobody asked for.
    #[inline]
    fn abandon(&mut self) {
        if self.state == State::Done {
            drop(self.finish());
        }
    }
}

impl<T> Drop for Offer<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<T> Granted<T> {
    /// Sends the message. It does not wait.
    ///
    /// # Errors
    ///
    /// The message is given back if the channel is closed.
    #[inline]
    pub fn send(mut self, message: T) -> Result<(), SendError<T>> {
        let grant = self.grant.take().expect("a grant is used once");
        // SAFETY: the offer's sender is one of `T`s, and its channel is kept where that is needed.
        // The message is given away, and given back where it was not moved out.
        give_away()(message, |message| unsafe {
            let ending = grant.send(message);
            Sent::reply(message, ending)
        })
    }
}

impl<T> Drop for Granted<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            // SAFETY: as in `send`.
            unsafe { grant.abandon::<T>() };
        }
    }
}

#[cold]
#[track_caller]
fn not_chosen() -> ! {
    panic!("the arm was not chosen")
}

/// # Safety
///
/// `core` is a `Chan<T>`'s, whose lock is held. `message` is a message that is given away.
unsafe fn begin_send<T>(core: *const Core, message: *mut ()) -> Progress {
    // SAFETY: the caller's promise.
    unsafe { (*Chan::<T>::of_core(core)).begin_send(message.cast()) }
}

/// # Safety
///
/// `core` is a `Chan<T>`'s, whose lock is held. `message` is a place for a message.
unsafe fn begin_recv<T>(core: *const Core, message: *mut ()) -> Progress {
    // SAFETY: as above.
    unsafe { (*Chan::<T>::of_core(core)).begin_recv_into(message.cast()) }
}

/// # Safety
///
/// The lock of `core` is held. `grant` is a place for a [`Grant`].
unsafe fn begin_offer(core: *const Core, grant: *mut ()) -> Progress {
    // SAFETY: as above.
    unsafe { Core::begin_offer(core, grant.cast()) }
}

impl<'a> Arm<'a> {
    /// An arm that [`set_operation`](Self::set_operation) makes complete.
    pub(super) fn new(target: Target<'a>) -> Self {
        Self { target, message: ptr::null_mut(), state: ptr::null_mut(), operation: PhantomData }
    }

    /// Another one with the same target, to be made complete.
    pub(super) fn again(&self) -> Self {
        Self::new(self.target)
    }

    /// Where the message is or goes, and where it is noted what became of the operation.
    pub(super) fn set_operation(&mut self, message: *mut (), state: *mut State) {
        (self.message, self.state) = (message, state);
    }

    pub(super) fn offers(&self) -> bool {
        matches!(self.target, Target::Channel { offers: true, .. })
    }

    /// Whether the operation would have to wait, at some moment during the call. `false` of a timer tells nothing.
    #[inline]
    pub(super) fn would_block(&self) -> bool {
        match self.target {
            Target::Nothing => true,
            Target::Timer(_) => false,
            // SAFETY: the operation keeps the channel.
            Target::Channel { core, side, .. } => unsafe { (*core).would_block(side) },
        }
    }

    /// As [`would_block`](Self::would_block), to the letter.
    ///
    /// # Safety
    ///
    /// If the arm is a channel's, the caller holds its lock.
    #[inline]
    pub(super) unsafe fn blocks(&self) -> bool {
        match self.target {
            // SAFETY: the operation keeps the channel; the caller's promise.
            Target::Channel { core, side, .. } => unsafe { (*core).blocks(side) },
            _ => self.would_block(),
        }
    }

    /// Carries the operation out if that needs no wait. `now` tells the time once it has been looked up.
    #[inline]
    pub(super) fn try_begin(&mut self, now: &mut Option<Instant>) -> bool {
        match self.target {
            Target::Nothing => false,
            Target::Timer(timer) => match timer.try_take(*now.get_or_insert_with(Instant::now)) {
                Some(message) => {
                    // SAFETY: a receiver with a timer is a `Receiver<Instant>`, so this is a place for an `Instant`.
                    unsafe { self.message.cast::<Instant>().write(message) };
                    self.settle(State::Done);
                    true
                }
                None => false,
            },
            Target::Channel { core, .. } => {
                // SAFETY: the operation keeps the channel, and its lock is held at `try_begin_locked`.
                unsafe {
                    (*core).lock.lock();
                    self.try_begin_locked()
                }
            }
        }
    }

    /// As [`try_begin`](Self::try_begin), on a channel whose lock is held, and is released by this.
    ///
    /// # Safety
    ///
    /// The arm is a channel's. The caller holds its lock.
    #[inline]
    pub(super) unsafe fn try_begin_locked(&mut self) -> bool {
        let Target::Channel { core, begin, .. } = self.target else { unreachable!() };
        // SAFETY: the lock is held, and released by `begin` or here. `message` is what `begin` expects: the
        // operation's.
        unsafe {
            match begin(core, self.message) {
                Progress::Done => self.settle(State::Done),
                Progress::Closed => self.settle(State::Closed),
                Progress::Blocked => {
                    (*core).lock.unlock();
                    return false;
                }
            }
        }
        true
    }

    /// Notes what became of the operation.
    #[inline]
    pub(super) fn settle(&mut self, state: State) {
        // SAFETY: points into the operation, which is borrowed for as long as the arm is there.
        unsafe { *self.state = state };
    }
}

macro_rules! opaque_debug {
    ($($name:literal: [$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(concat!($name, " { .. }"))
            }
        }
    )*};
}

opaque_debug! {
    "Recv": [T] Recv<'_, T>;
    "Send": [T] Send<'_, T>;
    "Offer": [T] Offer<'_, T>;
    "Granted": [T] Granted<T>;
    "Arm": [] Arm<'_>;
}
