//! Several tasks, of which one at a time does something, compared with the reference step by step: who waits, who is let
//! go by whom, in which order and with what.
//!
//! Each operation has a goroutine or a thread of its own, so that it can be seen to end. That it waits is not guessed from
//! the time that has passed: the channels tell how many wait.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use csp::__private::waiting;

use super::cases::{Context, Failure};
use super::hands::{Hands, World};
use super::log::{Log, Seen, What};
use super::message::{Id, Run, stack_size};
use super::place::Running;
use super::program::{Operation, Place, Program, Side};
use super::reference::{Reference, Step};

/// Longer than anything takes here that does not wait for ever ..
const PATIENCE: Duration = Duration::from_secs(30);
/// .. and so often it is looked for in vain before it counts as missing: for all who take turns with us at the CPU to have had
/// theirs. Where the machine was stopped for a while the time alone would say nothing.
const LOOKS: u32 = 50_000;

/// How long something has been waited for.
struct Watch {
    since: Instant,
    looks: u32,
}

impl Watch {
    fn new() -> Self {
        Self { since: Instant::now(), looks: 0 }
    }

    /// Looks once more; says whether it is over.
    fn is_over(&mut self) -> bool {
        self.looks += 1;
        self.looks > LOOKS && self.since.elapsed() > PATIENCE
    }
}

/// A task: its hands, or the operation that it is in.
enum Task<const W: usize> {
    Idle(Box<Hands<W>>),
    Busy(Running<Done<W>>),
    /// Between the two.
    Gone,
}

struct Done<const W: usize> {
    hands: Box<Hands<W>>,
    seen: Vec<Seen>,
    faults: Vec<String>,
}

/// The tasks, and what is to be expected of them. The last one is the keeper, which closes the channels in the end.
struct Stage<'p, const W: usize> {
    program: &'p Program,
    tasks: Vec<Task<W>>,
    reference: Reference,
    /// By which the channels are looked at.
    senders: Vec<csp::Sender<super::message::Message<W>>>,
    story: String,
}

pub(crate) fn run<const W: usize>(program: &Program, ledger: u8, context: &mut Context) -> Result<(), Failure> {
    let run = Run::begin(ledger);
    let mut handles = program.tasks.iter().map(|task| program.handles(task)).collect::<Vec<_>>();
    // The keeper always has a sender, by which the channels are looked at.
    handles.push(program.channels.iter().map(|c| (true, c.keeper == Side::Receive)).collect());
    let world = World::<W>::new(&program.channels, &program.timers);
    let hands = handles.iter().enumerate().map(|(n, handles)| world.hands(n, run, handles));
    let mut stage = Stage {
        program,
        tasks: hands.map(|hands| Task::Idle(Box::new(hands))).collect(),
        reference: Reference::new(program, &handles),
        senders: world.channels.iter().map(|(tx, _)| tx.clone()).collect(),
        story: String::new(),
    };
    drop(world);

    let scripts = program.tasks.iter().map(|task| &task.operations).chain([&program.keeper]).collect::<Vec<_>>();
    let longest = scripts.iter().map(|script| script.len()).max().unwrap_or(0);
    let keeper = program.tasks.len();
    for at in 0..longest {
        for (task, script) in scripts.iter().enumerate() {
            if let Some(operation) = script.get(at)
                && !stage.reference.waits(task)
            {
                let released = stage.turn(task, Some(operation))?;
                context.tally.count(if stage.reference.waits(task) { "waits" } else { "does not wait" });
                if (0..=keeper).filter(|&task| stage.reference.waits(task)).count() > 2 {
                    context.tally.count("three wait");
                }
                for what in released {
                    context.tally.count(match what {
                        What::Abandoned => "lets go one that gives up",
                        _ => "lets go",
                    });
                }
            }
        }
    }
    for (c, channel) in program.channels.iter().enumerate() {
        stage.turn(keeper, Some(&Operation::Close(c, channel.keeper)))?;
    }
    // Not those that keep the channels, so that the last handle of each side is that of a task.
    stage.senders.clear();
    for task in (0..=keeper).rev() {
        stage.turn(task, None)?;
    }

    let mut faults = Vec::new();
    for (task, hands) in stage.tasks.iter().enumerate() {
        let Task::Idle(hands) = hands else { unreachable!("it has dropped its handles") };
        let ids = (0..hands.made()).map(|number| Id { task: task as u8, number });
        let wrong = ids.filter(|&id| run.drops(id) != 1);
        faults.extend(wrong.map(|id| format!("in the end {id:?} was dropped {} times", run.drops(id))));
    }
    if run.faults() != 0 {
        faults.push(format!("{} things were dropped that were no messages", run.faults()));
    }
    if faults.is_empty() { Ok(()) } else { Err(stage.failure(&faults.join("\n"))) }
}

