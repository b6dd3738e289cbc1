//! A task's handles, and what it does with them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use csp::channel::{RecvError, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use csp::{Receiver, Sender, after, bounded, never, unbounded};

use super::log::{Log, Object, What, Why};
use super::message::{Id, Message, NUMBERS, Run};
use super::program::{Act, Arm, Channel, Ending, Form, LONG, Operation, Side, Timer};

/// The channels and timers of a program, with the one handle on each side.
pub(crate) struct World<const W: usize> {
    pub(crate) channels: Vec<(Sender<Message<W>>, Receiver<Message<W>>)>,
    pub(crate) timers: Vec<Receiver<Instant>>,
}

impl<const W: usize> World<W> {
    pub(crate) fn new(channels: &[Channel], timers: &[Timer]) -> Self {
        let channel = |channel: &Channel| {
            let (tx, rx) = match channel.capacity {
                Some(capacity) => bounded(capacity),
                None => unbounded(),
            };
            if channel.closed {
                tx.close();
            }
            (tx, rx)
        };
        let timer = |timer: &Timer| match timer {
            Timer::Due => csp::channel::at(Instant::now()),
            Timer::In(micros) => after(Duration::from_micros(*micros)),
            Timer::Far => after(LONG),
            Timer::Ticks => csp::channel::tick(Duration::ZERO),
        };
        Self { channels: channels.iter().map(channel).collect(), timers: timers.iter().map(timer).collect() }
    }

    /// The handles of a task that has the sides named, for each channel.
    pub(crate) fn hands(&self, task: usize, run: Run, sides: &[(bool, bool)]) -> Hands<W> {
        let (no_sender, _) = bounded(0);
        let both = || self.channels.iter().zip(sides);
        Hands {
            task: u8::try_from(task).unwrap(),
            run,
            made: Cell::new(0),
            senders: both().map(|((tx, _), side)| if side.0 { vec![tx.clone()] } else { Vec::new() }).collect(),
            receivers: both().map(|((_, rx), side)| if side.1 { vec![rx.clone()] } else { Vec::new() }).collect(),
            timers: self.timers.clone(),
            no_sender,
            no_receiver: never(),
            no_timer: never(),
        }
    }
}

/// What a task has in its hands.
pub(crate) struct Hands<const W: usize> {
    task: u8,
    run: Run,
    made: Cell<u16>,
    /// By channel.
    pub(crate) senders: Vec<Vec<Sender<Message<W>>>>,
    pub(crate) receivers: Vec<Vec<Receiver<Message<W>>>>,
    pub(crate) timers: Vec<Receiver<Instant>>,
    /// For the arms of a select that take no part.
    pub(crate) no_sender: Sender<Message<W>>,
    pub(crate) no_receiver: Receiver<Message<W>>,
    pub(crate) no_timer: Receiver<Instant>,
}

impl<const W: usize> Hands<W> {
    /// How many messages were made.
    pub(crate) fn made(&self) -> u16 {
        self.made.get()
    }

    pub(crate) fn make(&self) -> (Id, Message<W>) {
        let id = Id { task: self.task, number: self.made.get() };
        assert!(usize::from(id.number) < NUMBERS, "too many messages for the ledger");
        self.made.set(id.number + 1);
        (id, self.run.message(id))
    }

    pub(crate) fn has(&self, arm: Arm) -> bool {
        match arm.channel() {
            Some((c, Side::Send)) => !self.senders[c].is_empty(),
            Some((c, Side::Receive)) => !self.receivers[c].is_empty(),
            None => true,
        }
    }

    /// Whether there is something to be done: the handles are there, and somebody can end the wait.
    fn can(&self, act: &Act) -> bool {
        match act.arms[..] {
            [Arm::Timer(_) | Arm::Never] => !act.ending.is_endless(),
            _ => act.arms.iter().any(|&arm| arm.channel().is_some() && self.has(arm)),
        }
    }

