//! All tasks at once, in goroutines and threads. The history is judged afterwards; what is judged at once is who waits.
//!
//! The keeper, which is the thread that runs the test, looks on. When all the tasks that are left wait, and nothing has
//! moved between two looks, it asks whether each of them has a reason: a task that waits to receive while there is a
//! message, or somebody who waits to send, was not woken. Only where all have their reasons does it do something itself,
//! in the end close the channels: so it cannot wake anybody who should have been awake already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::cases::{Context, Failure, Tally};
use super::hands::{Hands, World};
use super::history::History;
use super::log::{Event, Log, What};
use super::message::{Run, stack_size};
use super::program::{Act, Arm, Ending, Form, Operation, Program, Side};

/// How long something may look wrong that is only slow. The tasks need microseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How far a task has come.
#[derive(Default)]
struct Watch {
    /// Twice the number of operations that it has ended, and one more within one.
    at: AtomicUsize,
    /// Counts what it has logged, several for some operations.
    progress: Arc<AtomicU64>,
}

const ENDED: usize = usize::MAX;

/// What a task is left with.
struct End {
    events: Vec<Event>,
    faults: Vec<String>,
    made: u16,
}

/// Also one that has panicked has ended.
struct Ends<'w>(&'w Watch);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.at.store(ENDED, Ordering::Release);
    }
}

fn follow<const W: usize>(operations: &[Operation], mut hands: Hands<W>, mut log: Log, watch: &Watch) -> End {
    let _ends = Ends(watch);
    for (n, operation) in operations.iter().enumerate() {
        // Plain stores, as in the log.
        watch.at.store(2 * n + 1, Ordering::Release);
        hands.perform(operation, &mut log);
        watch.at.store(2 * n + 2, Ordering::Release);
    }
    hands.drop_all(&mut log);
    End { events: log.events, faults: log.faults, made: hands.made() }
}

pub(crate) fn run<const W: usize>(program: &Program, ledger: u8, context: &mut Context) -> Result<(), Failure> {
    let run = Run::begin(ledger);
    let clock = program.timed.then(|| Arc::new(AtomicU64::new(1)));
    let keeper = program.tasks.len();
    let mut handles = program.tasks.iter().map(|task| program.handles(task)).collect::<Vec<_>>();
    handles.push(program.channels.iter().map(|c| (c.keeper == Side::Send, c.keeper == Side::Receive)).collect());
    let world = World::<W>::new(&program.channels, &program.timers);
    let gate = Arc::new(AtomicBool::new(false));
    let mut watches = Vec::new();
    let mut running = Vec::new();
    for (n, task) in program.tasks.iter().enumerate() {
        let watch = Arc::new(Watch::default());
        let hands = world.hands(n, run, &handles[n]);
        let log = Log::new(n, clock.clone(), watch.progress.clone());
        let operations = task.operations.clone();
        watches.push(watch.clone());
        let gate = gate.clone();
        let main = thread::current();
        let body = move || {
            while !gate.load(Ordering::Acquire) {
                csp::yield_now();
            }
            let end = follow(&operations, hands, log, &watch);
            main.unpark();
            end
        };
        running.push(task.place.run(&n.to_string(), stack_size(W), body));
    }
    let hands = world.hands(keeper, run, &handles[keeper]);
    drop(world);
    let log = Log::new(keeper, clock, Arc::default());
    let told = (program.clone(), watches.clone());
    context.set_states(move || tell(&told.0, &snapshot(&told.1)));
    let mut keeper = Keeper { program, watches, hands, log, done: 0 };
    gate.store(true, Ordering::Release);
    let stuck = |text| Failure { text, stuck: true };
    keeper.look_after(&mut context.tally).map_err(stuck)?;
    keeper.finish();

    let mut ends = Vec::new();
    for (n, task) in running.into_iter().enumerate() {
        ends.push(task.join().map_err(|error| Failure::from(format!("task {n}: {error}")))?);
    }
    ends.push(End { events: keeper.log.events, faults: keeper.log.faults, made: keeper.hands.made() });
    for event in ends.iter().flat_map(|end| &end.events) {
        context.tally.count(match event.what {
            What::Sent(_) => "sent",
            What::NotSent(..) => "not sent",
            What::Received(_) => "received",
            What::NotReceived(_) => "not received",
            _ => "other",
        });
    }
    let faults = ends.iter_mut().flat_map(|end| std::mem::take(&mut end.faults)).collect::<Vec<_>>();
    let made = ends.iter().map(|end| end.made).collect();
    let count = |c: usize, side: fn(&(bool, bool)) -> bool| handles.iter().filter(|h| side(&h[c])).count();
    let handles = (0..program.channels.len()).map(|c| (count(c, |h| h.0), count(c, |h| h.1))).collect();
    let events = ends.into_iter().flat_map(|end| end.events).collect();
    let history = History { program, run, events, made, handles };
    let verdict = history.check(&mut context.tally);
    match (faults.is_empty(), verdict) {
        (true, Ok(())) => Ok(()),
        (_, verdict) => Err(Failure::from(format!("{}\n{}", faults.join("\n"), verdict.err().unwrap_or_default()))),
    }
}

