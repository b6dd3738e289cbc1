//! The runtime: its settings, and its start.
//!
//! It starts by itself when a goroutine is started for the first time. [`Runtime::builder`] is for settings that must be
//! in place before that. The environment has a say too:
//!
//! | variable      | value                                        | effect                                            |
//! |---------------|----------------------------------------------|---------------------------------------------------|
//! | `GOMAXPROCS`  | a number                                     | how many goroutines run at once, unless the program says |
//! | `CSP_BACKEND` | `native`, `threads`, `dense` or `generator`  | the [`Backend`], whatever the program says        |
//!
//! Whoever sets `CSP_BACKEND` to `dense` or `generator` gives the promise of [`Builder::dense`] for the program.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::sched::{self, MAX_PROCS, idle, sysmon};
use crate::slot::pool;
use crate::{context_switch, panic, stack};

/// How goroutines are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Backend {
    /// A stack with thread-locals of its own for each goroutine, switched to in nanoseconds. x86-64 Linux with glibc.
    Native = 0,
    /// An OS thread for each goroutine, and a baton that is handed from one to the next. Everywhere; slow.
    Threads = 1,
    /// The dense mode ([`Builder::dense`]) where there is a switch of our own: a bare stack for each goroutine. x86-64 Linux
    /// with glibc.
    Dense = 2,
    /// The dense mode elsewhere: a stack of the `generator` crate for each goroutine.
    Generator = 3,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Threads => "threads",
            Self::Dense => "dense",
            Self::Generator => "generator",
        })
    }
}

/// The runtime of the process. There is one; this type only leads to its builder.
#[derive(Debug)]
#[non_exhaustive]
pub struct Runtime;

impl Runtime {
    /// Settings for the runtime, before it starts.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Settings of the runtime: from [`Runtime::builder`].
///
/// ```
/// # use csp_core as csp;
/// use csp::runtime::Runtime;
///
/// Runtime::builder().max_procs(2).stack_size(512 << 10).start().unwrap();
/// assert_eq!(csp::runtime::max_procs(), 2);
/// // It runs already: too late for settings.
/// assert!(Runtime::builder().max_procs(4).start().unwrap_err().is_already_started());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder changes nothing until `start` is called"]
pub struct Builder {
    max_procs: Option<usize>,
    stack_size: Option<usize>,
    max_threads: Option<usize>,
    abort_on_panic: bool,
    backend: Option<Backend>,
    dense: bool,
}

impl Builder {
    /// How many goroutines run at once; takes precedence over `GOMAXPROCS`. From 1 to 1024.
    pub fn max_procs(mut self, procs: usize) -> Self {
        self.max_procs = Some(procs);
        self
    }

    /// The least number of bytes of stack that a goroutine gets when it does not ask. 240 KiB, the thread-locals
    /// included, unless this is called.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How many OS threads may run goroutines, or be blocked in one, at once. 10,000 unless this is called, as in Go.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = Some(threads);
        self
    }

    /// Whether a panic in a goroutine ends the process, as in Go. Otherwise it ends the goroutine, as in a thread.
    pub fn abort_on_panic(mut self, abort: bool) -> Self {
        self.abort_on_panic = abort;
        self
    }

