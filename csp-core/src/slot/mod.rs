//! Slots: a stack and its own thread-locals, paired for ever.
//!
//! The argument for soundness rests on these invariants. Other modules cite them.
//!
//! - **S1** The thread pointer follows the stack: both are switched in one assembly routine, and runtime code on a
//!   goroutine's stack reaches worker state only through an explicit pointer (`Slot::worker`) that is read again after
//!   every switch.
//! - **S2** A slot is one stack and one identity, paired for ever. Slots are pooled and reused like the threads of a
//!   thread pool: thread-locals persist from one goroutine to the next, and their destructors do not run in between.
//! - **S3** A slot is reused only when its stack has fully returned or unwound; else both are leaked. A parked goroutine
//!   is never dropped, cancelled or unwound from outside.
//! - **S4** A goroutine that has parked is resumed only after it has left its stack: the switch publishes it afterwards,
//!   in the commit that runs on the next stack.
//! - **S5** At start-up the runtime proves what it relies on (`native::prove`). Where a proof fails it runs a thread
//!   per goroutine instead, and never silently shares thread-locals.
//!
//! A slot is a *husk*, a pthread that gave up its kernel thread ([`husk`]), or made after the pattern of one ([`pattern`]),
//! word for word, where it is proved that every word is understood.

pub(crate) mod bare;
#[cfg(csp_native)]
pub(crate) mod husk;
#[cfg(all(test, csp_loom))]
mod loom_tests;
#[cfg(csp_native)]
pub(crate) mod measure;
#[cfg(csp_native)]
pub(crate) mod native;
#[cfg(csp_native)]
pub(crate) mod pattern;
pub(crate) mod pool;
#[cfg(csp_native)]
pub(crate) mod setxid;

use std::mem::offset_of;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

#[cfg(csp_native)]
use crate::context_switch::Commit;
use crate::context_switch::{self, Execution};
use crate::sched::goroutine::Task;
use crate::sched::park::{Parker, Wait, WaitReason};
use crate::sched::worker::Worker;
use crate::stack::Stride;

/// A stack with its thread-locals, and the goroutine on it. Never freed.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Slot {
    // One cache line for all that a wait, and its end, have to do with: see below.
    pub(crate) parker: Parker,
    /// The worker that runs the slot, written by whoever is about to resume it; stale while it is suspended.
    worker: AtomicPtr<Worker>,
    /// Where the goroutine waits, since when and for what, for reports. Written by the goroutine before it parks.
    wait_location: AtomicPtr<Location<'static>>,
    wait_since: AtomicU32,
    wait_reason: AtomicU8,
    /// Whether `owner` is somebody.
    locked: AtomicBool,
    pub(crate) execution: Execution,
    /// The goroutine that the slot is given to; null in the pool.
    pub(crate) task: AtomicPtr<Task>,
    /// The worker whose thread alone may run the goroutine; null for any. Written by the goroutine itself.
    owner: AtomicPtr<Worker>,
    /// How often the goroutine has locked its thread and not unlocked it yet. Used by the goroutine alone.
    pub(crate) lock_count: AtomicU32,
    /// The goroutine is within `blocking`. Used by the goroutine alone.
    pub(crate) blocking: AtomicBool,
    /// Threads backend: the thread ends instead of going back to the pool.
    pub(crate) retired: AtomicBool,
    /// The stack. Empty for the thread that a slot adopted.
    pub(crate) stride: Stride,
    /// Which pool it belongs to.
    pub(crate) class: u8,
}

#[cfg(csp_native)]
const _: () =
    assert!(offset_of!(Slot, execution) + offset_of!(Execution, context) + size_of::<context_switch::Context>() == 64);

/// The clock of `wait_since`: each of its ticks is so many bits' worth of nanoseconds, a millisecond. It comes round after
/// 52 days.
const WAIT_CLOCK: u32 = 20;

