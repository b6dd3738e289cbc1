//! Husks: pthreads that gave up their kernel thread. Slots are husks, or made after the [`pattern`](super::pattern) of two of them.
//!
//! glibc makes the thread: it puts its `struct pthread` and the static TLS at the top of our memory, links it into its
//! lists and initialises everything. In the start routine the thread then detaches itself from what the kernel thread
//! stands for, saves its context, and ends the kernel thread without returning. Stack and thread-locals live on, and a
//! worker may switch to them.
//!
//! # What is detached
//!
//! - `set_tid_address`: the kernel's exit must not clear `tid` in `struct pthread` and wake a joiner.
//! - `rseq`: unregistered, so that the kernel stops writing the current CPU into the identity. A read then asks.
//! - `tid` in `struct pthread`: a unique number no kernel thread has. Recursive and error-checking mutexes compare it.
//!
//! # Against `setuid` and its family
//!
//! glibc changes credentials by sending each thread of its lists a signal and waiting for each answer, all under the
//! lock of those lists. A husk whose `tid` has been replaced gets none (no such thread). One that was sent the signal by
//! its old `tid` just before would take it to the grave, and the sender would wait for ever. So each takes and releases
//! that lock after it has replaced its `tid`: whoever read the old one had the lock then, and has had its answer. For that
//! it asks for a thread with a stack that no address space has room for: glibc takes the lock to look for such a stack
//! among those of threads that have ended, then asks the kernel, which refuses (`get_cached_stack`, from 2.17 on at least).
//! After that every signal that has a handler is blocked: none may run on a stack that has been left.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::Slot;
use crate::context_switch::{self, Commit, leave_kernel_thread};
use crate::sched::placement::Stay;
use crate::stack::Stride;

/// Where `tid` lies in `struct pthread`, counted from the thread pointer.
static TID_OFFSET: AtomicUsize = AtomicUsize::new(0);
/// The next made-up thread id: above what the kernel gives out (2^22), below the futex flag bits.
static NEXT_TID: AtomicI32 = AtomicI32::new(FIRST_TID);
const FIRST_TID: i32 = 1 << 22;
const END_OF_TIDS: i32 = 1 << 30;

/// How many threads are making husks.
static MAKERS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

const RSEQ_FLAG_UNREGISTER: i32 = 1;
const RSEQ_SIGNATURE: u32 = 0x5305_3053;
const RSEQ_CPU_ID: isize = 4;
/// A signal set as the kernel sees it.
static ALL_SIGNALS: u64 = u64::MAX;

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

/// In which half of a word of `struct pthread` the thread id lies, if it does: by how many bits it is shifted.
pub(crate) fn tid_in(offset: usize) -> Option<u32> {
    let within = TID_OFFSET.load(Ordering::Relaxed).checked_sub(offset)?;
    (within < size_of::<usize>()).then_some(within as u32 * 8)
}

/// Whether so many thread ids are left. A few more are left than it says, for those who ask at the same time.
pub(crate) fn check_tids(count: usize) -> io::Result<()> {
    if NEXT_TID.load(Ordering::Relaxed) as usize + count > END_OF_TIDS as usize - (1 << 20) {
        return Err(io::Error::other("all thread identities are used up"));
    }
    Ok(())
}

/// A thread id that nobody else has.
pub(crate) fn take_tid() -> i32 {
    NEXT_TID.fetch_add(1, Ordering::Relaxed)
}

/// Where the rseq area lies, from the thread pointer.
pub(crate) fn rseq_area() -> Range<isize> {
    // SAFETY: glibc sets them before the program begins, and never again.
    let (offset, size) = unsafe { (__rseq_offset, __rseq_size) };
    offset..offset + size.max(32) as isize
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
    check_tids(strides.len())?;
    let mut slots = Vec::with_capacity(strides.len());
    let mut failure = None;
    // How many have left. None of them touches it after its own increment.
    let left = AtomicU32::new(0);

    let mut old_mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: plain calls on our own memory. The husks inherit the mask: no handler may run on an identity whose kernel
    // thread is about to end. glibc keeps its own two signals unblocked, as `setuid` needs; the husk itself blocks those.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old_mask.as_mut_ptr());
    }
    // All on one CPU: to wake another for each costs more than it does.
    let here = Stay::here();
    while let Some(&stride) = strides.last() {
        // SAFETY: the caller's promise.
        let slot = unsafe { Slot::put(stride, class) };
        // SAFETY: the slot is ours until there is a thread. That is what `start` expects there; we wait below until it has left.
        unsafe { slot.execution.leave_mail(Commit { arg: left.as_ptr().cast(), ..Commit::NONE }) };
        // SAFETY: the stride is unused, and the argument is what `start` expects.
        match unsafe { create(stride, start, slot.as_argument().cast()) } {
            Ok(()) => {
                strides.pop();
                slots.push(slot);
            }
            Err(error) => {
                // The stride is unused again: there is no thread that got its slot.
                failure = Some(error);
                break;
            }
        }
    }
    // SAFETY: the mask that was in force before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old_mask.as_ptr(), ptr::null_mut()) };

    let mut looks = 0u32;
    // Acquire: pairs with the locked increment in `leave_kernel_thread`: what the husk wrote to its slot is ours.
    while left.load(Ordering::Acquire) < slots.len() as u32 {
        looks += 1;
        if looks < 50 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    #[cfg(csp_tsan)]
    slots.iter().for_each(|slot: &&Slot| slot.execution.edge.acquire());
    drop(here);
    match failure {
        Some(error) if slots.is_empty() => Err(error),
        _ => Ok(slots),
    }
}