    /// How goroutines are run. Unless this is called, or `CSP_BACKEND` is set, natively where that is possible.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Lets goroutines share the thread-locals of whatever worker runs them: the dense mode. A parked goroutine then takes
    /// one page of memory instead of two, and its stack is made without making a thread. Nothing else changes.
    ///
    /// It is for programs that park hundreds of thousands of goroutines, and can keep the promise below. Where there is no
    /// switch of our own it runs on the `generator` crate; `CSP_BACKEND=generator` forces that, and `CSP_BACKEND=native`
    /// gives each goroutine its own thread-locals all the same.
    ///
    /// # Safety
    ///
    /// A goroutine may go on, after any wait, on another OS thread, with that thread's thread-locals; and other goroutines
    /// use the same ones meanwhile. Any operation of this crate that may wait is a wait, also one that turns out not to;
    /// so is the end of a goroutine's time slice, which comes at such an operation. The caller promises that no code that
    /// runs in a goroutine, that of libraries included:
    ///
    /// - *holds on to a thread-local across a wait*: waits within `LocalKey::with` (or `RefCell` borrows, guards or
    ///   references that come from one): `stdout().lock()`, a `parking_lot::ReentrantMutex`, a tracing span that is
    ///   entered, a tokio runtime's `enter()` guard, a `std::sync::Mutex` guard of a system where it must be unlocked by
    ///   the thread that locked it, a value that is `!Send` because it belongs to a thread;
    /// - *has the compiler keep the address of one*: uses the same thread-local (errno included) before and after a wait within one function,
    ///   inlined ones included. To be safe, do what uses it in a function that is `#[inline(never)]` and does not wait;
    /// - *waits while it unwinds*: in a `Drop` that runs because of a panic. The count of panics is a thread-local;
    /// - *waits on another stack*: from within a coroutine that the goroutine runs itself, of the `generator` crate or another.
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::runtime::Runtime;
    ///
    /// // SAFETY: the goroutines of this program use no thread-local at all.
    /// unsafe { Runtime::builder().dense() }.start().unwrap();
    /// assert_eq!(csp::spawn(|| 6 * 7).join().unwrap(), 42);
    /// ```
    pub unsafe fn dense(mut self) -> Self {
        self.dense = true;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// When it runs already, a setting is out of range, or the backend that was asked for is not to be had here. The
    /// runtime is then as before.
    pub fn start(self) -> Result<(), StartError> {
        let mut state = START.lock();
        if STARTED.load(Ordering::Acquire) {
            return Err(StartError { cause: Cause::AlreadyStarted });
        }
        start(&mut state, self)
    }
}

/// The runtime did not start.
#[derive(Debug)]
pub struct StartError {
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    AlreadyStarted,
    Setting(String),
    Backend(Backend, String),
    System(io::Error),
}

impl StartError {
    /// It had started before, maybe by itself.
    pub fn is_already_started(&self) -> bool {
        matches!(self.cause, Cause::AlreadyStarted)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::AlreadyStarted => {
                f.write_str("the runtime has started already; call Runtime::builder() before the first goroutine")
            }
            Cause::Setting(text) => f.write_str(text),
            Cause::Backend(backend, why) => write!(f, "the {backend} backend is not to be had here: {why}"),
            Cause::System(error) => write!(f, "the runtime cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error.cause {
            Cause::System(error) => error,
            _ => io::Error::other(error),
        }
    }
}

/// Why the native backend is not used.
#[derive(Default)]
struct State {
    fallback: Option<String>,
}

static STARTED: AtomicBool = AtomicBool::new(false);
static START: Mutex<State> = Mutex::new(State { fallback: None });

/// Starts the runtime unless it runs.
#[inline]
pub(crate) fn try_start() -> Result<(), StartError> {
    // Acquire: pairs with the Release at the end of `start`.
    if STARTED.load(Ordering::Acquire) { Ok(()) } else { start_by_default() }
}

/// Starts the runtime unless it runs, or panics.
#[inline]
#[track_caller]
pub(crate) fn ensure_started() {
    if let Err(error) = try_start() {
        panic!("{error}");
    }
}

#[cold]
fn start_by_default() -> Result<(), StartError> {
    let mut state = START.lock();
    if STARTED.load(Ordering::Acquire) {
        return Ok(());
    }
    start(&mut state, Builder::default())
}

fn start(state: &mut State, settings: Builder) -> Result<(), StartError> {
    let setting = |text: String| StartError { cause: Cause::Setting(text) };
    let procs = match settings.max_procs.or_else(procs_from_environment) {
        Some(procs @ 1..=MAX_PROCS) => procs,
        Some(procs) => return Err(setting(format!("max_procs is {procs}; it must be from 1 to {MAX_PROCS}"))),
        None => sched::available_parallelism().min(MAX_PROCS),
    };
    if settings.max_threads == Some(0) {
        return Err(setting("max_threads is 0; goroutines need a thread to run on".into()));
    }
    let wanted = match std::env::var("CSP_BACKEND").as_deref() {
        Ok("native") => Some(Backend::Native),
        Ok("threads") => Some(Backend::Threads),
        Ok("dense") => Some(Backend::Dense),
        Ok("generator") => Some(Backend::Generator),
        Ok("") | Err(_) => match settings.backend {
            Some(backend @ (Backend::Dense | Backend::Generator)) if !settings.dense => {
                return Err(setting(format!(
                    "the {backend} backend shares thread-locals among goroutines, which takes the promise of \
                     Runtime::builder().dense()"
                )));
            }
            None if settings.dense => Some(if cfg!(csp_native) { Backend::Dense } else { Backend::Generator }),
            backend => backend,
        },
        Ok(other) => {
            return Err(setting(format!(
                "CSP_BACKEND is {other:?}; it must be \"native\", \"threads\", \"dense\" or \"generator\""
            )));
        }
    };
    // For the proof of the backend.
    sched::set_default_class(pool::class_for(stack::DEFAULT_USABLE).map_err(|e| setting(e.to_string()))?);
    choose_backend(state, wanted)?;
    // Not every backend can make every stack.
    let class = pool::class_for(settings.stack_size.unwrap_or(stack::DEFAULT_USABLE)).map_err(|error| {
        pool::discard();
        setting(error.to_string())
    })?;
    sched::barrier::register();
    sched::set_default_class(class);
    if let Some(threads) = settings.max_threads {
        idle::set_max_threads(threads);
    }
    panic::abort_on_panic(settings.abort_on_panic);
    panic::install_hook();
    sched::set_max_procs(procs);
    if let Err(error) = sysmon::start() {
        // Another try may be for the other backend.
        pool::discard();
        return Err(StartError { cause: Cause::System(error) });
    }
    // Release: pairs with the Acquire in `try_start`: all of the above is in place.
    STARTED.store(true, Ordering::Release);
    Ok(())
}

fn procs_from_environment() -> Option<usize> {
    let value = std::env::var("GOMAXPROCS").ok()?;
    match value.trim().parse() {
        Ok(procs @ 1..) => Some(std::cmp::min(procs, MAX_PROCS)),
        _ => {
            eprintln!("csp: GOMAXPROCS is {value:?}, not a positive number: ignored");
            None
        }
    }
}

fn choose_backend(state: &mut State, wanted: Option<Backend>) -> Result<(), StartError> {
    let proof = match wanted {
        Some(Backend::Threads) => {
            context_switch::set_backend(Backend::Threads);
            return Ok(());
        }
        Some(backend @ (Backend::Dense | Backend::Generator)) => prove_shared(backend),
        Some(Backend::Native) | None => prove_native(),
    };
    let Err(error) = proof else { return Ok(()) };
    context_switch::set_backend(Backend::Threads);
    match wanted {
        Some(backend) => Err(StartError { cause: Cause::Backend(backend, error.to_string()) }),
        None => {
            state.fallback = Some(error.to_string());
            Ok(())
        }
    }
}

/// Proves that there are stacks that can be switched to.
fn prove_shared(backend: Backend) -> io::Result<()> {
    context_switch::set_backend(backend);
    if backend == Backend::Dense {
        prepare_dense()?;
    }
    let mut slots = Vec::new();
    pool::make(sched::default_class(), &mut slots)?;
    pool::put(slots.into_iter());
    Ok(())
}

#[cfg(csp_native)]
fn prepare_dense() -> io::Result<()> {
    if std::env::var_os("CSP_NO_GUARD_INSTALL").is_some() {
        stack::force_mprotect_guards();
    }
    stack::overflow::install()
}

#[cfg(not(csp_native))]
fn prepare_dense() -> io::Result<()> {
    Err(io::Error::other("it is made for x86-64 Linux with glibc; without a choice of backend, generator is taken"))
}

#[cfg(csp_native)]
fn prove_native() -> io::Result<()> {
    use crate::slot::native;
    native::prove()?;
    crate::stack::overflow::install()?;
    context_switch::set_backend(Backend::Native);
    let mut slots = Vec::new();
    pool::make(sched::default_class(), &mut slots)?;
    let first = slots.last().expect("a batch has a slot");
    // SAFETY: the slot is new, and only we know it.
    unsafe { native::prove_slot(first) }?;
    pool::put(slots.into_iter());
    Ok(())
}

#[cfg(not(csp_native))]
fn prove_native() -> io::Result<()> {
    Err(io::Error::other("it is made for x86-64 Linux with glibc"))
}

/// How goroutines are run in this process. Starts the runtime.
///
/// # Panics
///
/// When the runtime cannot start.
#[track_caller]
pub fn backend() -> Backend {
    ensure_started();
    context_switch::backend()
}

/// Why the native backend is not in use, where it was not ruled out by choice. Starts the runtime.
///
/// # Panics
///
/// When the runtime cannot start.
#[track_caller]
pub fn fallback_reason() -> Option<String> {
    ensure_started();
    START.lock().fallback.clone()
}

/// How many goroutines run at once. Starts the runtime. As Go's `runtime.GOMAXPROCS(0)`.
///
/// # Panics
///
/// When the runtime cannot start.
#[track_caller]
pub fn max_procs() -> usize {
    ensure_started();
    sched::max_procs()
}

/// Sets how many goroutines run at once, and returns the number before. Starts the runtime. As Go's `runtime.GOMAXPROCS`.
///
/// A smaller number takes effect as the goroutines that run now give way.
///
/// # Panics
///
/// When `procs` is 0 or above 1024, or the runtime cannot start.
///
/// ```
/// # use csp_core as csp;
/// let before = csp::runtime::set_max_procs(3);
/// assert_eq!(csp::runtime::set_max_procs(before), 3);
/// ```
#[track_caller]
pub fn set_max_procs(procs: usize) -> usize {
    assert!((1..=MAX_PROCS).contains(&procs), "max_procs is {procs}; it must be from 1 to {MAX_PROCS}");
    ensure_started();
    sched::set_max_procs(procs)
}

/// What the runtime has made so far: from [`stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Stacks with thread-locals, in use or waiting to be used. They are kept.
    pub slots: usize,
    /// OS threads that run goroutines, or wait to.
    pub worker_threads: usize,
    /// Goroutines that have not ended.
    pub goroutines: usize,
}

/// Numbers about the runtime, for tests and for the curious.
///
/// ```
/// # use csp_core as csp;
/// csp::spawn(|| ()).join().unwrap();
/// assert!(csp::runtime::stats().slots >= 1);
/// ```
pub fn stats() -> Stats {
    Stats { slots: pool::count(), worker_threads: idle::threads(), goroutines: sched::count() }
}
