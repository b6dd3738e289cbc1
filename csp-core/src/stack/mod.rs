//! Memory for stacks: large regions of equal strides, each with a guard at its low end.
//!
//! A region is reserved, not committed: pages come when they are touched. It is never unmapped, because the identity at
//! the top of each stride lives as long as the process (S2).

pub(crate) mod overflow;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The guard below each stack. Larger than a page, because C code does not probe large frames page by page.
pub(crate) const GUARD_SIZE: usize = 16 << 10;
/// The size that a goroutine gets when nothing else is asked for, guard included.
pub(crate) const DEFAULT_STRIDE: usize = 256 << 10;
/// The smallest stride: the guard, and room for a panic with a backtrace to be printed.
pub(crate) const MIN_STRIDE: usize = 64 << 10;
/// The largest stride.
pub(crate) const MAX_STRIDE: usize = 1 << 34;
pub(crate) const PAGE: usize = 4096;
/// How much address space a region takes when the machine allows it.
const REGION_SIZE: usize = 256 << 20;
const MAX_REGIONS: usize = 16 << 10;
/// How much of a limited address space regions leave to the rest of the program, or an eighth of it: that stacks have used
/// it up is said and waited out, but an allocator that can map no more ends the process. glibc's takes 64 MiB at a time as long
/// as it gets that much: there is room for one of these, not for two, and then for what else there is, the stacks of a dozen workers
/// included, 2 MiB each, that a busy machine adds in the meantime.
const LEFT_OVER: usize = 120 << 20;

const MADV_GUARD_INSTALL: i32 = 102;

/// So much of a stride may be taken by what is no frame and no guard, before more than the usual one is needed.
const USUAL_OVERHEAD: usize = 3 * PAGE;
/// How many bytes are usable, at least, of the stack that a goroutine gets when nothing else is asked for.
pub(crate) const DEFAULT_USABLE: usize = DEFAULT_STRIDE - GUARD_SIZE - USUAL_OVERHEAD;

/// The stride that gives at least `usable` bytes of stack.
pub(crate) fn stride_for(usable: usize) -> io::Result<usize> {
    usable
        .max(MIN_STRIDE - GUARD_SIZE - USUAL_OVERHEAD)
        .checked_add(GUARD_SIZE + crate::slot::LARGEST_TOP + thread_locals_at_most())
        .and_then(usize::checked_next_power_of_two)
        .map(|s| s.max(MIN_STRIDE))
        .filter(|&s| s <= MAX_STRIDE)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a stack of {usable} bytes is larger than the largest possible, {} bytes", MAX_STRIDE / 2),
            )
        })
}

/// How much of a stack the identity takes: `struct pthread` and the program's thread-locals below it, wherever their alignment puts
/// them. Libraries with tens of kilobytes of them are not rare.
fn thread_locals_at_most() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(thread_locals)
}

#[cfg(csp_native)]
fn thread_locals() -> usize {
    /// What glibc has beside them, and keeps for libraries; more than it has been.
    const STRUCT_PTHREAD: usize = 2 * PAGE;

    // Private to glibc, but there since 2.15, and used by std for the same purpose.
    // SAFETY: a constant string that ends in a zero.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr()) };
    let (sum, alignment) = thread_locals_of_objects();
    if symbol.is_null() {
        // A program that is linked statically, in which nothing can be looked up.
        return sum + STRUCT_PTHREAD;
    }
    // SAFETY: the function has had this type for as long as it has been there. The attributes are initialised before
    // the call and destroyed after it.
    let least = unsafe {
        let get = std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize>(
            symbol,
        );
        let mut attr = std::mem::MaybeUninit::uninit();
        libc::pthread_attr_init(attr.as_mut_ptr());
        let least = get(attr.as_ptr());
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        least
    };
    // It is meant to be the smallest stack of a thread: beside them, a page of guard and what any thread needs.
    least.saturating_sub(libc::PTHREAD_STACK_MIN + PAGE) + alignment
}

/// The thread-locals of all objects that are there now, with what they may lose by alignment; and the largest alignment.
#[cfg(csp_native)]
fn thread_locals_of_objects() -> (usize, usize) {
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, sum: *mut libc::c_void) -> i32 {
        // SAFETY: `dl_iterate_phdr` passes a description that is good during the call, and our own argument.
        unsafe {
            let headers = std::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into());
            let locals = headers.iter().filter(|header| header.p_type == libc::PT_TLS);
            let (sum, alignment) = &mut *sum.cast::<(usize, usize)>();
            for header in locals {
                *sum += (header.p_memsz + header.p_align) as usize;
                *alignment = (*alignment).max(header.p_align as usize);
            }
        }
        0
    }
    let mut sum = (0_usize, 0_usize);
    // SAFETY: `add` is called during the call alone.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut sum).cast()) };
    sum
}

