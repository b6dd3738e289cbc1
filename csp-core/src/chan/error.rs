//! The errors of channel operations. Names, methods and texts are those of crossbeam-channel.

use std::error::Error;
use std::fmt;

/// What [`send`](super::handle::Sender::send) returns when the channel is closed: the message, given back.
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{SendError, bounded};
///
/// let (tx, rx) = bounded(1);
/// drop(rx);
/// assert_eq!(tx.send("lost"), Err(SendError("lost")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct SendError<T>(pub T);

/// What [`try_send`](super::handle::Sender::try_send) returns when it does not send: the message, given back.
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{TrySendError, bounded};
///
/// let (tx, rx) = bounded(1);
/// tx.send(1).unwrap();
/// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
/// drop(rx);
/// assert_eq!(tx.try_send(3), Err(TrySendError::Disconnected(3)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The buffer is full, or, on a channel without capacity, nobody is waiting to receive.
    Full(T),
    /// The channel is closed.
    Disconnected(T),
}

/// What [`send_timeout`](super::handle::Sender::send_timeout) and
/// [`send_deadline`](super::handle::Sender::send_deadline) return when they do not send: the message, given back.
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The time was over before there was room or a receiver.
    Timeout(T),
    /// The channel is closed.
    Disconnected(T),
}

/// What [`recv`](super::handle::Receiver::recv) returns when the channel is closed and empty.
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{RecvError, unbounded};
///
/// let (tx, rx) = unbounded::<i32>();
/// drop(tx);
/// assert_eq!(rx.recv(), Err(RecvError));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

/// What [`try_recv`](super::handle::Receiver::try_recv) returns when it does not receive.
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::{TryRecvError, unbounded};
///
/// let (tx, rx) = unbounded::<i32>();
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// drop(tx);
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// The buffer is empty and nobody is waiting to send, but the channel is open.
    Empty,
    /// The channel is closed and empty.
    Disconnected,
}

/// What [`recv_timeout`](super::handle::Receiver::recv_timeout) and
/// [`recv_deadline`](super::handle::Receiver::recv_deadline) return when they do not receive.
///
/// ```
/// # use csp_core as csp;
/// use std::time::Duration;
/// use csp::channel::{RecvTimeoutError, unbounded};
///
/// let (tx, rx) = unbounded::<i32>();
/// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
/// drop(tx);
/// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Disconnected));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// The time was over before there was a message.
    Timeout,
    /// The channel is closed and empty.
    Disconnected,
}

/// No operation of a select could be carried out at once.
///
/// ```
/// # use csp_core as csp;
/// assert_eq!(csp::channel::TrySelectError.to_string(), "all operations in select would block");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrySelectError;

/// The time was over before an operation of a select could be carried out.
///
/// ```
/// # use csp_core as csp;
/// assert_eq!(csp::channel::SelectTimeoutError.to_string(), "timed out waiting on select");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectTimeoutError;

/// No operation of a select was ready.
///
/// ```
/// # use csp_core as csp;
/// let error = csp::channel::TryReadyError;
/// assert_eq!(error, csp::channel::TryReadyError);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryReadyError;

/// The time was over before an operation of a select was ready.
///
/// ```
/// # use csp_core as csp;
/// let error = csp::channel::ReadyTimeoutError;
/// assert_eq!(error, csp::channel::ReadyTimeoutError);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyTimeoutError;

const CLOSED_FOR_SEND: &str = "sending on a disconnected channel";
const CLOSED_AND_EMPTY: &str = "receiving on an empty and disconnected channel";

impl<T> SendError<T> {
    /// The message that was not sent.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded();
    /// drop(rx);
    /// assert_eq!(tx.send(5).unwrap_err().into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The message that was not sent.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, _rx) = csp::channel::bounded(0);
    /// assert_eq!(tx.try_send(5).unwrap_err().into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Disconnected(message) => message,
        }
    }

    /// Whether there was no room and no receiver.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, _rx) = csp::channel::bounded(0);
    /// assert!(tx.try_send(5).unwrap_err().is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the channel is closed.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::bounded(0);
    /// drop(rx);
    /// assert!(tx.try_send(5).unwrap_err().is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

impl<T> SendTimeoutError<T> {
    /// The message that was not sent.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    ///
    /// let (tx, _rx) = csp::channel::bounded(0);
    /// assert_eq!(tx.send_timeout(5, Duration::ZERO).unwrap_err().into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(message) | Self::Disconnected(message) => message,
        }
    }

    /// Whether the time was over.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    ///
    /// let (tx, _rx) = csp::channel::bounded(0);
    /// assert!(tx.send_timeout(5, Duration::ZERO).unwrap_err().is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the channel is closed.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    ///
    /// let (tx, rx) = csp::channel::bounded(0);
    /// drop(rx);
    /// assert!(tx.send_timeout(5, Duration::ZERO).unwrap_err().is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

impl TryRecvError {
    /// Whether the channel is open and empty.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (_tx, rx) = csp::channel::unbounded::<i32>();
    /// assert!(rx.try_recv().unwrap_err().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Whether the channel is closed and empty.
    ///
    /// ```
    /// # use csp_core as csp;
    /// let (tx, rx) = csp::channel::unbounded::<i32>();
    /// drop(tx);
    /// assert!(rx.try_recv().unwrap_err().is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl RecvTimeoutError {
    /// Whether the time was over.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    ///
    /// let (_tx, rx) = csp::channel::unbounded::<i32>();
    /// assert!(rx.recv_timeout(Duration::ZERO).unwrap_err().is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether the channel is closed and empty.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use std::time::Duration;
    ///
    /// let (tx, rx) = csp::channel::unbounded::<i32>();
    /// drop(tx);
    /// assert!(rx.recv_timeout(Duration::ZERO).unwrap_err().is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

// `Debug` does not print the message, so that it needs no `T: Debug`. The quotes around it are crossbeam's, too.

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt("SendError(..)", f)
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
        };
        fmt::Debug::fmt(text, f)
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt("SendTimeoutError(..)", f)
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_FOR_SEND)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full(_) => "sending on a full channel",
            Self::Disconnected(_) => CLOSED_FOR_SEND,
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Timeout(_) => "timed out waiting on send operation",
            Self::Disconnected(_) => CLOSED_FOR_SEND,
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_AND_EMPTY)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "receiving on an empty channel",
            Self::Disconnected => CLOSED_AND_EMPTY,
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Timeout => "timed out waiting on receive operation",
            Self::Disconnected => "channel is empty and disconnected",
        })
    }
}

impl fmt::Display for TrySelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("all operations in select would block")
    }
}

impl fmt::Display for SelectTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("timed out waiting on select")
    }
}

impl<T: Send> Error for SendError<T> {}
impl<T: Send> Error for TrySendError<T> {}
impl<T: Send> Error for SendTimeoutError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
impl Error for TrySelectError {}
impl Error for SelectTimeoutError {}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(SendError(message): SendError<T>) -> Self {
        Self::Disconnected(message)
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(SendError(message): SendError<T>) -> Self {
        Self::Disconnected(message)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(_: RecvError) -> Self {
        Self::Disconnected
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(_: RecvError) -> Self {
        Self::Disconnected
    }
}