// SAFETY: `execution` is used by whoever has the right to run the slot, of whom there is one at a time: that right goes
// through the run queues and locks of the scheduler, which order its users. Everything else is atomic.
unsafe impl Sync for Slot {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Slot {}

/// What runs first on a stack on which nothing has run: see [`Context::prepare`](context_switch::Context::prepare).
#[cfg(csp_native)]
extern "C" fn begin(run: usize, arg: *mut (), slot: *mut ()) -> ! {
    // SAFETY: whoever resumed us passed the two words of a commit; the argument is `as_argument` of the stack's slot.
    let (slot, run) = unsafe { (&*slot.cast::<Slot>(), std::mem::transmute::<usize, unsafe fn(*mut ())>(run)) };
    #[cfg(csp_tsan)]
    slot.execution.edge.acquire();
    crate::sched::slot_main(slot, Commit { run, arg });
    // There is nothing to go back to.
    std::process::abort()
}

/// As [`begin`], on an identity that was made after the pattern.
#[cfg(csp_native)]
extern "C" fn begin_identity(run: usize, arg: *mut (), slot: *mut ()) -> ! {
    pattern::begin();
    begin(run, arg, slot)
}

/// Equal offsets in the page would let the tops of all stacks fight over the same sets of the L1 cache.
#[cfg(csp_native)]
fn stagger(stride: Stride) -> usize {
    (stride.base / stride.size % STAGGERS) * STAGGER
}

const STAGGERS: usize = 16;
const STAGGER: usize = 64;

/// How much of a stride lies above [`end`] at most.
pub(crate) const LARGEST_TOP: usize = (STAGGERS - 1) * STAGGER + size_of::<Slot>();

/// Where the slot of a stride lies: at its top. Whoever resumes a goroutine touches its slot and its thread-locals, or its frames:
/// so these are in the same page, or in the next.
#[cfg(csp_native)]
fn place(stride: Stride) -> usize {
    stride.high() - (stagger(stride) & !(align_of::<Slot>() - 1)) - size_of::<Slot>()
}

/// Where the rest of a stride ends, below its slot.
#[cfg(csp_native)]
fn end(stride: Stride) -> usize {
    place(stride) - (stagger(stride) & (align_of::<Slot>() - 1))
}

impl Slot {
    /// A slot whose stack is not ours.
    pub(crate) fn leak(class: u8) -> &'static Slot {
        let slot = Box::leak(Box::new(Self::new(Stride { base: 0, size: 0 }, class)));
        slot.expose();
        slot
    }

