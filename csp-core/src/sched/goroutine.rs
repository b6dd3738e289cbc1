//! A goroutine as the scheduler sees it: what to run, and the record that it and its handle share.

use std::alloc::Layout;
use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

use super::park::{FIRST_OUTCOME, Parker, Ticket, Wait, WaitReason, park};
use super::record;
use super::worker::Worker;
use crate::slot::Slot;

/// Something for a processor to run: a suspended goroutine, which is its slot, or one that has not started, which is its
/// task. One word, the lowest bit of which tells them apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runnable(NonZeroUsize);

/// The two kinds of [`Runnable`].
#[derive(Debug)]
pub(crate) enum Work {
    Suspended(&'static Slot),
    Fresh(TaskRef),
}

impl Runnable {
    const FRESH: usize = 1;

    #[inline(always)]
    pub(crate) fn suspended(slot: &'static Slot) -> Self {
        // SAFETY: a reference is not null.
        Self(unsafe { NonZeroUsize::new_unchecked(ptr::from_ref(slot) as usize) })
    }

    #[inline(always)]
    pub(crate) fn fresh(task: TaskRef) -> Self {
        // SAFETY: with its lowest bit set it is not zero.
        Self(unsafe { NonZeroUsize::new_unchecked(task.into_raw() as usize | Self::FRESH) })
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> usize {
        self.0.get()
    }

    /// # Safety
    ///
    /// `raw` came from [`into_raw`](Self::into_raw), and is not used again.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(raw: usize) -> Self {
        debug_assert_ne!(raw, 0);
        // SAFETY: `into_raw` gives no zero.
        Self(unsafe { NonZeroUsize::new_unchecked(raw) })
    }

    /// The worker whose thread alone may run it, if it is a suspended goroutine that has one.
    pub(crate) fn owner(&self) -> Option<&'static Worker> {
        let raw = self.0.get();
        if raw & Self::FRESH != 0 {
            return None;
        }
        // SAFETY: made by `suspended`; slots are never freed.
        unsafe { &*(raw as *const Slot) }.owner()
    }

    #[inline(always)]
    pub(crate) fn into_work(self) -> Work {
        let raw = self.0.get();
        if raw & Self::FRESH != 0 {
            // SAFETY: made by `fresh`.
            Work::Fresh(unsafe { TaskRef::from_raw((raw & !Self::FRESH) as *mut Task) })
        } else {
            // SAFETY: made by `suspended`; slots are never freed.
            Work::Suspended(unsafe { &*(raw as *const Slot) })
        }
    }
}

/// How a goroutine ended.
pub(crate) enum End<T> {
    Returned(T),
    Panicked(Box<dyn Any + Send>),
    Exited,
}

/// The payload with which `goexit` unwinds.
pub(crate) struct Goexit;

/// The record that a goroutine, its handle and the scheduler share; the head of a [`TaskCell`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Task {
    vtable: &'static VTable,
    /// The runtime's reference, which the goroutine holds until its end, and the handle's.
    references: AtomicU32,
    /// Which slots it can run on.
    pub(crate) class: u8,
    /// It starts locked to its OS thread.
    pub(crate) locked: bool,
    pub(crate) is_main: bool,
    pub(crate) id: NonZeroU64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) started_at: &'static Location<'static>,
    /// The slot on which alone it may run: the main goroutine of the threads backend.
    pub(crate) slot: Option<&'static Slot>,
    at_end: UnsafeCell<Option<AtEnd>>,
    #[cfg(csp_tsan)]
    fiber: crate::tsan::Fiber,
    /// Null while nobody waits for the end; [`ENDED`] after it; else the one waiting, whose frame it is in.
    joiner: AtomicPtr<Joiner>,
}

#[derive(Debug)]
struct VTable {
    run: unsafe fn(NonNull<Task>),
    drop: unsafe fn(NonNull<Task>),
}

