//! What channels are meant to do, as plainly as it can be said: one operation at a time, and nobody in a hurry.

use std::collections::VecDeque;

use super::log::{Object, Seen, What, Why};
use super::message::Id;
use super::program::{Act, Arm, Ending, Form, Operation, Program, Side, Timer};

#[derive(Clone, Debug)]
struct Channel {
    capacity: Option<usize>,
    closed: bool,
    messages: VecDeque<Id>,
    senders: usize,
    receivers: usize,
    /// The tasks that wait, in the order in which they came, once for each arm.
    waiting_senders: VecDeque<(usize, Sending)>,
    waiting_receivers: VecDeque<usize>,
}

/// What a sender has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Message(Id),
    /// None yet: it is made when it can be sent.
    Offer,
    /// And never: when it could be sent, it is given up.
    Quit,
}

/// A task that waits.
#[derive(Clone, Debug)]
struct Waiting {
    arms: Vec<(Arm, Sending)>,
    /// Of its arms on one channel any may be the one that is met; else the first.
    any: bool,
}

/// All channels, and all tasks that wait.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    channels: Vec<Channel>,
    timers: Vec<Timer>,
    /// The handles of each task, by channel.
    senders: Vec<Vec<usize>>,
    receivers: Vec<Vec<usize>>,
    made: Vec<u16>,
    waits: Vec<Option<Waiting>>,
}

/// One way in which an operation may go.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) after: Reference,
    /// What the task sees; `None`: it waits.
    pub(crate) seen: Option<Vec<Seen>>,
    /// Tasks that waited and no longer do, and what they see.
    pub(crate) released: Vec<(usize, Seen)>,
}

impl Reference {
    /// `handles`: which handles each task has, by channel.
    pub(crate) fn new(program: &Program, handles: &[Vec<(bool, bool)>]) -> Self {
        let channel = |(c, channel): (usize, &super::program::Channel)| Channel {
            capacity: channel.capacity,
            closed: channel.closed,
            messages: VecDeque::new(),
            senders: handles.iter().filter(|h| h[c].0).count(),
            receivers: handles.iter().filter(|h| h[c].1).count(),
            waiting_senders: VecDeque::new(),
            waiting_receivers: VecDeque::new(),
        };
        let mut reference = Self {
            channels: program.channels.iter().enumerate().map(channel).collect(),
            timers: program.timers.clone(),
            senders: handles.iter().map(|h| h.iter().map(|h| usize::from(h.0)).collect()).collect(),
            receivers: handles.iter().map(|h| h.iter().map(|h| usize::from(h.1)).collect()).collect(),
            made: vec![0; handles.len()],
            waits: vec![None; handles.len()],
        };
        // A side that no task has is gone from the start.
        for channel in &mut reference.channels {
            channel.closed |= channel.senders == 0 || channel.receivers == 0;
        }
        reference
    }

    pub(crate) fn waits(&self, task: usize) -> bool {
        self.waits[task].is_some()
    }

    /// How many wait on a channel, to send and to receive.
    pub(crate) fn waiting(&self, c: usize) -> (usize, usize) {
        (self.channels[c].waiting_senders.len(), self.channels[c].waiting_receivers.len())
    }

    /// Whether the message is in a buffer.
    pub(crate) fn is_buffered(&self, id: Id) -> bool {
        self.channels.iter().any(|channel| channel.messages.contains(&id))
    }

    /// Every way in which the operation may go.
    ///
    /// What comes after the wait of a select with refutable patterns, which may queue again, of one that looks for what is
    /// ready, of a batch, and of `into_iter`, which drops a handle, is not foreseen here.
    pub(crate) fn steps(&self, task: usize, operation: &Operation) -> Vec<Step> {
        let mut step = Step { after: self.clone(), seen: Some(Vec::new()), released: Vec::new() };
        match *operation {
            Operation::Act(ref act) => return step.act(task, act),
            Operation::Close(c, side) => {
                if self.count(task, c, side) > 0 {
                    step.see(Object::Channel(c), What::Closed(!self.channels[c].closed));
                    return step.close(c);
                }
            }
            Operation::Clone(c, side) => {
                if self.count(task, c, side) > 0 {
                    step.see(Object::Channel(c), What::Cloned(side));
                    step.after.count_mut(task, c, side, 1);
                }
            }
            Operation::Drop(c, side) => {
                if self.count(task, c, side) > 0 {
                    return step.drop_handle(task, c, side);
                }
            }
            Operation::Look(c, side) => {
                if self.count(task, c, side) > 0 {
                    let Channel { capacity, closed, ref messages, .. } = self.channels[c];
                    let len = messages.len();
                    for what in [
                        What::Len(len),
                        What::IsEmpty(len == 0),
                        What::IsFull(capacity == Some(len)),
                        What::IsClosed(closed),
                        What::Capacity(capacity),
                    ] {
                        step.see(Object::Channel(c), what);
                    }
                }
            }
            Operation::Repeat(..) => unreachable!("only where all happens at once"),
            Operation::Yield | Operation::Spin(_) | Operation::Blocking => {}
        }
        vec![step]
    }

