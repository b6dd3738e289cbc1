//! Parking and making ready: the one way in which anything in this crate waits.
//!
//! Whoever can wait has a [`Parker`]: a goroutine has the one in its slot, a plain OS thread one from a free list. Parkers
//! are never freed, so a pointer to one is always good: the tail of a [`Parker::ready`], which may run when its wait is long
//! over, can at worst wake a thread for nothing.
//!
//! # The protocol
//!
//! 1. The owner calls [`Parker::begin`], which opens a new *wait* and gives its [`Ticket`].
//! 2. Under the locks of what it waits for, it leaves *waiters* that hold the parker and the ticket, and calls [`park`]
//!    with a `commit` that releases those locks.
//! 3. `park` leaves the goroutine's stack, arms the deadline if there is one, and then runs `commit`. Nobody could see the
//!    wait before that, so nobody can resume the goroutine while its stack is in use (S4).
//! 4. Whoever ends the wait **claims** it: at most one of all the wakers and the deadline gets [`Parker::try_claim`] for a
//!    ticket. It names an *outcome*.
//! 5. The claimer finishes what it does with the owner's frame (hands over a message), and then calls [`Parker::ready`].
//!    That is its last access: from then on the owner's frame may be gone.
//! 6. `park` returns the outcome in the owner.
//!
//! # The word
//!
//! `word` is `ticket << 16 | outcome`:
//!
//! | word             | meaning                     | next, by whom                                   |
//! |------------------|-----------------------------|-------------------------------------------------|
//! | `(t, 0)`         | wait `t` is open            | `(t, o)` by the one that claims it              |
//! | `(t, o)`, o > 0  | wait `t` has ended with `o` | `(t + 1, 0)` by the owner, at its next `begin`; |
//! |                  |                             | before `ready`, `(t, p)` by the claimer         |

use std::mem::MaybeUninit;
use std::panic::Location;
use std::time::Instant;

use super::sysmon;
use crate::context_switch::Commit;
use crate::primitive::Baton;
use crate::primitive::atomic::{AtomicU64, Ordering};
use crate::slot::Slot;

/// The outcome of a wait that its deadline ended.
pub(crate) const TIMED_OUT: u32 = 1;
/// The first outcome that wakers may use for what they like; smaller ones are taken.
pub(crate) const FIRST_OUTCOME: u32 = 2;

/// What a parked goroutine waits for, as the deadlock report prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WaitReason {
    None,
    Send,
    Receive,
    Select,
    SelectNoCases,
    Never,
    Sleep,
    WaitGroup,
    Join,
    Scope,
    LockedThread,
}

const REASONS: [WaitReason; 11] = [
    WaitReason::None,
    WaitReason::Send,
    WaitReason::Receive,
    WaitReason::Select,
    WaitReason::SelectNoCases,
    WaitReason::Never,
    WaitReason::Sleep,
    WaitReason::WaitGroup,
    WaitReason::Join,
    WaitReason::Scope,
    WaitReason::LockedThread,
];

impl WaitReason {
    /// The reason with that discriminant.
    pub(crate) fn from_u8(reason: u8) -> Self {
        REASONS.get(usize::from(reason)).copied().unwrap_or(Self::None)
    }

    /// Whether such a wait is often over within microseconds: then a thread polls a little before it sleeps.
    fn is_short(self) -> bool {
        matches!(self, Self::Send | Self::Receive | Self::Select)
    }

    /// In Go's words where Go has the same wait.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Send => "channel send",
            Self::Receive => "channel receive",
            Self::Select => "select",
            Self::SelectNoCases => "select (no cases)",
            Self::Never => "channel receive (never)",
            Self::Sleep => "sleep",
            Self::WaitGroup => "wait group",
            Self::Join => "join",
            Self::Scope => "end of a scope",
            Self::LockedThread => "its OS thread",
        }
    }
}

/// A wait: why, where in the user's program, and until when at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) reason: WaitReason,
    pub(crate) location: &'static Location<'static>,
    pub(crate) deadline: Option<Instant>,
}

/// One wait of one parker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// The outcome takes the low bits of the word, the ticket the others. They come round after 2^48 waits of one goroutine,
/// months of nothing else; an entry of the timers that is so old would have to be left over to be mistaken.
const OUTCOME_BITS: u32 = 16;
const OUTCOME_MASK: u64 = (1 << OUTCOME_BITS) - 1;
const TICKET_MASK: u64 = u64::MAX >> OUTCOME_BITS;

/// A goroutine or an OS thread as something that can wait.
#[derive(Debug)]
pub(crate) struct Parker {
    /// See the table at the head of the module.
    word: AtomicU64,
    /// Where an OS thread sleeps; `None`: it is a goroutine's, and lies in a slot.
    baton: Option<&'static Baton>,
}

