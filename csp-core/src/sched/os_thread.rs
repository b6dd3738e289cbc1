//! Goroutines that own their OS thread.
//!
//! A locked goroutine and its worker point at each other. The worker runs nothing else: when the goroutine leaves its
//! stack the worker gives its processor away and sleeps, and whoever picks the goroutine next hands over a processor
//! instead of running it. A thread whose goroutine ends while locked ends too, since its kernel state may be anything.
//!
//! In the threads backend each goroutine has its OS thread anyway: locking counts, and keeps the thread from being
//! reused at the end.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::goroutine::AtEnd;
use super::worker::Worker;
use super::{leave, requeue, stackful};
use crate::context_switch::Commit;
use crate::slot::Slot;

/// The worker of the main OS thread under `#[csp::main]`.
static MAIN_WORKER: AtomicPtr<Worker> = AtomicPtr::new(std::ptr::null_mut());

/// Names the worker whose thread the main goroutine gets when it locks.
pub(crate) fn set_main_worker(worker: &'static Worker) {
    MAIN_WORKER.store(std::ptr::from_ref(worker).cast_mut(), Ordering::Release);
}

/// Locks the calling goroutine to its OS thread, once more. On a plain thread there is nothing to do.
pub(crate) fn lock() {
    let Some(slot) = Slot::current() else { return };
    let count = slot.lock_count.load(Ordering::Relaxed);
    slot.lock_count.store(count.checked_add(1).expect("too many nested lock_os_thread"), Ordering::Relaxed);
    if count != 0 || !stackful() {
        return;
    }
    let worker = slot.worker();
    let entered = worker.enter();
    // SAFETY: null, when all of the goroutine but its end is over, or its task, which is there while it runs.
    let is_main = unsafe { slot.task().as_ref() }.is_some_and(|task| task.is_main);
    // SAFETY: null or a worker; workers are never freed.
    let main = unsafe { MAIN_WORKER.load(Ordering::Acquire).as_ref() }.filter(|_| is_main);
    let owner = main.unwrap_or(worker);
    bind(slot, owner);
    drop(entered);
    if !std::ptr::eq(owner, worker) {
        // SAFETY: the commit makes us ready, once; whoever picks us passes us on to the owner.
        unsafe { leave(slot, Commit { run: requeue, arg: std::ptr::from_ref(slot).cast_mut().cast() }) };
    }
}

/// Undoes one [`lock`]. Without one there is nothing to do, as in Go.
pub(crate) fn unlock() {
    let Some(slot) = Slot::current() else { return };
    let count = slot.lock_count.load(Ordering::Relaxed);
    if count == 0 {
        return;
    }
    slot.lock_count.store(count - 1, Ordering::Relaxed);
    if count == 1 && stackful() {
        let worker = slot.worker();
        let _entered = worker.enter();
        slot.set_owner(None);
        worker.locked.store(std::ptr::null_mut(), Ordering::Relaxed);
    }
}

fn bind(slot: &'static Slot, owner: &'static Worker) {
    slot.set_owner(Some(owner));
    owner.locked.store(std::ptr::from_ref(slot).cast_mut(), Ordering::Release);
    owner.tainted.store(true, Ordering::Relaxed);
}

/// A goroutine that asked for it starts locked. On the worker's own stack.
pub(super) fn lock_at_start(slot: &'static Slot, worker: &'static Worker) {
    slot.lock_count.store(1, Ordering::Relaxed);
    if stackful() {
        bind(slot, worker);
    }
}

/// A goroutine has ended: if it was still locked, so does its thread.
pub(super) fn end_locked(slot: &'static Slot, worker: &'static Worker) {
    if slot.lock_count.load(Ordering::Relaxed) == 0 {
        return;
    }
    slot.lock_count.store(0, Ordering::Relaxed);
    if !stackful() {
        slot.retired.store(true, Ordering::Relaxed);
        return;
    }
    slot.set_owner(None);
    worker.locked.store(std::ptr::null_mut(), Ordering::Relaxed);
    // The main OS thread ends with the process alone.
    worker.ends.set(!worker.reserved);
}

/// The life of the main OS thread under `#[csp::main]`: runs the main goroutine while that is locked, and ends with it.
pub(crate) fn run_main(worker: &'static Worker, ended: impl Fn() -> bool) {
    worker.adopt_thread();
    super::WORKER.set(Some(worker));
    loop {
        worker.sleep();
        worker.take_brought();
        if let Some(slot) = worker.locked_slot().filter(|_| worker.processor().is_some()) {
            super::resume(worker, slot);
        }
        super::attached(worker);
        super::release_processor(worker);
        if ended() {
            super::WORKER.set(None);
            return;
        }
    }
}

/// What wakes the main OS thread when the main goroutine has ended.
pub(crate) fn wake_main(worker: &'static Worker) -> AtEnd {
    /// # Safety
    ///
    /// `worker` is a worker.
    unsafe fn wake(worker: *const ()) {
        // SAFETY: the caller's promise; workers are never freed.
        unsafe { &*worker.cast::<Worker>() }.wake();
    }
    // SAFETY: a worker is sound to wake at any time.
    unsafe { AtEnd::new(wake, std::ptr::from_ref(worker).cast()) }
}
