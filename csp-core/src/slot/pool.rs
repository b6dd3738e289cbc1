//! The slots that no goroutine uses, and the making of more.
//!
//! Processors keep a few for themselves and come here for batches. Each size of stack has a list; the list is a stack,
//! so that the slots used last, whose pages are warm, are used next.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Slot;
use crate::context_switch;
use crate::stack::{self, MIN_STRIDE, Region, Stride};

/// One class for each power of two from [`MIN_STRIDE`] to [`stack::MAX_STRIDE`].
const CLASSES: usize = (stack::MAX_STRIDE.trailing_zeros() - MIN_STRIDE.trailing_zeros() + 1) as usize;
/// The most that are made at once.
const LARGEST_BATCH: usize = 64;
/// With fewer free ones more are made ahead: what a processor takes at once.
const LEAST_AHEAD: usize = 32;
/// So few that nobody has to wait for the one who makes them, nor for the kernel threads that each may be made from.
const AHEAD_AT_ONCE: usize = 16;
/// For how long after a batch was made more are probably needed.
const GROWTH: Duration = Duration::from_secs(1);

struct Class {
    free: Vec<&'static Slot>,
    /// So many at the bottom of `free` have no stack memory to give back. Not a flag of each: to look at them would touch a page each.
    trimmed: usize,
    /// The shortest that `free` has been since the last trimming: so many were not needed all that time.
    low_water: usize,
    made: usize,
}

struct Maker {
    regions: Vec<Region>,
    /// Strides that were taken for a batch the system did not let us finish.
    spare: Vec<Vec<Stride>>,
}

static FREE: [Mutex<Class>; CLASSES] =
    [const { Mutex::new(Class { free: Vec::new(), trimmed: 0, low_water: 0, made: 0 }) }; CLASSES];
static MAKER: Mutex<Option<Maker>> = Mutex::new(None);
/// Held while one of the first batches of a class is made: who comes second may find enough when it is done.
static FIRST_BATCHES: Mutex<()> = Mutex::new(());
static ALL: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The class of slots with at least `usable` bytes of stack.
pub(crate) fn class_for(usable: usize) -> io::Result<u8> {
    let stride = stack::stride_for(usable)?;
    #[cfg(unix)]
    if context_switch::backend() == crate::runtime::Backend::Generator {
        // The crate makes none larger, whatever happens meanwhile.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes to the struct, which is ours.
        let limited = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) } == 0;
        if limited && (stride + MIN_STRIDE) as u64 > limit.rlim_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a stack of {usable} bytes is larger than the generator backend can make: the hard limit of stacks is \
                     {} bytes (ulimit -H -s)",
                    limit.rlim_max,
                ),
            ));
        }
    }
    Ok(class_of_stride(stride))
}

/// The class of a stride, which is a power of two within the limits.
pub(crate) const fn class_of_stride(stride: usize) -> u8 {
    (stride.trailing_zeros() - MIN_STRIDE.trailing_zeros()) as u8
}

/// The stride of a class.
pub(crate) const fn stride_of_class(class: u8) -> usize {
    MIN_STRIDE << class
}

/// Moves up to `count` free slots of a class to `out`.
pub(crate) fn take(class: u8, count: usize, out: &mut Vec<&'static Slot>) -> bool {
    let mut list = FREE[usize::from(class)].lock();
    let at = list.free.len().saturating_sub(count);
    let some = at < list.free.len();
    out.extend(list.free.drain(at..));
    list.low_water = list.low_water.min(at);
    list.trimmed = list.trimmed.min(at);
    some
}

/// Puts free slots back.
pub(crate) fn put(slots: impl Iterator<Item = &'static Slot>) {
    for slot in slots {
        FREE[usize::from(slot.class)].lock().free.push(slot);
    }
}

/// Makes a batch of slots of a class and moves it to `out`. For a thread on its own stack.
///
/// Several threads make batches side by side where many are needed: nearly all of the time is the kernel's.
pub(crate) fn make(class: u8, out: &mut Vec<&'static Slot>) -> io::Result<()> {
    let made = || FREE[usize::from(class)].lock().made;
    let _alone = (made() < LARGEST_BATCH).then(|| FIRST_BATCHES.lock());
    // Another thread may have made some, or put some back, meanwhile.
    if take(class, LARGEST_BATCH / 2, out) {
        return Ok(());
    }
    out.extend(make_batch(class, made().clamp(4, LARGEST_BATCH))?);
    Ok(())
}

