//! What must hold of a history, whichever way the tasks of a program met.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::cases::Tally;
use super::linear::{Call, State, Verdict, explain};
use super::log::{Event, Object, What, Why};
use super::message::{Id, Run};
use super::program::{Program, Side};

/// How many steps the search for an order may take for one channel.
const EFFORT: usize = 20_000;

pub(crate) struct History<'p> {
    pub(crate) program: &'p Program,
    pub(crate) run: Run,
    /// Each task's in its order. The last task is the keeper.
    pub(crate) events: Vec<Event>,
    /// How many messages each task made.
    pub(crate) made: Vec<u16>,
    /// How many handles there were at the start, by channel: senders and receivers.
    pub(crate) handles: Vec<(usize, usize)>,
}

impl History<'_> {
    /// Everything that is wrong with it.
    pub(crate) fn check(&self, tally: &mut Tally) -> Result<(), String> {
        let mut faults = Vec::new();
        self.every_message_ends_once(&mut faults);
        for c in 0..self.program.channels.len() {
            let events = self.events.iter().filter(|event| event.object == Object::Channel(c)).copied();
            let channel = OnChannel { c, history: self, events: events.collect() };
            channel.arrives_in_the_order_of_each_producer(&mut faults);
            channel.shows_what_it_can_hold(&mut faults);
            channel.stays_closed_for_each_task(&mut faults);
            if self.program.timed {
                channel.never_holds_more_than_it_can(&mut faults);
                channel.stays_closed_for_all(&mut faults);
                channel.is_explained_by_some_order(&mut faults, tally);
            }
        }
        self.timers_fire_once(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// Nothing is lost, nothing doubled, and nothing that was given back arrives.
    fn every_message_ends_once(&self, faults: &mut Vec<String>) {
        let mut sent = HashMap::new();
        let mut received = HashMap::new();
        for event in &self.events {
            match (event.what, event.object) {
                (What::Sent(id), Object::Channel(c)) => _ = sent.insert(id, c),
                (What::Received(id), Object::Channel(c)) => {
                    let before = received.insert(id, c);
                    faults.extend(before.map(|_| format!("{id:?} was received twice")));
                }
                _ => {}
            }
        }
        for (id, c) in &received {
            if sent.get(id) != Some(c) {
                faults.push(format!("{id:?} was received from channel {c}, but sent to {:?}", sent.get(id)));
            }
        }
        for (c, channel) in self.program.channels.iter().enumerate() {
            let lost = sent.iter().filter(|&(id, to)| *to == c && !received.contains_key(id)).map(|(id, _)| *id);
            let lost = lost.collect::<Vec<_>>();
            // Where the keeper has the receiver, it takes out what is left. Where it has the sender, the last receiver
            // drops what is left: no more than there was room for.
            let most = if channel.keeper == Side::Receive { Some(0) } else { channel.capacity };
            if most.is_some_and(|most| lost.len() > most) {
                faults.push(format!("of channel {c} {lost:?} were sent and not received"));
            }
        }
        for (task, &made) in self.made.iter().enumerate() {
            let ids = (0..made).map(|number| Id { task: task as u8, number });
            let wrong = ids.filter(|&id| self.run.drops(id) != 1);
            faults.extend(wrong.map(|id| format!("{id:?} was dropped {} times", self.run.drops(id))));
        }
        if self.run.faults() != 0 {
            faults.push(format!("{} things were dropped that were no messages", self.run.faults()));
        }
    }

    fn timers_fire_once(&self, faults: &mut Vec<String>) {
        let mut fired = HashSet::new();
        for event in &self.events {
            if let (Object::Timer(t), What::Fired) = (event.object, event.what)
                && !fired.insert(t)
            {
                faults.push(format!("timer {t} fired twice"));
            }
        }
    }
}

struct OnChannel<'h> {
    c: usize,
    history: &'h History<'h>,
    events: Vec<Event>,
}

