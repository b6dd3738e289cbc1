//! Husks: pthreads that gave up their kernel thread.
//!
//! glibc makes the thread: it puts its `struct pthread` and the static TLS at the top of our memory, links it into its
//! lists and initialises everything. In the start routine the thread then detaches itself from what the kernel thread
//! stands for, saves its context, and ends the kernel thread without returning. Stack and thread-locals live on, and a
//! worker may switch to them.
//!
//! # What is detached
//!
//! - `set_tid_address`: the kernel's exit must not clear `tid` in `struct pthread` and wake a joiner. It clears a word of the
//!   slot instead.
//! - `rseq`: unregistered, so that the kernel stops writing the current CPU into the identity. A read then asks.
//! - `tid` in `struct pthread`: a unique number no kernel thread has. Recursive and error-checking mutexes compare it.
//!
//! # Against `setuid` and its family
//!
//! glibc changes credentials by sending each thread of its lists a signal and waiting for each answer, all under the
//! lock of those lists. A husk whose `tid` has been replaced gets none (no such thread). One that was sent the signal by
//! its old `tid` just before would take it to the grave, and the sender would wait for ever. So the kernel threads of a
//! batch stay until glibc's lock was taken and released after the last `tid` was replaced: whoever read an old `tid`
//! has had its answer by then. Creating one ordinary thread does that. One that has answered may still be on its way out of
//! the handler, on a stack that is a slot's by now: where there was a signal at all, the maker waits for the kernel threads
//! to end.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::{Slot, setxid};
use crate::context_switch::{self, leave_kernel_thread};
use crate::sched::placement::Stay;
use crate::stack::Stride;

/// Where `tid` lies in `struct pthread`, counted from the thread pointer.
static TID_OFFSET: AtomicUsize = AtomicUsize::new(0);
/// The next made-up thread id: above what the kernel gives out (2^22), below the futex flag bits.
static NEXT_TID: AtomicI32 = AtomicI32::new(FIRST_TID);
const FIRST_TID: i32 = 1 << 22;
const END_OF_TIDS: i32 = 1 << 30;

/// What a batch in hand shares with the kernel threads of its husks. Static, since they look at it to the last; those of an
/// earlier batch, too: then they stay until this one is done.
struct Batch {
    /// One batch at a time.
    lock: Mutex<()>,
    /// How many husks have left their stack.
    left: AtomicU32,
    /// Whether their kernel threads may end.
    may_end: AtomicU32,
}

static BATCHES: [Batch; 8] = [const { Batch::new() }; 8];
/// How many batches were begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
/// How many threads are making husks.
static MAKERS: AtomicUsize = AtomicUsize::new(0);

impl Batch {
    const fn new() -> Self {
        Self { lock: Mutex::new(()), left: AtomicU32::new(0), may_end: AtomicU32::new(0) }
    }

    /// One that nobody has in hand, in turns: so that the kernel threads of the last one have time to end.
    fn take() -> (&'static Self, MutexGuard<'static, ()>) {
        let first = BEGUN.fetch_add(1, Ordering::Relaxed) % BATCHES.len();
        let turn = || BATCHES[first..].iter().chain(&BATCHES[..first]);
        let free = turn().find_map(|batch| Some((batch, batch.lock.try_lock()?)));
        free.unwrap_or_else(|| (&BATCHES[first], BATCHES[first].lock.lock()))
    }
}

/// What `start` needs to know. The maker keeps it until every husk has left.
struct Start {
    slot: &'static Slot,
    batch: &'static Batch,
}