    /// Which message arrived.
    pub(crate) fn identify(&self, message: &Message<W>, log: &mut Log) -> Option<Id> {
        let id = message.id(self.run);
        log.expect(id.is_some(), || format!("task {} received garbage: {message:?}", self.task));
        id
    }

    /// Whether the message that came back is the one that was given.
    pub(crate) fn is_back(&self, given: Id, message: &Message<W>, log: &mut Log) {
        let back = message.id(self.run);
        log.expect(back == Some(given), || format!("{given:?} was not sent, but {back:?} came back"));
    }

    pub(crate) fn perform(&mut self, operation: &Operation, log: &mut Log) {
        match *operation {
            Operation::Act(ref act) => {
                if self.can(act) {
                    self.act(act, log);
                }
            }
            Operation::Repeat(times, ref act) => {
                for _ in 0..times {
                    if self.can(act) {
                        self.act(act, log);
                    }
                }
            }
            Operation::Close(c, side) => {
                log.begin();
                let was_open = match side {
                    Side::Send => self.senders[c].last().map(Sender::close),
                    Side::Receive => self.receivers[c].last().map(Receiver::close),
                };
                if let Some(was_open) = was_open {
                    log.end(Object::Channel(c), What::Closed(was_open));
                }
            }
            Operation::Clone(c, side) => {
                log.begin();
                let cloned = match side {
                    Side::Send => self.senders[c].last().cloned().map(|tx| self.senders[c].push(tx)),
                    Side::Receive => self.receivers[c].last().cloned().map(|rx| self.receivers[c].push(rx)),
                };
                if cloned.is_some() {
                    log.end(Object::Channel(c), What::Cloned(side));
                }
            }
            Operation::Drop(c, side) => _ = self.drop_one(c, side, log),
            Operation::Look(c, side) => self.look(c, side, log),
            Operation::Yield => csp::yield_now(),
            Operation::Spin(times) => (0..times).for_each(|_| std::hint::spin_loop()),
            Operation::Blocking => csp::blocking(|| ()),
        }
    }

    /// Lets go of one handle, if there is one.
    fn drop_one(&mut self, c: usize, side: Side, log: &mut Log) -> bool {
        log.begin();
        let dropped = match side {
            Side::Send => self.senders[c].pop().map(drop),
            Side::Receive => self.receivers[c].pop().map(drop),
        };
        if dropped.is_some() {
            log.end(Object::Channel(c), What::Dropped(side));
        }
        dropped.is_some()
    }

    /// Lets go of everything.
    pub(crate) fn drop_all(&mut self, log: &mut Log) {
        for c in 0..self.senders.len() {
            while self.drop_one(c, Side::Send, log) {}
            while self.drop_one(c, Side::Receive, log) {}
        }
    }

    fn look(&self, c: usize, side: Side, log: &mut Log) {
        macro_rules! look {
            ($handle:expr) => {{
                let handle = $handle;
                let mut note = |look: &dyn Fn() -> What| {
                    log.begin();
                    let what = look();
                    log.end(Object::Channel(c), what);
                };
                note(&|| What::Len(handle.len()));
                note(&|| What::IsEmpty(handle.is_empty()));
                note(&|| What::IsFull(handle.is_full()));
                note(&|| What::IsClosed(handle.is_closed()));
                note(&|| What::Capacity(handle.capacity()));
                log.expect(handle.same_channel(&handle.clone()), || format!("a clone of channel {c} is another one"));
            }};
        }
        match side {
            Side::Send => self.senders[c].last().into_iter().for_each(|tx| look!(tx)),
            Side::Receive => self.receivers[c].last().into_iter().for_each(|rx| look!(rx)),
        }
    }