/// Where more and more slots are used, makes some before a goroutine has to wait for them.
pub(crate) struct Ahead {
    /// How many had been made by the last look.
    made: usize,
    /// No more are used unless somebody has to make some.
    until: Instant,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { made: 0, until: Instant::now() }
    }

    /// To be called now and then, by a thread that nobody waits for. Says whether it has made some.
    pub(crate) fn look(&mut self, class: u8) -> bool {
        let list = || FREE[usize::from(class)].lock();
        let (free, made) = {
            let list = list();
            (list.free.len(), list.made)
        };
        let now = Instant::now();
        if made != std::mem::replace(&mut self.made, made) {
            self.until = now + GROWTH;
        }
        // Few goroutines had better share few slots. And what is left of the address space may be wanted for something else.
        let growing = made >= LARGEST_BATCH && now < self.until;
        if !growing || free >= LEAST_AHEAD || strides_at_hand(class) < AHEAD_AT_ONCE {
            return false;
        }
        // Those who have to have one are told why there is none.
        let Ok(batch) = make_batch(class, AHEAD_AT_ONCE) else {
            self.until = now;
            return false;
        };
        let mut list = list();
        // At the bottom: they are cold.
        list.trimmed += batch.len();
        list.free.splice(0..0, batch);
        (self.made, self.until) = (list.made, now + GROWTH);
        true
    }
}

fn make_batch(class: u8, count: usize) -> io::Result<Vec<&'static Slot>> {
    let batch = make_slots(class, count)?;
    FREE[usize::from(class)].lock().made += batch.len();
    COUNT.fetch_add(batch.len(), Ordering::Relaxed);
    ALL.lock().extend(&batch);
    Ok(batch)
}

fn make_slots(class: u8, count: usize) -> io::Result<Vec<&'static Slot>> {
    #[cfg(csp_native)]
    if context_switch::own_stacks() {
        let mut strides = take_strides(class, count)?;
        // SAFETY: the strides are new, or were not used up to now.
        let batch = unsafe {
            if context_switch::native() {
                super::pattern::make(&mut strides, class)
            } else {
                Ok(super::bare::make(&mut strides, class))
            }
        };
        if let (false, Some(maker)) = (strides.is_empty(), &mut *MAKER.lock()) {
            maker.spare[usize::from(class)].append(&mut strides);
        }
        return batch;
    }
    if context_switch::stackful() {
        return generate(class, count);
    }
    make_threads(class, count)
}

/// How many strides can be had without asking for more address space. None where the stacks are not our own.
#[cfg(csp_native)]
fn strides_at_hand(class: u8) -> usize {
    // A backend that was given up at the start has left some.
    if !context_switch::own_stacks() {
        return 0;
    }
    let class = usize::from(class);
    MAKER.lock().as_ref().map_or(0, |maker| maker.spare[class].len() + maker.regions[class].left())
}

#[cfg(not(csp_native))]
fn strides_at_hand(_: u8) -> usize {
    0
}

