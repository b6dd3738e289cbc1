//! Identities made after the pattern of a husk, without a kernel thread each.
//!
//! To make a kernel thread and let it end is four fifths of what a husk costs, and all that is left of it are a few hundred
//! words: glibc's `struct pthread` and the thread-locals below it. So two husks are made and kept as they are (they never
//! become anybody's slot), and what the first has is written into every other stride:
//!
//! ```text
//!   low           bottom              thread pointer            end     high
//!    | frames ... <-|- thread-locals -|-- struct pthread --| .. | slot | stagger |
//! ```
//!
//! # What a word means
//!
//! It is not read from any header but found out, by comparing the two. Which words are the same in both, or differ just as
//! their addresses do, need no other explanation; those which do (the thread id, the list, the thread-locals of libraries)
//! have one that is proved as well. A single word that has none, or a symbol that is not there, and every slot is a husk, as
//! before (S5):
//!
//! - **P1** `struct pthread` lies where glibc puts it: its size and alignment are glibc's own figures, and they predict
//!   where it was put in both husks, and where their first frame lies.
//! - **P2** The husks are fresh: their thread-locals are what glibc writes for a new thread, but for what it initialises on
//!   that thread itself (within its own thread-locals, and the rseq area) and for [`context_switch::occupant`].
//! - **P3** The husks are neighbours in glibc's list of threads with stacks of their own.
//! - **P4** `pthread_create` is glibc's. Where something stands before it, that may know threads which we would not
//!   introduce to it: sanitizers, some allocators.
//!
//! What belongs to a thread outside of these words: the vector by which it finds the thread-locals of libraries that were
//! loaded later, which `_dl_allocate_tls` makes, as it does for each thread; and one in glibc's count of threads, by which the
//! last one to end would end the process, as the husks' keep it from doing. The frames below are not copied: glibc's, whose
//! one trace in the record, where `pthread_exit` is to unwind to, is left empty, and it ends the process with a fault there.
//!
//! # The list
//!
//! glibc goes through its list of threads when a library with thread-locals in the static block is loaded, to initialise
//! those of every thread. So an identity has to be in the list. glibc's lock cannot be had, but need not: glibc writes
//! to the links of those between which it inserts or removes one, it inserts at the head alone, and the two husks neither
//! end nor move. Between the two nobody writes but us. New ones go behind the first, complete, by one store; who goes
//! through the list meanwhile finds them or does not.
//!
//! Who does not find them must not have initialised anything that they lack. So thread-locals are written after that:
//!
//! 1. The new ones are linked in.
//! 2. glibc's lock is taken and released: who went through the list without finding them is done, and what it wrote to the
//!    thread-locals of the first husk can be seen.
//! 3. The thread-locals of the first husk are copied into each new one; then, behind a fence, they are compared, and
//!    copied again if they have changed.
//!
//! Who goes through the list after step 2 writes to the first husk's and after that, in the order of the list, to the new
//! one's. If the comparison has not seen the first of these writes, the second comes after the copy, whose writes
//! the fence has made visible by then; and if it has, the copy is made again. (x86 keeps the order of stores. The
//! model is `loom_tests::a_library_loaded_meanwhile_finds_every_identity`.)

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use super::{Slot, husk, native};
use crate::context_switch::{self, Context};
use crate::stack::{self, Stride};

const WORD: usize = size_of::<usize>();
/// Where the x86-64 ABI has the vector of thread-locals, from the thread pointer.
const VECTOR: usize = WORD;
/// What a husk's first frames may take: glibc's, and ours.
const FIRST_FRAMES: usize = 2048;

/// What the first husk shows about all others.
struct Pattern {
    glibc: &'static Glibc,
    /// The thread pointer of the first husk.
    first: usize,
    /// The words of `struct pthread` that are not zero.
    words: Box<[(usize, Meaning)]>,
    /// Where in it the links lie: next, and behind that previous.
    links: usize,
    /// Those of the thread-locals that are addresses within their own identity, from the thread pointer.
    own: Box<[isize]>,
    /// Held while identities are linked in.
    linking: Mutex<()>,
}

