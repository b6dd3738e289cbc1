//! The selects of a task.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use csp::channel::{RecvError, Select, SendError};
use csp::{Receiver, Sender, after};

use super::hands::{Hands, not_early};
use super::log::{Log, Object, Seen, What, Why};
use super::message::{Id, Message};
use super::program::{Act, Arm, Ending, Form};

/// A timer that a select has for itself.
struct OwnTimer {
    made: Instant,
    duration: Duration,
    receiver: Receiver<Instant>,
}

impl OwnTimer {
    fn of(act: &Act) -> [Option<Self>; 4] {
        std::array::from_fn(|n| match act.arms.get(n) {
            Some(&Arm::After(us)) => {
                let duration = Duration::from_micros(us);
                Some(Self { made: Instant::now(), duration, receiver: after(duration) })
            }
            _ => None,
        })
    }
}

/// An arm as `select!` gets it.
enum Prepared<'a, const W: usize> {
    Out,
    Send(&'a Sender<Message<W>>, Id, Cell<Option<Message<W>>>),
    Offer(&'a Sender<Message<W>>, OnceCell<Id>),
    Quit(&'a Sender<Message<W>>),
    Recv(&'a Receiver<Message<W>>),
    Timer(&'a Receiver<Instant>),
}

struct Arms<'a, const W: usize> {
    arms: [Prepared<'a, W>; 4],
    hands: &'a Hands<W>,
    /// The arm that could send, and gave up.
    quit: Cell<usize>,
}

impl<const W: usize> Arms<'_, W> {
    fn sends(&self, n: usize) -> bool {
        matches!(self.arms[n], Prepared::Send(..))
    }

    fn offers(&self, n: usize) -> bool {
        matches!(self.arms[n], Prepared::Offer(..) | Prepared::Quit(_))
    }

    fn receives(&self, n: usize) -> bool {
        matches!(self.arms[n], Prepared::Recv(_))
    }

    fn times(&self, n: usize) -> bool {
        matches!(self.arms[n], Prepared::Timer(_))
    }

    fn sender(&self, n: usize) -> &Sender<Message<W>> {
        match self.arms[n] {
            Prepared::Send(sender, ..) | Prepared::Offer(sender, _) | Prepared::Quit(sender) => sender,
            _ => &self.hands.no_sender,
        }
    }

    /// Evaluated on entering.
    fn message(&self, n: usize) -> Message<W> {
        match &self.arms[n] {
            Prepared::Send(_, _, message) => message.take().expect("evaluated once"),
            _ => Message::blank(),
        }
    }

    /// Evaluated where the arm has been chosen. `None`: the select is left.
    fn offered(&self, n: usize) -> Option<Message<W>> {
        match &self.arms[n] {
            Prepared::Offer(_, made) => {
                let (id, message) = self.hands.make();
                made.set(id).expect("evaluated once");
                Some(message)
            }
            _ => {
                self.quit.set(n);
                None
            }
        }
    }

    fn receiver(&self, n: usize) -> &Receiver<Message<W>> {
        if let Prepared::Recv(receiver) = self.arms[n] { receiver } else { &self.hands.no_receiver }
    }

    fn timer(&self, n: usize) -> &Receiver<Instant> {
        if let Prepared::Timer(timer) = self.arms[n] { timer } else { &self.hands.no_timer }
    }
}

enum Chosen<const W: usize> {
    Sent(usize, Result<(), SendError<Message<W>>>),
    Received(usize, Result<Message<W>, RecvError>),
    Fired(usize, Result<Instant, RecvError>),
    /// `default`.
    Default,
    /// `else`.
    Else,
}

/// A select of up to four arms, each in any role. `None`: it was left.
macro_rules! choose {
    ($select:ident $arms:ident $($end:tt)*) => {
        csp::$select! {
            r = <-$arms.receiver(0), if $arms.receives(0) => Some(Chosen::Received(0, r)),
            r = $arms.sender(0) <- $arms.message(0), if $arms.sends(0) => Some(Chosen::Sent(0, r)),
            send($arms.sender(0), $arms.offered(0)?) -> r, if $arms.offers(0) => Some(Chosen::Sent(0, r)),
            recv($arms.timer(0)) -> r, if $arms.times(0) => Some(Chosen::Fired(0, r)),
            r = <-$arms.receiver(1), if $arms.receives(1) => Some(Chosen::Received(1, r)),
            r = $arms.sender(1) <- $arms.message(1), if $arms.sends(1) => Some(Chosen::Sent(1, r)),
            send($arms.sender(1), $arms.offered(1)?) -> r, if $arms.offers(1) => Some(Chosen::Sent(1, r)),
            recv($arms.timer(1)) -> r, if $arms.times(1) => Some(Chosen::Fired(1, r)),
            r = <-$arms.receiver(2), if $arms.receives(2) => Some(Chosen::Received(2, r)),
            r = $arms.sender(2) <- $arms.message(2), if $arms.sends(2) => Some(Chosen::Sent(2, r)),
            send($arms.sender(2), $arms.offered(2)?) -> r, if $arms.offers(2) => Some(Chosen::Sent(2, r)),
            recv($arms.timer(2)) -> r, if $arms.times(2) => Some(Chosen::Fired(2, r)),
            r = <-$arms.receiver(3), if $arms.receives(3) => Some(Chosen::Received(3, r)),
            r = $arms.sender(3) <- $arms.message(3), if $arms.sends(3) => Some(Chosen::Sent(3, r)),
            send($arms.sender(3), $arms.offered(3)?) -> r, if $arms.offers(3) => Some(Chosen::Sent(3, r)),
            recv($arms.timer(3)) -> r, if $arms.times(3) => Some(Chosen::Fired(3, r)),
            $($end)*
        }
    };
}

/// The same with patterns that do not match the errors.
macro_rules! choose_ok {
    ($arms:ident $($end:tt)*) => {
        csp::select! {
            Ok(m) = <-$arms.receiver(0), if $arms.receives(0) => Some(Chosen::Received(0, Ok(m))),
            Ok(()) = $arms.sender(0) <- $arms.message(0), if $arms.sends(0) => Some(Chosen::Sent(0, Ok(()))),
            r = <-$arms.timer(0), if $arms.times(0) => Some(Chosen::Fired(0, r)),
            Ok(m) = <-$arms.receiver(1), if $arms.receives(1) => Some(Chosen::Received(1, Ok(m))),
            Ok(()) = $arms.sender(1) <- $arms.message(1), if $arms.sends(1) => Some(Chosen::Sent(1, Ok(()))),
            r = <-$arms.timer(1), if $arms.times(1) => Some(Chosen::Fired(1, r)),
            Ok(m) = <-$arms.receiver(2), if $arms.receives(2) => Some(Chosen::Received(2, Ok(m))),
            Ok(()) = $arms.sender(2) <- $arms.message(2), if $arms.sends(2) => Some(Chosen::Sent(2, Ok(()))),
            r = <-$arms.timer(2), if $arms.times(2) => Some(Chosen::Fired(2, r)),
            Ok(m) = <-$arms.receiver(3), if $arms.receives(3) => Some(Chosen::Received(3, Ok(m))),
            Ok(()) = $arms.sender(3) <- $arms.message(3), if $arms.sends(3) => Some(Chosen::Sent(3, Ok(()))),
            r = <-$arms.timer(3), if $arms.times(3) => Some(Chosen::Fired(3, r)),
            $($end)*
        }
    };
}

fn object(arm: Arm) -> Object {
    match (arm, arm.channel()) {
        (_, Some((c, _))) => Object::Channel(c),
        (Arm::Timer(t), _) => Object::Timer(t),
        _ => Object::Other,
    }
}

impl<const W: usize> Hands<W> {
    pub(crate) fn select(&self, act: &Act, log: &mut Log) {
        let own_timers: [Option<OwnTimer>; 4] = OwnTimer::of(act);
        let prepare = |n: usize| match act.arms.get(n) {
            Some(&arm) if !self.has(arm) => Prepared::Out,
            Some(&Arm::Send(c)) => {
                let (id, message) = self.make();
                Prepared::Send(&self.senders[c][0], id, Cell::new(Some(message)))
            }
            Some(&Arm::Offer(c)) => Prepared::Offer(&self.senders[c][0], OnceCell::new()),
            Some(&Arm::Quit(c)) => Prepared::Quit(&self.senders[c][0]),
            Some(&Arm::Recv(c)) => Prepared::Recv(&self.receivers[c][0]),
            Some(&Arm::Timer(t)) => Prepared::Timer(&self.timers[t]),
            Some(Arm::After(_)) => Prepared::Timer(&own_timers[n].as_ref().unwrap().receiver),
            Some(Arm::Never) => Prepared::Recv(&self.no_receiver),
            None => Prepared::Out,
        };
        let arms = Arms { arms: std::array::from_fn(prepare), hands: self, quit: Cell::new(0) };
        log.begin();
        let start = Instant::now();
        #[expect(
            clippy::redundant_closure_call,
            reason = "a select is left by `?`; and without optimisation all of them \
            would have their places in this frame at once"
        )]
        let chosen = match (act.form, act.ending) {
            (Form::Biased, Ending::Wait) => (|| choose!(select_biased arms))(),
            (Form::Biased, Ending::Default) => (|| choose!(select_biased arms default => Some(Chosen::Default)))(),
            (Form::Biased, Ending::Timeout(t)) => {
                (|| choose!(select_biased arms default(t) => Some(Chosen::Default)))()
            }
            (Form::Refutable, Ending::Wait) => (|| choose_ok!(arms else => Some(Chosen::Else)))(),
            (Form::Refutable, Ending::Default) => (|| choose_ok!(arms default => Some(Chosen::Default)))(),
            (Form::Refutable, Ending::Timeout(t)) => (|| choose_ok!(arms default(t) => Some(Chosen::Default)))(),
            (_, Ending::Wait) => (|| choose!(select arms))(),
            (_, Ending::Default) => (|| choose!(select arms default => Some(Chosen::Default)))(),
            (_, Ending::Timeout(t)) => (|| choose!(select arms default(t) => Some(Chosen::Default)))(),
        };
        let why = match chosen {
            None => {
                let object = object(act.arms[arms.quit.get()]);
                return log.end_all([(object, What::Promised), (object, What::Abandoned)]);
            }
            Some(Chosen::Sent(n, result)) => {
                let object = object(act.arms[n]);
                let (id, promised) = match &arms.arms[n] {
                    Prepared::Send(_, id, _) => (*id, None),
                    Prepared::Offer(_, id) => (*id.get().expect("it was evaluated"), Some((object, What::Promised))),
                    _ => unreachable!("the arm is out"),
                };
                let sent = (object, self.sent(id, result, log));
                return log.end_all(promised.into_iter().chain([sent]));
            }
            Some(Chosen::Received(n, result)) => return self.received(object(act.arms[n]), result, log),
            Some(Chosen::Fired(n, result)) => return fired(act.arms[n], result, &own_timers[n], log),
            Some(Chosen::Else) => Why::Closed,
            Some(Chosen::Default) if act.form == Form::Refutable => Why::Unready,
            Some(Chosen::Default) => why_not(act, start, log),
        };
        // Every arm had to wait at some moment of the select, or, for `else`, was closed.
        log.end_all(act.arms.iter().zip(&arms.arms).filter_map(|(&arm, prepared)| match *prepared {
            Prepared::Send(_, id, _) => Some((object(arm), What::NotSent(Some(id), why))),
            Prepared::Offer(..) | Prepared::Quit(_) => Some((object(arm), What::NotSent(None, why))),
            Prepared::Recv(_) if arm != Arm::Never => Some((object(arm), What::NotReceived(why))),
            _ => None,
        }));
    }

    fn sent(&self, id: Id, result: Result<(), SendError<Message<W>>>, log: &mut Log) -> What {
        match result {
            Ok(()) => What::Sent(id),
            Err(SendError(message)) => {
                self.is_back(id, &message, log);
                What::NotSent(Some(id), Why::Closed)
            }
        }
    }

    fn received(&self, object: Object, result: Result<Message<W>, RecvError>, log: &mut Log) {
        let what = match result {
            Ok(message) => self.identify(&message, log).map(What::Received),
            Err(RecvError) => Some(What::NotReceived(Why::Closed)),
        };
        log.end_all(what.map(|what| (object, what)));
    }

    /// The arms that take part in a `Select`, and that.
    fn list<'a>(&'a self, act: &'a Act, own_timers: &'a [Option<OwnTimer>; 4]) -> (Vec<usize>, Select<'a>) {
        let mut select = Select::new();
        let mut numbers = Vec::new();
        for (n, &arm) in act.arms.iter().enumerate().filter(|(_, arm)| self.has(**arm)) {
            let index = match arm {
                Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => select.send(&self.senders[c][0]),
                Arm::Recv(c) => select.recv(&self.receivers[c][0]),
                Arm::Timer(t) => select.recv(&self.timers[t]),
                Arm::After(_) => select.recv(&own_timers[n].as_ref().unwrap().receiver),
                Arm::Never => select.recv(&self.no_receiver),
            };
            assert_eq!(index, numbers.len());
            numbers.push(n);
        }
        (numbers, select)
    }

    pub(crate) fn select_dynamically(&self, act: &Act, log: &mut Log) {
        let own_timers = OwnTimer::of(act);
        let (numbers, mut select) = self.list(act, &own_timers);
        log.begin();
        let start = Instant::now();
        let operation = match act.ending {
            Ending::Wait => Some(select.select()),
            Ending::Default => select.try_select().ok(),
            Ending::Timeout(timeout) => select.select_timeout(timeout).ok(),
        };
        let Some(operation) = operation else { return none_is_ready(act, &numbers, start, log) };
        let n = numbers[operation.index()];
        let arm = act.arms[n];
        match arm {
            Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => {
                let (id, message) = self.make();
                let what = self.sent(id, operation.send(&self.senders[c][0], message), log);
                log.end_all([(object(arm), What::Promised), (object(arm), what)]);
            }
            Arm::Recv(c) => self.received(object(arm), operation.recv(&self.receivers[c][0]), log),
            Arm::Timer(t) => fired(arm, operation.recv(&self.timers[t]), &None, log),
            Arm::After(_) => {
                let timer = &own_timers[n].as_ref().unwrap().receiver;
                fired(arm, operation.recv(timer), &own_timers[n], log);
            }
            Arm::Never => log.expect(false, || "never() was ready".into()),
        }
    }

    pub(crate) fn select_what_is_ready(&mut self, act: &Act, log: &mut Log) {
        let own_timers = OwnTimer::of(act);
        let (numbers, mut select) = self.list(act, &own_timers);
        log.begin();
        let start = Instant::now();
        let index = match act.ending {
            Ending::Wait => Some(select.ready()),
            Ending::Default => select.try_ready().ok(),
            Ending::Timeout(timeout) => select.ready_timeout(timeout).ok(),
        };
        let Some(index) = index else { return none_is_ready(act, &numbers, start, log) };
        let n = numbers[index];
        match act.arms[n] {
            Arm::After(_) => {
                log.begin();
                let timer = &own_timers[n].as_ref().unwrap().receiver;
                fired(act.arms[n], timer.try_recv().map_err(|_| RecvError), &own_timers[n], log);
            }
            Arm::Never => log.expect(false, || "never() was ready".into()),
            // Somebody else may be faster.
            arm => self.act(&Act { form: Form::Method, arms: vec![arm], ending: Ending::Default }, log),
        }
    }
}

