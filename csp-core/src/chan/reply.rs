//! What an operation returns, made of the message with few copies and in little room.
//!
//! A message may be large, and a goroutine's stack is not: 64 KiB fit three times. Without optimisation every variable,
//! every temporary and every argument has a place of its own in its function's frame for as long as that runs. So what
//! is passed around below the user's function are pointers and outcomes: a sent message stays where the call put it, and
//! the result of a receive is made in the last function called, straight from where the message lies. Then an operation
//! that succeeds has one place for a message at a time, besides those in the user's frame.
//!
//! To a message that is to be sent there are only pointers from the first step on ([`give_away`]): once it is moved out it
//! is somebody else's, who may have freed what it owns, and is not a value here any more, not even one to be forgotten.

use std::mem::{MaybeUninit, transmute};

use super::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use super::raw::Ending;

/// What a receive returns.
pub(crate) trait Received<T>: Sized {
    /// Makes it of a message: `Ok`, `Some`.
    const MESSAGE: fn(T) -> Self;

    /// The channel is closed and empty.
    fn closed() -> Self;

    /// There is no message yet.
    fn not_yet() -> Self;
}

impl<T> Received<T> for Result<T, RecvError> {
    const MESSAGE: fn(T) -> Self = Ok;

    #[inline]
    fn closed() -> Self {
        Err(RecvError)
    }

    /// For those who wait for ever.
    fn not_yet() -> Self {
        unreachable!("a wait without a deadline has timed out")
    }
}

impl<T> Received<T> for Result<T, TryRecvError> {
    const MESSAGE: fn(T) -> Self = Ok;

    #[inline]
    fn closed() -> Self {
        Err(TryRecvError::Disconnected)
    }

    #[inline]
    fn not_yet() -> Self {
        Err(TryRecvError::Empty)
    }
}

impl<T> Received<T> for Result<T, RecvTimeoutError> {
    const MESSAGE: fn(T) -> Self = Ok;

    #[inline]
    fn closed() -> Self {
        Err(RecvTimeoutError::Disconnected)
    }

    #[inline]
    fn not_yet() -> Self {
        Err(RecvTimeoutError::Timeout)
    }
}

/// An iterator's.
impl<T> Received<T> for Option<T> {
    const MESSAGE: fn(T) -> Self = Some;

    #[inline]
    fn closed() -> Self {
        None
    }

    #[inline]
    fn not_yet() -> Self {
        None
    }
}

/// The reply with the message at `from`.
///
/// # Safety
///
/// `from` is a message that the caller gives away.
#[inline(always)]
pub(crate) unsafe fn reply<T, R: Received<T>>(from: *const T) -> R {
    // SAFETY: the caller's promise.
    R::MESSAGE(unsafe { from.read() })
}

/// What a send returns.
pub(crate) trait Sent<T>: Sized {
    /// # Safety
    ///
    /// Unless the ending is `Done`, `message` is a message that the caller gives away.
    unsafe fn reply(message: *const T, ending: Ending) -> Self;
}

impl<T> Sent<T> for Result<(), SendError<T>> {
    #[inline]
    unsafe fn reply(message: *const T, ending: Ending) -> Self {
        // Here and below a function of its own, so that its places are on the stack only where it is called.
        #[cold]
        unsafe fn refused<T>(message: *const T) -> Result<(), SendError<T>> {
            // `SendError(message.read())` would be one place more.
            // SAFETY: the caller's promise. The error is transparent.
            Err(unsafe { message.cast::<SendError<T>>().read() })
        }

        match ending {
            Ending::Done => Ok(()),
            // SAFETY: the caller's promise.
            Ending::Closed | Ending::TimedOut => unsafe { refused(message) },
        }
    }
}

impl<T> Sent<T> for Result<(), TrySendError<T>> {
    #[inline]
    unsafe fn reply(message: *const T, ending: Ending) -> Self {
        #[inline]
        unsafe fn refused<T>(message: *const T, why: fn(T) -> TrySendError<T>) -> Result<(), TrySendError<T>> {
            // SAFETY: the caller's promise.
            Err(why(unsafe { message.read() }))
        }

        match ending {
            Ending::Done => Ok(()),
            // SAFETY: the caller's promise.
            Ending::Closed => unsafe { refused(message, TrySendError::Disconnected) },
            // SAFETY: the caller's promise.
            Ending::TimedOut => unsafe { refused(message, TrySendError::Full) },
        }
    }
}

impl<T> Sent<T> for Result<(), SendTimeoutError<T>> {
    #[inline]
    unsafe fn reply(message: *const T, ending: Ending) -> Self {
        #[inline]
        unsafe fn refused<T>(message: *const T, why: fn(T) -> SendTimeoutError<T>) -> Result<(), SendTimeoutError<T>> {
            // SAFETY: the caller's promise.
            Err(why(unsafe { message.read() }))
        }

        match ending {
            Ending::Done => Ok(()),
            // SAFETY: the caller's promise.
            Ending::Closed => unsafe { refused(message, SendTimeoutError::Disconnected) },
            // SAFETY: the caller's promise.
            Ending::TimedOut => unsafe { refused(message, SendTimeoutError::Timeout) },
        }
    }
}

/// `give_away()(message, send)` calls `send` with a pointer to the message, which it moves out or gives back: the message is
/// not dropped here.
///
/// Without optimisation each call that the message is passed to is one more place for it in the caller's frame, and each
/// variable another: so this is a function to be called, and has no place of its own.
#[inline(always)]
pub(crate) fn give_away<T, R, F: FnOnce(*const T) -> R>() -> fn(T, F) -> R {
    #[inline(always)]
    fn with_place<T, R, F: FnOnce(*const T) -> R>(message: MaybeUninit<T>, send: F) -> R {
        send(message.as_ptr())
    }

    // SAFETY: `MaybeUninit<T>` and `T` are passed alike, as the documentation of `MaybeUninit` and of `fn` promises. Nothing
    // is asked of the bytes, which are a `T`'s, and nothing is done with them afterwards.
    unsafe { transmute::<fn(MaybeUninit<T>, F) -> R, fn(T, F) -> R>(with_place::<T, R, F>) }
}
