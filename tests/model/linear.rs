//! Whether some order explains what was seen of a channel: each operation at one moment between its call and its return.
//!
//! The search is that of Wing and Gong, with Lowe's memory of what has been tried. Two things keep it short: an
//! operation that changes nothing is put first as soon as it may stand there, and a message names the one that received
//! it.

use std::collections::HashSet;

use super::log::{What, Why};
use super::message::Id;
use super::program::Side;

/// An operation: what it did, when it was called and when it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) invoked: u64,
    pub(crate) responded: u64,
}

/// A channel as a queue that knows when it is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// `None`: unbounded.
    pub(crate) capacity: Option<usize>,
    pub(crate) closed: bool,
    pub(crate) messages: Vec<Id>,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
    /// Places in the buffer that are promised to senders that have yet to send.
    pub(crate) promised: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Explained,
    Unexplained,
    /// The history is too long.
    Undecided,
}

/// An operation as the search sees it.
#[derive(Clone, Copy, Debug)]
enum Part {
    Seen(What),
    /// What stands behind it got the promise of a place in the buffer first. It may be left out.
    Promise,
    /// The second half of dropping a receiver: the last one empties the buffer after it has closed the channel. Stands
    /// behind the first half.
    Discard,
}

struct Search {
    parts: Vec<(Part, u64, u64)>,
    tried: HashSet<(u128, State)>,
    left: usize,
}

/// Looks for an order. Gives up after `effort` steps.
pub(crate) fn explain(initial: &State, calls: &[Call], effort: usize) -> Verdict {
    let mut parts = Vec::new();
    for &Call { what, invoked, responded, .. } in calls {
        match what {
            What::Promised if initial.capacity.is_some_and(|capacity| capacity > 0) => {
                parts.push((Part::Promise, invoked, responded));
            }
            What::Promised => {}
            what => parts.push((Part::Seen(what), invoked, responded)),
        }
        if what == What::Dropped(Side::Receive) {
            parts.push((Part::Discard, invoked, responded));
        }
    }
    if parts.len() > 128 {
        return Verdict::Undecided;
    }
    // Those that returned first are tried first.
    parts.sort_by_key(|part| part.2);
    let mut search = Search { parts, tried: HashSet::new(), left: effort };
    let found = search.find(0, initial.clone());
    match found {
        true => Verdict::Explained,
        false if search.left == 0 => Verdict::Undecided,
        false => Verdict::Unexplained,
    }
}

impl Search {
    /// Whether the operations that are not in `done` can follow from `state` on.
    fn find(&mut self, mut done: u128, mut state: State) -> bool {
        // What changes nothing is put first: whatever order there is remains one.
        while let Some(same) = self.changes_nothing(done, &state) {
            done |= same;
        }
        if done.count_ones() as usize == self.parts.len() {
            return true;
        }
        if self.left == 0 || !self.tried.insert((done, state.clone())) {
            return false;
        }
        self.left -= 1;
        let next = self.first(done).collect::<Vec<_>>();
        for at in next {
            let promised = self.promise_of(at);
            let kept = promised & done;
            if let Some(mut after) = follow(&state, self.parts[at].0) {
                after.promised -= kept.count_ones() as usize;
                if self.find(done | promised | 1 << at, after) {
                    return true;
                }
            }
        }
        // Not to be mistaken for what was not tried.
        state.messages.clear();
        false
    }

    /// The promise that may have come before that part.
    fn promise_of(&self, at: usize) -> u128 {
        if at > 0 && matches!(self.parts[at - 1].0, Part::Promise) { 1 << (at - 1) } else { 0 }
    }

    /// Those that may come next: that no other one precedes.
    fn first(&self, done: u128) -> impl Iterator<Item = usize> + '_ {
        let left = move |at: &usize| done & 1 << at == 0;
        let earliest = (0..self.parts.len()).filter(left).map(|at| self.parts[at].2).min().unwrap_or(0);
        let is_second = move |at: usize| matches!(self.parts[at].0, Part::Discard) && done & 1 << (at - 1) == 0;
        (0..self.parts.len()).filter(left).filter(move |&at| self.parts[at].1 <= earliest && !is_second(at))
    }

    /// An operation, or a send and a receive that meet, that may come next and leave all as it is.
    fn changes_nothing(&self, done: u128, state: &State) -> Option<u128> {
        // What has got a promise, or may get one, changes something for others as long as it has it.
        for at in self.first(done).filter(|&at| self.promise_of(at) == 0) {
            let part = self.parts[at].0;
            if follow(state, part).is_some_and(|after| after == *state) {
                return Some(1 << at);
            }
            if let (Some(0), false, Part::Seen(What::Sent(id))) = (state.capacity, state.closed, part) {
                let meets = |&other: &usize| matches!(self.parts[other].0, Part::Seen(What::Received(it)) if it == id);
                if let Some(other) = self.first(done).find(meets) {
                    return Some(1 << at | 1 << other);
                }
            }
        }
        None
    }
}

