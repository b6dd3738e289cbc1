//! What a task saw of the channels, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::message::Id;
use super::program::Side;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Channel(usize),
    Timer(usize),
    /// `never()`, or a timer that a select has for itself.
    Other,
}

/// Why an operation was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    Closed,
    /// It would have had to wait.
    Blocked,
    TimedOut,
    /// Closed, or it would have had to wait: where the caller is not told which.
    Unready,
}

/// What was seen of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Sent(Id),
    /// Where the message is made last, there may be none yet.
    NotSent(Option<Id>, Why),
    /// Before `Sent`, `NotSent` or `Abandoned` of the same operation: for a part of its time it may have had the promise
    /// of a place in the buffer.
    Promised,
    /// It could have sent, and gave up.
    Abandoned,
    Received(Id),
    NotReceived(Why),
    /// A timer's message came.
    Fired,
    /// `close` said whether the channel was open.
    Closed(bool),
    Cloned(Side),
    Dropped(Side),
    Len(usize),
    IsEmpty(bool),
    IsFull(bool),
    IsClosed(bool),
    Capacity(Option<usize>),
}

pub(crate) type Seen = (Object, What);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) task: usize,
    pub(crate) object: Object,
    pub(crate) what: What,
    /// Both 0 where the program is not timed.
    pub(crate) invoked: u64,
    pub(crate) responded: u64,
}

/// A log of one task.
pub(crate) struct Log {
    task: usize,
    clock: Option<Arc<AtomicU64>>,
    /// Counts the steps of the task, for those who look on.
    progress: Arc<AtomicU64>,
    invoked: u64,
    pub(crate) events: Vec<Event>,
    /// What no model is needed to tell wrong.
    pub(crate) faults: Vec<String>,
}

impl Log {
    pub(crate) fn new(task: usize, clock: Option<Arc<AtomicU64>>, progress: Arc<AtomicU64>) -> Self {
        Self { task, clock, progress, invoked: 0, events: Vec::new(), faults: Vec::new() }
    }

    /// Two operations of which one ends before the other one begins get times in that order.
    fn now(&self) -> u64 {
        self.clock.as_ref().map_or(0, |clock| clock.fetch_add(1, Ordering::AcqRel))
    }

    pub(crate) fn begin(&mut self) {
        self.invoked = self.now();
    }

    pub(crate) fn end(&mut self, object: Object, what: What) {
        self.end_all([(object, what)]);
    }

    /// One operation that showed several things, at moments of their own.
    pub(crate) fn end_all(&mut self, all: impl IntoIterator<Item = Seen>) {
        let responded = self.now();
        let event = |(object, what)| Event { task: self.task, object, what, invoked: self.invoked, responded };
        self.events.extend(all.into_iter().map(event));
        // Nobody else writes it. A plain store: what the channels themselves do not order is to stay so.
        self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn expect(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }
}
