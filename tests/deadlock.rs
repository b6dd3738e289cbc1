//! Deadlock under `#[csp::main]`: reported when there is one, and not reported when there is none.
//!
//! `main` has to be the program's, so these tests bring their own harness: this executable runs the tests, and is each
//! of the programs below when a test starts it again.

mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::run_program;

/// The programs, each of which is a whole one.
mod programs {
    use std::io::{Read, Write};
    use std::process::ExitCode;
    use std::thread;
    use std::time::{Duration, Instant};

    use csp::{Builder, WaitGroup};

    /// Long enough for a deadlock to be reported many times over.
    const WHILE: Duration = Duration::from_millis(400);

    pub(super) mod receive {
        #[csp::main]
        pub(crate) fn main() {
            let (_tx, rx) = csp::bounded::<()>(0);
            rx.recv().unwrap();
        }
    }

    pub(super) mod after_a_timeout_in_time {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let (tx, rx) = csp::bounded(0);
            csp::spawn(move || {
                csp::sleep(Duration::from_millis(20));
                tx.send(()).unwrap();
                std::mem::forget(tx);
            });
            rx.recv_timeout(Duration::from_secs(3600)).unwrap();
            rx.recv().unwrap();
        }
    }

    pub(super) mod all_kinds {
        use super::*;

        /// One goroutine for each thing that can be waited for. A test looks for the numbers of these lines.
        #[csp::main]
        pub(crate) fn main() {
            let name = |name: &str| Builder::new().name(name);
            let (tx, rx) = csp::bounded::<()>(0);
            let (send_tx, _send_rx) = csp::bounded::<()>(0);
            let sender = name("sender").spawn(move || send_tx.send(())).unwrap(); // sender
            name("receiver").spawn(move || rx.recv()).unwrap(); // receiver
            name("joiner").spawn(move || sender.join()).unwrap(); // joiner
            let wg = WaitGroup::new();
            wg.add(1);
            name("waiter").spawn(move || wg.wait()).unwrap(); // waiter
            name("never").spawn(|| csp::never::<()>().recv()).unwrap(); // never
            let selector = || csp::select! { _ = <-csp::never::<()>() => {}, _ = <-csp::never::<u8>() => {} }; // selector
            name("selector").spawn(selector).unwrap();
            let empty = || csp::select! {}; // empty
            name("empty").spawn(empty).unwrap();
            let locked = || csp::never::<()>().recv(); // locked
            name("locked").locked(true).spawn(locked).unwrap();
            let scope = || csp::scope(|s| _ = s.spawn(|| csp::never::<()>().recv())); // scope
            name("scope").spawn(scope).unwrap();
            csp::never::<()>().recv().unwrap(); // main
            drop(tx);
        }
    }

    pub(super) mod after_load {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            csp::runtime::set_max_procs(8);
            let (tx, rx) = csp::bounded(3);
            for i in 0..support::scaled(1_000, 50) {
                let tx = tx.clone();
                csp::spawn(move || {
                    csp::sleep(Duration::from_micros(i));
                    tx.send(i).unwrap();
                });
            }
            // One of the senders is this goroutine's own: the channel never closes.
            rx.iter().for_each(drop);
        }

        use super::super::support;
    }

    pub(super) mod after_a_thread_has_ended {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let (tx, rx) = csp::bounded(0);
            let theirs = tx.clone();
            thread::spawn(move || {
                thread::sleep(WHILE);
                theirs.send(1).unwrap();
            });
            assert_eq!(rx.recv(), Ok(1));
            println!("received");
            _ = rx.recv();
            drop(tx);
        }
    }

    pub(super) mod after_goexit_of_main {
        #[csp::main]
        pub(crate) fn main() {
            csp::Builder::new().name("left").spawn(|| csp::never::<()>().recv()).unwrap();
            csp::goexit();
        }
    }

    pub(super) mod goexit_of_main_alone {
        #[csp::main]
        pub(crate) fn main() {
            csp::goexit();
        }
    }

    pub(super) mod timer {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let (tx, rx) = csp::bounded(0);
            csp::spawn(move || {
                csp::sleep(WHILE);
                tx.send(1).unwrap();
            });
            assert_eq!(rx.recv(), Ok(1));
            csp::sleep(WHILE);
            assert!(rx.recv_timeout(WHILE).is_err());
            assert!(csp::never::<()>().recv_timeout(WHILE).is_err());
            csp::after(WHILE).recv().unwrap();
            csp::select! { _ = <-csp::never::<()>() => unreachable!(), default(WHILE) => {} }
        }
    }

    pub(super) mod blocking_call {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            // In a goroutine while `main` is parked, announced and not; and in `main` itself.
            let goroutines = [
                csp::spawn(|| csp::blocking(|| thread::sleep(WHILE))),
                csp::spawn(|| thread::sleep(WHILE)),
                csp::spawn(|| {
                    let (mut reader, writer) = std::io::pipe().unwrap();
                    let mut sleep = std::process::Command::new("sleep");
                    let mut child = sleep.arg("0.4").stdout(writer).spawn().unwrap();
                    drop(sleep);
                    // The child has the other end, and no thread of this process does anything.
                    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
                    child.wait().unwrap();
                }),
            ];
            goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
            thread::sleep(WHILE);
            csp::blocking(|| thread::sleep(WHILE));
        }
    }

    pub(super) mod locked_blocking_call {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let _locked = csp::lock_os_thread();
            let goroutine = Builder::new().locked(true).spawn(|| thread::sleep(WHILE)).unwrap();
            goroutine.join().unwrap();
            thread::sleep(WHILE);
        }
    }

    pub(super) mod plain_thread {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let (tx, rx) = csp::bounded(0);
            thread::spawn(move || {
                thread::sleep(WHILE);
                tx.send(1).unwrap();
            });
            assert_eq!(rx.recv(), Ok(1));
        }
    }

    pub(super) mod endless_loop {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let (tx, rx) = csp::bounded(0);
            csp::spawn(move || {
                let start = Instant::now();
                while start.elapsed() < WHILE {
                    std::hint::spin_loop();
                }
                tx.send(1).unwrap();
            });
            assert_eq!(rx.recv(), Ok(1));
        }
    }

    pub(super) mod return_of_main {
        #[csp::main]
        pub(crate) fn main() {
            let parked = || csp::spawn(|| csp::never::<()>().recv());
            drop([parked(), parked()]);
        }
    }

    /// Without `#[csp::main]` there is a thread that may do anything: this one.
    pub(super) mod plain_main {
        use super::*;

        pub(crate) fn main() -> ExitCode {
            let (tx, rx) = csp::bounded(0);
            let waits = csp::spawn(move || rx.recv().unwrap());
            thread::sleep(WHILE);
            tx.send(5).unwrap();
            print!("received {}", waits.join().unwrap());
            std::io::stdout().flush().unwrap();
            ExitCode::SUCCESS
        }
    }
}