    /// The task lets go of all its handles.
    pub(crate) fn drop_all(&self, task: usize) -> Vec<Step> {
        let mut steps = vec![Step { after: self.clone(), seen: Some(Vec::new()), released: Vec::new() }];
        for c in 0..self.channels.len() {
            for side in [Side::Send, Side::Receive] {
                for _ in 0..self.count(task, c, side) {
                    steps = steps.into_iter().flat_map(|step| step.drop_handle(task, c, side)).collect();
                }
            }
        }
        steps
    }

    fn count(&self, task: usize, c: usize, side: Side) -> usize {
        match side {
            Side::Send => self.senders[task][c],
            Side::Receive => self.receivers[task][c],
        }
    }

    fn count_mut(&mut self, task: usize, c: usize, side: Side, change: isize) {
        let (own, all) = match side {
            Side::Send => (&mut self.senders[task][c], &mut self.channels[c].senders),
            Side::Receive => (&mut self.receivers[task][c], &mut self.channels[c].receivers),
        };
        *own = own.checked_add_signed(change).unwrap();
        *all = all.checked_add_signed(change).unwrap();
    }

    fn has(&self, task: usize, arm: Arm) -> bool {
        arm.channel().is_none_or(|(c, side)| self.count(task, c, side) > 0)
    }

    fn make(&mut self, task: usize) -> Id {
        let id = Id { task: task as u8, number: self.made[task] };
        self.made[task] += 1;
        id
    }

    fn is_ready(&self, arm: Arm) -> bool {
        match arm {
            Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => {
                let channel = &self.channels[c];
                channel.closed || channel.has_room() || !channel.waiting_receivers.is_empty()
            }
            Arm::Recv(c) => {
                let channel = &self.channels[c];
                channel.closed || !channel.messages.is_empty() || !channel.waiting_senders.is_empty()
            }
            Arm::Timer(t) => matches!(self.timers[t], Timer::Due | Timer::Ticks),
            Arm::After(_) => unreachable!("the reference knows no time"),
            Arm::Never => false,
        }
    }

    /// Whether the operation would get the error of a closed channel.
    fn fails(&self, arm: Arm) -> bool {
        match arm {
            Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => self.channels[c].closed,
            Arm::Recv(c) => self.channels[c].closed && self.channels[c].messages.is_empty(),
            Arm::Timer(_) | Arm::After(_) | Arm::Never => false,
        }
    }

    /// The task waits, behind all others.
    fn queue(&mut self, task: usize, waiting: Waiting) {
        for &(arm, sending) in &waiting.arms {
            match arm {
                Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => {
                    self.channels[c].waiting_senders.push_back((task, sending));
                }
                Arm::Recv(c) => self.channels[c].waiting_receivers.push_back(task),
                Arm::Timer(_) | Arm::After(_) | Arm::Never => {}
            }
        }
        self.waits[task] = Some(waiting);
    }

    /// The task no longer waits.
    fn unqueue(&mut self, task: usize) -> Waiting {
        for channel in &mut self.channels {
            channel.waiting_senders.retain(|(other, _)| *other != task);
            channel.waiting_receivers.retain(|other| *other != task);
        }
        self.waits[task].take().expect("it waits")
    }
}

impl Channel {
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| self.messages.len() < capacity)
    }
}

impl Step {
    fn see(&mut self, object: Object, what: What) {
        self.seen.as_mut().unwrap().push((object, what));
    }

    fn channel(&mut self, c: usize) -> &mut Channel {
        &mut self.after.channels[c]
    }

    fn release(&mut self, task: usize, c: usize, what: What) {
        self.after.unqueue(task);
        self.released.push((task, (Object::Channel(c), what)));
    }

    fn act(mut self, task: usize, act: &Act) -> Vec<Step> {
        let arms = act.arms.iter().copied().filter(|&arm| self.after.has(task, arm)).collect::<Vec<_>>();
        let possible = match act.arms[..] {
            [Arm::Timer(_) | Arm::Never] => !act.ending.is_endless(),
            _ => arms.iter().any(|arm| arm.channel().is_some()),
        };
        if !possible {
            return vec![self];
        }
        if let Form::Many(count) = act.form {
            return self.many(task, arms[0], usize::from(count), act.ending);
        }
        let arms = arms.into_iter().map(|arm| {
            let sending = match arm {
                // Made first, whichever arm is chosen; but not before a look that only looks.
                Arm::Send(_) if act.form != Form::Ready => Sending::Message(self.after.make(task)),
                Arm::Quit(_) => Sending::Quit,
                _ => Sending::Offer,
            };
            (arm, sending)
        });
        let arms = arms.collect::<Vec<_>>();
        self.choose(task, act, &arms)
    }