    /// A slot in the stride that is its stack.
    ///
    /// # Safety
    ///
    /// The stride is unused above [`end`].
    #[cfg(csp_native)]
    unsafe fn put(stride: Stride, class: u8) -> &'static Slot {
        let place = std::ptr::with_exposed_provenance_mut::<Slot>(place(stride));
        // SAFETY: the caller's promise; a stride is never unmapped.
        let slot = unsafe {
            place.write(Self::new(stride, class));
            &*place
        };
        slot.expose();
        slot
    }

    /// Frees a slot that was not to be.
    ///
    /// # Safety
    ///
    /// It comes from [`leak`](Self::leak), and nobody else has it.
    pub(crate) unsafe fn free(slot: &'static Slot) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(slot).cast_mut()) });
    }

    /// For code on the slot's own stack, which begins with nothing else.
    #[cfg(csp_native)]
    pub(crate) fn as_argument(&'static self) -> *mut () {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// For [`of`](Self::of), which begins at a part of it.
    fn expose(&self) {
        std::ptr::from_ref(self).expose_provenance();
    }

    fn new(stride: Stride, class: u8) -> Self {
        Self {
            parker: Parker::new_goroutine(),
            worker: AtomicPtr::new(std::ptr::null_mut()),
            wait_location: AtomicPtr::new(std::ptr::null_mut()),
            wait_since: AtomicU32::new(0),
            wait_reason: AtomicU8::new(WaitReason::None as u8),
            locked: AtomicBool::new(false),
            execution: Execution::new(),
            task: AtomicPtr::new(std::ptr::null_mut()),
            owner: AtomicPtr::new(std::ptr::null_mut()),
            lock_count: AtomicU32::new(0),
            blocking: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            stride,
            class,
        }
    }

    /// The slot that the caller runs on; none on threads that are nobody's slot. The answer never changes under a stack (S2),
    /// so it may be kept across waits.
    #[inline(always)]
    pub(crate) fn current() -> Option<&'static Slot> {
        // SAFETY: null, or the slot that runs, which said so; slots are never freed.
        unsafe { context_switch::occupant().cast::<Slot>().as_ref() }
    }

    /// Makes this the identity of the calling thread.
    pub(crate) fn adopt_thread(&'static self) {
        context_switch::set_occupant(std::ptr::from_ref(self).cast());
    }

    /// Threads backend: runs the one goroutine of the slot that the calling thread adopted, and gives the thread back.
    pub(crate) fn run_adopted(&'static self) {
        self.adopt_thread();
        self.retired.store(true, Ordering::Relaxed);
        // SAFETY: this thread is the slot's.
        let commit = unsafe { self.execution.wait_for_baton() };
        crate::sched::slot_main(self, commit);
    }

    /// Threads backend: the calling thread is nobody's slot any more.
    pub(crate) fn disown_thread() {
        context_switch::set_occupant(std::ptr::null());
    }

    /// The worker that runs this slot now. To be read again after every switch (S1).
    #[inline(always)]
    pub(crate) fn worker(&self) -> &'static Worker {
        // SAFETY: set by the one who resumed us; workers are never freed.
        unsafe { &*self.worker.load(Ordering::Relaxed) }
    }

    /// The worker, if the slot ever had one. For signal handlers.
    pub(crate) fn worker_or_none(&self) -> Option<&'static Worker> {
        // SAFETY: null or a worker; workers are never freed.
        unsafe { self.worker.load(Ordering::Relaxed).as_ref() }
    }

    #[inline(always)]
    pub(crate) fn set_worker(&self, worker: &'static Worker) {
        self.worker.store(std::ptr::from_ref(worker).cast_mut(), Ordering::Relaxed);
    }

    /// The goroutine on it, for the goroutine itself.
    #[inline(always)]
    pub(crate) fn task(&self) -> *mut Task {
        self.task.load(Ordering::Relaxed)
    }

    /// The slot whose parker this is.
    ///
    /// # Safety
    ///
    /// `parker` was made by [`Parker::new_goroutine`] in a slot.
    #[inline(always)]
    pub(crate) unsafe fn of(parker: &'static Parker) -> &'static Slot {
        // SAFETY: the parker is a field of a slot, and the slot lives for ever.
        unsafe { &*std::ptr::with_exposed_provenance(std::ptr::from_ref(parker).addr() - offset_of!(Slot, parker)) }
    }

    /// The worker whose thread alone may run the goroutine, if there is one.
    #[inline(always)]
    pub(crate) fn owner(&self) -> Option<&'static Worker> {
        if !self.locked.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: null or a worker; workers are never freed.
        unsafe { self.owner.load(Ordering::Relaxed).as_ref() }
    }

    /// Says which worker's thread alone may run the goroutine. For the goroutine itself, or on its behalf before it starts.
    pub(crate) fn set_owner(&self, owner: Option<&'static Worker>) {
        self.owner
            .store(owner.map_or(std::ptr::null_mut(), |owner| std::ptr::from_ref(owner).cast_mut()), Ordering::Relaxed);
        self.locked.store(owner.is_some(), Ordering::Relaxed);
    }

    /// Notes what the goroutine is about to wait for. `now` is what sysmon's clock says.
    #[inline(always)]
    pub(crate) fn note_wait(&self, wait: &Wait, now: u64) {
        self.wait_reason.store(wait.reason as u8, Ordering::Relaxed);
        self.wait_location.store(std::ptr::from_ref(wait.location).cast_mut(), Ordering::Relaxed);
        self.wait_since.store((now >> WAIT_CLOCK) as u32, Ordering::Relaxed);
    }

    /// What [`note_wait`](Self::note_wait) noted last: the reason, the place, and how long before `now` that was.
    pub(crate) fn noted_wait(&self, now: u64) -> (WaitReason, Option<&'static Location<'static>>, Duration) {
        // SAFETY: null or a `'static` location.
        let location = unsafe { self.wait_location.load(Ordering::Relaxed).as_ref() };
        let ticks = ((now >> WAIT_CLOCK) as u32).wrapping_sub(self.wait_since.load(Ordering::Relaxed));
        (
            WaitReason::from_u8(self.wait_reason.load(Ordering::Relaxed)),
            location,
            Duration::from_nanos(u64::from(ticks) << WAIT_CLOCK),
        )
    }
}