/// What a word of `struct pthread` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The same for all.
    Constant(usize),
    /// An address within the record or the thread-locals, from the thread pointer.
    FromIdentity(isize),
    /// The low end of the stack.
    Low,
    /// The size of the stack.
    Size,
    /// An address in the first frames.
    InFrames,
    /// The thread id in its lower or upper half, and something that is the same for all in the other.
    Tid { shift: u32, other: usize },
}

/// Where the identity of a stride lies, and its stack below.
#[derive(Clone, Copy, Debug)]
struct Place {
    low: usize,
    end: usize,
    identity: usize,
}

/// What of glibc is needed, and what it says of itself.
#[derive(Debug)]
struct Glibc {
    allocate_thread_locals: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    free_thread_locals: unsafe extern "C" fn(*mut c_void, bool),
    /// Points the thread-locals of `<ctype.h>` to the tables of the present locale.
    initialise_ctype: unsafe extern "C" fn(),
    /// The size of `struct pthread`.
    size: usize,
    /// How much lies below the thread pointer.
    below: usize,
    alignment: usize,
    /// From the thread pointer: what a new thread may initialise itself.
    initialised: [std::ops::Range<isize>; 2],
}

enum State {
    /// So often it was not to be found out whether there is one.
    Unknown(u32),
    /// None has been made after it yet.
    Unproved(&'static Pattern),
    Ready(&'static Pattern),
    Refused,
}

/// How often one looks for a pattern: other threads may come between.
const TRIES: u32 = 64;
/// The two husks take up address space for good: not that of large stacks, of which there may be room for a few.
const LARGEST_STRIDE: usize = 16 << 20;

static PATTERN: Mutex<State> = Mutex::new(State::Unknown(0));

/// How many identities were made so.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How many slots were made without a kernel thread. For tests.
#[doc(hidden)]
pub fn slots_without_kernel_thread() -> usize {
    MADE.load(Ordering::Relaxed)
}

/// Makes slots of the strides. Fewer than asked for when the system refuses one; an error when it refuses the first. What was
/// not used of `strides` stays in it.
///
/// # Safety
///
/// The strides are unused. The caller is a thread on its own stack.
pub(crate) unsafe fn make(strides: &mut Vec<Stride>, class: u8) -> io::Result<Vec<&'static Slot>> {
    let mut found = Vec::new();
    // SAFETY: the caller's promise.
    let pattern = unsafe { find(strides, class, &mut found)? };
    // SAFETY: the caller's promise, of what is left of the strides.
    let made = unsafe {
        match pattern {
            _ if strides.is_empty() => Ok(Vec::new()),
            Some(pattern) => pattern.make(strides, class),
            None => husk::make(strides, class),
        }
    };
    match made {
        Ok(slots) => found.extend(slots),
        Err(error) if found.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(found)
}

/// The pattern, if there is one. Slots that come of finding that out go to `found`; an error when the system refuses the
/// first.
///
/// # Safety
///
/// As for [`make`].
unsafe fn find(
    strides: &mut Vec<Stride>,
    class: u8,
    found: &mut Vec<&'static Slot>,
) -> io::Result<Option<&'static Pattern>> {
    let mut state = PATTERN.lock();
    if let State::Unknown(tries) = *state {
        // Two that the others are made after, and one to try it with.
        if strides.len() < 3 || strides[0].size > LARGEST_STRIDE {
            return Ok(None);
        }
        let Some(glibc) = Glibc::get() else {
            *state = State::Refused;
            return Ok(None);
        };
        let mut two = strides.split_off(strides.len() - 2);
        // SAFETY: the caller's promise.
        let husks = unsafe { husk::make(&mut two, class) };
        strides.append(&mut two);
        let husks = husks?;
        let pattern = match husks[..] {
            // glibc inserts at the head: the later one comes first.
            // SAFETY: two husks that nobody else knows.
            [second, first] => unsafe { Pattern::of(glibc, first, second) },
            _ => None,
        };
        let Some(pattern) = pattern else {
            found.extend(husks);
            *state = if tries + 1 < TRIES { State::Unknown(tries + 1) } else { State::Refused };
            return Ok(None);
        };
        // From here on the husks stay what they are.
        *state = State::Unproved(Box::leak(Box::new(pattern)));
    }
    match *state {
        State::Ready(pattern) => Ok(Some(pattern)),
        State::Unproved(pattern) => {
            let Some(stride) = strides.pop() else { return Ok(None) };
            let mut one = vec![stride];
            // SAFETY: the caller's promise.
            let made = unsafe { pattern.make(&mut one, class) };
            strides.append(&mut one);
            let slot = made?[0];
            // SAFETY: the slot is new, and only we know it.
            if unsafe { native::prove_slot(slot) }.is_err() {
                // It is left alone.
                *state = State::Refused;
                return Ok(None);
            }
            found.push(slot);
            *state = State::Ready(pattern);
            Ok(Some(pattern))
        }
        _ => Ok(None),
    }
}

/// Does on a new identity what a new thread does there itself, and the words do not show: the tables of `<ctype.h>` are those
/// of the locale that is in force by then.
pub(super) fn begin() {
    if let Some(glibc) = Glibc::get() {
        // SAFETY: it writes to thread-locals, and has had this type for as long as there are threads in glibc.
        unsafe { (glibc.initialise_ctype)() };
    }
}

impl Glibc {
    /// `None` where something is missing, or is not wanted.
    fn get() -> Option<&'static Self> {
        static GLIBC: std::sync::OnceLock<Option<Glibc>> = std::sync::OnceLock::new();
        GLIBC.get_or_init(Self::look).as_ref()
    }