unsafe extern "C" {
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

const RSEQ_FLAG_UNREGISTER: i32 = 1;
const RSEQ_SIGNATURE: u32 = 0x5305_3053;
const RSEQ_CPU_ID: isize = 4;

/// Finds `tid` in `struct pthread`. Must have been called before any husk is made.
///
/// The number alone may be there by chance: thread ids such as 0x7f12 or 0x5566 look like the upper half of an address.
/// So other threads are asked as well, until one place is left.
pub(crate) fn find_tid_offset() -> io::Result<()> {
    fn holding_tid(among: &[usize]) -> Vec<usize> {
        // SAFETY: no arguments.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        let base = context_switch::thread_pointer();
        // SAFETY: within `struct pthread`, which begins at the thread pointer.
        let holds = |offset: &usize| unsafe { ptr::read_volatile((base + offset) as *const i32) } == tid;
        among.iter().copied().filter(holds).collect()
    }
    // `struct pthread` has been between 2,000 and 3,000 bytes for as long as `tid` has been in it.
    let mut found = holding_tid(&(0..2048).step_by(4).collect::<Vec<_>>());
    let mut threads = 0;
    // One at least: glibc installs its handlers with the first thread.
    while threads == 0 || found.len() > 1 && threads < 8 {
        let thread = std::thread::Builder::new().name("csp-start".into()).spawn(move || holding_tid(&found))?;
        found = thread.join().map_err(|_| io::Error::other("a thread that looks for its id panicked"))?;
        threads += 1;
    }
    let &[offset] = &found[..] else { return Err(io::Error::other("the thread id is not where glibc keeps it")) };
    TID_OFFSET.store(offset, Ordering::Relaxed);
    Ok(())
}

/// The `tid` that glibc believes the calling identity has.
pub(crate) fn glibc_tid() -> i32 {
    // SAFETY: the offset was found in a `struct pthread` of this libc.
    unsafe { ptr::read_volatile((context_switch::thread_pointer() + TID_OFFSET.load(Ordering::Relaxed)) as *const i32) }
}

/// Whether `tid` is one that a husk got.
pub(crate) fn is_husk_tid(tid: i32) -> bool {
    (FIRST_TID..END_OF_TIDS).contains(&tid)
}

/// Makes husks of the strides, and returns their slots. Fewer than asked for when the system refuses one; an error when
/// it refuses the first. What was not used of `strides` stays in it.
///
/// # Safety
///
/// The strides are unused.
pub(crate) unsafe fn make(strides: &mut Vec<Stride>, class: u8) -> io::Result<Vec<&'static Slot>> {
    MAKERS.fetch_add(1, Ordering::Relaxed);
    let mut tries = 0;
    let result = loop {
        // SAFETY: the caller's promise.
        let result = unsafe { make_batch(strides, class) };
        // Others may be using up what there is of kernel threads, for a moment.
        if result.is_ok() || MAKERS.load(Ordering::Relaxed) == 1 || tries == 25 {
            break result;
        }
        tries += 1;
        std::thread::sleep(Duration::from_micros(200));
    };
    MAKERS.fetch_sub(1, Ordering::Relaxed);
    result
}

/// # Safety
///
/// As for [`make`].
unsafe fn make_batch(strides: &mut Vec<Stride>, class: u8) -> io::Result<Vec<&'static Slot>> {
    let count = strides.len();
    let handled = setxid::handled();
    if NEXT_TID.load(Ordering::Relaxed) > END_OF_TIDS - count as i32 {
        return Err(io::Error::other("all thread identities are used up"));
    }
    let mut slots = Vec::with_capacity(count);
    // Never moved: there is room for all.
    let mut starts = Vec::with_capacity(count);
    let mut failure = None;
    let (batch, _one_at_a_time) = Batch::take();
    batch.left.store(0, Ordering::Relaxed);
    batch.may_end.store(0, Ordering::Relaxed);

    let mut old_mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: plain calls on our own memory. The husks inherit the mask: no handler may run on an identity whose kernel
    // thread is about to end. glibc keeps its own two signals unblocked, as `setuid` needs.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old_mask.as_mut_ptr());
    }
    // All on one CPU: to wake another for each costs more than it does.
    let here = Stay::here();
    while let Some(&stride) = strides.last() {
        let slot = Slot::leak(stride, class);
        starts.push(Start { slot, batch });
        let arg = ptr::from_ref(&starts[slots.len()]).cast_mut().cast();
        // SAFETY: the stride is unused, and the argument is what `start` expects.
        match unsafe { create(stride, super::stagger(stride), start, arg) } {
            Ok(()) => {
                strides.pop();
                slots.push(slot);
            }
            Err(error) => {
                // SAFETY: there is no thread that got it.
                unsafe { Slot::free(slot) };
                failure = Some(error);
                break;
            }
        }
    }
    // SAFETY: the mask that was in force before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old_mask.as_ptr(), ptr::null_mut()) };

    let mut looks = 0u32;
    // Acquire: pairs with the locked increment in `leave_kernel_thread`: what the husk wrote to its slot is ours.
    while batch.left.load(Ordering::Acquire) < slots.len() as u32 {
        looks += 1;
        if looks < 50 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    #[cfg(csp_tsan)]
    slots.iter().for_each(|slot: &&Slot| slot.execution.edge.acquire());
    if !slots.is_empty() {
        pass_through_glibc_lock();
    }
    drop(here);
    batch.may_end.store(1, Ordering::Release);
    // SAFETY: FUTEX_WAKE on a static word; the waiters are the kernel threads in `leave_kernel_thread`.
    unsafe {
        let word = batch.may_end.as_ptr();
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX);
    }
    if setxid::handled() != handled {
        slots.iter().for_each(|slot| wait_for_end(slot));
    }
    match failure {
        Some(error) if slots.is_empty() => Err(error),
        _ => Ok(slots),
    }
}

