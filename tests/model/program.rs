//! Programs as values, and how they print.

use std::fmt;
use std::time::Duration;

/// A timeout that never ends while a test runs: a wait with a deadline that is served all the same.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Send,
    Receive,
}

#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// `None`: unbounded.
    pub(crate) capacity: Option<usize>,
    /// Closed before the tasks start.
    pub(crate) closed: bool,
    /// Which handle the keeper has, so that it can close the channel. (Both would keep the channel from being closed by
    /// the last handle of either side.)
    pub(crate) keeper: Side,
}

/// A receiver of `Instant`s that all tasks share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// One message, now.
    Due,
    /// One message, in so many microseconds.
    In(u64),
    /// One message, not while the test runs.
    Far,
    /// A message whenever somebody looks.
    Ticks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Goroutine,
    /// A goroutine that owns its OS thread.
    Locked,
    Thread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// Go's `tx <- m`: the message is there.
    Send(usize),
    /// crossbeam's `send(tx, m)`: the message is made when it can be sent.
    Offer(usize),
    /// The same, but instead of making the message the select is left: somebody was promised a message in vain.
    Quit(usize),
    Recv(usize),
    Timer(usize),
    /// A timer of this select's own, of so many microseconds.
    After(u64),
    Never,
}

impl Arm {
    pub(crate) fn channel(self) -> Option<(usize, Side)> {
        match self {
            Self::Send(c) | Self::Offer(c) | Self::Quit(c) => Some((c, Side::Send)),
            Self::Recv(c) => Some((c, Side::Receive)),
            Self::Timer(_) | Self::After(_) | Self::Never => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Wait,
    Default,
    Timeout(Duration),
}

impl Ending {
    /// Whether only others can end it.
    pub(crate) fn is_endless(self) -> bool {
        matches!(self, Self::Wait | Self::Timeout(LONG))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `tx.send(m)`, `rx.try_recv()`, `rx.recv_timeout(t)`, ..
    Method,
    /// As above, with a deadline instead of a timeout.
    Deadline,
    /// So many steps of `rx.iter()` or `rx.try_iter()`.
    Iter(u8),
    /// So many steps of `rx.into_iter()`.
    IntoIter(u8),
    /// So many messages by `send_many`, `recv_many` or `try_recv_many`.
    Many(u8),
    /// `select!` with patterns that match whatever comes.
    Select,
    /// `select_biased!`.
    Biased,
    /// `select!` with patterns that do not match the error of a closed channel, and `else`.
    Refutable,
    /// `Select::select` and the like.
    Dynamic,
    /// `Select::ready` and the like, and then the operation if it is ready still.
    Ready,
}

impl Form {
    pub(crate) fn is_select(self) -> bool {
        matches!(self, Self::Select | Self::Biased | Self::Refutable | Self::Dynamic | Self::Ready)
    }
}

/// One operation on one or more channels, that may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) form: Form,
    /// One, but for selects.
    pub(crate) arms: Vec<Arm>,
    pub(crate) ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Act(Act),
    /// So many times.
    Repeat(u8, Act),
    Close(usize, Side),
    Clone(usize, Side),
    Drop(usize, Side),
    /// `len`, `is_empty`, `is_full`, `capacity`, `is_closed`.
    Look(usize, Side),
    Yield,
    /// Spins so many times.
    Spin(u16),
    /// `csp::blocking`: the goroutine may go on in another OS thread.
    Blocking,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) place: Place,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) channels: Vec<Channel>,
    pub(crate) timers: Vec<Timer>,
    /// A task has one handle of each side that its operations use, and those that it clones.
    pub(crate) tasks: Vec<Task>,
    /// What the keeper does, one operation each time all the tasks wait. Then it closes all channels.
    pub(crate) keeper: Vec<Operation>,
    /// Whether messages are large.
    pub(crate) large: bool,
    /// Whether operations are stamped with the time: by a shared counter, which orders what the program itself may not.
    pub(crate) timed: bool,
}

impl Operation {
    /// The sides of channels that it needs a handle of.
    pub(crate) fn uses(&self, mut visit: impl FnMut(usize, Side)) {
        match self {
            Self::Act(act) | Self::Repeat(_, act) => {
                act.arms.iter().filter_map(|arm| arm.channel()).for_each(|(c, side)| visit(c, side));
            }
            &Self::Close(c, side) | &Self::Clone(c, side) | &Self::Drop(c, side) | &Self::Look(c, side) => {
                visit(c, side);
            }
            Self::Yield | Self::Spin(_) | Self::Blocking => {}
        }
    }

