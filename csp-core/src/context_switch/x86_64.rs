//! x86-64, System V ABI, Linux.
//!
//! A suspended stack, growing down:
//!
//! ```text
//!   | frames of the suspended functions |
//!   | rbp                               |
//!   | rbx                               |
//!   | resume address                    | <- Context::rsp
//! ```
//!
//! The control bits of the floating-point units belong to the goroutine, as they do to a thread. Reading the x87 control
//! word costs as much as the rest of a switch, and the C library sets both units alike. So the SSE word is compared, and
//! where it differs the x87 word is made to match it: rounding and masks; its precision stays at 64 bits.
//!
//! The other callee-saved registers are declared as destroyed, so that the compiler saves those which are live and no
//! more. The last jump is a `jmp`, not a `ret`: there is no matching call for the return predictor to be right about.

use std::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Commit;

/// A suspended execution. Its fields mean something only while it is suspended.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Context {
    rsp: usize,
    /// The thread pointer. Constant once set: a stack keeps its thread-locals (S2).
    fs: usize,
    /// The SSE control and status word.
    mxcsr: u32,
    /// Room for an x87 control word on its way to the unit.
    x87: u32,
}

/// The thread pointer can be written without a system call. Set once at start-up (S5).
static FSGSBASE: AtomicBool = AtomicBool::new(false);

/// AT_HWCAP2 bit: the kernel lets user code use RDFSBASE and WRFSBASE.
const HWCAP2_FSGSBASE: u64 = 1 << 1;

/// Finds out how the thread pointer is to be written; `forced_off` is for tests of the slower way.
pub(crate) fn has_fsgsbase(forced_off: bool) -> bool {
    // SAFETY: a plain query.
    let has = unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE != 0 && !forced_off;
    FSGSBASE.store(has, Ordering::Relaxed);
    has
}

/// Whether the thread pointer is written without a system call.
#[inline(always)]
pub(crate) fn thread_pointer_is_cheap() -> bool {
    FSGSBASE.load(Ordering::Relaxed)
}

/// The thread pointer of the running stack.
#[inline(always)]
pub(crate) fn thread_pointer() -> usize {
    let fs;
    // SAFETY: the x86-64 TLS ABI keeps the thread pointer itself in the first word it points to.
    unsafe { asm!("mov {}, fs:[0]", out(reg) fs, options(nostack, preserves_flags, readonly)) };
    fs
}

/// The name of the thread-local below. No two versions of this crate that can be linked together share one; the same one
/// from two places cannot be linked.
macro_rules! occupant {
    () => {
        concat!("csp_core_occupant_", env!("CARGO_PKG_VERSION_MAJOR"), "_", env!("CARGO_PKG_VERSION_MINOR"))
    };
}

// A thread-local that the compiler knows nothing of, so that it cannot keep its address: where goroutines share the
// thread-locals of their workers, the same code may find another one after each wait. A shared library with it has all its
// thread-locals in static TLS: loaded with `dlopen` they must fit what glibc has left of that, about 1.5 KB. Hidden: two
// libraries in one process have a runtime each, and must not share this.
std::arch::global_asm!(
    ".pushsection .tbss, \"awT\", @nobits",
    concat!(".globl ", occupant!()),
    concat!(".hidden ", occupant!()),
    concat!(".type ", occupant!(), ", @object"),
    concat!(".size ", occupant!(), ", 8"),
    ".balign 8",
    concat!(occupant!(), ":"),
    ".zero 8",
    ".popsection",
);

/// Whose stack this is: what was last given to [`set_occupant`] with these thread-locals, or null.
#[inline(always)]
pub(crate) fn occupant() -> *const () {
    let occupant;
    // SAFETY: the word is there in each thread, and only `set_occupant` writes it. Not `pure`: it is read each time.
    unsafe {
        asm!(
            concat!("mov {0}, qword ptr [rip + ", occupant!(), "@GOTTPOFF]"),
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) occupant,
            options(nostack, preserves_flags, readonly),
        );
    }
    occupant
}