/// # Safety
///
/// `routine` is sound to call with `arg` on a new thread whose stack is the stride.
unsafe fn create(
    stride: Stride,
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
            super::end(stride) - stride.low(),
        ))
        .and_then(|()| check(libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED)))
        .and_then(|()| check(libc::pthread_create(&mut thread, attr.as_ptr(), routine, arg)));
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        result
    }
}

/// Takes and releases the lock under which glibc links threads into its lists.
pub(super) fn pass_through_glibc_lock() {
    extern "C" fn nothing(_: *mut libc::c_void) -> *mut libc::c_void {
        ptr::null_mut()
    }
    /// More than the addresses of any process.
    const TOO_LARGE: usize = 1 << 62;

    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = 0;
    // SAFETY: attributes are initialised before use and destroyed after; a detached thread that does nothing would do no
    // harm.
    unsafe {
        libc::pthread_attr_init(attr.as_mut_ptr());
        libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_attr_setguardsize(attr.as_mut_ptr(), 0);
        libc::pthread_attr_setstacksize(attr.as_mut_ptr(), TOO_LARGE);
        let refused = libc::pthread_create(&mut thread, attr.as_ptr(), nothing, ptr::null_mut());
        if refused != libc::EAGAIN {
            // Not by the kernel, then: perhaps before the lock. It is taken to link a thread in, which comes before the
            // kernel is asked for that.
            libc::pthread_attr_setstacksize(attr.as_mut_ptr(), 1 << 20);
            libc::pthread_create(&mut thread, attr.as_ptr(), nothing, ptr::null_mut());
        }
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        *libc::__errno_location() = 0;
    }
}

extern "C" fn start(arg: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `make_batch` passes a slot, and has left in it where we are counted.
    let (slot, left) = unsafe {
        let slot = &*arg.cast::<Slot>();
        (slot, slot.execution.take_mail().arg.cast::<u32>())
    };
    slot.adopt_thread();
    // SAFETY: this is the identity that is to become a husk; nobody else uses the slot before it has left.
    let commit = unsafe {
        *slot.execution.context.get() = context_switch::Context::new(context_switch::thread_pointer());
        detach_from_kernel_thread();
        #[cfg(csp_tsan)]
        slot.execution.edge.release();
        leave_kernel_thread(slot.execution.context.get(), left)
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
unsafe fn detach_from_kernel_thread() {
    let identity = context_switch::thread_pointer();
    // SAFETY: the caller's promise: nothing relies on what is taken away here. The rseq area and the tid are glibc's, at
    // places it publishes or that `find_tid_offset` found.
    unsafe {
        libc::syscall(libc::SYS_set_tid_address, ptr::null_mut::<libc::c_int>());
        let rseq = identity.wrapping_add_signed(__rseq_offset);
        // The length registered is 32 in the oldest ABI, and what the kernel reports, rounded up, in newer ones.
        for size in [32, __rseq_size.next_multiple_of(32).max(32)] {
            if libc::syscall(libc::SYS_rseq, rseq, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIGNATURE) == 0 {
                break;
            }
        }
        ptr::write_volatile(rseq.wrapping_add_signed(RSEQ_CPU_ID) as *mut i32, -1);
        ptr::write_volatile((identity + TID_OFFSET.load(Ordering::Relaxed)) as *mut i32, take_tid());
        pass_through_glibc_lock();
        // All of them, glibc's own as well, which its functions leave out; 8 is the size of the kernel's signal set.
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const ALL_SIGNALS, ptr::null_mut::<u64>(), 8);
    }
}