/// The line of this file that ends with a comment.
fn line_of(comment: &str) -> usize {
    let ends = |line: &str| line.ends_with(&format!("// {comment}"));
    1 + include_str!("deadlock.rs").lines().position(ends).expect(comment)
}

const HEADLINE: &str = "fatal error: all goroutines are asleep - deadlock!\n";

fn a_deadlock_is_reported_with_status_2() {
    let outcome = run_program("receive", &[]).expect_status(2);
    let outcome = outcome.expect_report(&[
        HEADLINE,
        "\ngoroutine ",
        " 'main', started at tests/deadlock.rs:",
        ": channel receive at tests/deadlock.rs:",
        ", for ",
    ]);
    assert_eq!(outcome.stderr.matches("deadlock!").count(), 1, "{outcome}");
    assert_eq!(outcome.stderr.matches("\ngoroutine ").count(), 1, "{outcome}");
}

fn each_goroutine_is_listed_with_what_it_waits_for_and_where() {
    let outcome = run_program("all_kinds", &[]).expect_status(2);
    let expect = |name: &str, waits_for: &str, comment: &str| {
        let line = outcome.stderr.lines().find(|line| line.contains(&format!(" '{name}', started at ")));
        let line = line.unwrap_or_else(|| panic!("'{name}' is not in the report\n{outcome}"));
        let waits = format!(": {waits_for} at tests/deadlock.rs:{}:", line_of(comment));
        assert!(line.starts_with("goroutine ") && line.contains(&waits), "{waits:?} is not in {line:?}\n{outcome}");
    };
    for (name, waits_for) in [
        ("sender", "channel send"),
        ("receiver", "channel receive"),
        ("joiner", "join"),
        ("waiter", "wait group"),
        ("never", "channel receive (never)"),
        ("selector", "select"),
        ("empty", "select (no cases)"),
        ("locked", "channel receive (never)"),
        ("scope", "end of a scope"),
        ("main", "channel receive (never)"),
    ] {
        expect(name, waits_for, name);
    }
    // And the one in the scope.
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("goroutine ")).count(), 11, "{outcome}");
}

