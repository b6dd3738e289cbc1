//! Tests about whole processes: how they end, what they print, what the environment does to them.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Says in a child process which test, or which program, it is there for.
const PURPOSE: &str = "CSP_TEST_CHILD";
/// A child that takes this long is stuck.
const PATIENCE: Duration = Duration::from_secs(150);

/// What became of a process.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Panics, with all that the process said, unless it ended with status 0.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        self.expect_status(0)
    }

    /// Panics, with all that the process said, unless it ended with `status`.
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status.code(), Some(status), "{self}");
        self
    }

    /// Panics, with all that the process said, unless `signal` ended it.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn expect_signal(self, signal: i32) -> Self {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(signal), "{self}");
        self
    }

    /// Panics, with all that the process said, unless each of `parts` is in what it wrote to standard error, in order.
    #[track_caller]
    pub(crate) fn expect_report(self, parts: &[&str]) -> Self {
        let mut rest = self.stderr.as_str();
        for part in parts {
            let Some(at) = rest.find(part) else { panic!("{part:?} is not in the report, or out of order\n{self}") };
            rest = &rest[at + part.len()..];
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr } = self;
        write!(f, "{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Runs `body` in a process of its own: this executable once more, with the calling test alone.
///
/// In the child it does not return; the child ends with status 0 when `body` returns, and with 101 when it panics.
pub(crate) fn in_child(env: &[(&str, &str)], body: impl FnOnce()) -> Outcome {
    let test = thread::current().name().expect("the test harness names its threads").to_owned();
    if std::env::var_os(PURPOSE).is_some() {
        body();
        std::process::exit(0);
    }
    let mut command = this_executable(&test, env);
    command.args(["--exact", "--nocapture", &test]);
    run(command)
}

/// For test files that are their own harness: the program that this process is to be, if it is a child.
pub(crate) fn program() -> Option<String> {
    std::env::var(PURPOSE).ok()
}

/// For test files that are their own harness: runs the program in a process of its own.
pub(crate) fn run_program(program: &str, env: &[(&str, &str)]) -> Outcome {
    run(this_executable(program, env))
}

fn this_executable(purpose: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_remove("RUST_BACKTRACE").env(PURPOSE, purpose).envs(env.iter().copied());
    command
}

fn run(mut command: Command) -> Outcome {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let stuck = status.is_none();
    let status = status.unwrap_or_else(|| {
        child.kill().unwrap();
        child.wait().unwrap()
    });
    let outcome = Outcome { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert!(!stuck, "the process was still there after {PATIENCE:?}\n{outcome}");
    outcome
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