/// `count` strides, or fewer where the system refuses more; an error when it refuses the first.
#[cfg(csp_native)]
fn take_strides(class: u8, count: usize) -> io::Result<Vec<Stride>> {
    let mut maker = MAKER.lock();
    let maker = maker.get_or_insert_with(|| Maker {
        regions: (0..CLASSES as u8).map(|c| Region::new(stride_of_class(c))).collect(),
        spare: vec![Vec::new(); CLASSES],
    });
    let spare = &mut maker.spare[usize::from(class)];
    let mut strides = spare.split_off(spare.len().saturating_sub(count));
    while strides.len() < count {
        match maker.regions[usize::from(class)].take() {
            Ok(stride) => strides.push(stride),
            Err(error) if strides.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(strides)
}

/// The generator backend.
fn generate(class: u8, count: usize) -> io::Result<Vec<&'static Slot>> {
    // What one has found room for no other may take.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let mut slots = Vec::with_capacity(count);
    while slots.len() < count {
        match super::bare::generate(stride_of_class(class), class) {
            Ok(slot) => slots.push(slot),
            Err(error) if slots.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(slots)
}

/// The threads backend: slots that are threads.
fn make_threads(class: u8, count: usize) -> io::Result<Vec<&'static Slot>> {
    let mut slots = Vec::with_capacity(count);
    for _ in 0..count.min(8) {
        let slot = Slot::leak(class);
        let thread = std::thread::Builder::new().name("csp-goroutine".into()).stack_size(stride_of_class(class)).spawn(
            move || {
                slot.adopt_thread();
                // SAFETY: this thread is the slot's.
                let commit = unsafe { slot.execution.wait_for_baton() };
                crate::sched::slot_main(slot, commit);
                THREADS.fetch_sub(1, Ordering::Relaxed);
            },
        );
        let Err(error) = thread else {
            THREADS.fetch_add(1, Ordering::Relaxed);
            slots.push(slot);
            continue;
        };
        // SAFETY: there is no thread that got it.
        unsafe { Slot::free(slot) };
        if slots.is_empty() {
            return Err(io::Error::new(
                error.kind(),
                format!("cannot make another thread for a goroutine: {error} (see ulimit -u, the pids cgroup)"),
            ));
        }
        break;
    }
    Ok(slots)
}

/// Threads backend: how many threads are slots.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many OS threads are slots: none, but for the threads backend.
pub(crate) fn thread_count() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// A slot for a thread to adopt (threads backend).
pub(crate) fn make_adopted() -> &'static Slot {
    let slot = Slot::leak(class_of_stride(stack::DEFAULT_STRIDE));
    ALL.lock().push(slot);
    slot
}

/// Forgets the slots of a backend that is not to be used after all.
pub(crate) fn discard() {
    for class in &FREE {
        let mut list = class.lock();
        list.free.clear();
        list.trimmed = 0;
    }
}

/// How many slots there are.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Every slot there is.
pub(crate) fn all() -> Vec<&'static Slot> {
    ALL.lock().clone()
}

/// How much of the top of a stack is kept when the rest is given back: the identity and the first frames.
const KEPT: usize = 2 * stack::PAGE;

/// Gives back the stack memory of half of the slots that nobody needed since the last call. Called about once a second.
/// Says whether free slots are left that may have some to give back.
pub(crate) fn trim() -> bool {
    if !context_switch::own_stacks() {
        return false;
    }
    static TRIMMING: AtomicBool = AtomicBool::new(false);
    if TRIMMING.swap(true, Ordering::Acquire) {
        return true;
    }
    let mut more = false;
    for class in &FREE {
        let mut cold = Vec::new();
        {
            let mut list = class.lock();
            let unused = list.low_water.min(list.free.len());
            // The oldest lie at the bottom. Taken out, so that nobody runs on a stack that is being emptied.
            let begin = list.trimmed;
            let end = unused.min(begin + unused.div_ceil(2).min(256));
            if begin < end {
                cold.extend(list.free.drain(begin..end));
            }
            list.low_water = list.free.len();
        }
        for slot in &cold {
            let (low, high) = (slot.stride.low(), suspended_at(slot).min(slot.stride.high() - KEPT));
            if stack::resident(low, high) > 0 {
                // SAFETY: a free slot is suspended at the bottom of its stack, above `high`, and we alone have it.
                unsafe { stack::give_back(low, high) };
            }
        }
        let mut list = class.lock();
        // Back to the bottom: they are the coldest.
        let at = list.trimmed;
        list.trimmed += cold.len();
        list.free.splice(at..at, cold);
        list.low_water = list.free.len();
        more |= list.trimmed < list.free.len();
    }
    TRIMMING.store(false, Ordering::Release);
    more
}

fn suspended_at(slot: &Slot) -> usize {
    #[cfg(csp_native)]
    // SAFETY: the slot is free, and the caller took it out of the pool: nobody writes its context.
    return unsafe { (*slot.execution.context.get()).stack_pointer() };
    #[cfg(not(csp_native))]
    slot.stride.high()
}