    /// Turns the arms of the other side round, where that can be done.
    pub(crate) fn confine(&mut self, role: Option<Side>) {
        let (Self::Act(act) | Self::Repeat(_, act)) = self else { return };
        if matches!(act.form, Form::Iter(_) | Form::IntoIter(_)) {
            return;
        }
        for arm in &mut act.arms {
            match (*arm, role) {
                (Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c), Some(Side::Receive)) => *arm = Arm::Recv(c),
                (Arm::Recv(c), Some(Side::Send)) => *arm = Arm::Send(c),
                _ => {}
            }
        }
    }

    /// Makes arms of what there is in that form.
    pub(crate) fn settle(&mut self) {
        let (Self::Act(act) | Self::Repeat(_, act)) = self else { return };
        if let (Form::Many(_), Arm::Send(_)) = (act.form, act.arms[0]) {
            act.ending = Ending::Wait;
        }
        for arm in &mut act.arms {
            match (*arm, act.form) {
                (Arm::Send(c) | Arm::Quit(c), Form::Dynamic) => *arm = Arm::Offer(c),
                // It is tried in the end.
                (Arm::Offer(c) | Arm::Quit(c), Form::Ready) => *arm = Arm::Send(c),
                // There the value is evaluated on entering.
                (Arm::Offer(c) | Arm::Quit(c), Form::Refutable) => *arm = Arm::Send(c),
                _ => {}
            }
        }
    }

    /// Brings the numbers of channels and timers into range.
    pub(crate) fn normalize(mut self, channels: usize, timers: usize) -> Self {
        match &mut self {
            Self::Act(act) | Self::Repeat(_, act) => act.arms.iter_mut().for_each(|arm| match arm {
                Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) | Arm::Recv(c) => *c %= channels,
                Arm::Timer(_) if timers == 0 => *arm = Arm::Never,
                Arm::Timer(t) => *t %= timers,
                Arm::After(_) | Arm::Never => {}
            }),
            Self::Close(c, _) | Self::Clone(c, _) | Self::Drop(c, _) | Self::Look(c, _) => *c %= channels,
            Self::Yield | Self::Spin(_) | Self::Blocking => {}
        }
        self
    }
}

impl Program {
    /// Which handles a task has at the start.
    pub(crate) fn handles(&self, task: &Task) -> Vec<(bool, bool)> {
        let mut handles = vec![(false, false); self.channels.len()];
        for operation in &task.operations {
            operation.uses(|c, side| match side {
                Side::Send => handles[c].0 = true,
                Side::Receive => handles[c].1 = true,
            });
        }
        handles
    }

