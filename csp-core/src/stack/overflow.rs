//! The report of a stack overflow.
//!
//! The kernel delivers the fault at a guard as SIGSEGV. The handler runs on the worker's alternate stack, since the
//! goroutine's is used up. A fault anywhere else goes on to the handler that was installed before.

use std::fmt::Write;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::{GUARD_SIZE, stride_of};
use crate::slot::Slot;

static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Puts our handler in front of the one for SIGSEGV.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut result = Ok(());
    INSTALLED.call_once(|| {
        let mut previous = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: both structures are initialised where they are read.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            if libc::sigaction(libc::SIGSEGV, ptr::null(), previous.as_mut_ptr()) != 0 {
                result = Err(io::Error::last_os_error());
                return;
            }
            // In place before our handler is, which may run at once.
            PREVIOUS.store(Box::leak(Box::new(previous.assume_init())), Ordering::Release);
            if libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) != 0 {
                result = Err(io::Error::last_os_error());
            }
        }
    });
    result
}

/// Gives the calling thread an alternate stack that has room for the report.
pub(crate) fn install_alternate_stack() {
    const SIZE: usize = 64 << 10;

    struct Alternate(*mut libc::c_void);

    impl Drop for Alternate {
        fn drop(&mut self) {
            // SAFETY: the thread goes back to having none before the memory is unmapped.
            unsafe {
                let off = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: SIZE };
                libc::sigaltstack(&off, ptr::null_mut());
                libc::munmap(self.0, SIZE);
            }
        }
    }

    thread_local! {
        static ALTERNATE: std::cell::Cell<Option<Alternate>> = const { std::cell::Cell::new(None) };
    }

    // SAFETY: new memory, given to the kernel as this thread's alternate stack until the thread ends.
    unsafe {
        let stack = libc::mmap(
            ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if stack == libc::MAP_FAILED {
            return;
        }
        let on = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: SIZE };
        if libc::sigaltstack(&on, ptr::null_mut()) == 0 {
            ALTERNATE.set(Some(Alternate(stack)));
        }
    }
}

/// Text without allocation: the fault may have come from within the allocator.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let part = &s.as_bytes()[..s.len().min(self.bytes.len() - self.len)];
        self.bytes[self.len..][..part.len()].copy_from_slice(part);
        self.len += part.len();
        Ok(())
    }
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t`.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(stride) = stride_of(address)
        && address < stride.base + GUARD_SIZE
    {
        report(stride.size - GUARD_SIZE);
    }
    // SAFETY: what `install` put there, never freed.
    let previous = unsafe { &*PREVIOUS.load(Ordering::Acquire) };
    match previous.sa_sigaction {
        libc::SIG_IGN | libc::SIG_DFL => {
            // SAFETY: back to what was before us; the instruction faults again on return.
            unsafe { libc::sigaction(signal, previous, ptr::null_mut()) };
        }
        // SAFETY: a handler of the one or the other kind, as its flags say.
        action => unsafe {
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                std::mem::transmute::<usize, extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)>(action)(
                    signal, info, context,
                );
            } else {
                std::mem::transmute::<usize, extern "C" fn(i32)>(action)(signal);
            }
        },
    }
}

fn report(size: usize) -> ! {
    static REPORTING: AtomicUsize = AtomicUsize::new(0);
    if REPORTING.fetch_add(1, Ordering::Relaxed) != 0 {
        // Another one is at it, and ends the process when it is done: give it the time.
        // SAFETY: sleeping is allowed in a signal handler.
        unsafe { libc::sleep(5) };
    } else {
        let mut text = Text { bytes: [0; 1024], len: 0 };
        let _ = write!(text, "\nfatal error: goroutine stack overflow\n\n");
        // SAFETY: the goroutine that faulted is in the middle of its run, so its task is there.
        if let Some(task) = Slot::current().and_then(|slot| unsafe { slot.task().as_ref() }) {
            let _ = write!(text, "goroutine {}", task.id);
            if let Some(name) = &task.name {
                let _ = write!(text, " '{name}'");
            }
            let _ = write!(text, ", started at {},", task.started_at);
        } else {
            let _ = write!(text, "a goroutine");
        }
        let _ = writeln!(
            text,
            " has used up its stack of {} KiB.\nGive it more: go!(stack = {}, ..), or Builder::stack_size; or all of them: \
             Runtime::builder().stack_size(bytes)",
            size >> 10,
            (size * 2).next_power_of_two()
        );
        // SAFETY: plain bytes to standard error.
        unsafe { libc::write(2, text.bytes.as_ptr().cast(), text.len) };
    }
    // SAFETY: no arguments.
    unsafe { libc::abort() }
}