impl OnChannel<'_> {
    fn fault(&self, faults: &mut Vec<String>, text: &str) {
        let mut text = format!("channel {}: {text}", self.c);
        let mut events = self.events.clone();
        events.sort_by_key(|event| (event.invoked, event.responded));
        for Event { task, what, invoked, responded, .. } in events {
            match responded {
                0 => _ = write!(text, "\n    task {task}: {what:?}"),
                _ => _ = write!(text, "\n    {invoked:4} to {responded:4}, task {task}: {what:?}"),
            }
        }
        faults.push(text);
    }

    fn capacity(&self) -> Option<usize> {
        self.history.program.channels[self.c].capacity
    }

    fn arrives_in_the_order_of_each_producer(&self, faults: &mut Vec<String>) {
        let mut last = HashMap::new();
        for event in &self.events {
            if let What::Received(id) = event.what
                && let Some(before) = last.insert((event.task, id.task), id)
                && before > id
            {
                self.fault(faults, &format!("task {} received {id:?} after {before:?}", event.task));
            }
        }
    }

    fn shows_what_it_can_hold(&self, faults: &mut Vec<String>) {
        for event in &self.events {
            let holds = match event.what {
                What::Len(len) => self.capacity().is_none_or(|capacity| len <= capacity),
                What::Capacity(capacity) => capacity == self.capacity(),
                What::IsEmpty(is) => is || self.capacity() != Some(0),
                What::IsFull(is) => {
                    if is {
                        self.capacity().is_some()
                    } else {
                        self.capacity() != Some(0)
                    }
                }
                _ => true,
            };
            if !holds {
                self.fault(faults, &format!("task {} saw {:?}", event.task, event.what));
            }
        }
    }

    /// What a task has seen of the end it does not see undone.
    fn stays_closed_for_each_task(&self, faults: &mut Vec<String>) {
        let mut closed = HashSet::new();
        let mut drained = HashSet::new();
        for event in &self.events {
            let wrong = opens(event.what) && closed.contains(&event.task)
                || matches!(event.what, What::Received(_)) && drained.contains(&event.task);
            if wrong {
                self.fault(faults, &format!("task {} saw {:?} after the end", event.task, event.what));
            }
            if shows_closed(event.what) {
                closed.insert(event.task);
            }
            if event.what == What::NotReceived(Why::Closed) {
                drained.insert(event.task);
            }
        }
    }

    /// Messages that were sent for certain, and not yet asked for, are in the buffer.
    fn never_holds_more_than_it_can(&self, faults: &mut Vec<String>) {
        let Some(capacity) = self.capacity() else { return };
        let asked_for = self.asked_for();
        let mut changes = Vec::new();
        for event in &self.events {
            if let What::Sent(id) = event.what {
                let taken = asked_for.get(&id).copied().unwrap_or(u64::MAX);
                if taken > event.responded {
                    changes.extend([(event.responded, 1), (taken, -1_isize)]);
                }
            }
        }
        changes.sort_unstable();
        let mut held = 0;
        for (time, change) in changes {
            held += change;
            if held > capacity as isize {
                return self.fault(faults, &format!("holds {held} messages at {time}"));
            }
        }
    }

    /// When the receive of each message was called.
    fn asked_for(&self) -> HashMap<Id, u64> {
        let received = self.events.iter().filter_map(|event| match event.what {
            What::Received(id) => Some((id, event.invoked)),
            _ => None,
        });
        received.collect()
    }

    fn stays_closed_for_all(&self, faults: &mut Vec<String>) {
        let earliest = |shows: &dyn Fn(What) -> bool| {
            self.events.iter().filter(|event| shows(event.what)).map(|event| event.responded).min().unwrap_or(u64::MAX)
        };
        let closed = earliest(&shows_closed);
        let drained = earliest(&|what| what == What::NotReceived(Why::Closed));
        let asked_for = self.asked_for();
        for event in &self.events {
            if opens(event.what) && event.invoked > closed {
                self.fault(faults, &format!("closed at {closed}, {:?} at {}", event.what, event.invoked));
            }
            match event.what {
                What::Received(_) if event.invoked > drained => {
                    self.fault(faults, &format!("at an end at {drained}, {:?} at {}", event.what, event.invoked));
                }
                What::Sent(id) if event.responded < drained => {
                    // Whoever is told of the end holds a receiver, so nothing has been discarded by then.
                    let asked_for = asked_for.get(&id).copied().unwrap_or(u64::MAX);
                    if asked_for > drained {
                        self.fault(faults, &format!("at an end at {drained}, but {id:?} is still in it"));
                    }
                }
                _ => {}
            }
        }
    }

    fn is_explained_by_some_order(&self, faults: &mut Vec<String>, tally: &mut Tally) {
        let channel = &self.history.program.channels[self.c];
        let (senders, receivers) = self.history.handles[self.c];
        let closed = channel.closed || senders == 0 || receivers == 0;
        let initial =
            State { capacity: channel.capacity, closed, messages: Vec::new(), senders, receivers, promised: 0 };
        let call = |&Event { what, invoked, responded, .. }: &Event| Call { what, invoked, responded };
        let calls = self.events.iter().map(call).collect::<Vec<_>>();
        match explain(&initial, &calls, EFFORT) {
            Verdict::Explained => tally.count("histories explained"),
            Verdict::Unexplained => self.fault(faults, "no order of the operations explains this"),
            Verdict::Undecided => tally.count("histories too long to explain"),
        }
    }
}

/// Whether the channel was closed by the end of the operation.
fn shows_closed(what: What) -> bool {
    matches!(
        what,
        What::Closed(_) | What::IsClosed(true) | What::NotSent(_, Why::Closed) | What::NotReceived(Why::Closed)
    )
}

/// Whether the channel was open at some moment of the operation.
fn opens(what: What) -> bool {
    matches!(
        what,
        What::Sent(_)
            | What::NotSent(_, Why::Blocked | Why::TimedOut)
            | What::NotReceived(Why::Blocked | Why::TimedOut)
            | What::Closed(true)
            | What::IsClosed(false)
    )
}