#[cfg(not(csp_native))]
fn thread_locals() -> usize {
    0
}

/// One stride: `[base, base + stride)`, the guard at its low end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stride {
    pub(crate) base: usize,
    pub(crate) size: usize,
}

impl Stride {
    /// The lowest usable address.
    pub(crate) fn low(&self) -> usize {
        self.base + GUARD_SIZE
    }

    /// One past the highest usable address.
    pub(crate) fn high(&self) -> usize {
        self.base + self.size
    }
}

/// Regions, for the fault handler: readable without a lock, append-only.
struct RegionEntry {
    base: AtomicUsize,
    end: AtomicUsize,
    stride: AtomicUsize,
}

static REGIONS: [RegionEntry; MAX_REGIONS] =
    [const { RegionEntry { base: AtomicUsize::new(0), end: AtomicUsize::new(0), stride: AtomicUsize::new(0) } };
        MAX_REGIONS];
static REGION_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The stride that holds `address`, if a region does. Safe to call in a signal handler.
pub(crate) fn stride_of(address: usize) -> Option<Stride> {
    // Acquire: pairs with the Release in `Regions::grow`; the entries below the count are complete.
    let count = REGION_COUNT.load(Ordering::Acquire);
    REGIONS[..count].iter().find_map(|r| {
        let (base, end, stride) =
            (r.base.load(Ordering::Relaxed), r.end.load(Ordering::Relaxed), r.stride.load(Ordering::Relaxed));
        (base <= address && address < end)
            .then(|| Stride { base: base + (address - base) / stride * stride, size: stride })
    })
}

/// Strides of one size, handed out one after another.
#[derive(Debug)]
pub(crate) struct Region {
    stride: usize,
    next: usize,
    end: usize,
}

impl Region {
    pub(crate) const fn new(stride: usize) -> Self {
        Self { stride, next: 0, end: 0 }
    }

    /// A stride that nobody used before, its guard installed.
    pub(crate) fn take(&mut self) -> io::Result<Stride> {
        if self.next == self.end {
            self.grow()?;
        }
        let stride = Stride { base: self.next, size: self.stride };
        install_guard(stride.base)?;
        self.next += self.stride;
        Ok(stride)
    }

    /// How many can be taken before it grows.
    pub(crate) fn left(&self) -> usize {
        (self.end - self.next) / self.stride
    }

    fn grow(&mut self) -> io::Result<()> {
        let mut size = REGION_SIZE.max(self.stride);
        let base = loop {
            let error = match reserve(size) {
                Ok(base) => break base,
                Err(error) => error,
            };
            // Strict accounting counts reserved memory too: be content with less.
            if size / 4 < self.stride {
                return Err(io::Error::new(
                    error.kind(),
                    format!(
                        "cannot map {size} bytes for goroutine stacks: {error} (see ulimit -v, vm.overcommit_memory)"
                    ),
                ));
            }
            size /= 4;
        };
        // SAFETY: the mapping is ours. Huge pages would make each touched stack cost 2 MiB; the advice may be refused.
        unsafe { libc::madvise(base as *mut _, size, libc::MADV_NOHUGEPAGE) };
        let index = REGION_COUNT.load(Ordering::Relaxed);
        let Some(entry) = REGIONS.get(index) else {
            // SAFETY: the mapping just made, used by nobody.
            unsafe { libc::munmap(base as *mut _, size) };
            return Err(io::Error::other(format!("more than {MAX_REGIONS} regions of goroutine stacks")));
        };
        entry.base.store(base, Ordering::Relaxed);
        entry.end.store(base + size, Ordering::Relaxed);
        entry.stride.store(self.stride, Ordering::Relaxed);
        // Release: pairs with the Acquire in `stride_of`. Only the holder of the slot maker's lock grows a region.
        REGION_COUNT.store(index + 1, Ordering::Release);
        (self.next, self.end) = (base, base + size);
        Ok(())
    }
}

/// Maps address space, unless that would leave too little of it.
fn reserve(size: usize) -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to the struct, which is ours.
    let limited = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    if limited {
        let mapped = std::fs::read_to_string("/proc/self/statm")?;
        let mapped = mapped.split(' ').next().and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * PAGE;
        let left_over = (limit.rlim_cur / 8).min(LEFT_OVER as u64);
        if mapped.saturating_add(size) as u64 > limit.rlim_cur - left_over {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
    }
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new private mapping at a place of the kernel's choice touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base as usize) }
}

/// Guards are `mprotect`ed pages, because the kernel has no lightweight ones or a test wants it so.
static GUARD_BY_MPROTECT: AtomicBool = AtomicBool::new(false);