    /// Carries out one of the arms, or none.
    fn choose(self, task: usize, act: &Act, arms: &[(Arm, Sending)]) -> Vec<Step> {
        let mut ready = arms.iter().copied().filter(|(arm, _)| self.after.is_ready(*arm)).collect::<Vec<_>>();
        if act.form == Form::Refutable {
            ready.retain(|(arm, _)| !self.after.fails(*arm));
        }
        if act.form == Form::Biased {
            ready.truncate(1);
        }
        if ready.is_empty() {
            return vec![self.none_is_ready(task, act, arms)];
        }
        let mut steps = Vec::new();
        for (arm, sending) in ready {
            let step = self.clone();
            match arm {
                Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => steps.push(step.send(task, c, sending)),
                Arm::Recv(c) => steps.extend(step.recv(task, c, act, arms)),
                Arm::Timer(t) => {
                    let mut step = step;
                    if step.after.timers[t] == Timer::Due {
                        step.after.timers[t] = Timer::Far;
                    }
                    step.see(Object::Timer(t), What::Fired);
                    steps.push(step);
                }
                Arm::After(_) | Arm::Never => unreachable!("never ready"),
            }
        }
        steps
    }

    fn none_is_ready(mut self, task: usize, act: &Act, arms: &[(Arm, Sending)]) -> Step {
        let all_fail = act.form == Form::Refutable && arms.iter().all(|(arm, _)| self.after.fails(*arm));
        let why = match (act.ending, act.form) {
            (Ending::Wait, Form::Refutable) if all_fail => Why::Closed,
            (Ending::Default, Form::Iter(_)) => Why::Unready,
            (ending, Form::Refutable) if !ending.is_endless() => Why::Unready,
            (Ending::Default, _) => Why::Blocked,
            (ending, _) if !ending.is_endless() => Why::TimedOut,
            _ => {
                self.seen = None;
                let any = act.form != Form::Biased;
                self.after.queue(task, Waiting { arms: arms.to_vec(), any });
                return self;
            }
        };
        for &(arm, sending) in arms {
            match (arm, sending) {
                (Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c), Sending::Message(id)) => {
                    self.see(Object::Channel(c), What::NotSent(Some(id), why));
                }
                (Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c), _) => {
                    self.see(Object::Channel(c), What::NotSent(None, why));
                }
                (Arm::Recv(c), _) => self.see(Object::Channel(c), What::NotReceived(why)),
                _ if act.form.is_select() => {}
                (Arm::Timer(t), _) => self.see(Object::Timer(t), What::NotReceived(why)),
                _ => self.see(Object::Other, What::NotReceived(why)),
            }
        }
        self
    }

    /// Sends on a channel that is ready for it.
    fn send(mut self, task: usize, c: usize, sending: Sending) -> Step {
        let receiver = self.channel(c).waiting_receivers.front().copied();
        let id = match sending {
            Sending::Message(id) => id,
            Sending::Offer => self.after.make(task),
            Sending::Quit => {
                // Without a buffer it was a receiver that was chosen with it: that one begins again, behind all others.
                if let Some(receiver) = receiver.filter(|_| self.after.channels[c].capacity == Some(0)) {
                    let waiting = self.after.unqueue(receiver);
                    self.after.queue(receiver, waiting);
                }
                self.see(Object::Channel(c), What::Abandoned);
                return self;
            }
        };
        if self.channel(c).closed {
            self.see(Object::Channel(c), What::NotSent(Some(id), Why::Closed));
            return self;
        }
        match receiver {
            Some(receiver) => self.release(receiver, c, What::Received(id)),
            None => self.channel(c).messages.push_back(id),
        }
        self.see(Object::Channel(c), What::Sent(id));
        self
    }

    /// Receives from a channel that is ready for it.
    fn recv(mut self, task: usize, c: usize, act: &Act, arms: &[(Arm, Sending)]) -> Vec<Step> {
        if let Some(id) = self.channel(c).messages.pop_front() {
            self.received(task, c, act, Some(id));
            return self.fill(c);
        }
        if self.channel(c).waiting_senders.is_empty() {
            self.received(task, c, act, None);
            return vec![self];
        }
        let mut steps = Vec::new();
        for (sender, sending) in self.oldest_sender(c) {
            let mut step = self.clone();
            match step.meet(sender, c, sending) {
                Some(id) => {
                    step.received(task, c, act, Some(id));
                    steps.push(step);
                }
                // It is as if nobody had been there.
                None => steps.extend(step.choose(task, act, arms)),
            }
        }
        steps
    }

    fn received(&mut self, task: usize, c: usize, act: &Act, id: Option<Id>) {
        let what = match (id, act.form, act.ending) {
            (Some(id), ..) => What::Received(id),
            (None, Form::Iter(_), Ending::Default) => What::NotReceived(Why::Unready),
            (None, ..) => What::NotReceived(Why::Closed),
        };
        self.see(Object::Channel(c), what);
        if let Form::IntoIter(_) = act.form {
            // Nobody waits for it: that would not be foreseen.
            *self = self.clone().drop_handle(task, c, Side::Receive).remove(0);
        }
    }

    /// The sender that has waited longest, with each of its arms that may be the one that is met.
    fn oldest_sender(&self, c: usize) -> Vec<(usize, Sending)> {
        let senders = &self.after.channels[c].waiting_senders;
        let Some(&(oldest, _)) = senders.front() else { return Vec::new() };
        let mut arms = senders.iter().copied().filter(|(task, _)| *task == oldest).collect::<Vec<_>>();
        if !self.after.waits[oldest].as_ref().is_some_and(|waiting| waiting.any) {
            arms.truncate(1);
        }
        arms
    }

    /// A waiting sender can send: gives its message, unless it gives up.
    fn meet(&mut self, sender: usize, c: usize, sending: Sending) -> Option<Id> {
        let id = match sending {
            Sending::Message(id) => Some(id),
            Sending::Offer => Some(self.after.make(sender)),
            Sending::Quit => None,
        };
        self.release(sender, c, id.map_or(What::Abandoned, What::Sent));
        id
    }

    /// There is room in the buffer, for the sender that has waited longest.
    fn fill(self, c: usize) -> Vec<Step> {
        let senders = self.oldest_sender(c);
        if senders.is_empty() {
            return vec![self];
        }
        let mut steps = Vec::new();
        for (sender, sending) in senders {
            let mut step = self.clone();
            match step.meet(sender, c, sending) {
                Some(id) => {
                    step.channel(c).messages.push_back(id);
                    steps.push(step);
                }
                None => steps.extend(step.fill(c)),
            }
        }
        steps
    }

    /// A batch that need not wait.
    fn many(mut self, task: usize, arm: Arm, count: usize, ending: Ending) -> Vec<Step> {
        let object = |c| Object::Channel(c);
        match arm {
            Arm::Send(c) => {
                let ids = (0..count).map(|_| self.after.make(task)).collect::<Vec<_>>();
                let channel = self.channel(c);
                let room = channel.capacity.map_or(usize::MAX, |capacity| capacity - channel.messages.len());
                if channel.closed {
                    ids.iter().for_each(|&id| self.see(object(c), What::NotSent(Some(id), Why::Closed)));
                } else if room >= count {
                    self.channel(c).messages.extend(&ids);
                    ids.iter().for_each(|&id| self.see(object(c), What::Sent(id)));
                } else {
                    self.seen = None;
                }
            }
            Arm::Recv(c) => {
                let channel = self.channel(c);
                let closed = channel.closed;
                let count = count.min(channel.messages.len());
                let ids = channel.messages.drain(..count).collect::<Vec<_>>();
                ids.iter().for_each(|&id| self.see(object(c), What::Received(id)));
                match ending {
                    _ if !ids.is_empty() => {}
                    _ if closed => self.see(object(c), What::NotReceived(Why::Closed)),
                    Ending::Default => self.see(object(c), What::NotReceived(Why::Blocked)),
                    _ => self.seen = None,
                }
            }
            _ => unreachable!("batches are of channels"),
        }
        vec![self]
    }

    fn close(mut self, c: usize) -> Vec<Step> {
        self.channel(c).closed = true;
        while let Some(receiver) = self.channel(c).waiting_receivers.front().copied() {
            self.release(receiver, c, What::NotReceived(Why::Closed));
        }
        let senders = self.oldest_sender(c);
        if senders.is_empty() {
            return vec![self];
        }
        let mut steps = Vec::new();
        for (sender, sending) in senders {
            let mut step = self.clone();
            let what = match sending {
                Sending::Message(id) => What::NotSent(Some(id), Why::Closed),
                Sending::Offer => What::NotSent(Some(step.after.make(sender)), Why::Closed),
                Sending::Quit => What::Abandoned,
            };
            step.release(sender, c, what);
            steps.extend(step.close(c));
        }
        steps
    }

    fn drop_handle(mut self, task: usize, c: usize, side: Side) -> Vec<Step> {
        self.see(Object::Channel(c), What::Dropped(side));
        self.after.count_mut(task, c, side, -1);
        let channel = self.channel(c);
        match side {
            Side::Send if channel.senders == 0 => self.close(c),
            Side::Receive if channel.receivers == 0 => {
                channel.messages.clear();
                self.close(c)
            }
            _ => vec![self],
        }
    }
}
