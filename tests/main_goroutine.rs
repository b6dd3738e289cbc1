//! The main goroutine under `#[csp::main]`: how the program ends, and the main OS thread.
//!
//! Its own harness, as `deadlock.rs`: this executable runs the tests, and is each of the programs that they start.

mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::run_program;

mod programs {
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::support::{Traffic, thread_id};

    pub(super) mod named {
        #[csp::main]
        pub(crate) fn main() {
            let main = csp::current().unwrap();
            println!("{:?} {}", main.name(), csp::num_goroutines());
        }
    }

    pub(super) mod early_return {
        #[csp::main]
        pub(crate) fn main() {
            for _ in 0..4 {
                csp::spawn(|| csp::never::<()>().recv());
                csp::spawn(|| {
                    loop {
                        csp::yield_now();
                    }
                });
                csp::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            csp::yield_now();
        }
    }

    pub(super) mod error {
        #[csp::main]
        pub(crate) fn main() -> Result<(), String> {
            Err("no luck".into())
        }
    }

    pub(super) mod exit_code {
        use super::*;

        #[csp::main]
        pub(crate) fn main() -> ExitCode {
            ExitCode::from(9)
        }
    }

    pub(super) mod panic {
        #[csp::main]
        pub(crate) fn main() {
            panic!("no luck");
        }
    }

    pub(super) mod goexit {
        #[csp::main]
        pub(crate) fn main() {
            struct Dropped;
            impl Drop for Dropped {
                fn drop(&mut self) {
                    println!("unwound");
                }
            }
            let (tx, rx) = csp::bounded::<()>(0);
            csp::spawn(move || {
                // Closed when `main` has unwound.
                rx.recv().unwrap_err();
                for _ in 0..100 {
                    csp::spawn(|| csp::sleep(std::time::Duration::from_micros(10))).join().unwrap();
                }
                std::process::exit(6);
            });
            let _both = (tx, Dropped);
            csp::goexit();
        }
    }

    pub(super) mod locked {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let pid = i64::from(std::process::id());
            let traffic = Traffic::start();
            let (tx, rx) = csp::bounded(0);
            csp::spawn(move || {
                for i in 0.. {
                    if tx.send(i).is_err() {
                        break;
                    }
                }
            });
            // Once with a guard, once without, and nested: the main OS thread each time.
            for _ in 0..10 {
                let guard = csp::lock_os_thread();
                assert_eq!(thread_id(), pid);
                for _ in 0..20 {
                    rx.recv().unwrap();
                    csp::yield_now();
                    assert_eq!(thread_id(), pid);
                }
                {
                    let _nested = csp::lock_os_thread();
                    csp::blocking(|| assert_eq!(thread_id(), pid));
                }
                csp::yield_now();
                assert_eq!(thread_id(), pid);
                drop(guard);
                csp::yield_now();
            }
            csp::lock_os_thread().keep();
            csp::yield_now();
            assert_eq!(thread_id(), pid);
            drop((rx, traffic));
            println!("still here");
        }
    }

    pub(super) mod nobody_else {
        use super::*;

        #[csp::main]
        pub(crate) fn main() {
            let pid = i64::from(std::process::id());
            let _locked = csp::lock_os_thread();
            static STOP: AtomicBool = AtomicBool::new(false);
            let others = (0..20).map(|i| {
                let other = move || {
                    let _guard = (i % 4 == 0).then(csp::lock_os_thread);
                    while !STOP.load(Ordering::Relaxed) {
                        assert_ne!(thread_id(), pid);
                        csp::yield_now();
                    }
                };
                csp::spawn(other)
            });
            let others = others.collect::<Vec<_>>();
            for _ in 0..500 {
                csp::yield_now();
                assert_eq!(thread_id(), pid);
            }
            STOP.store(true, Ordering::Relaxed);
            others.into_iter().for_each(|other| other.join().unwrap());
        }
    }

    pub(super) mod locked_return {
        #[csp::main]
        pub(crate) fn main() -> Result<(), String> {
            csp::lock_os_thread().keep();
            csp::spawn(|| ()).join().map_err(|error| error.to_string())?;
            Err("from the main thread".into())
        }
    }

    pub(super) mod locked_panic {
        #[csp::main]
        pub(crate) fn main() {
            csp::lock_os_thread().keep();
            panic!("no luck");
        }
    }
}

fn main_is_a_goroutine_of_that_name() {
    let outcome = run_program("named", &[]).expect_success();
    assert_eq!(outcome.stdout, "Some(\"main\") 1\n");
}

fn the_process_ends_when_main_returns() {
    run_program("early_return", &[]).expect_success();
}

fn an_error_is_printed_and_gives_status_1() {
    run_program("error", &[]).expect_status(1).expect_report(&["Error: \"no luck\""]);
    run_program("locked_return", &[]).expect_status(1).expect_report(&["Error: \"from the main thread\""]);
}

fn an_exit_code_is_the_processs() {
    run_program("exit_code", &[]).expect_status(9);
}

fn a_panic_of_main_gives_status_101() {
    for program in ["panic", "locked_panic"] {
        let outcome = run_program(program, &[]).expect_status(101).expect_report(&["'main', started at", "no luck"]);
        assert_eq!(outcome.stderr.matches("no luck").count(), 1, "{outcome}");
    }
}

fn goexit_of_main_unwinds_it_and_lets_the_others_go_on() {
    let outcome = run_program("goexit", &[]).expect_status(6);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("unwound\n", ""), "{outcome}");
}

fn main_gets_the_main_os_thread_when_it_locks() {
    for procs in ["1", "2", "8"] {
        let outcome = run_program("locked", &[("GOMAXPROCS", procs)]).expect_success();
        assert_eq!(outcome.stdout, "still here\n");
    }
}

fn nobody_else_gets_the_main_os_thread() {
    run_program("nobody_else", &[]).expect_success();
}

fn main() -> ExitCode {
    if let Some(program) = support::program() {
        return match program.as_str() {
            "named" => programs::named::main(),
            "early_return" => programs::early_return::main(),
            "error" => report(programs::error::main()),
            "exit_code" => programs::exit_code::main(),
            "panic" => programs::panic::main(),
            "goexit" => programs::goexit::main(),
            "locked" => programs::locked::main(),
            "nobody_else" => programs::nobody_else::main(),
            "locked_return" => report(programs::locked_return::main()),
            "locked_panic" => programs::locked_panic::main(),
            other => panic!("there is no program {other:?}"),
        };
    }
    macro_rules! tests {
        ($($name:ident)*) => {
            vec![$(Trial::test(stringify!($name), || {
                $name();
                Ok::<(), Failed>(())
            })),*]
        };
    }
    let tests = tests! {
        main_is_a_goroutine_of_that_name
        the_process_ends_when_main_returns
        an_error_is_printed_and_gives_status_1
        an_exit_code_is_the_processs
        a_panic_of_main_gives_status_101
        goexit_of_main_unwinds_it_and_lets_the_others_go_on
        main_gets_the_main_os_thread_when_it_locks
        nobody_else_gets_the_main_os_thread
    };
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// What the runtime does with the value of the real `main`.
fn report(result: impl std::process::Termination) -> ExitCode {
    result.report()
}