/// For tests of what Linux before 6.13 gets.
pub(crate) fn force_mprotect_guards() {
    GUARD_BY_MPROTECT.store(true, Ordering::Relaxed);
}

fn install_guard(base: usize) -> io::Result<()> {
    if !GUARD_BY_MPROTECT.load(Ordering::Relaxed) {
        // SAFETY: the range is the low end of a stride that nobody uses yet.
        if unsafe { libc::madvise(base as *mut _, GUARD_SIZE, MADV_GUARD_INSTALL) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        GUARD_BY_MPROTECT.store(true, Ordering::Relaxed);
    }
    check_mappings()?;
    // SAFETY: as above.
    if unsafe { libc::mprotect(base as *mut _, GUARD_SIZE, libc::PROT_NONE) } == 0 {
        count_mapped_guard();
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(if error.raw_os_error() == Some(libc::ENOMEM) { out_of_mappings() } else { error })
}

static MAPPED_GUARDS: AtomicUsize = AtomicUsize::new(0);

/// Says where there can be no more stacks whose guards are mappings of their own. Some mappings are left to the rest of the
/// program: its allocator maps memory too, and cannot do without. One thread at a time makes stacks, so that the one that
/// was found possible can be counted once it is there.
pub(crate) fn check_mappings() -> io::Result<()> {
    if MAPPED_GUARDS.load(Ordering::Relaxed) >= (max_mappings() - max_mappings() / 8) / 2 {
        return Err(out_of_mappings());
    }
    Ok(())
}

/// Counts a stack whose guard is a mapping of its own.
pub(crate) fn count_mapped_guard() {
    MAPPED_GUARDS.fetch_add(1, Ordering::Relaxed);
}

/// Whether a stack of that size could be mapped now, by somebody who does not leave any address space to the program.
pub(crate) fn probe(size: usize) -> io::Result<()> {
    let base = reserve(size)?;
    // SAFETY: the mapping just made, used by nobody.
    unsafe { libc::munmap(base as *mut _, size) };
    Ok(())
}

fn out_of_mappings() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "cannot guard another goroutine stack: the process has nearly as many memory mappings as it may have. Raise \
         vm.max_map_count (65530 by default; each stack needs two), or use Linux 6.13 or newer, where guards need no \
         mapping",
    )
}

/// How many mappings the process may have.
fn max_mappings() -> usize {
    static MAX: AtomicUsize = AtomicUsize::new(0);
    match MAX.load(Ordering::Relaxed) {
        0 => {
            let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|s| s.trim().parse().ok());
            let limit = limit.unwrap_or(65_530).max(1024);
            MAX.store(limit, Ordering::Relaxed);
            limit
        }
        max => max,
    }
}

/// Gives the pages of `[low, high)` back to the system; the next touch finds zeros.
///
/// # Safety
///
/// The range lies in a stack, below everything that is in use.
pub(crate) unsafe fn give_back(low: usize, high: usize) {
    let (low, high) = (low.next_multiple_of(PAGE), high & !(PAGE - 1));
    if low < high {
        // SAFETY: the caller's promise.
        unsafe { libc::madvise(low as *mut _, high - low, libc::MADV_DONTNEED) };
    }
}

/// Has the kernel find memory for the pages of `[low, high)`, which are about to be written: in one call, instead of a fault for
/// each. Where it cannot, or will not, the faults come.
#[cfg(csp_native)]
pub(crate) fn populate(low: usize, high: usize) {
    /// Since Linux 5.14.
    const MADV_POPULATE_WRITE: i32 = 23;
    static REFUSED: AtomicBool = AtomicBool::new(false);

    if REFUSED.load(Ordering::Relaxed) {
        return;
    }
    let low = low & !(PAGE - 1);
    // SAFETY: what is there stays as it is.
    let done = unsafe { libc::madvise(low as *mut _, high - low, MADV_POPULATE_WRITE) } == 0;
    let for_now = [libc::ENOMEM, libc::EAGAIN, libc::EFAULT, libc::EINTR];
    if !done && !io::Error::last_os_error().raw_os_error().is_some_and(|error| for_now.contains(&error)) {
        REFUSED.store(true, Ordering::Relaxed);
    }
}

/// How many bytes of `[low, high)` are resident.
pub(crate) fn resident(low: usize, high: usize) -> usize {
    let low = low & !(PAGE - 1);
    let mut pages = vec![0u8; (high - low).div_ceil(PAGE)];
    // SAFETY: the vector has a byte for each page; mincore only looks.
    let done = unsafe { libc::mincore(low as *mut _, high - low, pages.as_mut_ptr()) } == 0;
    if done { pages.iter().filter(|&&p| p & 1 != 0).count() * PAGE } else { 0 }
}