/// The state after the operation, if it can have done what it did.
fn follow(state: &State, part: Part) -> Option<State> {
    let State { capacity, closed, ref messages, .. } = *state;
    // Nothing can be told about a rendezvous: whether somebody waits for it is no part of the state.
    let full = capacity.is_some_and(|capacity| messages.len() >= capacity);
    let promised = capacity.is_some_and(|capacity| messages.len() + state.promised >= capacity);
    let holds = |condition: bool| condition.then(|| state.clone());
    let change = |change: &dyn Fn(&mut State)| {
        let mut after = state.clone();
        change(&mut after);
        Some(after)
    };
    let what = match part {
        Part::Seen(what) => what,
        Part::Promise => {
            let room = capacity.is_some_and(|capacity| messages.len() + state.promised < capacity);
            return if room && !closed { change(&|after| after.promised += 1) } else { None };
        }
        Part::Discard if state.receivers == 0 => return change(&|after| after.messages.clear()),
        Part::Discard => return holds(true),
    };
    match what {
        // Sends and receives that meet are put in pairs, see `changes_nothing`.
        What::Sent(_) | What::Received(_) if capacity == Some(0) => None,
        What::Sent(id) if !closed && !full => change(&|after| after.messages.push(id)),
        What::Received(id) if messages.first() == Some(&id) => change(&|after| _ = after.messages.remove(0)),
        What::Sent(_) | What::Received(_) => None,
        What::NotSent(_, Why::Closed) => holds(closed),
        What::NotSent(_, Why::Blocked | Why::TimedOut) => holds(!closed && promised),
        What::NotSent(_, Why::Unready) => holds(closed || promised),
        What::Abandoned => holds(true),
        What::Promised => unreachable!("a part of its own"),
        What::NotReceived(Why::Closed) => holds(closed && messages.is_empty()),
        What::NotReceived(Why::Blocked | Why::TimedOut) => holds(!closed && messages.is_empty()),
        What::NotReceived(Why::Unready) => holds(messages.is_empty()),
        What::Fired => None,
        What::Closed(was_open) if was_open == closed => None,
        What::Closed(_) => change(&|after| after.closed = true),
        What::Cloned(Side::Send) => change(&|after| after.senders += 1),
        What::Cloned(Side::Receive) => change(&|after| after.receivers += 1),
        What::Dropped(Side::Send) => change(&|after| {
            after.senders -= 1;
            after.closed |= after.senders == 0;
        }),
        What::Dropped(Side::Receive) => change(&|after| {
            after.receivers -= 1;
            after.closed |= after.receivers == 0;
        }),
        What::Len(len) => holds(messages.len() == len),
        What::IsEmpty(is) => holds(messages.is_empty() == is),
        What::IsFull(is) => holds(full == is),
        What::IsClosed(is) => holds(closed == is),
        What::Capacity(it) => holds(capacity == it),
    }
}

#[cfg(test)]
mod tests {
    use super::What::{Closed, Dropped, Len, NotReceived, NotSent, Received, Sent};
    use super::*;

    const A: Id = Id { task: 0, number: 0 };
    const B: Id = Id { task: 1, number: 0 };

    /// Each with the time of its call and that of its return.
    fn is_explained(capacity: Option<usize>, calls: &[(What, u64, u64)]) -> bool {
        let initial = State { capacity, closed: false, messages: Vec::new(), senders: 2, receivers: 2, promised: 0 };
        let call = |&(what, invoked, responded): &(What, u64, u64)| Call { what, invoked, responded };
        let verdict = explain(&initial, &calls.iter().map(call).collect::<Vec<_>>(), 1000);
        assert_ne!(verdict, Verdict::Undecided);
        verdict == Verdict::Explained
    }

    #[test]
    fn messages_come_in_the_order_in_which_they_were_sent() {
        for capacity in [Some(2), None] {
            assert!(is_explained(
                capacity,
                &[(Sent(A), 1, 2), (Sent(B), 3, 4), (Received(A), 5, 6), (Received(B), 7, 8)]
            ));
            assert!(!is_explained(
                capacity,
                &[(Sent(A), 1, 2), (Sent(B), 3, 4), (Received(B), 5, 6), (Received(A), 7, 8)]
            ));
            // Sent at once, or received at once, the order is open.
            assert!(is_explained(
                capacity,
                &[(Sent(A), 1, 4), (Sent(B), 2, 3), (Received(B), 5, 6), (Received(A), 7, 8)]
            ));
            assert!(is_explained(
                capacity,
                &[(Sent(A), 1, 2), (Sent(B), 3, 4), (Received(B), 5, 8), (Received(A), 6, 7)]
            ));
            assert!(!is_explained(capacity, &[(Received(A), 1, 2), (Sent(A), 3, 4)]));
            assert!(!is_explained(capacity, &[(Sent(A), 1, 2), (Received(A), 3, 4), (Received(A), 5, 6)]));
        }
    }

