//! Channels and select against a model of them, with random programs.
//!
//! A program is a handful of channels and tasks in goroutines, goroutines that own their threads, and threads; what they
//! do is all that a channel offers. See `model/program.rs` for what there is, `model/draw.rs` for how often.
//!
//! - *Alone*: one task, of whose operations those are left out that would wait. Each is compared with a reference, in what
//!   it returns, and in which messages were dropped.
//! - *In turn*: several tasks, of which one at a time does something. The reference says who has to wait, and who is let
//!   go, in which order and with what.
//! - *At once*: all tasks at once. While they run, it is an error to wait for what is there: when nothing moves any more,
//!   each task that waits is asked for its reason. Then the history is judged. Every message ends once; each producer's
//!   arrive in order; and for each channel an order of the operations is searched that explains what they have returned,
//!   each at one moment between its call and its return (linearizability). Half of the programs are not timed, since the
//!   clock orders what the channels alone may not; of these the history is judged by what each task saw.
//!
//! # When it fails
//!
//! It prints the program, a smaller one that fails if it finds one, and the seed:
//!
//! ```sh
//! CSP_MODEL_SEED=0x1234 cargo test --test model -- --exact NAME   # that program, 2,000 times or CSP_MODEL_CASES
//! CSP_MODEL_CASES=100000 cargo test --release --test model        # so many programs in each test
//! ```
//!
//! The seed is good for this version of these files. Where the process crashes, `target/tmp/model-NAME.txt` is left
//! behind with the program that ran; where it hangs, it ends after three minutes and says where each task is. How the
//! tasks meet cannot be repeated; a program that has failed once in thousands needs as many runs to fail again.

mod model {
    pub(crate) mod alone;
    pub(crate) mod at_once;
    pub(crate) mod cases;
    pub(crate) mod draw;
    pub(crate) mod hands;
    pub(crate) mod history;
    pub(crate) mod in_turn;
    pub(crate) mod linear;
    pub(crate) mod log;
    pub(crate) mod message;
    pub(crate) mod place;
    pub(crate) mod program;
    pub(crate) mod reference;
    pub(crate) mod selects;
}

use model::cases::{Effort, check};
use model::draw::{Kind, Shape, programs};
use model::message::{LARGE, SMALL};
use model::{alone, at_once, in_turn};

#[test]
fn one_alone_sees_what_the_reference_says() {
    let shape = Shape { kind: Kind::Alone, channels: (1, 4), tasks: (1, 1), operations: (1, 60), keeper: 0 };
    let effort = Effort { cases: 1000, runs: 1 };
    let tally = check(effort, programs(shape), |program, context| match program.large {
        true => alone::run::<LARGE>(program, 0, context),
        false => alone::run::<SMALL>(program, 0, context),
    });
    tally.expect(&[("sent", 2_000), ("received", 1_500), ("not ready", 4_000), ("fired", 200), ("other", 4_000)]);
}

#[test]
fn waiters_are_served_as_the_reference_says() {
    let shape = Shape { kind: Kind::InTurn, channels: (1, 3), tasks: (2, 6), operations: (1, 14), keeper: 14 };
    let effort = Effort { cases: 300, runs: 1 };
    let tally = check(effort, programs(shape), |program, context| match program.large {
        true => in_turn::run::<LARGE>(program, 1, context),
        false => in_turn::run::<SMALL>(program, 1, context),
    });
    tally.expect(&[("waits", 600), ("three wait", 150), ("lets go", 400), ("does not wait", 3_000)]);
}

#[test]
fn programs_lose_nothing_and_leave_nobody_waiting() {
    let shape = Shape { kind: Kind::AtOnce, channels: (1, 4), tasks: (2, 8), operations: (1, 12), keeper: 3 };
    let effort = Effort { cases: 400, runs: 3 };
    let tally = check(effort, programs(shape), |program, context| match program.large {
        true => at_once::run::<LARGE>(program, 2, context),
        false => at_once::run::<SMALL>(program, 2, context),
    });
    tally.expect(&[("sent", 5_000), ("received", 5_000), ("all tasks waited, with reason", 800)]);
    tally.expect(&[("histories explained", 700)]);
}

#[test]
fn short_histories_are_linearizable() {
    let shape = Shape { kind: Kind::Short, channels: (1, 1), tasks: (2, 4), operations: (1, 4), keeper: 2 };
    let effort = Effort { cases: 500, runs: 5 };
    let tally = check(effort, programs(shape), |program, context| match program.large {
        true => at_once::run::<LARGE>(program, 3, context),
        false => at_once::run::<SMALL>(program, 3, context),
    });
    // All but a few that are not so short.
    tally.expect(&[("histories explained", 500 * 5 - 25), ("sent", 1_500), ("received", 1_500)]);
}
