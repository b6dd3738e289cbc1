//! How programs are drawn: strategies, so that a failing one shrinks.

use std::time::Duration;

use proptest::prelude::*;

use super::program::{Act, Arm, Channel, Ending, Form, LONG, Operation, Place, Program, Side, Task, Timer};

/// The shape of the programs to draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) channels: (usize, usize),
    pub(crate) tasks: (usize, usize),
    pub(crate) operations: (usize, usize),
    pub(crate) keeper: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One task, nothing waits.
    Alone,
    /// One operation at a time, each by a thread that may wait.
    InTurn,
    /// All at once.
    AtOnce,
    /// All at once, on one channel, not much of it.
    Short,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Send), Just(Side::Receive)]
}

fn channel(kind: Kind) -> impl Strategy<Value = Channel> {
    let capacity = prop_oneof![
        4 => Just(Some(0)),
        4 => Just(Some(1)),
        2 => Just(Some(2)),
        1 => Just(Some(3)),
        2 => Just(None),
    ];
    let closed = match kind {
        Kind::Alone => 0.08,
        _ => 0.03,
    };
    (capacity, prop::bool::weighted(closed), side()).prop_map(|(capacity, closed, keeper)| Channel {
        capacity,
        closed,
        keeper,
    })
}

fn timer(kind: Kind) -> BoxedStrategy<Timer> {
    match kind {
        Kind::Alone => prop_oneof![Just(Timer::Due), Just(Timer::Far), Just(Timer::Ticks)].boxed(),
        Kind::InTurn => Just(Timer::Far).boxed(),
        _ => prop_oneof![Just(Timer::Due), (1..300u64).prop_map(Timer::In), Just(Timer::Far)].boxed(),
    }
}

/// The numbers are brought into range afterwards, so that they shrink on their own.
fn index() -> impl Strategy<Value = usize> {
    0..12usize
}

fn timeout(kind: Kind) -> BoxedStrategy<Duration> {
    let micros = Duration::from_micros;
    match kind {
        Kind::Alone => Just(Duration::ZERO).boxed(),
        Kind::InTurn => prop_oneof![1 => Just(Duration::ZERO), 1 => Just(micros(300)), 4 => Just(LONG)].boxed(),
        _ => prop_oneof![
            2 => Just(Duration::ZERO),
            3 => (1..40u64).prop_map(micros),
            3 => (40..400u64).prop_map(micros),
            1 => Just(LONG),
        ]
        .boxed(),
    }
}

fn ending(kind: Kind) -> impl Strategy<Value = Ending> {
    prop_oneof![4 => Just(Ending::Wait), 2 => Just(Ending::Default), 3 => timeout(kind).prop_map(Ending::Timeout)]
}

fn select(kind: Kind) -> impl Strategy<Value = Act> {
    let arm = prop_oneof![
        6 => index().prop_map(Arm::Send),
        4 => index().prop_map(Arm::Offer),
        2 => index().prop_map(Arm::Quit),
        10 => index().prop_map(Arm::Recv),
        1 => Just(Arm::Never),
        1 => index().prop_map(Arm::Timer),
    ];
    let arm = match kind {
        Kind::AtOnce => prop_oneof![20 => arm, 1 => (0..300u64).prop_map(Arm::After)].boxed(),
        _ => arm.boxed(),
    };
    // What comes after the wait of some is not foreseen by the reference.
    let others = u32::from(kind != Kind::InTurn);
    let form = prop_oneof![
        4 => Just(Form::Select),
        1 => Just(Form::Biased),
        2 => Just(Form::Dynamic),
        others => Just(Form::Refutable),
        others => Just(Form::Ready),
    ];
    // A channel is what can be closed: a select that waits needs one.
    let first = prop_oneof![
        2 => index().prop_map(Arm::Send),
        1 => index().prop_map(Arm::Offer),
        3 => index().prop_map(Arm::Recv),
    ];
    (form, first, prop::collection::vec(arm, 0..4), index(), ending(kind)).prop_map(
        |(form, first, mut arms, at, mut ending)| {
            if form == Form::Refutable {
                // When the channels are closed these wait on, for what else there is: never for ever.
                arms.retain(|arm| !matches!(arm, Arm::Never | Arm::Timer(_)));
                if ending == Ending::Timeout(LONG) {
                    ending = Ending::Wait;
                }
            }
            arms.insert(at % (arms.len() + 1), first);
            Act { form, arms, ending }
        },
    )
}

