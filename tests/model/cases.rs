//! Draws programs, runs them, and makes a failing one small.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{process, thread};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Names the seed of the one program to run, again and again.
const SEED: &str = "CSP_MODEL_SEED";
/// How many programs each test runs, instead of its own number.
const CASES: &str = "CSP_MODEL_CASES";

/// A run that takes this long hangs, and so do those who should have said so.
const HANGS: Duration = Duration::from_secs(180);

/// What was wrong with a run.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    /// Tasks are left behind that do not end: there is no use in running more.
    pub(crate) stuck: bool,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, stuck: false }
    }
}

/// How often what happened: so that a test can see that it was not all the same.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<&'static str, u64>,
    /// Whether at least as much was done as the test does by itself.
    full: bool,
}

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Panics unless these happened at least so often, or less was done than the test does by itself.
    #[track_caller]
    pub(crate) fn expect(&self, least: &[(&'static str, u64)]) {
        for &(what, least) in least {
            let count = self.counts.get(what).copied().unwrap_or(0);
            assert!(count >= least || !self.full, "{what:?} happened only {count} times: {:?}", self.counts);
        }
    }
}

/// How many programs, and how often each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) cases: u32,
    pub(crate) runs: u32,
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let digits = value.trim();
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}

/// The seeds of the cases: one after the other from a random one.
fn tree<S: Strategy>(strategy: &S, seed: u64) -> S::Tree {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).expect("no strategy here rejects anything")
}

/// What a run may report to.
pub(crate) struct Context {
    pub(crate) tally: Tally,
    case: Case,
}

impl Context {
    /// What to print of the tasks if the run does not come to an end.
    pub(crate) fn set_states(&self, states: impl Fn() -> String + Send + 'static) {
        self.case.shared.lock().unwrap().states = Some(Box::new(states));
    }
}

/// The case in hand, as it is to be found when the process crashes or hangs.
struct Case {
    shared: Arc<Mutex<Shared>>,
    /// Holds the program while it runs.
    file: PathBuf,
}

struct Shared {
    since: Instant,
    program: String,
    states: Option<Box<dyn Fn() -> String + Send>>,
    over: bool,
}

impl Case {
    fn new(name: &str) -> Self {
        let shared =
            Arc::new(Mutex::new(Shared { since: Instant::now(), program: String::new(), states: None, over: false }));
        let watched = shared.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(500));
                let shared = watched.lock().unwrap();
                if shared.over {
                    return;
                }
                if shared.since.elapsed() > HANGS {
                    let states = shared.states.as_ref().map_or(String::new(), |states| states());
                    // Not by a macro: the harness would keep it, and forget it with the process.
                    _ = writeln!(io::stderr(), "\nthe run does not come to an end:\n{}\n{states}", shared.program);
                    process::abort();
                }
            }
        });
        Self { shared, file: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("model-{name}.txt")) }
    }

    fn begin(&self, program: &str) {
        // Only a help, if it can be had.
        _ = std::fs::write(&self.file, program);
        *self.shared.lock().unwrap() =
            Shared { since: Instant::now(), program: program.to_owned(), states: None, over: false };
    }

    fn begin_run(&self) {
        self.shared.lock().unwrap().since = Instant::now();
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.shared.lock().unwrap().over = true;
        _ = std::fs::remove_file(&self.file);
    }
}

/// Runs programs until one fails, and then panics with the smallest one found that fails as well.
pub(crate) fn check<S>(
    effort: Effort,
    strategy: S,
    mut run: impl FnMut(&S::Value, &mut Context) -> Result<(), Failure>,
) -> Tally
where
    S: Strategy<Value: Display>,
{
    let name = thread::current().name().expect("the test harness names its threads").to_owned();
    let mut context = Context { tally: Tally::default(), case: Case::new(&name) };
    let wanted = number(SEED);
    let (first, cases, runs) = match wanted {
        Some(seed) => (seed, 1, number(CASES).unwrap_or(2000) as u32),
        None => {
            let cases = number(CASES).unwrap_or(u64::from(effort.cases));
            (RandomState::new().hash_one(&name), cases, effort.runs)
        }
    };
    for seed in (0..cases).map(|n| first.wrapping_add(n)) {
        let replay = format!("to run it again and again:\n{SEED}={seed:#x} cargo test --test model -- --exact {name}");
        let mut times = |program: &S::Value, runs: u32| {
            context.case.begin(&format!("{program}\nor, as it was drawn, {replay}\n"));
            (0..runs).try_for_each(|_| {
                context.case.begin_run();
                run(program, &mut context)
            })
        };
        let mut tree = tree(&strategy, seed);
        let drawn = tree.current();
        let Err(mut failure) = times(&drawn, runs) else { continue };
        let mut report = format!("\n{}\n\nprogram as drawn:\n{drawn}\n{replay}\n", failure.text);
        if !failure.stuck && wanted.is_none() {
            eprintln!("{report}\nlooking for a smaller one ..");
            let mut smallest = None;
            // What depends on luck may need many runs to fail again.
            let runs = runs.max(if runs > 1 { 60 } else { 1 });
            let mut left = 400;
            let mut failed = true;
            while left > 0 && if failed { tree.simplify() } else { tree.complicate() } {
                left -= 1;
                let program = tree.current();
                let result = times(&program, runs);
                failed = result.is_err();
                if let Err(other) = result {
                    smallest = Some(program);
                    failure = other;
                    if failure.stuck {
                        break;
                    }
                }
            }
            if let Some(program) = smallest {
                _ = write!(report, "\nsmallest that failed:\n{program}\n{}\n", failure.text);
            }
        }
        panic!("{report}");
    }
    println!("{name}: {:?}", context.tally.counts);
    context.tally.full = wanted.is_none() && cases >= u64::from(effort.cases);
    context.tally
}