    fn look() -> Option<Self> {
        // What a sanitizer is to know of each thread it learns where the thread is created.
        if cfg!(csp_sanitized) || std::env::var_os("CSP_NO_PATTERN").is_some() {
            return None;
        }
        // P4. `gnu_get_libc_version` is in the library itself, from which threads came apart up to 2.33.
        let libc = object_of(symbol(c"gnu_get_libc_version")?)?;
        if object_of(symbol(c"pthread_create")?)? != libc {
            return None;
        }
        let allocate = symbol(c"_dl_allocate_tls")?;
        let free = symbol(c"_dl_deallocate_tls")?;
        let info = symbol(c"_dl_get_tls_static_info")?;
        let size = symbol(c"_thread_db_sizeof_pthread")?;
        let ctype = symbol(c"__ctype_init")?;
        let (mut block, mut alignment) = (0_usize, 0_usize);
        // SAFETY: the types that these have had since there are threads in glibc. The last is data, for debuggers.
        let (allocate_thread_locals, free_thread_locals, initialise_ctype, size) = unsafe {
            let info: unsafe extern "C" fn(*mut usize, *mut usize) = std::mem::transmute(info);
            info(&mut block, &mut alignment);
            let allocate: unsafe extern "C" fn(*mut c_void) -> *mut c_void = std::mem::transmute(allocate);
            let free: unsafe extern "C" fn(*mut c_void, bool) = std::mem::transmute(free);
            let ctype: unsafe extern "C" fn() = std::mem::transmute(ctype);
            (allocate, free, ctype, *(size as *const u32) as usize)
        };
        let sensible =
            alignment.is_power_of_two() && alignment <= 4096 && size % WORD == 0 && (1024..8192).contains(&size);
        let below = block.checked_next_multiple_of(alignment.max(1))?.checked_sub(size)?;
        (sensible && below % WORD == 0).then_some(Self {
            allocate_thread_locals,
            free_thread_locals,
            initialise_ctype,
            size,
            below,
            alignment,
            initialised: [thread_locals_of(libc)?, husk::rseq_area()],
        })
    }