#[derive(Debug)]
struct Joiner {
    parker: &'static Parker,
    ticket: Ticket,
    task: *const Task,
}

const ENDED: *mut Joiner = ptr::without_provenance_mut(1);

/// A task and how it ended. Its layout depends on `T` alone, so that the handle need not know `F`.
#[repr(C)]
struct Packet<T> {
    task: Task,
    end: UnsafeCell<Option<End<T>>>,
}

#[repr(C)]
struct TaskCell<F, T> {
    packet: Packet<T>,
    function: UnsafeCell<Option<F>>,
}

/// What there is to know of a goroutine before it starts.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) id: NonZeroU64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) class: u8,
    pub(crate) locked: bool,
    pub(crate) is_main: bool,
    pub(crate) slot: Option<&'static Slot>,
    pub(crate) started_at: &'static Location<'static>,
    pub(crate) at_end: Option<AtEnd>,
}

/// What is called when everything of a goroutine is over, its result given up included; or when it is not started.
#[derive(Debug)]
pub(crate) struct AtEnd {
    call: unsafe fn(*const ()),
    arg: *const (),
}

// SAFETY: promised to `new`.
unsafe impl Send for AtEnd {}
// SAFETY: there is nothing to be done with a shared one.
unsafe impl Sync for AtEnd {}

impl AtEnd {
    /// # Safety
    ///
    /// `call(arg)` is sound to call once, on any thread.
    pub(crate) unsafe fn new(call: unsafe fn(*const ()), arg: *const ()) -> Self {
        Self { call, arg }
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        // SAFETY: promised to `new`; this is the one time.
        unsafe { (self.call)(self.arg) };
    }
}

/// One of the two references to a [`Task`].
#[derive(Debug)]
pub(crate) struct TaskRef(NonNull<Task>);