/// Waits until the kernel thread of a husk has ended.
fn wait_for_end(slot: &Slot) {
    // The kernel writes it after the thread's last instruction.
    while slot.kernel_thread.load(Ordering::Acquire) != 0 {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// # Safety
///
/// `routine` is sound to call with `arg` on a new thread whose stack is the stride.
unsafe fn create(
    stride: Stride,
    stagger: usize,
    routine: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    arg: *mut libc::c_void,
) -> io::Result<()> {
    let check = |code: i32| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: attributes are initialised before use and destroyed after; the memory is the caller's to give.
    unsafe {
        check(libc::pthread_attr_init(attr.as_mut_ptr()))?;
        let mut thread = 0;
        let result = check(libc::pthread_attr_setstack(
            attr.as_mut_ptr(),
            stride.low() as *mut _,
            stride.high() - stagger - stride.low(),
        ))
        .and_then(|()| check(libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED)))
        .and_then(|()| check(libc::pthread_create(&mut thread, attr.as_ptr(), routine, arg)));
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        result
    }
}

/// Takes and releases the lock under which glibc links threads into its lists, by creating a thread that ends at once.
fn pass_through_glibc_lock() {
    extern "C" fn nothing(_: *mut libc::c_void) -> *mut libc::c_void {
        ptr::null_mut()
    }
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut tries = 0;
    // SAFETY: a detached thread that does nothing. The lock is taken before the kernel is asked for the thread, so that
    // a refusal would do as well; we try again nevertheless, in case memory for its stack was what was missing.
    unsafe {
        libc::pthread_attr_init(attr.as_mut_ptr());
        libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        let mut thread = 0;
        while libc::pthread_create(&mut thread, attr.as_ptr(), nothing, ptr::null_mut()) != 0 && tries < 10 {
            tries += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        libc::pthread_attr_destroy(attr.as_mut_ptr());
    }
}

extern "C" fn start(arg: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `make_batch` passes a `Start`, and keeps it until we have left.
    let &Start { slot, batch } = unsafe { &*arg.cast::<Start>() };
    slot.adopt_thread();
    // SAFETY: this is the identity that is to become a husk; nobody else uses the slot before it has left.
    let commit = unsafe {
        *slot.execution.context.get() = context_switch::Context::new(context_switch::thread_pointer());
        detach_from_kernel_thread(slot);
        #[cfg(csp_tsan)]
        slot.execution.edge.release();
        leave_kernel_thread(slot.execution.context.get(), batch.left.as_ptr(), batch.may_end.as_ptr())
    };
    #[cfg(csp_tsan)]
    slot.execution.edge.acquire();
    crate::sched::slot_main(slot, commit);
    // A husk has no kernel thread that could end.
    std::process::abort()
}

/// # Safety
///
/// The calling thread ends without going back to glibc.
unsafe fn detach_from_kernel_thread(slot: &'static Slot) {
    let identity = context_switch::thread_pointer();
    // SAFETY: the caller's promise: nothing relies on what is taken away here. The rseq area and the tid are glibc's, at
    // places it publishes or that `find_tid_offset` found.
    unsafe {
        slot.kernel_thread.store(1, Ordering::Relaxed);
        libc::syscall(libc::SYS_set_tid_address, slot.kernel_thread.as_ptr());
        let rseq = identity.wrapping_add_signed(__rseq_offset);
        // The length registered is 32 in the oldest ABI, and what the kernel reports, rounded up, in newer ones.
        for size in [32, __rseq_size.next_multiple_of(32).max(32)] {
            if libc::syscall(libc::SYS_rseq, rseq, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIGNATURE) == 0 {
                break;
            }
        }
        ptr::write_volatile(rseq.wrapping_add_signed(RSEQ_CPU_ID) as *mut i32, -1);
        let tid = NEXT_TID.fetch_add(1, Ordering::Relaxed);
        ptr::write_volatile((identity + TID_OFFSET.load(Ordering::Relaxed)) as *mut i32, tid);
    }
}
