//! Starting goroutines, and what one can know of them.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::Arc;

use crate::runtime;
use crate::sched::goroutine::{AtEnd, Description, End, Goexit, Task, TaskRef};
use crate::sched::park::WaitReason;
use crate::sched::{self, checkpoint};
use crate::slot::{Slot, pool};
use crate::sync::WaitGroup;

/// The number of a goroutine: unique in the process, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoroutineId(NonZeroU64);

impl GoroutineId {
    /// The number itself.
    pub fn as_u64(self) -> NonZeroU64 {
        self.0
    }
}

impl fmt::Display for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoroutineId({})", self.0)
    }
}

/// What identifies a goroutine: from [`current`].
#[derive(Clone, Debug)]
pub struct Goroutine {
    id: GoroutineId,
    name: Option<Arc<str>>,
}

impl Goroutine {
    /// Its number.
    pub fn id(&self) -> GoroutineId {
        self.id
    }

    /// The name it was given, if any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// The goroutine that calls this; `None` on a plain thread.
///
/// ```
/// # use csp_core as csp;
/// assert!(csp::current().is_none());
/// let handle = csp::Builder::new().name("fetch").spawn(|| csp::current().unwrap()).unwrap();
/// let id = handle.id();
/// let seen = handle.join().unwrap();
/// assert_eq!((seen.id(), seen.name()), (id, Some("fetch")));
/// ```
pub fn current() -> Option<Goroutine> {
    current_task().map(|task| Goroutine { id: GoroutineId(task.id), name: task.name.clone() })
}

fn current_task() -> Option<&'static Task> {
    // SAFETY: the task of the running goroutine outlives the run; callers do not keep it.
    Slot::current().and_then(|slot| unsafe { slot.task().as_ref() })
}

impl Task {
    /// As reports name it: number, name, and where it was started.
    pub(crate) fn describe(&self) -> String {
        let name = self.name.as_deref().map(|n| format!(" '{n}'")).unwrap_or_default();
        format!("goroutine {}{name}, started at {}", self.id, self.started_at)
    }
}

/// Describes the running goroutine for a report.
pub(crate) fn describe_current() -> Option<String> {
    current_task().map(Task::describe)
}

/// Starts a goroutine that runs `f`. The function form of [`go!`](crate::go).
///
/// The goroutine runs when a processor is free, maybe at once on another thread, maybe after the caller parks. The
/// handle may be dropped: the goroutine goes on. As `std::thread::spawn`, for goroutines; as Go's `go` statement, but
/// that a panic ends the goroutine alone, and that the process does not wait for goroutines when `main` ends.
///
/// # Panics
///
/// When the runtime cannot start. See [`Builder::spawn`] for an error instead.
///
/// ```
/// # use csp_core as csp;
/// let handle = csp::spawn(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let location = Location::caller();
    runtime::ensure_started();
    let (runs, handle) = {
        let description = Description {
            id: sched::new_id(),
            name: None,
            class: sched::default_class(),
            locked: false,
            is_main: false,
            slot: None,
            started_at: location,
            at_end: None,
        };
        // SAFETY: `F` and `T` are `Send` and `'static`.
        unsafe { TaskRef::new(description, f) }
    };
    sched::spawn(runs);
    JoinHandle { task: handle, _result: PhantomData }
}

/// Starts a goroutine with a name, a stack of its own size, locked to its OS thread, or counted by a wait group.
///
/// ```
/// # use csp_core as csp;
/// let handle = csp::Builder::new().name("deep").stack_size(8 << 20).spawn(|| {
///     fn depth(n: u64) -> u64 {
///         std::hint::black_box([n; 16]);
///         if n == 0 { 0 } else { 1 + depth(n - 1) }
///     }
///     depth(10_000)
/// })?;
/// assert_eq!(handle.join().unwrap(), 10_000);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder starts nothing until `spawn` is called"]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_size: Option<usize>,
    locked: bool,
    /// Counts it out of the wait group that it was counted in.
    at_end: Option<AtEnd>,
    pub(crate) is_main: bool,
    pub(crate) slot: Option<&'static Slot>,
}

impl Builder {
    /// A builder that asks for nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name by which panics, reports and [`current`] call the goroutine.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// The least number of bytes of stack; without it, 240 KiB, the thread-locals included, or
    /// what [`runtime::Builder::stack_size`] says.
    ///
    /// Stacks come in powers of two. Memory is used as it is touched, whatever the size.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Whether the goroutine starts locked to its OS thread, as if it began with
    /// [`lock_os_thread`](crate::lock_os_thread).
    pub fn locked(mut self, locked: bool) -> Self {
        self.locked = locked;
        self
    }