// SAFETY: what is behind it is shared under the rules of `Task`; `new` asks that function and result may be sent.
unsafe impl Send for TaskRef {}
// SAFETY: as above; shared references give access to constant or atomic fields only.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// A task and its two references.
    ///
    /// # Safety
    ///
    /// `F` and `T` may be sent to another thread. What `F` borrows outlives the run of the goroutine.
    pub(crate) unsafe fn new<F: FnOnce() -> T, T>(description: Description, function: F) -> (TaskRef, TaskRef) {
        let Description { id, name, class, locked, is_main, slot, started_at, at_end } = description;
        let cell = TaskCell::<F, T> {
            packet: Packet {
                task: Task {
                    vtable: &VTable { run: run::<F, T>, drop: drop_cell::<F, T> },
                    #[cfg(csp_tsan)]
                    fiber: crate::tsan::Fiber::new(id, name.as_deref()),
                    references: AtomicU32::new(2),
                    class,
                    locked,
                    is_main,
                    id,
                    name,
                    started_at,
                    slot,
                    at_end: UnsafeCell::new(at_end),
                    joiner: AtomicPtr::new(ptr::null_mut()),
                },
                end: UnsafeCell::new(None),
            },
            function: UnsafeCell::new(Some(function)),
        };
        const { assert!(align_of::<Task>() > 1, "`Runnable` uses the lowest bit") };
        let place = record::allocate(Layout::new::<TaskCell<F, T>>()).cast::<TaskCell<F, T>>();
        // SAFETY: fresh memory of that layout.
        unsafe { place.write(cell) };
        (TaskRef(place.cast()), TaskRef(place.cast()))
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> *mut Task {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    ///
    /// `raw` came from [`into_raw`](Self::into_raw) and is not used again.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(raw: *mut Task) -> Self {
        // SAFETY: `into_raw` gives no null.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }

    /// Runs the goroutine to its end, tells the one who waits for it, and gives up the reference. Panics stop here.
    ///
    /// # Safety
    ///
    /// Called once for each task, by the runtime.
    pub(crate) unsafe fn run(self) {
        let run = self.vtable.run;
        // The reference goes with the pointer.
        let task = ManuallyDrop::new(self).0;
        #[cfg(csp_tsan)]
        // SAFETY: `run` has yet to give up the reference; and the caller's promise.
        let fiber = unsafe { task.as_ref().fiber.begin() };
        // SAFETY: the caller's promise.
        unsafe { run(task) };
        #[cfg(csp_tsan)]
        // SAFETY: begun above, on the same stack.
        unsafe {
            fiber.end()
        };
    }

    /// Waits for the end of the goroutine and takes how it ended.
    ///
    /// # Safety
    ///
    /// `T` is the type of the result. The caller holds the handle's reference, and this is called once.
    pub(crate) unsafe fn join<T>(&self, reason: WaitReason, location: &'static Location<'static>) -> End<T> {
        self.wait(reason, location);
        // SAFETY: the goroutine has ended and wrote its end before; nobody but us reads it. Every cell with this `T`
        // begins with a `Packet<T>`.
        let end = unsafe { (*self.0.cast::<Packet<T>>().as_ref().end.get()).take() };
        end.expect("a goroutine is joined once")
    }

    /// Waits for the end of the goroutine.
    pub(crate) fn wait(&self, reason: WaitReason, location: &'static Location<'static>) {
        if self.has_ended() {
            return;
        }
        Parker::with_current(|parker| {
            let ticket = parker.begin();
            let mut joiner = Joiner { parker, ticket, task: self.0.as_ptr() };
            unsafe fn commit(arg: *mut ()) {
                // SAFETY: the joiner's frame is borrowed until its wait is claimed and made ready.
                let (parker, ticket, task) = unsafe {
                    let joiner = &*arg.cast::<Joiner>();
                    (joiner.parker, joiner.ticket, &*joiner.task)
                };
                // Release: pairs with the Acquire of the swap in `end`: the joiner is complete.
                let left = task.joiner.compare_exchange(
                    ptr::null_mut(),
                    arg.cast::<Joiner>(),
                    Ordering::Release,
                    Ordering::Relaxed,
                );
                if left.is_err() {
                    // It has ended in the meantime.
                    parker.claim_sole(ticket, FIRST_OUTCOME);
                    parker.ready();
                }
            }
            let wait = Wait { reason, location, deadline: None };
            // SAFETY: our parker and its newest ticket; `commit` touches the frame no more once the joiner is in place.
            unsafe { park(parker, ticket, wait, commit, (&raw mut joiner).cast()) };
        });
        // Pairs with the AcqRel swap in `announce_end`, also where the commit found that it had ended.
        let ended = self.has_ended();
        debug_assert!(ended);
    }

    /// Whether the goroutine has ended.
    pub(crate) fn has_ended(&self) -> bool {
        // Acquire: pairs with the swap in `announce_end`: how it ended is written.
        self.joiner.load(Ordering::Acquire) == ENDED
    }
}

impl std::ops::Deref for TaskRef {
    type Target = Task;

    #[inline(always)]
    fn deref(&self) -> &Task {
        // SAFETY: a reference keeps the cell alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        // Release, and Acquire by the last one: what the other did with the cell happens before it is freed.
        if self.references.fetch_sub(1, Ordering::Release) == 1 {
            // ThreadSanitizer knows no fences; to the same effect it is shown a load.
            if cfg!(csp_tsan) {
                self.references.load(Ordering::Acquire);
            } else {
                fence(Ordering::Acquire);
            }
            // SAFETY: the last reference.
            unsafe { (self.vtable.drop)(self.0) };
        }
    }
}

/// # Safety
///
/// `task` heads a `TaskCell<F, T>`, its function was not called yet, and the caller gives up the runtime's reference.
unsafe fn run<F: FnOnce() -> T, T>(task: NonNull<Task>) {
    // SAFETY: the caller's promise.
    let cell = unsafe { task.cast::<TaskCell<F, T>>().as_ref() };
    // SAFETY: nobody else touches the function.
    let function = unsafe { (*cell.function.get()).take() }.expect("a goroutine is run once");
    let end = match catch_unwind(AssertUnwindSafe(function)) {
        Ok(value) => End::Returned(value),
        Err(payload) if payload.is::<Goexit>() => End::Exited,
        Err(payload) => {
            crate::panic::goroutine_panicked();
            End::Panicked(payload)
        }
    };
    // SAFETY: nobody else touches it once the goroutine runs.
    let at_end = unsafe { (*cell.packet.task.at_end.get()).take() };
    // The last reference means that nobody will ask. Acquire: pairs with the Release of the handle's drop.
    if cell.packet.task.references.load(Ordering::Acquire) == 1 {
        // What the result does on being dropped is the goroutine's doing still, and stops here as well.
        contain(|| drop(end));
        forget_task();
        // SAFETY: the last reference, and no handle that could make another. What is left in the cell are ours: the name.
        unsafe { drop_cell::<F, T>(task) };
    } else {
        // SAFETY: the handle reads it after the announcement that follows.
        unsafe { *cell.packet.end.get() = Some(end) };
        // AcqRel: pairs with `commit` in `wait` (the joiner is complete), and with `has_ended` (the end is written).
        let joiner = cell.packet.task.joiner.swap(ENDED, Ordering::AcqRel);
        if !joiner.is_null() {
            // SAFETY: its owner is parked until we make it ready.
            let (parker, ticket) = unsafe { ((*joiner).parker, (*joiner).ticket) };
            parker.claim_sole(ticket, FIRST_OUTCOME);
            parker.ready();
        }
        forget_task();
        // As in the drop of a `TaskRef`, but that a result which the handle left behind is dropped first.
        if cell.packet.task.references.fetch_sub(1, Ordering::Release) == 1 {
            // For ThreadSanitizer, as in that drop.
            #[cfg(csp_tsan)]
            cell.packet.task.references.load(Ordering::Acquire);
            fence(Ordering::Acquire);
            // The handle went in the meantime, so the record is ours, and what the result does on being dropped is the
            // goroutine's doing: it is found through the slot once more.
            if let Some(slot) = Slot::current() {
                slot.task.store(task.as_ptr(), Ordering::Relaxed);
            }
            // SAFETY: the last reference.
            let end = unsafe { (*cell.packet.end.get()).take() };
            contain(|| drop(end));
            forget_task();
            // SAFETY: as above.
            unsafe { drop_cell::<F, T>(task) };
        }
    }
    // Last of all: a scope may end with it, and what the result borrowed may go.
    contain(|| drop(at_end));
}

/// The task of the calling goroutine may be freed from now on: nobody is to find it through the slot.
fn forget_task() {
    if let Some(slot) = Slot::current() {
        slot.task.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// Calls `f`; a panic in it is reported by the hook and goes no further.
fn contain(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        if payload.is::<Goexit>() {
            return;
        }
        // Its drop could panic once more.
        std::mem::forget(payload);
        crate::panic::goroutine_panicked();
    }
}

/// # Safety
///
/// `task` heads a `TaskCell<F, T>` that nobody refers to any more.
unsafe fn drop_cell<F, T>(task: NonNull<Task>) {
    struct Memory(NonNull<u8>, Layout);
    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: from `TaskRef::new`, with this layout; what was there has been dropped.
            unsafe { record::free(self.0, self.1) };
        }
    }
    let _memory = Memory(task.cast(), Layout::new::<TaskCell<F, T>>());
    // SAFETY: written by `TaskRef::new`, and nobody refers to it. A panic in the drop of a result that nobody took would
    // be one in the middle of somebody else's code: it goes to the one who dropped the handle.
    unsafe { task.cast::<TaskCell<F, T>>().drop_in_place() };
}