fn a_deadlock_after_much_work_is_reported() {
    run_program("after_load", &[]).expect_status(2).expect_report(&[HEADLINE, "'main'", "channel receive"]);
}

fn a_deadline_that_no_longer_counts_does_not_hide_a_deadlock() {
    run_program("after_a_timeout_in_time", &[]).expect_status(2).expect_report(&[
        HEADLINE,
        "'main'",
        "channel receive",
    ]);
}

fn a_deadlock_is_reported_when_the_last_plain_thread_has_ended() {
    let outcome = run_program("after_a_thread_has_ended", &[]).expect_status(2).expect_report(&[HEADLINE, "'main'"]);
    assert_eq!(outcome.stdout, "received\n", "{outcome}");
}

fn goexit_of_main_leaves_the_others_and_then_deadlock() {
    let report = [HEADLINE, "main goroutine has called goexit", "'left'", "channel receive (never)"];
    let outcome = run_program("after_goexit_of_main", &[]).expect_status(2).expect_report(&report);
    assert!(!outcome.stderr.contains("'main'"), "{outcome}");
    run_program("goexit_of_main_alone", &[]).expect_status(2).expect_report(&report[..2]);
}

fn no_deadlock_is_reported(program: &str) {
    let outcome = run_program(program, &[]).expect_success();
    assert_eq!(outcome.stderr, "", "{outcome}");
}

fn main() -> ExitCode {
    if let Some(program) = support::program() {
        return match program.as_str() {
            "receive" => programs::receive::main(),
            "all_kinds" => programs::all_kinds::main(),
            "after_load" => programs::after_load::main(),
            "after_a_timeout_in_time" => programs::after_a_timeout_in_time::main(),
            "after_a_thread_has_ended" => programs::after_a_thread_has_ended::main(),
            "after_goexit_of_main" => programs::after_goexit_of_main::main(),
            "goexit_of_main_alone" => programs::goexit_of_main_alone::main(),
            "timer" => programs::timer::main(),
            "blocking_call" => programs::blocking_call::main(),
            "locked_blocking_call" => programs::locked_blocking_call::main(),
            "plain_thread" => programs::plain_thread::main(),
            "endless_loop" => programs::endless_loop::main(),
            "return_of_main" => programs::return_of_main::main(),
            "plain_main" => programs::plain_main::main(),
            other => panic!("there is no program {other:?}"),
        };
    }
    fn test(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    }
    macro_rules! tests {
        ($($name:ident)*) => { vec![$(test(stringify!($name), $name)),*] };
    }
    let mut tests = tests! {
        a_deadlock_is_reported_with_status_2
        each_goroutine_is_listed_with_what_it_waits_for_and_where
        a_deadlock_after_much_work_is_reported
        a_deadline_that_no_longer_counts_does_not_hide_a_deadlock
        a_deadlock_is_reported_when_the_last_plain_thread_has_ended
        goexit_of_main_leaves_the_others_and_then_deadlock
    };
    for (when, program) in [
        ("while_a_timer_is_set", "timer"),
        ("during_a_blocking_call", "blocking_call"),
        ("during_a_blocking_call_of_a_locked_goroutine", "locked_blocking_call"),
        ("while_there_is_a_plain_thread", "plain_thread"),
        ("while_a_goroutine_computes", "endless_loop"),
        ("when_main_returns", "return_of_main"),
        ("without_a_main_goroutine", "plain_main"),
    ] {
        tests.push(test(&format!("no_deadlock_is_reported_{when}"), move || no_deadlock_is_reported(program)));
    }
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