impl Parker {
    /// A parker for an OS thread, with its baton.
    pub(crate) fn leak() -> &'static Self {
        let (parker, baton) = Box::leak(Box::new((None, Baton::default())));
        parker.insert(Self { word: AtomicU64::new(0), baton: Some(baton) })
    }

    /// A parker to be put into a slot.
    pub(crate) fn new_goroutine() -> Self {
        Self { word: AtomicU64::new(0), baton: None }
    }

    /// Whether the wait is open still.
    pub(crate) fn is_open(&self, ticket: Ticket) -> bool {
        self.word.load(Ordering::Relaxed) == ticket.0 << OUTCOME_BITS
    }

    /// Whether the caller is a goroutine.
    #[inline]
    pub(crate) fn is_goroutine() -> bool {
        Slot::current().is_some()
    }

    /// The parker of the calling goroutine or thread.
    #[inline(always)]
    pub(crate) fn current() -> Current {
        match Slot::current() {
            Some(slot) => Current { parker: &slot.parker, lease: None },
            None => thread_parker::current(),
        }
    }

    /// Calls `f` with the parker of the calling goroutine or thread.
    pub(crate) fn with_current<R>(f: impl FnOnce(&'static Parker) -> R) -> R {
        let current = Self::current();
        f(current.parker)
    }

    /// Opens a new wait. Only its owner calls this, and not while another wait of it is open.
    #[inline]
    pub(crate) fn begin(&self) -> Ticket {
        // Relaxed: no other thread writes the word between the end of a wait and the next `begin`, and the waiters that
        // carry the ticket are published by the locks they are queued under.
        let ticket = (self.word.load(Ordering::Relaxed) >> OUTCOME_BITS).wrapping_add(1) & TICKET_MASK;
        self.word.store(ticket << OUTCOME_BITS, Ordering::Relaxed);
        Ticket(ticket)
    }

    /// Ends the wait `ticket` with `outcome`, unless it has ended. The caller that gets `true` owes a [`Parker::ready`].
    #[must_use]
    #[inline]
    pub(crate) fn try_claim(&self, ticket: Ticket, outcome: u32) -> bool {
        debug_assert!(outcome != 0 && u64::from(outcome) <= OUTCOME_MASK);
        let open = ticket.0 << OUTCOME_BITS;
        // AcqRel on success: pairs with the owner's Acquire in `outcome`.
        self.word.compare_exchange(open, open | u64::from(outcome), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// As [`try_claim`](Self::try_claim) where nobody else can claim: the wait has one waiter, no deadline, and the
    /// caller took that waiter from its queue under the lock.
    #[inline]
    pub(crate) fn claim_sole(&self, ticket: Ticket, outcome: u32) {
        let open = ticket.0 << OUTCOME_BITS;
        debug_assert_eq!(self.word.load(Ordering::Relaxed), open);
        // Release: pairs with the owner's Acquire in `outcome`.
        self.word.store(open | u64::from(outcome), Ordering::Release);
    }

    /// Changes the outcome of a claimed wait. For its claimer, before `ready`.
    pub(crate) fn revise(&self, outcome: u32) {
        debug_assert!(outcome != 0 && u64::from(outcome) <= OUTCOME_MASK);
        // Relaxed: the claim is ours, and nobody writes a claimed word but its claimer.
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_ne!(word & OUTCOME_MASK, 0);
        // Release: pairs with the owner's Acquire in `outcome`.
        self.word.store(word & !OUTCOME_MASK | u64::from(outcome), Ordering::Release);
    }

    /// Lets the owner of a claimed wait go on. The last thing that a claimer does.
    #[inline]
    pub(crate) fn ready(&'static self) {
        match self.baton {
            // SAFETY: `new_goroutine` is called for slots alone.
            None => super::ready(unsafe { Slot::of(self) }),
            Some(baton) => baton.notify(),
        }
    }
}

/// The parker of the caller, while this lives.
pub(crate) struct Current {
    pub(crate) parker: &'static Parker,
    /// Where it was taken for one wait only.
    #[expect(dead_code, reason = "gives the parker back when it is dropped")]
    lease: Option<thread_parker::Lease>,
}

/// Waits until the wait `ticket` of `parker` has ended, and returns its outcome.
///
/// Inlined, with all that comes before the switch: each return after a switch is one that the CPU has predicted for another
/// goroutine, and costs some 5 ns.
///
/// `commit(arg)` runs once the caller has left its stack and can be made ready; it releases the locks under which the
/// waiters were queued. It runs on a stack that is not the caller's: it must not park, panic or wait for anything.
///
/// # Safety
///
/// `parker` is the caller's own and `ticket` its newest. `commit(arg)` is sound to call once, on any thread, while the
/// caller's frame is borrowed; it touches that frame no more after the release that lets a claimer finish.
#[inline(always)]
pub(crate) unsafe fn park(
    parker: &'static Parker,
    ticket: Ticket,
    wait: Wait,
    commit: unsafe fn(*mut ()),
    arg: *mut (),
) -> u32 {
    if let Some(baton) = parker.baton {
        // SAFETY: the caller's promise.
        return unsafe { park_thread(parker, baton, ticket, wait, commit, arg) };
    }
    // SAFETY: `new_goroutine` is called for slots alone.
    let slot = unsafe { Slot::of(parker) };
    slot.note_wait(&wait, sysmon::coarse_now());
    let mut timed = MaybeUninit::uninit();
    let commit = match wait.deadline {
        None => Commit { run: commit, arg },
        Some(deadline) => {
            timed.write(Timed { deadline, parker, ticket, commit, arg });
            Commit { run: arm_and_commit, arg: timed.as_mut_ptr().cast() }
        }
    };
    // SAFETY: the caller's promise. `commit` publishes the waiters; whoever claims the wait, waker or timer, makes us ready,
    // and there is one.
    unsafe { super::leave(slot, commit) };
    parker.outcome(ticket)
}

/// As [`park`], on a thread of its own.
///
/// # Safety
///
/// As there.
#[inline(never)]
unsafe fn park_thread(
    parker: &'static Parker,
    baton: &'static Baton,
    ticket: Ticket,
    wait: Wait,
    commit: unsafe fn(*mut ()),
    arg: *mut (),
) -> u32 {
    // A plain thread has a stack of its own: it is resumable as soon as its waiters are visible.
    // SAFETY: the caller's promise.
    unsafe { commit(arg) };
    if wait.reason.is_short() && baton.linger(wait.deadline.is_some()) {
        return parker.outcome(ticket);
    }
    match wait.deadline {
        Some(deadline) => {
            // The claim is the decision: whoever lost it waits for the winner to be done with its frame.
            if !baton.wait_until(deadline) && !parker.try_claim(ticket, TIMED_OUT) {
                baton.wait();
            }
        }
        None => baton.wait(),
    }
    parker.outcome(ticket)
}

/// What a wait with a deadline does after the goroutine has left its stack.
struct Timed {
    deadline: Instant,
    parker: &'static Parker,
    ticket: Ticket,
    commit: unsafe fn(*mut ()),
    arg: *mut (),
}

/// # Safety
///
/// `timed` is a [`Timed`] in the frame of the goroutine that left.
unsafe fn arm_and_commit(timed: *mut ()) {
    // SAFETY: the caller's promise. Copied first: after the commit the goroutine may be resumed.
    let Timed { deadline, parker, ticket, commit, arg } = unsafe { timed.cast::<Timed>().read() };
    // SAFETY: the promise of `park`'s caller.
    unsafe { commit(arg) };
    // Not under the locks that `commit` releases: the heap may grow. If the wait has ended by now, the entry is a stale one.
    super::arm_timer(deadline, parker, ticket);
}

impl Parker {
    #[inline]
    fn outcome(&self, ticket: Ticket) -> u32 {
        // Acquire: pairs with the Release of the claim.
        let word = self.word.load(Ordering::Acquire);
        debug_assert_eq!(word >> OUTCOME_BITS, ticket.0);
        debug_assert_ne!(word & OUTCOME_MASK, 0);
        (word & OUTCOME_MASK) as u32
    }
}

/// In a model every wait has a parker of its own: Loom's objects do not outlive an execution, and its threads share the
/// thread-locals of the one that runs them.
#[cfg(csp_loom)]
mod thread_parker {
    use super::{Current, Parker};

    pub(super) struct Lease;

    pub(super) fn current() -> Current {
        Current { parker: Parker::leak(), lease: None }
    }
}

/// The parkers of plain OS threads: leased from a free list, returned when the thread ends, never freed.
#[cfg(not(csp_loom))]
mod thread_parker {
    use super::{Current, Parker};

    static FREE: std::sync::Mutex<Vec<&'static Parker>> = std::sync::Mutex::new(Vec::new());

    pub(super) struct Lease(&'static Parker);

    impl Lease {
        fn new() -> Self {
            let free = FREE.lock().unwrap_or_else(|e| e.into_inner()).pop();
            Self(free.unwrap_or_else(|| Parker::leak()))
        }
    }

    impl Drop for Lease {
        fn drop(&mut self) {
            FREE.lock().unwrap_or_else(|e| e.into_inner()).push(self.0);
        }
    }

    thread_local! {
        static LEASE: Lease = Lease::new();
    }

    #[cold]
    pub(super) fn current() -> Current {
        match LEASE.try_with(|lease| lease.0) {
            Ok(parker) => Current { parker, lease: None },
            // The thread's own destructors run, and its lease may be gone: one for this wait alone.
            Err(_) => {
                let lease = Lease::new();
                Current { parker: lease.0, lease: Some(lease) }
            }
        }
    }
}

pub(crate) use super::checkpoint;
