//! One goroutine or thread alone, compared with the reference step by step.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cases::{Context, Failure};
use super::hands::World;
use super::log::{Log, Seen, What};
use super::message::{Id, Run, stack_size};
use super::program::Program;
use super::reference::Reference;

/// Runs the program's one task. An operation that would have to wait is left out.
pub(crate) fn run<const W: usize>(program: &Program, ledger: u8, context: &mut Context) -> Result<(), Failure> {
    let owned = program.clone();
    let task = move || follow::<W>(&owned, Run::begin(ledger)).map_err(Failure::from);
    let place = program.tasks[0].place;
    let seen = place.run("0", stack_size(W), task).join().map_err(Failure::from)??;
    for (_, what) in seen {
        context.tally.count(match what {
            What::Sent(_) => "sent",
            What::Received(_) => "received",
            What::NotSent(..) | What::NotReceived(_) => "not ready",
            What::Fired => "fired",
            _ => "other",
        });
    }
    Ok(())
}

fn follow<const W: usize>(program: &Program, run: Run) -> Result<Vec<Seen>, String> {
    let task = &program.tasks[0];
    let handles = program.handles(task);
    let mut reference = Reference::new(program, std::slice::from_ref(&handles));
    let world = World::<W>::new(&program.channels, &program.timers);
    let mut hands = world.hands(0, run, &handles);
    drop(world);
    let mut log = Log::new(0, None, Arc::new(AtomicU64::new(0)));
    let mut all = Vec::new();
    for operation in &task.operations {
        let steps = reference.steps(0, operation);
        if steps[0].seen.is_none() {
            continue;
        }
        log.events.clear();
        hands.perform(operation, &mut log);
        let seen = log.events.iter().map(|event| (event.object, event.what));
        let seen = seen.filter(|(_, what)| *what != What::Promised).collect::<Vec<_>>();
        let Some(step) = steps.iter().find(|step| step.seen.as_ref() == Some(&seen)) else {
            let expected = steps.iter().map(|step| step.seen.as_ref().unwrap()).collect::<Vec<_>>();
            return Err(format!("{operation}\n  gave {seen:?}\n  instead of one of {expected:?}"));
        };
        reference = step.after.clone();
        all.extend(seen);
        // Every message but those in a buffer has been dropped by now.
        for number in 0..hands.made() {
            let id = Id { task: 0, number };
            let expected = u64::from(!reference.is_buffered(id));
            if run.drops(id) != expected {
                return Err(format!("after {operation}: {id:?} was dropped {} times, not {expected}", run.drops(id)));
            }
        }
    }
    hands.drop_all(&mut log);
    let faults = run.faults();
    if faults != 0 {
        log.faults.push(format!("{faults} things were dropped that were no messages"));
    }
    let leaked = (0..hands.made()).map(|number| Id { task: 0, number }).filter(|&id| run.drops(id) != 1);
    log.faults.extend(leaked.map(|id| format!("in the end {id:?} was dropped {} times", run.drops(id))));
    if log.faults.is_empty() { Ok(all) } else { Err(log.faults.join("\n")) }
}