    #[test]
    fn a_rendezvous_is_one_moment_of_both() {
        assert!(is_explained(Some(0), &[(Sent(A), 1, 3), (Received(A), 2, 4)]));
        assert!(!is_explained(Some(0), &[(Sent(A), 1, 2), (Received(A), 3, 4)]));
        assert!(!is_explained(Some(0), &[(Closed(true), 1, 2), (Sent(A), 3, 5), (Received(A), 4, 6)]));
    }

    #[test]
    fn the_capacity_is_kept() {
        assert!(!is_explained(Some(1), &[(Sent(A), 1, 2), (Sent(B), 3, 4), (Received(A), 5, 6), (Received(B), 7, 8)]));
        assert!(is_explained(Some(1), &[(Sent(A), 1, 2), (Sent(B), 3, 6), (Received(A), 4, 5), (Received(B), 7, 8)]));
        assert!(is_explained(Some(1), &[(Sent(A), 1, 2), (NotSent(Some(B), Why::Blocked), 3, 4), (Received(A), 5, 6)]));
        // There was room.
        assert!(!is_explained(
            Some(2),
            &[(Sent(A), 1, 2), (NotSent(Some(B), Why::Blocked), 3, 4), (Received(A), 5, 6)]
        ));
        assert!(!is_explained(None, &[(NotSent(Some(B), Why::TimedOut), 1, 2)]));
        // There was a message.
        assert!(!is_explained(Some(1), &[(Sent(A), 1, 2), (NotReceived(Why::Blocked), 3, 4), (Received(A), 5, 6)]));
        assert!(is_explained(Some(1), &[(Sent(A), 1, 4), (NotReceived(Why::Blocked), 2, 3), (Received(A), 5, 6)]));
        assert!(!is_explained(Some(1), &[(Sent(A), 1, 2), (Len(0), 3, 4), (Received(A), 5, 6)]));
    }

    #[test]
    fn after_the_close_nothing_is_sent_and_all_is_received_before_the_end() {
        assert!(is_explained(
            Some(1),
            &[(Closed(true), 1, 2), (NotSent(Some(A), Why::Closed), 3, 4), (Closed(false), 5, 6)]
        ));
        assert!(!is_explained(Some(1), &[(Closed(true), 1, 2), (Sent(A), 3, 4), (Received(A), 5, 6)]));
        assert!(is_explained(Some(1), &[(Closed(true), 1, 4), (Sent(A), 2, 3), (Received(A), 5, 6)]));
        assert!(!is_explained(Some(1), &[(Closed(true), 1, 2), (Closed(true), 3, 4)]));
        let end = NotReceived(Why::Closed);
        assert!(is_explained(Some(1), &[(Sent(A), 1, 2), (Closed(true), 3, 4), (Received(A), 5, 6), (end, 7, 8)]));
        assert!(!is_explained(Some(1), &[(Sent(A), 1, 2), (Closed(true), 3, 4), (end, 5, 6), (Received(A), 7, 8)]));
        assert!(!is_explained(Some(1), &[(end, 1, 2), (Closed(true), 3, 4)]));
        assert!(!is_explained(Some(1), &[(Closed(true), 1, 2), (NotReceived(Why::Blocked), 3, 4)]));
    }

    #[test]
    fn the_last_handle_of_a_side_closes_and_the_last_receiver_discards() {
        let last = |side| [(Dropped(side), 3, 4), (Dropped(side), 5, 6)];
        let with = |calls: &[(What, u64, u64)], side| [calls, &last(side)[..]].concat();
        assert!(is_explained(Some(1), &with(&[(Sent(A), 1, 2), (NotSent(Some(B), Why::Closed), 7, 8)], Side::Send)));
        assert!(!is_explained(Some(1), &with(&[(Sent(A), 1, 2), (Len(0), 7, 8)], Side::Send)));
        assert!(is_explained(Some(1), &with(&[(Sent(A), 1, 2), (Len(0), 7, 8)], Side::Receive)));
        assert!(!is_explained(Some(1), &[(Sent(A), 1, 2), (Dropped(Side::Receive), 3, 4), (Len(0), 7, 8)]));
        assert!(!is_explained(Some(1), &with(&[(Sent(A), 7, 8)], Side::Receive)));
    }
}