    /// Where glibc puts the identity of a stack that ends at `end` (P1).
    fn place(&self, stride: Stride) -> Place {
        let end = super::end(stride);
        Place { low: stride.low(), end, identity: (end - self.size) & !(self.alignment - 1) }
    }

    /// Where the frames of a stack begin, downwards.
    fn bottom(&self, place: &Place) -> usize {
        (place.identity - self.below) & !15
    }

    /// The thread-locals, from the thread pointer.
    fn thread_locals(&self) -> impl Iterator<Item = isize> {
        (-(self.below as isize)..0).step_by(WORD)
    }
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a string that ends in a zero.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

/// Where the object that holds an address begins.
fn object_of(address: *mut c_void) -> Option<usize> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: it fills in what it answers yes for.
    unsafe { (libc::dladdr(address, info.as_mut_ptr()) != 0).then(|| info.assume_init().dli_fbase as usize) }
}

/// Where the thread-locals of an object lie, from the thread pointer.
fn thread_locals_of(object: usize) -> Option<std::ops::Range<isize>> {
    struct Search {
        object: usize,
        found: Option<(usize, usize)>,
    }
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> i32 {
        // SAFETY: `dl_iterate_phdr` passes a description that is good during the call, and our own argument.
        unsafe {
            let (info, search) = (&*info, &mut *search.cast::<Search>());
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            let loads = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
            let begins = loads.map(|header| (info.dlpi_addr as usize + header.p_vaddr as usize) & !4095).min();
            if begins != Some(search.object) || info.dlpi_tls_data.is_null() {
                return 0;
            }
            let locals = headers.iter().find(|header| header.p_type == libc::PT_TLS);
            search.found = locals.map(|header| (info.dlpi_tls_data as usize, header.p_memsz as usize));
            1
        }
    }
    let mut search = Search { object, found: None };
    // SAFETY: `look` is called during the call alone.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    let (address, size) = search.found?;
    let from = address.wrapping_sub(context_switch::thread_pointer()) as isize;
    Some(from..from + size as isize)
}

/// A word of memory that glibc and we share.
///
/// # Safety
///
/// There is one, for as long as the process lives.
unsafe fn word(address: usize) -> &'static AtomicUsize {
    // SAFETY: the caller's promise; atomics may be read and written through any mapping.
    unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
}

impl Place {
    /// A word, from the thread pointer.
    ///
    /// # Safety
    ///
    /// It lies within the stack.
    unsafe fn word(&self, offset: isize) -> &'static AtomicUsize {
        // SAFETY: the caller's promise; stacks are never unmapped.
        unsafe { word(self.identity.wrapping_add_signed(offset)) }
    }

    /// The words of `struct pthread`.
    ///
    /// # Safety
    ///
    /// It is there.
    unsafe fn record(&self, glibc: &Glibc) -> Vec<usize> {
        // SAFETY: the caller's promise.
        (0..glibc.size).step_by(WORD).map(|at| unsafe { self.word(at as isize) }.load(Ordering::Relaxed)).collect()
    }

    fn size(&self) -> usize {
        self.end - self.low
    }
}