    pub(crate) fn act(&mut self, act: &Act, log: &mut Log) {
        match (act.form, act.arms[0]) {
            (Form::Method | Form::Deadline, Arm::Send(c)) => self.send(c, act, log),
            (Form::Method | Form::Deadline, Arm::Recv(c)) => {
                let receiver = self.receivers[c].last().expect("checked by `can`");
                log.begin();
                let start = Instant::now();
                let result = receive(receiver, act);
                if let Err(Why::TimedOut) = result {
                    not_early(start, act.ending, log);
                }
                let what = match result {
                    Ok(message) => self.identify(&message, log).map(What::Received),
                    Err(why) => Some(What::NotReceived(why)),
                };
                what.into_iter().for_each(|what| log.end(Object::Channel(c), what));
            }
            (Form::Method | Form::Deadline, Arm::Timer(t)) => {
                log.begin();
                let start = Instant::now();
                match receive(&self.timers[t], act) {
                    Ok(due) => {
                        log.expect(due <= Instant::now(), || format!("timer {t} fired early"));
                        log.end(Object::Timer(t), What::Fired);
                    }
                    Err(why) => {
                        if why == Why::TimedOut {
                            not_early(start, act.ending, log);
                        }
                        log.end(Object::Timer(t), What::NotReceived(why));
                    }
                }
            }
            (Form::Method | Form::Deadline, Arm::Never) => {
                log.begin();
                let start = Instant::now();
                let result = receive(&self.no_receiver, act);
                log.expect(result.is_err(), || "something came from never()".into());
                if let Err(why) = result {
                    if why == Why::TimedOut {
                        not_early(start, act.ending, log);
                    }
                    log.end(Object::Other, What::NotReceived(why));
                }
            }
            (Form::Iter(times), Arm::Recv(c)) => {
                let receiver = self.receivers[c].last().expect("checked by `can`");
                let endless = act.ending == Ending::Wait;
                let (mut iter, mut try_iter) = (receiver.iter(), receiver.try_iter());
                for _ in 0..times {
                    log.begin();
                    let message = if endless { iter.next() } else { try_iter.next() };
                    if !self.note_step(c, message, if endless { Why::Closed } else { Why::Unready }, log) {
                        break;
                    }
                }
            }
            (Form::IntoIter(times), Arm::Recv(c)) => {
                let mut iter = self.receivers[c].pop().expect("checked by `can`").into_iter();
                for _ in 0..times {
                    log.begin();
                    let message = iter.next();
                    if !self.note_step(c, message, Why::Closed, log) {
                        break;
                    }
                }
                log.begin();
                drop(iter);
                log.end(Object::Channel(c), What::Dropped(Side::Receive));
            }
            (Form::Iter(_) | Form::IntoIter(_), _) => unreachable!("only receivers are iterated over"),
            (Form::Many(count), Arm::Send(c)) => self.send_many(c, count, log),
            (Form::Many(count), Arm::Recv(c)) => self.recv_many(c, count, act.ending, log),
            (Form::Select | Form::Biased | Form::Refutable, _) => self.select(act, log),
            (Form::Dynamic, _) => self.select_dynamically(act, log),
            (Form::Ready, _) => self.select_what_is_ready(act, log),
            (Form::Method | Form::Deadline | Form::Many(_), _) => unreachable!("of channels and timers, one at a time"),
        }
    }

    fn note_step(&self, c: usize, message: Option<Message<W>>, end: Why, log: &mut Log) -> bool {
        match message {
            Some(message) => {
                if let Some(id) = self.identify(&message, log) {
                    log.end(Object::Channel(c), What::Received(id));
                }
                true
            }
            None => {
                log.end(Object::Channel(c), What::NotReceived(end));
                false
            }
        }
    }