/// Looks after the tasks.
struct Keeper<'p, const W: usize> {
    program: &'p Program,
    watches: Vec<Arc<Watch>>,
    hands: Hands<W>,
    log: Log,
    /// How much of its own part of the program it has done; the channels are closed after that.
    done: usize,
}

/// A task within an operation that others have to end.
struct Waiting<'p> {
    task: usize,
    act: &'p Act,
    arms: Vec<Arm>,
}

impl<const W: usize> Keeper<'_, W> {
    /// Returns when all tasks have ended, or says why they do not.
    fn look_after(&mut self, tally: &mut Tally) -> Result<(), String> {
        let start = Instant::now();
        let mut since = start;
        let mut last = snapshot(&self.watches);
        for looks in 0u64.. {
            if last.iter().all(|&(at, _)| at == ENDED) {
                break;
            }
            if looks < 10 {
                thread::yield_now();
            } else {
                thread::park_timeout(Duration::from_micros(50));
            }
            let before = std::mem::replace(&mut last, snapshot(&self.watches));
            if last != before {
                since = Instant::now();
            } else if let Some(waiting) = self.all_wait(&last) {
                match self.without_reason(&waiting) {
                    None => {
                        tally.count("all tasks waited, with reason");
                        self.intervene();
                        since = Instant::now();
                    }
                    Some(who) if since.elapsed() > PATIENCE => {
                        return Err(format!("{who}, and nobody wakes it\n{}", self.report(&last)));
                    }
                    Some(_) => {}
                }
            }
            if start.elapsed() > LIMIT {
                return Err(format!("the tasks do not come to an end\n{}", self.report(&last)));
            }
        }
        Ok(())
    }

    /// The tasks that have not ended, if all of them are within operations that have no end of their own.
    fn all_wait(&self, now: &[(usize, u64)]) -> Option<Vec<Waiting<'_>>> {
        let mut all = Vec::new();
        for (task, &(at, _)) in now.iter().enumerate() {
            if at == ENDED {
                continue;
            }
            let operations = &self.program.tasks[task].operations;
            let within = operations.get(at / 2).filter(|_| at % 2 == 1);
            let Some(Operation::Act(act) | Operation::Repeat(_, act)) = within else { return None };
            if !act.ending.is_endless() || act.arms.iter().any(|arm| matches!(arm, Arm::After(_))) {
                return None;
            }
            let arms = self.program.arms_at(task, at / 2);
            all.push(Waiting { task, act, arms });
        }
        Some(all)
    }

    /// Says of a task that it waits although it need not, if there is one.
    fn without_reason(&self, all: &[Waiting<'_>]) -> Option<String> {
        // Who only looks for what is ready is there for nobody.
        let somebody_else = |task: usize, to_meet: (usize, Side)| {
            let meets = |w: &Waiting<'_>| w.arms.iter().any(|arm| arm.channel() == Some(to_meet));
            all.iter().any(|w| w.task != task && w.act.form != Form::Ready && meets(w))
        };
        for Waiting { task, act, arms } in all {
            let (mut open, mut why) = (0, None);
            for &arm in arms {
                let Some((c, side)) = arm.channel() else { continue };
                let (len, closed) = self.see(c);
                let capacity = self.program.channels[c].capacity;
                let (there_is, other) = match side {
                    Side::Send => (capacity.is_none_or(|capacity| len < capacity), Side::Receive),
                    Side::Receive => (len > 0, Side::Send),
                };
                let ready = there_is || somebody_else(*task, (c, other));
                let fails = closed && (len == 0 || side == Side::Send);
                open += u32::from(!fails);
                // An arm whose pattern does not match the error is out when its channel is closed.
                if if act.form == Form::Refutable { ready && !fails } else { ready || closed } {
                    why = Some(arm);
                }
            }
            if act.form == Form::Refutable && open == 0 {
                why = arms.first().copied();
            }
            if let Some(arm) = why {
                return Some(format!("task {task} waits in `{act}`, though {arm:?} could go on"));
            }
        }
        None
    }

    /// A channel's length, and whether it is closed.
    fn see(&self, c: usize) -> (usize, bool) {
        match (self.hands.senders[c].last(), self.hands.receivers[c].last()) {
            (Some(tx), _) => (tx.len(), tx.is_closed()),
            (_, Some(rx)) => (rx.len(), rx.is_closed()),
            (None, None) => unreachable!("the keeper has a handle of each channel"),
        }
    }

    /// Nobody else will do anything: the next of the keeper's operations, or the end.
    fn intervene(&mut self) {
        match self.program.keeper.get(self.done) {
            Some(operation) => self.hands.perform(operation, &mut self.log),
            None => {
                for (c, channel) in self.program.channels.iter().enumerate() {
                    self.hands.perform(&Operation::Close(c, channel.keeper), &mut self.log);
                }
            }
        }
        self.done += 1;
    }

    /// The tasks are gone: takes out what is left, and lets go.
    fn finish(&mut self) {
        for (c, channel) in self.program.channels.iter().enumerate() {
            // Those of the other side are all dropped.
            let (_, closed) = self.see(c);
            if !closed {
                self.log.faults.push(format!("channel {c} is open without {:?} handles", channel.keeper));
            }
            if channel.keeper == Side::Receive {
                let all = Act { form: Form::Iter(u8::MAX), arms: vec![Arm::Recv(c)], ending: Ending::Wait };
                self.hands.perform(&Operation::Act(all), &mut self.log);
            }
            self.hands.perform(&Operation::Look(c, channel.keeper), &mut self.log);
        }
        self.hands.drop_all(&mut self.log);
    }

    fn report(&self, now: &[(usize, u64)]) -> String {
        let mut text = tell(self.program, now);
        for c in 0..self.program.channels.len() {
            let (len, closed) = self.see(c);
            text += &format!("channel {c}: {len} messages, {}\n", if closed { "closed" } else { "open" });
        }
        text + &format!("the keeper has done {} operations\n", self.done)
    }
}

/// Where each task is, and how much it has logged.
fn snapshot(watches: &[Arc<Watch>]) -> Vec<(usize, u64)> {
    let look = |watch: &Arc<Watch>| (watch.at.load(Ordering::Acquire), watch.progress.load(Ordering::Acquire));
    watches.iter().map(look).collect()
}

fn tell(program: &Program, now: &[(usize, u64)]) -> String {
    let mut text = String::new();
    for (task, &(at, progress)) in now.iter().enumerate() {
        let place = program.tasks[task].place;
        text += &match (at, program.tasks[task].operations.get(at / 2)) {
            (ENDED, _) => format!("task {task} ({place:?}) has ended\n"),
            (_, None) => format!("task {task} ({place:?}) drops its handles\n"),
            (_, Some(operation)) => {
                let what = if at % 2 == 1 { "is in" } else { "is before" };
                format!("task {task} ({place:?}) {what} operation {}: {operation} ({progress} logged)\n", at / 2)
            }
        };
    }
    text
}