/// Where the word lies, from the thread pointer.
pub(crate) fn occupant_offset() -> isize {
    let offset;
    // SAFETY: the linker puts it there.
    unsafe {
        asm!(
            concat!("mov {0}, qword ptr [rip + ", occupant!(), "@GOTTPOFF]"),
            out(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    offset
}

/// Says whose stack this is.
#[inline(always)]
pub(crate) fn set_occupant(occupant: *const ()) {
    // SAFETY: as above.
    unsafe {
        asm!(
            concat!("mov {0}, qword ptr [rip + ", occupant!(), "@GOTTPOFF]"),
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) occupant,
            options(nostack, preserves_flags),
        );
    }
}

impl Context {
    /// The context of a stack that has not been suspended yet, whose thread pointer is `fs`.
    pub(crate) const fn new(fs: usize) -> Self {
        Self { rsp: 0, fs, mxcsr: 0x1f80, x87: 0 }
    }

    /// The context of a stack that nothing runs on yet, whose thread pointer is `fs`. Who resumes it calls `entry` with the
    /// commit and `arg`, on that stack.
    ///
    /// # Safety
    ///
    /// `top` is the high end of an unused stack, a multiple of 16.
    pub(crate) unsafe fn prepare(
        top: *mut u8,
        fs: usize,
        entry: extern "C" fn(usize, *mut (), *mut ()) -> !,
        arg: *mut (),
    ) -> Self {
        // SAFETY: the caller's promise. What `switch!` takes off first is where it goes on.
        let rsp = unsafe {
            let words = top.cast::<usize>().sub(4);
            words.write(begin as *const () as usize);
            words.add(1).write(entry as *const () as usize);
            words.add(2).write(arg as usize);
            words as usize
        };
        Self { rsp, fs, mxcsr: 0x1f80, x87: 0 }
    }

    /// The thread pointer.
    pub(crate) fn identity(&self) -> usize {
        self.fs
    }

    /// The stack pointer where it was suspended.
    pub(crate) fn stack_pointer(&self) -> usize {
        self.rsp
    }
}

/// The first code on a stack that was [`prepare`](Context::prepare)d: calls the function there, as one that nobody called.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    std::arch::naked_asm!(
        // Unwinders stop here.
        ".cfi_startproc",
        ".cfi_undefined rip",
        "pop rax",
        "pop rdx",
        "xor ebp, ebp",
        // The word that is left makes up for the return address: the stack is aligned as a call wants it.
        "pop rcx",
        "call rax",
        "ud2",
        ".cfi_endproc",
    )
}

/// Suspends the running stack into the context at `r8`, to go on at the label 2. The control word is still to be saved.
macro_rules! suspend {
    () => {
        "push rbp
         push rbx
         lea rax, [rip + 2f]
         push rax
         mov [r8], rsp"
    };
}

/// The one sequence that leaves a stack for another, in three forms: they differ in how the thread pointer is written, which
/// is done on the new stack before anything is taken from it.
///
/// The control word is saved after that: writing the thread pointer waits for all that comes before it, so that what takes
/// long is better behind it (3 ns). Nobody resumes `from`, or reads it, until `commit` has run.
macro_rules! switch {
    ($from:expr, $to:expr, $commit:expr; $($set_thread_pointer:literal),* $(,)?) => {{
        let Commit { run, mut arg } = $commit;
        let mut run = run as usize;
        asm!(
            suspend!(),
            "mov rsp, [r9]",
            $($set_thread_pointer,)*
            "stmxcsr [r8 + 16]",
            "mov eax, [r8 + 16]",
            "xor eax, [r9 + 16]",
            // Bits 0 to 5 are status, which no call keeps.
            "and eax, 0xffc0",
            "jnz 3f",
            "4:",
            "pop rax",
            "jmp rax",
            "3:",
            "ldmxcsr [r9 + 16]",
            // Masks: bits 7 to 12 go to 0 to 5. Rounding: bits 13 and 14 go to 10 and 11.
            "mov eax, [r9 + 16]",
            "mov ecx, eax",
            "shr eax, 7",
            "and eax, 0x3f",
            "shr ecx, 3",
            "and ecx, 0xc00",
            "lea eax, [rax + rcx + 0x340]",
            "mov [r9 + 20], eax",
            "fldcw [r9 + 20]",
            "jmp 4b",
            "2:",
            "pop rbx",
            "pop rbp",
            inout("rdi") run,
            inout("rsi") arg,
            inout("r8") $from => _,
            inout("r9") $to => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("C"),
        );
        // Whoever resumed us passed a `Commit` through the same two registers.
        Commit { run: std::mem::transmute::<usize, unsafe fn(*mut ())>(run), arg }
    }};
}