    fn send(&self, c: usize, act: &Act, log: &mut Log) {
        let (id, message) = self.make();
        let sender = self.senders[c].last().expect("checked by `can`");
        log.begin();
        let start = Instant::now();
        let timed = |result| match result {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Disconnected(message)) => Err((message, Why::Closed)),
            Err(SendTimeoutError::Timeout(message)) => Err((message, Why::TimedOut)),
        };
        let result = match (act.ending, act.form) {
            (Ending::Wait, _) => sender.send(message).map_err(|error| (error.into_inner(), Why::Closed)),
            (Ending::Default, _) => match sender.try_send(message) {
                Ok(()) => Ok(()),
                Err(TrySendError::Disconnected(message)) => Err((message, Why::Closed)),
                Err(TrySendError::Full(message)) => Err((message, Why::Blocked)),
            },
            (Ending::Timeout(timeout), Form::Method) => timed(sender.send_timeout(message, timeout)),
            (Ending::Timeout(timeout), _) => timed(sender.send_deadline(message, start + timeout)),
        };
        let what = match result {
            Ok(()) => What::Sent(id),
            Err((message, why)) => {
                if why == Why::TimedOut {
                    not_early(start, act.ending, log);
                }
                self.is_back(id, &message, log);
                What::NotSent(Some(id), why)
            }
        };
        log.end(Object::Channel(c), what);
    }

    fn send_many(&self, c: usize, count: u8, log: &mut Log) {
        let (ids, messages): (Vec<_>, Vec<_>) = (0..count).map(|_| self.make()).unzip();
        let sender = self.senders[c].last().expect("checked by `can`");
        log.begin();
        let result = sender.send_many(messages);
        let sent = result.as_ref().map_or_else(|error| error.sent, |()| ids.len());
        log.end_all(ids.iter().enumerate().map(|(n, &id)| {
            let what = if n < sent { What::Sent(id) } else { What::NotSent(Some(id), Why::Closed) };
            (Object::Channel(c), what)
        }));
        if let Err(error) = result {
            let unsent = error.unsent.collect::<Vec<_>>();
            log.expect(unsent.len() == ids.len() - sent, || format!("{} of {ids:?} came back", unsent.len()));
            ids[sent..].iter().zip(&unsent).for_each(|(&id, message)| self.is_back(id, message, log));
        }
    }

    fn recv_many(&self, c: usize, count: u8, ending: Ending, log: &mut Log) {
        let receiver = self.receivers[c].last().expect("checked by `can`");
        let limit = usize::from(count);
        let mut messages = Vec::new();
        log.begin();
        let result = match ending {
            Ending::Default => receiver.try_recv_many(&mut messages, limit).map_err(|error| match error {
                TryRecvError::Empty => Why::Blocked,
                TryRecvError::Disconnected => Why::Closed,
            }),
            _ => receiver.recv_many(&mut messages, limit).map_err(|RecvError| Why::Closed),
        };
        let ids = messages.iter().filter_map(|message| self.identify(message, log)).collect::<Vec<_>>();
        match result {
            Ok(received) => {
                let fits = received == messages.len() && (1..=limit).contains(&received);
                log.expect(fits, || format!("{received} of {limit} are {ids:?}"));
                log.end_all(ids.into_iter().map(|id| (Object::Channel(c), What::Received(id))));
            }
            Err(why) => {
                log.expect(ids.is_empty(), || format!("an error, and {ids:?}"));
                log.end(Object::Channel(c), What::NotReceived(why));
            }
        }
    }
}

pub(crate) fn receive<T>(receiver: &Receiver<T>, act: &Act) -> Result<T, Why> {
    let timed = |result: Result<T, RecvTimeoutError>| {
        result.map_err(|error| if error == RecvTimeoutError::Timeout { Why::TimedOut } else { Why::Closed })
    };
    match (act.ending, act.form) {
        (Ending::Wait, _) => receiver.recv().map_err(|RecvError| Why::Closed),
        (Ending::Default, _) => {
            receiver.try_recv().map_err(|error| if error == TryRecvError::Empty { Why::Blocked } else { Why::Closed })
        }
        (Ending::Timeout(timeout), Form::Method) => timed(receiver.recv_timeout(timeout)),
        (Ending::Timeout(timeout), _) => timed(receiver.recv_deadline(Instant::now() + timeout)),
    }
}

pub(crate) fn not_early(start: Instant, ending: Ending, log: &mut Log) {
    let took = start.elapsed();
    let Ending::Timeout(timeout) = ending else { unreachable!("without a timeout") };
    log.expect(took >= timeout, || format!("a timeout of {timeout:?} ended after {took:?}"));
}