impl Pattern {
    /// What two husks have in common, if all of it is understood.
    ///
    /// # Safety
    ///
    /// Nobody else knows the husks, and nothing has run on them.
    unsafe fn of(glibc: &'static Glibc, first: &'static Slot, second: &'static Slot) -> Option<Self> {
        let places = [first, second].map(|slot| glibc.place(slot.stride));
        // Else it could not be told from something that is the same for all.
        if places[0].size() == places[1].size() {
            return None;
        }
        for (slot, place) in [first, second].into_iter().zip(&places) {
            // SAFETY: the husk is suspended, and ours.
            let context = unsafe { &*slot.execution.context.get() };
            let frames = glibc.bottom(place).checked_sub(context.stack_pointer())?;
            // P1. The first word of an identity is its own address.
            if context.identity() != place.identity || frames > FIRST_FRAMES {
                return None;
            }
        }
        // SAFETY: P1.
        let records = places.map(|place| unsafe { place.record(glibc) });
        // P3. What the later one calls next is where the earlier one calls the other previous, and no other word is so.
        let neighbours = |at: &usize| {
            let next = places[1].identity.wrapping_add(at * WORD);
            let previous = places[0].identity.wrapping_add(at * WORD);
            records[0][*at] == next && records[1][at + 1] == previous
        };
        let mut all = (0..records[0].len() - 1).filter(neighbours);
        let (links, None) = (all.next()?, all.next()) else { return None };

        let arguments = [first, second].map(|slot| std::ptr::from_ref(slot).addr());
        let mut words = Vec::new();
        for (at, values) in std::iter::zip(&records[0], &records[1]).map(|(&a, &b)| [a, b]).enumerate() {
            let is_link = at == links || at == links + 1;
            // Not copied: what has a value for each, or was for `pthread_create` to pass on.
            if is_link || at * WORD == VECTOR || values == [0; 2] || values == arguments {
                continue;
            }
            let meaning = match husk::tid_in(at * WORD) {
                Some(shift) => {
                    let other = values.map(|value| value & !(0xffff_ffff << shift));
                    (other[0] == other[1]).then_some(Meaning::Tid { shift, other: other[0] })?
                }
                None => meaning(glibc, values, &places)?,
            };
            words.push((at * WORD, meaning));
        }
        // Where `pthread_exit` is to unwind to: no other word may be lost with the frames.
        let lost = words.extract_if(.., |(_, meaning)| *meaning == Meaning::InFrames).count();
        if lost > 1 {
            return None;
        }
        // SAFETY: as above.
        let own = unsafe { compare_thread_locals(glibc, &places)? };
        Some(Self {
            glibc,
            first: places[0].identity,
            words: words.into(),
            links: links * WORD,
            own: own.into(),
            linking: Mutex::new(()),
        })
    }

    fn place_of_first(&self) -> Place {
        // Its stack is of no interest.
        Place { low: 0, end: 0, identity: self.first }
    }