impl<const W: usize> Stage<'_, W> {
    /// Has a task do something, or drop all that it has, and looks whether all that happens is what the reference says.
    /// Gives what those saw who were let go.
    fn turn(&mut self, task: usize, operation: Option<&Operation>) -> Result<Vec<What>, Failure> {
        let steps = match operation {
            Some(operation) => self.reference.steps(task, operation),
            None => self.reference.drop_all(task),
        };
        self.start(task, operation.cloned());
        let mut seen = self.settle(task, &steps)?;
        match operation {
            Some(operation) => self.story += &format!("task {task}: {operation} -> {}\n", Shown(&seen)),
            None => self.story += &format!("task {task}: drops all -> {}\n", Shown(&seen)),
        }
        let mut left = steps.iter().filter(|step| step.seen == seen).collect::<Vec<_>>();
        let turn = task;
        // Those who were let go tell which of several ways it went, and those who wait on.
        let mut all = Vec::new();
        let mut watch = Watch::new();
        let step = loop {
            for task in 0..self.tasks.len() {
                let Some(now) = self.poll(task)? else { continue };
                self.story += &format!("    task {task} -> {}\n", Shown(&Some(now.clone())));
                if task == turn && seen.is_none() {
                    // It had not even begun: there were as many waiting before as there are where it waits.
                    seen = Some(now);
                    left = steps.iter().filter(|step| step.seen == seen).collect();
                } else {
                    all.extend(now.into_iter().map(|seen| (task, seen)));
                }
                left.retain(|step| all.iter().all(|seen| step.released.contains(seen)));
            }
            let fits = |step: &&Step| step.released.len() == all.len() && self.all_wait_as(&step.after);
            if let Some(&step) = left.iter().find(|step| fits(step)) {
                break step;
            }
            if left.is_empty() || watch.is_over() {
                let expected = steps.iter().map(|step| {
                    let waiting = (0..self.senders.len()).map(|c| step.after.waiting(c)).collect::<Vec<_>>();
                    format!("{}, {:?}, and {waiting:?} wait to send and to receive", Shown(&step.seen), step.released)
                });
                let expected = expected.collect::<Vec<_>>().join("\n  or ");
                let waiting = self.senders.iter().map(waiting).collect::<Vec<_>>();
                return Err(self.failure(&format!("and {waiting:?} wait\n  instead of {expected}")));
            }
            thread::yield_now();
        };
        self.reference = step.after.clone();
        Ok(step.released.iter().map(|(_, (_, what))| *what).collect())
    }

    fn start(&mut self, task: usize, operation: Option<Operation>) {
        let Task::Idle(mut hands) = std::mem::replace(&mut self.tasks[task], Task::Gone) else {
            unreachable!("it does one thing at a time")
        };
        let place = self.program.tasks.get(task).map_or(Place::Thread, |task| task.place);
        let body = move || {
            let mut log = Log::new(task, None, Arc::new(AtomicU64::new(0)));
            match operation {
                Some(operation) => hands.perform(&operation, &mut log),
                None => hands.drop_all(&mut log),
            }
            let events = log.events.iter().map(|event| (event.object, event.what));
            let seen = events.filter(|(_, what)| *what != What::Promised).collect();
            Done { hands, seen, faults: log.faults }
        };
        self.tasks[task] = Task::Busy(place.run(&task.to_string(), stack_size(W), body));
    }

    /// Waits until a task has ended its operation or, if one of the `steps` says so, waits: `None`.
    fn settle(&mut self, task: usize, steps: &[Step]) -> Result<Option<Vec<Seen>>, Failure> {
        let mut watch = Watch::new();
        let waits = steps.iter().filter(|step| step.seen.is_none()).collect::<Vec<_>>();
        loop {
            if let Some(seen) = self.poll(task)? {
                return Ok(Some(seen));
            }
            if waits.iter().any(|step| self.all_wait_as(&step.after)) || watch.is_over() {
                return Ok(None);
            }
            thread::yield_now();
        }
    }

    /// What a task saw, if it has ended its operation.
    fn poll(&mut self, task: usize) -> Result<Option<Vec<Seen>>, Failure> {
        let ended = matches!(&self.tasks[task], Task::Busy(running) if running.is_finished());
        if !ended {
            return Ok(None);
        }
        let Task::Busy(running) = std::mem::replace(&mut self.tasks[task], Task::Gone) else { unreachable!() };
        let Done { hands, seen, faults } =
            running.join().map_err(|error| self.failure(&format!("task {task}: {error}")))?;
        self.tasks[task] = Task::Idle(hands);
        if faults.is_empty() { Ok(Some(seen)) } else { Err(self.failure(&faults.join("\n"))) }
    }

    fn all_wait_as(&self, reference: &Reference) -> bool {
        self.senders.iter().enumerate().all(|(c, tx)| waiting(tx) == reference.waiting(c))
    }

    fn failure(&self, text: &str) -> Failure {
        let stuck = self.tasks.iter().any(|task| matches!(task, Task::Busy(_)));
        Failure { text: format!("{}  {text}", self.story), stuck }
    }
}

/// What was seen, or that it waits.
struct Shown<'a>(&'a Option<Vec<Seen>>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seen) => write!(f, "{seen:?}"),
            None => f.write_str("waits"),
        }
    }
}