/// Suspends the running execution into `from` and resumes `to`, to which `commit` is given. Returns, when somebody
/// resumes `from`, the commit that came with it.
///
/// # Safety
///
/// `from` is the context of the running stack (its `fs` is the present thread pointer); `to` is suspended and nobody
/// else resumes it. Nothing derived from a thread-local of the caller is kept across the call, unless the stack is a
/// slot's (S1).
#[inline(always)]
pub(crate) unsafe fn switch(from: *mut Context, to: *const Context, commit: Commit) -> Commit {
    if FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise. The registers not listed are saved on the stack left; `to` finds on its own
        // stack what this very sequence, `leave_kernel_thread` or `Context::prepare` put there.
        unsafe { switch!(from, to, commit; "mov r10, [r9 + 8]", "wrfsbase r10") }
    } else {
        // SAFETY: as above; arch_prctl(ARCH_SET_FS) is system call 158 with code 0x1002.
        unsafe {
            switch!(
                from, to, commit;
                "mov r14, rdi",
                "mov r15, rsi",
                "mov edi, 0x1002",
                "mov rsi, [r9 + 8]",
                "mov eax, 158",
                "syscall",
                "mov rdi, r14",
                "mov rsi, r15",
            )
        }
    }
}

/// As [`switch`], but the thread pointer stays that of the kernel thread: the dense mode.
///
/// # Safety
///
/// As for [`switch`], but for the thread pointers; and nothing derived from a thread-local of the caller is kept across
/// the call, unless the stack is the kernel thread's own.
#[inline(always)]
pub(crate) unsafe fn switch_stack(from: *mut Context, to: *const Context, commit: Commit) -> Commit {
    // SAFETY: the caller's promise; `to` finds what this sequence, or `Context::prepare`, put on its stack.
    unsafe { switch!(from, to, commit;) }
}

/// Suspends the running execution into `context` and ends its kernel thread. Returns when somebody switches to it.
///
/// `*left` goes up by one when the context can be switched to.
///
/// # Safety
///
/// The caller is a kernel thread of its own that has detached itself from its `struct pthread` and blocks every signal;
/// `context` is the context of the running stack.
#[inline(always)]
pub(crate) unsafe fn leave_kernel_thread(context: *mut Context, left: *const u32) -> Commit {
    let (run, arg): (usize, *mut ());
    // SAFETY: the caller's promise. From the increment of `left` on, neither that nor the stack is touched: the exit uses
    // registers alone. It is system call 60.
    unsafe {
        asm!(
            "stmxcsr [r8 + 16]",
            suspend!(),
            "lock inc dword ptr [r9]",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            "pop rbx",
            "pop rbp",
            out("rdi") run,
            out("rsi") arg,
            inout("r8") context => _,
            inout("r9") left => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("C"),
        );
    }
    // SAFETY: as in `switch`.
    Commit { run: unsafe { std::mem::transmute::<usize, unsafe fn(*mut ())>(run) }, arg }
}

/// Calls `f(a, b, c)` with the thread pointer `fs`, and comes back with the caller's.
///
/// # Safety
///
/// `fs` is the thread pointer of the kernel thread that runs this, and `f` is sound to call there.
pub(crate) unsafe fn call_with_thread_pointer(fs: usize, f: usize, a: usize, b: usize, c: usize) {
    let call = Call { f, a, b, c, fs, own: thread_pointer(), cheap: FSGSBASE.load(Ordering::Relaxed).into() };
    // SAFETY: the caller's promise. The thread pointer is as before at the end.
    unsafe { call_with(&call) };
}

/// What [`call_with`] reads.
#[repr(C)]
struct Call {
    f: usize,
    a: usize,
    b: usize,
    c: usize,
    fs: usize,
    own: usize,
    cheap: u64,
}

/// See [`call_with_thread_pointer`]. All of it in assembly, so that the compiler can move no access to a thread-local
/// between the two writes; and with what unwinders need to get from `f` to the caller, as profilers do.
///
/// # Safety
///
/// As there.
#[unsafe(naked)]
unsafe extern "C" fn call_with(call: *const Call) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        ".cfi_offset rbx, -24",
        "sub rsp, 8",
        "mov rbx, rdi",
        "mov rsi, [rbx + 32]",
        "cmp dword ptr [rbx + 48], 0",
        "je 2f",
        "wrfsbase rsi",
        "jmp 3f",
        "2:",
        "mov edi, 0x1002",
        "mov eax, 158",
        "syscall",
        "3:",
        "mov rdi, [rbx + 8]",
        "mov rsi, [rbx + 16]",
        "mov rdx, [rbx + 24]",
        "call [rbx]",
        "mov rsi, [rbx + 40]",
        "cmp dword ptr [rbx + 48], 0",
        "je 4f",
        "wrfsbase rsi",
        "jmp 5f",
        "4:",
        "mov edi, 0x1002",
        "mov eax, 158",
        "syscall",
        "5:",
        "add rsp, 8",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}