    /// As [`make`].
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn make(&self, strides: &mut Vec<Stride>, class: u8) -> io::Result<Vec<&'static Slot>> {
        husk::check_tids(strides.len())?;
        grow_arena(strides.len());
        let mut places = Vec::with_capacity(strides.len());
        let mut slots = Vec::with_capacity(strides.len());
        while let Some(&stride) = strides.last() {
            let place = self.glibc.place(stride);
            stack::populate(self.glibc.bottom(&place) - size_of::<[usize; 4]>(), stride.high());
            // SAFETY: the caller's promise.
            if !unsafe { self.write_record(place, husk::take_tid()) } {
                break;
            }
            strides.pop();
            places.push(place);
            // SAFETY: the caller's promise.
            slots.push(unsafe { Slot::put(stride, class) });
        }
        if slots.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "there is no memory for the thread-locals of another goroutine",
            ));
        }
        // SAFETY: their records are complete.
        unsafe { self.link(&places) };
        husk::pass_through_glibc_lock();
        for (&place, &slot) in places.iter().zip(&slots) {
            // SAFETY: P1; glibc has been passed through since they were linked in.
            unsafe {
                self.copy_thread_locals(place);
                place.word(context_switch::occupant_offset()).store(std::ptr::from_ref(slot).addr(), Ordering::Relaxed);
                let bottom = std::ptr::with_exposed_provenance_mut(self.glibc.bottom(&place));
                let begin = super::begin_identity;
                *slot.execution.context.get() = Context::prepare(bottom, place.identity, begin, slot.as_argument());
            }
        }
        MADE.fetch_add(slots.len(), Ordering::Relaxed);
        Ok(slots)
    }

    /// Writes the `struct pthread` of a stride, but for the links, and has a vector of thread-locals made. `false` if there is no
    /// memory for that.
    ///
    /// # Safety
    ///
    /// The stride is unused.
    unsafe fn write_record(&self, place: Place, tid: i32) -> bool {
        // SAFETY: the caller's promise; it is all ours (P1). `_dl_allocate_tls` is called as `pthread_create` calls it: it
        // writes the vector's address into the record, and to the thread-locals.
        unsafe {
            let record = std::ptr::with_exposed_provenance_mut::<u8>(place.identity);
            record.write_bytes(0, self.glibc.size);
            if (self.glibc.allocate_thread_locals)(record.cast()).is_null() {
                return false;
            }
            for &(offset, meaning) in &self.words {
                place.word(offset as isize).store(meaning.value(&place, tid), Ordering::Relaxed);
            }
        }
        true
    }

    /// Puts identities into glibc's list, behind the first husk.
    ///
    /// # Safety
    ///
    /// Their records are complete.
    unsafe fn link(&self, places: &[Place]) {
        let at = |identity: usize| identity + self.links;
        let _alone = self.linking.lock();
        // SAFETY: links of identities that are in the list for ever, or that we put there. Between the first husk and the one
        // behind it nobody else writes.
        unsafe {
            let behind = word(at(self.first)).load(Ordering::Relaxed);
            let mut previous = at(self.first);
            for (index, place) in places.iter().enumerate() {
                let next = places.get(index + 1).map_or(behind, |place| at(place.identity));
                word(at(place.identity)).store(next, Ordering::Relaxed);
                word(at(place.identity) + WORD).store(previous, Ordering::Relaxed);
                previous = at(place.identity);
            }
            word(behind + WORD).store(previous, Ordering::Relaxed);
            // Release: pairs with the loads by which glibc goes through the list, each of which depends on the one before.
            word(at(self.first)).store(at(places[0].identity), Ordering::Release);
        }
    }

    /// Step 3 of what is said in the module's description.
    ///
    /// # Safety
    ///
    /// Step 1 and 2 have been done for `place`, and nothing runs on it yet.
    unsafe fn copy_thread_locals(&self, place: Place) {
        let first = self.place_of_first();
        let delta = place.identity.wrapping_sub(first.identity);
        loop {
            // SAFETY: thread-locals of two identities (P1). Nobody uses them but who goes through glibc's list, whose writes
            // are of whole words or smaller.
            let changed = unsafe {
                for offset in self.glibc.thread_locals() {
                    let (from, to) = (first.word(offset).load(Ordering::Relaxed), place.word(offset));
                    if to.load(Ordering::Relaxed) != from {
                        to.store(from, Ordering::Relaxed);
                    }
                }
                // Closes the race in which our writes wait until glibc has written to both, and we have looked before.
                fence(Ordering::SeqCst);
                self.glibc.thread_locals().any(|offset| {
                    first.word(offset).load(Ordering::Relaxed) != place.word(offset).load(Ordering::Relaxed)
                })
            };
            if !changed {
                break;
            }
        }
        for &offset in &self.own {
            // SAFETY: as above; words that no library's initial image has.
            unsafe {
                let word = place.word(offset);
                word.store(word.load(Ordering::Relaxed).wrapping_add(delta), Ordering::Relaxed);
            }
        }
    }
}

/// Has glibc's allocator get memory for so many identities and their slots in one go: an arena of a thread's grows by a page at a
/// time else, which changes a mapping each time, and keeps all others from touching new pages meanwhile.
fn grow_arena(identities: usize) {
    /// A vector, and the record of the goroutine that comes.
    const EACH: usize = 600;
    // SAFETY: freed as it was allocated. What is at the end of an arena stays there, up to 128 KiB.
    unsafe { libc::free(std::hint::black_box(libc::malloc(identities * EACH))) };
}