    /// The arms of a task's operation for which it still has a handle when it comes to it.
    pub(crate) fn arms_at(&self, task: usize, at: usize) -> Vec<Arm> {
        let task = &self.tasks[task];
        let mut handles =
            self.handles(task).into_iter().map(|h| [usize::from(h.0), usize::from(h.1)]).collect::<Vec<_>>();
        let index = |side| usize::from(side == Side::Receive);
        let has = |handles: &[[usize; 2]], arm: &Arm| arm.channel().is_none_or(|(c, side)| handles[c][index(side)] > 0);
        for operation in &task.operations[..at] {
            match *operation {
                Operation::Clone(c, side) if handles[c][index(side)] > 0 => handles[c][index(side)] += 1,
                Operation::Drop(c, side) if handles[c][index(side)] > 0 => handles[c][index(side)] -= 1,
                Operation::Act(Act { form: Form::IntoIter(_), ref arms, .. }) if has(&handles, &arms[0]) => {
                    if let Arm::Recv(c) = arms[0] {
                        handles[c][1] -= 1;
                    }
                }
                _ => {}
            }
        }
        match &task.operations[at] {
            Operation::Act(act) | Operation::Repeat(_, act) => {
                act.arms.iter().filter(|arm| has(&handles, arm)).copied().collect()
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Channel { capacity, closed, keeper }) in self.channels.iter().enumerate() {
            match capacity {
                Some(capacity) => write!(f, "let (tx{n}, rx{n}) = bounded({capacity});")?,
                None => write!(f, "let (tx{n}, rx{n}) = unbounded();")?,
            }
            if *closed {
                write!(f, " tx{n}.close();")?;
            }
            writeln!(f, " // the keeper has {}{n}", if *keeper == Side::Send { "tx" } else { "rx" })?;
        }
        for (n, timer) in self.timers.iter().enumerate() {
            match timer {
                Timer::Due => writeln!(f, "let timer{n} = at(Instant::now());")?,
                Timer::In(micros) => writeln!(f, "let timer{n} = after({:?});", Duration::from_micros(*micros))?,
                Timer::Far => writeln!(f, "let timer{n} = after({LONG:?});")?,
                Timer::Ticks => writeln!(f, "let timer{n} = tick(Duration::ZERO);")?,
            }
        }
        for (n, task) in self.tasks.iter().enumerate() {
            match task.place {
                Place::Goroutine => writeln!(f, "go!(name = \"{n}\", {{")?,
                Place::Locked => writeln!(f, "go!(name = \"{n}\", locked = true, {{")?,
                Place::Thread => writeln!(f, "thread::spawn(|| {{ // {n}")?,
            }
            for operation in &task.operations {
                writeln!(f, "    {operation};")?;
            }
            writeln!(f, "}});")?;
        }
        for operation in &self.keeper {
            writeln!(f, "{operation}; // the keeper, when all wait")?;
        }
        if self.large {
            writeln!(f, "// large messages")?;
        }
        if self.timed { writeln!(f, "// timed") } else { Ok(()) }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = |side: &Side| if *side == Side::Send { "tx" } else { "rx" };
        match self {
            Self::Act(act) => act.fmt(f),
            Self::Repeat(times, act) => write!(f, "for _ in 0..{times} {{ {act}; }}"),
            Self::Close(c, side) => write!(f, "{}{c}.close()", handle(side)),
            Self::Clone(c, side) => write!(f, "clones.push({}{c}.clone())", handle(side)),
            Self::Drop(c, side) => write!(f, "drop({}{c})", handle(side)),
            Self::Look(c, side) => write!(f, "look(&{}{c})", handle(side)),
            Self::Yield => f.write_str("yield_now()"),
            Self::Spin(times) => write!(f, "(0..{times}).for_each(|_| spin_loop())"),
            Self::Blocking => f.write_str("blocking(|| ())"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { form, arms, ending } = self;
        let source = |arm: Arm| match arm {
            Arm::Send(c) | Arm::Offer(c) | Arm::Quit(c) => format!("tx{c}"),
            Arm::Recv(c) => format!("rx{c}"),
            Arm::Timer(t) => format!("timer{t}"),
            Arm::After(micros) => format!("after({:?})", Duration::from_micros(micros)),
            Arm::Never => "never()".to_owned(),
        };
        let (pattern, macro_name) = match form {
            Form::Method | Form::Deadline => {
                let source = source(arms[0]);
                let (verb, message) = match arms[0] {
                    Arm::Send(_) => ("send", "m"),
                    _ => ("recv", ""),
                };
                let comma = if message.is_empty() { "" } else { ", " };
                return match (ending, form) {
                    (Ending::Wait, _) => write!(f, "{source}.{verb}({message})"),
                    (Ending::Default, _) => write!(f, "{source}.try_{verb}({message})"),
                    (Ending::Timeout(t), Form::Method) => {
                        write!(f, "{source}.{verb}_timeout({message}{comma}{t:?})")
                    }
                    (Ending::Timeout(t), _) => {
                        write!(f, "{source}.{verb}_deadline({message}{comma}Instant::now() + {t:?})")
                    }
                };
            }
            Form::Iter(times) => {
                let iter = if *ending == Ending::Wait { "iter" } else { "try_iter" };
                return write!(f, "{}.{iter}().take({times}).for_each(drop)", source(arms[0]));
            }
            Form::IntoIter(times) => return write!(f, "{}.into_iter().take({times}).for_each(drop)", source(arms[0])),
            Form::Many(count) => {
                return match (arms[0], ending) {
                    (Arm::Send(c), _) => write!(f, "tx{c}.send_many([m; {count}])"),
                    (arm, Ending::Default) => write!(f, "{}.try_recv_many(&mut vec, {count})", source(arm)),
                    (arm, _) => write!(f, "{}.recv_many(&mut vec, {count})", source(arm)),
                };
            }
            Form::Dynamic | Form::Ready => {
                f.write_str("Select::new()")?;
                for &arm in arms {
                    let verb = if matches!(arm.channel(), Some((_, Side::Send))) { "send" } else { "recv" };
                    write!(f, ".{verb}({})", source(arm))?;
                }
                let verb = if *form == Form::Ready { "ready" } else { "select" };
                return match ending {
                    Ending::Wait => write!(f, ".{verb}()"),
                    Ending::Default => write!(f, ".try_{verb}()"),
                    Ending::Timeout(t) => write!(f, ".{verb}_timeout({t:?})"),
                };
            }
            Form::Select => ("_", "select"),
            Form::Biased => ("_", "select_biased"),
            Form::Refutable => ("Ok(_)", "select"),
        };
        write!(f, "{macro_name}! {{ ")?;
        for &arm in arms {
            match arm {
                Arm::Send(c) => write!(f, "{pattern} = tx{c} <- m => (), ")?,
                Arm::Offer(c) => write!(f, "send(tx{c}, m) -> _ => (), ")?,
                Arm::Quit(c) => write!(f, "send(tx{c}, return) -> _ => (), ")?,
                _ => write!(f, "{pattern} = <-{} => (), ", source(arm))?,
            }
        }
        match ending {
            Ending::Wait if *form == Form::Refutable => f.write_str("else => () }"),
            Ending::Wait => f.write_str("}"),
            Ending::Default => f.write_str("default => () }"),
            Ending::Timeout(t) => write!(f, "default({t:?}) => () }}"),
        }
    }
}