    /// Counts the goroutine in `wait_group` now, and out when it has ended, or is not started, also by a panic or by
    /// [`goexit`](crate::goexit).
    pub fn wait_group(mut self, wait_group: &WaitGroup) -> Self {
        self.at_end = Some(wait_group.count_in());
        self
    }

    /// Starts the goroutine.
    ///
    /// # Errors
    ///
    /// When the stack size is beyond what is possible, or the runtime cannot start. Nothing has been started then, and
    /// `f` is dropped.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `F` and `T` are `Send` and `'static`.
        unsafe { self.spawn_unchecked(f, None, Location::caller()) }
    }

    /// # Safety
    ///
    /// As [`TaskRef::new`]; and `at_end` may be called once, from any thread.
    pub(crate) unsafe fn spawn_unchecked<F, T>(
        self,
        f: F,
        at_end: Option<AtEnd>,
        started_at: &'static Location<'static>,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T,
    {
        runtime::try_start()?;
        let class = match self.stack_size {
            Some(bytes) => pool::class_for(bytes)?,
            None => sched::default_class(),
        };
        let at_end = at_end.or(self.at_end);
        let description = Description {
            id: sched::new_id(),
            name: self.name,
            class,
            locked: self.locked,
            is_main: self.is_main,
            slot: self.slot,
            started_at,
            at_end,
        };
        // SAFETY: the caller's promise.
        let (runs, handle) = unsafe { TaskRef::new(description, f) };
        sched::spawn(runs);
        Ok(JoinHandle { task: handle, _result: PhantomData })
    }
}

/// Waits for a goroutine and takes its result. Dropping it lets the goroutine go on alone.
pub struct JoinHandle<T> {
    task: TaskRef,
    _result: PhantomData<T>,
}

// SAFETY: the handle gives out the `T`, by value, to one thread.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to the `T`.
unsafe impl<T: Send> Sync for JoinHandle<T> {}
impl<T> std::panic::UnwindSafe for JoinHandle<T> {}
impl<T> std::panic::RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Parks until the goroutine has ended, and returns its result. On a plain thread it blocks the thread.
    ///
    /// # Errors
    ///
    /// When the goroutine panicked or called [`goexit`](crate::goexit).
    ///
    /// ```
    /// # use csp_core as csp;
    /// # std::panic::set_hook(Box::new(|_| ()));
    /// let error = csp::spawn(|| -> u32 { panic!("no luck") }).join().unwrap_err();
    /// assert!(error.is_panic());
    /// assert!(error.to_string().ends_with("panicked: no luck"));
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.join_as(WaitReason::Join, Location::caller())
    }

    pub(crate) fn join_as(self, reason: WaitReason, location: &'static Location<'static>) -> Result<T, JoinError> {
        checkpoint();
        // SAFETY: the goroutine was started with this `T`; the handle is used up.
        let end = unsafe { self.task.join::<T>(reason, location) };
        let cause = match end {
            End::Returned(value) => return Ok(value),
            End::Panicked(payload) => Cause::Panic(payload),
            End::Exited => Cause::Exit,
        };
        Err(JoinError { id: self.id(), name: self.task.name.clone(), cause })
    }

    /// Whether the goroutine has ended: then [`join`](Self::join) does not wait.
    pub fn is_finished(&self) -> bool {
        self.task.has_ended()
    }

    /// The number of the goroutine.
    pub fn id(&self) -> GoroutineId {
        GoroutineId(self.task.id)
    }

    /// The name of the goroutine, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.task.name.as_deref()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Why there is no result: the goroutine panicked, or called [`goexit`](crate::goexit).
pub struct JoinError {
    id: GoroutineId,
    name: Option<Arc<str>>,
    cause: Cause,
}

enum Cause {
    Panic(Box<dyn Any + Send>),
    Exit,
}

