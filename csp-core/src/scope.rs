//! Goroutines that may borrow from the function that starts them.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sched::goroutine::Goexit;
use crate::sched::park::WaitReason;
use crate::spawn::{Builder, GoroutineId, JoinError, JoinHandle};
use crate::sync::WaitGroup;

/// Where goroutines are started that end before [`scope`] returns.
pub struct Scope<'scope, 'env: 'scope> {
    shared: Arc<Shared>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct Shared {
    wait_group: WaitGroup,
    /// Goroutines that panicked, and whose handle did not say so.
    panics: AtomicUsize,
}

/// Calls `f` with a scope in which goroutines may borrow what outlives the call, and parks until all of them have ended.
/// The function form of [`wait_group!`](crate::wait_group); as `std::thread::scope`, with goroutines.
///
/// # Panics
///
/// If a goroutine panicked and its handle was not joined; and with whatever `f` panicked with, after waiting.
///
/// ```
/// # use csp_core as csp;
/// let words = ["to", "be", "or", "not"];
/// let mut longest = 0;
/// let total = csp::scope(|s| {
///     s.spawn(|| longest = words.iter().map(|w| w.len()).max().unwrap());
///     let total = s.spawn(|| words.concat().len());
///     total.join().unwrap()
/// });
/// assert_eq!((total, longest), (9, 3));
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let location = Location::caller();
    let shared = Arc::new(Shared { wait_group: WaitGroup::new(), panics: AtomicUsize::new(0) });
    let scope = Scope { shared, scope: PhantomData, env: PhantomData };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    // Whatever happened, nothing that was borrowed may go before those who borrow.
    scope.shared.wait_group.wait_as(WaitReason::Scope, location);
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(_) if scope.shared.panics.load(Ordering::Relaxed) != 0 => panic!("a goroutine of the scope panicked"),
        Ok(value) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that may borrow what outlives the scope.
    ///
    /// # Panics
    ///
    /// When the runtime cannot start.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.start(Builder::new(), f, Location::caller()).expect("the runtime cannot start")
    }

    /// As [`spawn`](Self::spawn), with what the builder asks for.
    ///
    /// A wait group given to the builder is not counted: the scope is the group.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(&'scope self, builder: Builder, f: F) -> std::io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.start(builder, f, Location::caller())
    }

    fn start<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
        location: &'static Location<'static>,
    ) -> std::io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        crate::runtime::try_start()?;
        let shared = self.shared.clone();
        let run = move || {
            catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
                // `goexit` unwinds as well, but nothing went wrong.
                if !payload.is::<Goexit>() {
                    shared.panics.fetch_add(1, Ordering::Relaxed);
                }
                resume_unwind(payload)
            })
        };
        // The group counts the goroutine out when nothing of it is left, its result included.
        let at_end = self.shared.wait_group.count_in();
        // SAFETY: `F` and `T` are `Send`. What they borrow outlives `'scope`, and the scope does not end before the
        // goroutine has been counted out.
        let handle = unsafe { builder.spawn_unchecked(run, Some(at_end), location) }?;
        Ok(ScopedJoinHandle { handle, shared: self.shared.clone(), scope: PhantomData })
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("goroutines", &self.shared.wait_group).finish_non_exhaustive()
    }
}

/// Waits for a goroutine of a [`Scope`] and takes its result. If it is dropped the scope waits all the same.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    shared: Arc<Shared>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`JoinHandle::join`].
    ///
    /// # Errors
    ///
    /// When the goroutine panicked or called [`goexit`](crate::goexit). Then the scope does not panic for it.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.handle.join_as(WaitReason::Join, Location::caller());
        if result.as_ref().is_err_and(JoinError::is_panic) {
            self.shared.panics.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The number of the goroutine.
    pub fn id(&self) -> GoroutineId {
        self.handle.id()
    }

    /// The name of the goroutine, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.handle).finish()
    }
}