fn fired(arm: Arm, result: Result<Instant, RecvError>, own: &Option<OwnTimer>, log: &mut Log) {
    let now = Instant::now();
    log.expect(result.is_ok_and(|due| due <= now), || "a timer fired early, or was closed".into());
    if let Some(OwnTimer { made, duration, .. }) = own {
        log.expect(now - *made >= *duration, || "a select's timer fired early".into());
    }
    log.end(object(arm), What::Fired);
}

/// Why a select ended without an arm.
fn why_not(act: &Act, start: Instant, log: &mut Log) -> Why {
    if act.ending == Ending::Default {
        return Why::Blocked;
    }
    not_early(start, act.ending, log);
    Why::TimedOut
}

fn none_is_ready(act: &Act, numbers: &[usize], start: Instant, log: &mut Log) {
    let why = why_not(act, start, log);
    let seen = |&n: &usize| -> Option<Seen> {
        match act.arms[n] {
            arm @ (Arm::Send(_) | Arm::Offer(_) | Arm::Quit(_)) => Some((object(arm), What::NotSent(None, why))),
            arm @ Arm::Recv(_) => Some((object(arm), What::NotReceived(why))),
            Arm::Timer(_) | Arm::After(_) | Arm::Never => None,
        }
    };
    log.end_all(numbers.iter().filter_map(seen));
}