fn act(kind: Kind) -> impl Strategy<Value = Act> {
    let times = match kind {
        Kind::AtOnce => 1..6u8,
        _ => 1..2u8,
    };
    let others = u32::from(kind != Kind::InTurn);
    let many = match kind {
        Kind::AtOnce => 1..12u8,
        _ => 1..4u8,
    };
    let with = |form, arm, ending| Act { form, arms: vec![arm], ending };
    let timed_form = || prop_oneof![3 => Just(Form::Method), 1 => Just(Form::Deadline)];
    prop_oneof![
        6 => (index(), ending(kind), timed_form()).prop_map(move |(c, ending, form)| with(form, Arm::Send(c), ending)),
        6 => (index(), ending(kind), timed_form()).prop_map(move |(c, ending, form)| with(form, Arm::Recv(c), ending)),
        1 => (times.clone(), index(), prop_oneof![Just(Ending::Wait), Just(Ending::Default)])
            .prop_map(move |(times, c, ending)| with(Form::Iter(times), Arm::Recv(c), ending)),
        others => (many, index(), any::<bool>(), any::<bool>()).prop_map(move |(count, c, sends, waits)| {
            let arm = if sends { Arm::Send(c) } else { Arm::Recv(c) };
            with(Form::Many(count), arm, if sends || waits { Ending::Wait } else { Ending::Default })
        }),
        others => (times, index())
            .prop_map(move |(times, c)| with(Form::IntoIter(times), Arm::Recv(c), Ending::Wait)),
        1 => (index(), timeout(kind)).prop_map(move |(t, timeout)| {
            let ending = if timeout == LONG { Ending::Default } else { Ending::Timeout(timeout) };
            with(Form::Method, Arm::Timer(t), ending)
        }),
        10 => select(kind),
    ]
}

/// `into_iter` takes a handle each time.
fn repeatable(kind: Kind) -> impl Strategy<Value = Act> {
    act(kind).prop_map(|mut act| {
        if let Form::IntoIter(times) = act.form {
            act.form = Form::Iter(times);
        }
        act
    })
}

fn operation(kind: Kind) -> BoxedStrategy<Operation> {
    let common = prop_oneof![
        48 => act(kind).prop_map(Operation::Act),
        1 => (index(), side()).prop_map(|(c, s)| Operation::Close(c, s)),
        1 => (index(), side()).prop_map(|(c, s)| Operation::Drop(c, s)),
        1 => (index(), side()).prop_map(|(c, s)| Operation::Clone(c, s)),
        4 => (index(), side()).prop_map(|(c, s)| Operation::Look(c, s)),
    ];
    match kind {
        Kind::Alone | Kind::InTurn => common.boxed(),
        Kind::AtOnce => prop_oneof![
            8 => common,
            2 => (2..12u8, repeatable(kind)).prop_map(|(times, act)| Operation::Repeat(times, act)),
            2 => Just(Operation::Yield),
            1 => (1..2000u16).prop_map(Operation::Spin),
            1 => Just(Operation::Blocking),
        ]
        .boxed(),
        Kind::Short => prop_oneof![
            8 => common,
            2 => Just(Operation::Yield),
            1 => (1..2000u16).prop_map(Operation::Spin),
            1 => Just(Operation::Blocking),
        ]
        .boxed(),
    }
}

/// What the keeper may do: nothing that waits, and nothing that lets go of the handle by which it closes.
fn keeping() -> impl Strategy<Value = Operation> {
    let with = |arm| Operation::Act(Act { form: Form::Method, arms: vec![arm], ending: Ending::Default });
    prop_oneof![
        3 => index().prop_map(move |c| with(Arm::Send(c))),
        3 => index().prop_map(move |c| with(Arm::Recv(c))),
        1 => (index(), side()).prop_map(|(c, s)| Operation::Close(c, s)),
    ]
}

pub(crate) fn programs(shape: Shape) -> impl Strategy<Value = Program> {
    let range = |(low, high)| low..=high;
    let kind = shape.kind;
    let place = match kind {
        Kind::Alone => prop_oneof![Just(Place::Goroutine), Just(Place::Thread)].boxed(),
        _ => prop_oneof![5 => Just(Place::Goroutine), 1 => Just(Place::Locked), 2 => Just(Place::Thread)].boxed(),
    };
    let operations = prop::collection::vec(operation(kind), range(shape.operations));
    // Tasks that only send, or only receive, make others wait in queues.
    let role = match kind {
        Kind::Alone => Just(None).boxed(),
        _ => prop_oneof![2 => Just(None), 1 => Just(Some(Side::Send)), 1 => Just(Some(Side::Receive))].boxed(),
    };
    let task = (place, role, operations).prop_map(|(place, role, mut operations)| {
        operations.iter_mut().for_each(|operation| {
            operation.confine(role);
            operation.settle();
        });
        Task { place, operations }
    });
    let channels = prop::collection::vec(channel(kind), range(shape.channels));
    let timed = match kind {
        Kind::Short => Just(true).boxed(),
        _ => prop::bool::ANY.boxed(),
    };
    (
        channels,
        prop::collection::vec(timer(kind), 0..=2),
        prop::collection::vec(task, range(shape.tasks)),
        prop::collection::vec(keeping(), 0..=shape.keeper),
        prop::bool::weighted(0.1),
        timed,
    )
        .prop_map(|(channels, timers, mut tasks, keeper, large, timed)| {
            let (count, timer_count) = (channels.len(), timers.len());
            let in_range = |operation: Operation| operation.normalize(count, timer_count);
            for task in &mut tasks {
                task.operations = std::mem::take(&mut task.operations).into_iter().map(in_range).collect();
            }
            let keeper = keeper.into_iter().map(in_range).collect();
            Program { channels, timers, tasks, keeper, large, timed }
        })
}