impl Meaning {
    /// What the word is in the record of an identity.
    fn value(self, place: &Place, tid: i32) -> usize {
        match self {
            Self::Constant(value) => value,
            Self::FromIdentity(offset) => place.identity.wrapping_add_signed(offset),
            Self::Low => place.low,
            Self::Size => place.size(),
            Self::InFrames => 0,
            Self::Tid { shift, other } => other | (tid as usize) << shift,
        }
    }
}

/// What a word means that has these values in two identities; `None` if that is not clear.
fn meaning(glibc: &Glibc, values: [usize; 2], places: &[Place; 2]) -> Option<Meaning> {
    let offset = values[0].wrapping_sub(places[0].identity) as isize;
    let both = |holds: &dyn Fn(usize, &Place) -> bool| (0..2).all(|i| holds(values[i], &places[i]));
    if values[0] == values[1] {
        Some(Meaning::Constant(values[0]))
    } else if both(&|value, place| value == place.size()) {
        Some(Meaning::Size)
    } else if both(&|value, place| value == place.low) {
        Some(Meaning::Low)
    } else if !both(&|value, place| value == place.identity.wrapping_add_signed(offset)) {
        None
    } else if both(&|value, place| (place.identity - glibc.below..place.end).contains(&value)) {
        Some(Meaning::FromIdentity(offset))
    } else {
        let frames = |bottom: usize| bottom - FIRST_FRAMES..bottom;
        both(&|value, place| frames(glibc.bottom(place)).contains(&value)).then_some(Meaning::InFrames)
    }
}

/// P2. Which of the thread-locals are addresses within their own identity.
///
/// # Safety
///
/// The places are of fresh husks.
unsafe fn compare_thread_locals(glibc: &Glibc, places: &[Place; 2]) -> Option<Vec<isize>> {
    let fresh = Fresh::new(glibc)?;
    let mut own = Vec::new();
    for offset in glibc.thread_locals() {
        // SAFETY: P1.
        let values = unsafe { [0, 1].map(|i: usize| places[i].word(offset).load(Ordering::Relaxed)) };
        // SAFETY: as many words are there.
        let new = unsafe { fresh.place.word(offset).load(Ordering::Relaxed) };
        if offset == context_switch::occupant_offset() || values == [new; 2] {
            continue;
        }
        if !glibc.initialised.iter().any(|range| range.start < offset + WORD as isize && offset < range.end) {
            return None;
        }
        match meaning(glibc, values, places)? {
            Meaning::Constant(_) => {}
            Meaning::FromIdentity(_) => own.push(offset),
            _ => return None,
        }
    }
    Some(own)
}

/// The thread-locals of a thread that has not begun.
struct Fresh<'g> {
    glibc: &'g Glibc,
    place: Place,
    _memory: Box<[u128]>,
}

impl<'g> Fresh<'g> {
    fn new(glibc: &'g Glibc) -> Option<Self> {
        let bytes = glibc.below + glibc.size + glibc.alignment;
        let mut memory = vec![0_u128; bytes.div_ceil(size_of::<u128>())].into_boxed_slice();
        let low = memory.as_mut_ptr().expose_provenance();
        let identity = (low + glibc.below).next_multiple_of(glibc.alignment);
        // SAFETY: memory of our own, laid out as a thread's (P1); `_dl_allocate_tls` does not care whose stack it is in.
        let made = unsafe { (glibc.allocate_thread_locals)(std::ptr::with_exposed_provenance_mut(identity)) };
        let place = Place { low, end: low + bytes, identity };
        (!made.is_null()).then_some(Self { glibc, place, _memory: memory })
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        // SAFETY: they were allocated in `new`; the memory itself is not glibc's to free.
        unsafe {
            (self.glibc.free_thread_locals)(std::ptr::with_exposed_provenance_mut(self.place.identity), false);
        }
    }
}