impl JoinError {
    /// The goroutine panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic(_))
    }

    /// The goroutine called [`goexit`](crate::goexit).
    pub fn is_exit(&self) -> bool {
        matches!(self.cause, Cause::Exit)
    }

    /// The number of the goroutine.
    pub fn id(&self) -> GoroutineId {
        self.id
    }

    /// The value the goroutine panicked with, for `std::panic::resume_unwind`.
    ///
    /// # Panics
    ///
    /// If it did not panic; see [`try_into_panic`](Self::try_into_panic).
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("the goroutine did not panic, it called goexit")
    }

    /// The value the goroutine panicked with, if it did.
    ///
    /// # Errors
    ///
    /// The error itself, if the goroutine called [`goexit`](crate::goexit).
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.cause {
            Cause::Panic(payload) => Ok(payload),
            Cause::Exit => Err(self),
        }
    }

    fn message(&self) -> Option<&str> {
        let Cause::Panic(payload) = &self.cause else { return None };
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        match (&self.cause, self.message()) {
            (Cause::Exit, _) => f.write_str(" called goexit"),
            (Cause::Panic(_), Some(message)) => write!(f, " panicked: {message}"),
            (Cause::Panic(_), None) => f.write_str(" panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

/// Lets the other goroutines that are ready run first. On a plain thread, `std::thread::yield_now`.
///
/// As Go's `runtime.Gosched`.
pub fn yield_now() {
    sched::yield_now();
}

/// How many goroutines there are that have not ended, started or not. As Go's `runtime.NumGoroutine`.
///
/// While goroutines start and end it is the number at some recent moment.
pub fn num_goroutines() -> usize {
    sched::count()
}

/// Ends the calling goroutine: its stack unwinds, destructors run, [`JoinHandle::join`] gives an error, and nothing is
/// reported. As Go's `runtime.Goexit`, but that `std::panic::catch_unwind` stops it as it stops a panic; hand the value on
/// with `resume_unwind`.
///
/// When the main goroutine of `#[csp::main]` calls it, the others go on; the process ends when one calls
/// `std::process::exit`, or with the report of a deadlock.
///
/// # Panics
///
/// On a plain thread.
///
/// ```
/// # use csp_core as csp;
/// let handle = csp::spawn(|| -> () { csp::goexit() });
/// assert!(handle.join().unwrap_err().is_exit());
/// ```
#[track_caller]
pub fn goexit() -> ! {
    assert!(Slot::current().is_some(), "goexit called on a thread that is not a goroutine");
    std::panic::resume_unwind(Box::new(Goexit))
}

/// Runs `f`, which may block its OS thread for long, and gives the processor to other goroutines meanwhile.
///
/// Blocking without it is correct too: the runtime notices a goroutine that has not come back for 10 ms and gives its
/// processor away. This says so ahead. On a plain thread it just calls `f`.
///
/// ```
/// # use csp_core as csp;
/// let text = csp::spawn(|| csp::blocking(|| std::fs::read_to_string("Cargo.toml"))).join().unwrap();
/// assert!(text.unwrap().contains("csp-core"));
/// ```
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    sched::blocking(f)
}

/// Locks the calling goroutine to its OS thread until it is unlocked as often. As Go's `runtime.LockOSThread`.
///
/// No other goroutine runs on that thread meanwhile, and this one on no other: for libraries that use the thread's own
/// state, and for changing what the kernel keeps for each thread (affinity, signal mask, namespaces). A goroutine that
/// ends while locked takes the thread with it. The main goroutine of `#[csp::main]` gets the main OS thread.
///
/// Unlocks when the guard is dropped; [`OsThreadGuard::keep`] leaves it locked. On a plain thread it does nothing.
///
/// ```
/// # use csp_core as csp;
/// csp::spawn(|| {
///     let guard = csp::lock_os_thread();
///     csp::yield_now(); // others run, elsewhere
///     drop(guard);
/// })
/// .join()
/// .unwrap();
/// ```
#[must_use = "the thread is unlocked again when the guard is dropped; `keep` leaves it locked"]
pub fn lock_os_thread() -> OsThreadGuard {
    sched::os_thread::lock();
    OsThreadGuard { _not_send: PhantomData }
}

/// Undoes one [`lock_os_thread`] whose guard was kept. Without one it does nothing. As Go's `runtime.UnlockOSThread`.
///
/// ```
/// # use csp_core as csp;
/// csp::spawn(|| {
///     csp::lock_os_thread().keep();
///     csp::unlock_os_thread();
/// })
/// .join()
/// .unwrap();
/// ```
pub fn unlock_os_thread() {
    sched::os_thread::unlock();
}

/// Keeps the goroutine on its OS thread while it lives: from [`lock_os_thread`].
#[derive(Debug)]
pub struct OsThreadGuard {
    _not_send: PhantomData<*const ()>,
}

impl OsThreadGuard {
    /// Leaves the goroutine locked, until [`unlock_os_thread`] or its end.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for OsThreadGuard {
    fn drop(&mut self) {
        sched::os_thread::unlock();
    }
}
