//! Who sleeps, which processors nobody holds, and who searches: how work and a worker come together.
//!
//! Waking an OS thread is expensive, so work that is queued wakes a worker only where a processor is idle and nobody
//! searches: a searcher will find it, and lets the next one search when it has found something. Against that stands that
//! no wake-up may be lost: work must not lie in a queue while all sleep.
//!
//! # The argument
//!
//! - Whoever queues work ([`notify`](Sleepers::notify)): store the work; light barrier; load *idle* and *searching*. With
//!   an idle processor and no searcher it becomes the one that starts a search, by a compare-and-swap on *searching*.
//! - Whoever goes idle ([`lie_down`](Sleepers::lie_down)): store *idle*, and *searching* minus one if it searched; heavy
//!   barrier; look at all queues once more.
//!
//! Of two parties that each store and then load with a barrier between, one sees the other's store. So either the one
//! with work sees an idle processor and no searcher, and wakes somebody; or the one that lies down sees the work, and gets
//! up ([`take_back`](Sleepers::take_back)), unless somebody has taken its processor or woken it in the meantime, who then
//! looks at the queues as well. A searcher that the one with work saw has yet to lie down, or to find something: in both
//! cases *searching* goes down first, and the queues are looked at afterwards: where there is more another worker is woken.
//!
//! # With some to spare
//!
//! Some idle processors may be of no use ([`notify`](Sleepers::notify)'s `spare`): then work wakes nobody as long as no more
//! than these are idle, and whoever lies down among the first `spare` does not look at the queues again. Then there are
//! processors at work, and whoever holds one comes to look, at all the queues, before it lies down; the lists' lock orders
//! those who lie down, so the one that makes it more than `spare` sees what the earlier ones have left behind, and it looks
//! again. A holder that is stuck in a goroutine is sysmon's concern. Whoever makes `spare` smaller looks at the queues
//! afterwards, with a heavy barrier in between: either it sees the work, or the one with work the smaller number.
//!
//! The lists are under a lock; the two numbers are written where they change, and read without it.

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicUsize, Ordering, fence};
use crate::sched::barrier;

/// `W` stands for a worker and `P` for a processor.
#[derive(Debug)]
pub(crate) struct Sleepers<W, P> {
    lists: Mutex<Lists<W, P>>,
    /// How many processors are idle. Written under the lock.
    idle: AtomicUsize,
    /// How many search, or have been started to: one at most.
    searching: AtomicUsize,
}

#[derive(Debug)]
struct Lists<W, P> {
    /// Processors that nobody holds.
    processors: Vec<P>,
    /// Workers that sleep and have no processor.
    workers: Vec<W>,
}

impl<W, P> Sleepers<W, P> {
    #[cfg(not(csp_loom))]
    pub(crate) const fn new() -> Self {
        Self {
            lists: Mutex::new(Lists { processors: Vec::new(), workers: Vec::new() }),
            idle: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
        }
    }

    #[cfg(csp_loom)]
    pub(crate) fn new() -> Self {
        Self {
            lists: Mutex::new(Lists { processors: Vec::new(), workers: Vec::new() }),
            idle: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
        }
    }

    /// How many processors are idle: a hint.
    #[inline(always)]
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// As [`idle`](Self::idle), in one order with all that is sequentially consistent.
    pub(crate) fn idle_in_order(&self) -> usize {
        self.idle.load(Ordering::SeqCst)
    }

    /// Work has been queued where others can take it. Where more than `spare` processors are idle and nobody searches, the
    /// caller is to give the one returned to a worker, which searches; or to call [`stop_searching`](Self::stop_searching).
    #[inline(always)]
    pub(crate) fn notify(&self, spare: usize) -> Option<P> {
        // Pairs with the heavy barrier in `lie_down`.
        barrier::light();
        // Relaxed: the barriers order them.
        if self.idle.load(Ordering::Relaxed) > spare && self.searching.load(Ordering::Relaxed) == 0 {
            self.take_for_search()
        } else {
            None
        }
    }

    /// An idle processor for a worker that searches, if nobody else does. What is returned is owed as in
    /// [`notify`](Self::notify).
    #[cold]
    pub(crate) fn take_for_search(&self) -> Option<P> {
        while self.start_searching() {
            let processor = self.take_processor();
            if processor.is_some() {
                return processor;
            }
            // Whoever took the last one looks at the queues before it lies down. But one may have lain down since, and
            // somebody with work for it saw us and woke nobody.
            self.stop_searching();
            fence(Ordering::SeqCst);
            if self.idle.load(Ordering::Relaxed) == 0 {
                break;
            }
        }
        None
    }

    /// The caller searches, unless somebody else does.
    pub(crate) fn start_searching(&self) -> bool {
        // SeqCst: in one order with the barriers.
        self.searching.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The caller searches no longer. It has yet to look whether work was queued meanwhile, which woke nobody.
    pub(crate) fn stop_searching(&self) {
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// The caller, which searches, has found something, and searches no longer. Where there is `more` to find, and more than
    /// `spare()` processors are idle, what is returned is owed as in [`notify`](Self::notify).
    pub(crate) fn found(&self, more: impl Fn() -> bool, spare: impl Fn() -> usize) -> Option<P> {
        self.stop_searching();
        // Before the barrier, which takes its time: where there is more, or nobody who could be woken, it need not be.
        if !more() && self.idle() > spare() {
            // Pairs with the light barrier in `notify`.
            barrier::heavy();
            if !more() {
                return None;
            }
        }
        self.notify(spare())
    }

    /// Takes an idle processor.
    pub(crate) fn take_processor(&self) -> Option<P> {
        let mut lists = self.lists.lock();
        let processor = lists.processors.pop();
        self.count(&lists);
        processor
    }

    /// Makes a processor idle, unless it is `retired`, which is asked under the lock.
    pub(crate) fn put_processor(&self, processor: P, retired: impl FnOnce(&P) -> bool) {
        let mut lists = self.lists.lock();
        self.put(&mut lists, processor, retired);
    }

    fn put(&self, lists: &mut Lists<W, P>, processor: P, retired: impl FnOnce(&P) -> bool) {
        if !retired(&processor) {
            lists.processors.push(processor);
            self.count(lists);
        }
    }

    fn count(&self, lists: &Lists<W, P>) {
        // SeqCst: in one order with the barriers.
        self.idle.store(lists.processors.len(), Ordering::SeqCst);
    }

    /// Changes the list of idle processors.
    pub(crate) fn change(&self, f: impl FnOnce(&mut Vec<P>)) {
        let mut lists = self.lists.lock();
        f(&mut lists.processors);
        self.count(&lists);
    }

    /// Takes a sleeping worker, which the caller wakes.
    pub(crate) fn take_worker(&self) -> Option<W> {
        self.lists.lock().workers.pop()
    }

    /// A worker is about to sleep, and gives its processor up; `searched` says whether it gives up a search as well. Says
    /// whether more than `spare()` are idle now: then it looks at the queues once more, and where there is something calls
    /// [`take_back`](Self::take_back).
    #[must_use]
    pub(crate) fn lie_down(
        &self,
        worker: W,
        processor: P,
        searched: bool,
        retired: impl FnOnce(&P) -> bool,
        spare: impl FnOnce() -> usize,
    ) -> bool {
        {
            let mut lists = self.lists.lock();
            self.put(&mut lists, processor, retired);
            lists.workers.push(worker);
        }
        if searched {
            self.stop_searching();
        }
        // Pairs with the light barrier in `notify`.
        barrier::heavy();
        self.idle() > spare()
    }
}

impl<W: PartialEq, P> Sleepers<W, P> {
    /// Stops sleeping, with a processor, if one is idle and nobody has taken the worker to wake it.
    pub(crate) fn take_back(&self, worker: &W) -> Option<P> {
        let mut lists = self.lists.lock();
        if lists.processors.is_empty() {
            return None;
        }
        let at = lists.workers.iter().rposition(|w| w == worker)?;
        lists.workers.swap_remove(at);
        let processor = lists.processors.pop();
        self.count(&lists);
        processor
    }

    /// Takes an idle processor, or lists the worker as one that sleeps.
    pub(crate) fn take_processor_or_lie_down(&self, worker: W) -> Option<P> {
        let mut lists = self.lists.lock();
        let processor = lists.processors.pop();
        match processor {
            Some(_) => self.count(&lists),
            None => lists.workers.push(worker),
        }
        processor
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::chan::loom_tests::{NO_BOUND, model};
    use crate::primitive::Baton;
    use crate::primitive::atomic::AtomicBool;

    /// Workers without a scheduler around them: the queue is a number, and so is a processor.
    struct World {
        sleepers: Sleepers<usize, usize>,
        queued: AtomicUsize,
        /// How much has been begun, and how much there will be.
        begun: AtomicUsize,
        total: usize,
        over: AtomicBool,
        beds: [Bed; 2],
        /// Where the first piece of work waits for the second, if it does.
        together: Option<Baton>,
        spare: usize,
    }

    /// Where a worker sleeps, and what the one who wakes it brings.
    #[derive(Default)]
    struct Bed {
        baton: Baton,
        brought: AtomicUsize,
    }

    impl World {
        fn new(total: usize, together: bool, spare: usize) -> Arc<Self> {
            let world = Self {
                sleepers: Sleepers::new(),
                queued: AtomicUsize::new(0),
                begun: AtomicUsize::new(0),
                total,
                over: AtomicBool::new(false),
                beds: Default::default(),
                together: together.then(Baton::default),
                spare,
            };
            world.sleepers.searching.store(1, Ordering::SeqCst);
            Arc::new(world)
        }

        fn queue(&self) {
            // Release: as a run queue's `push`.
            self.queued.fetch_add(1, Ordering::Release);
            self.notify();
        }

        fn notify(&self) {
            if let Some(processor) = self.sleepers.notify(self.spare) {
                self.start_searcher(processor);
            }
        }

        fn start_searcher(&self, processor: usize) {
            match self.sleepers.take_worker() {
                Some(worker) => self.wake(worker, processor),
                // Whoever gives up a processor to sleep is listed in the same critical section.
                None => assert!(self.over.load(Ordering::SeqCst), "with an idle processor there is a worker"),
            }
        }

        fn wake(&self, worker: usize, brought: usize) {
            self.beds[worker].brought.store(brought, Ordering::Relaxed);
            self.beds[worker].baton.notify();
        }

        fn take(&self) -> bool {
            let mut queued = self.queued.load(Ordering::Acquire);
            while queued != 0 {
                match self.queued.compare_exchange(queued, queued - 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return true,
                    Err(now) => queued = now,
                }
            }
            false
        }

        /// One piece of work.
        fn run(&self) {
            let before = self.begun.fetch_add(1, Ordering::AcqRel);
            match &self.together {
                Some(baton) if before == 0 => baton.wait(),
                Some(baton) => baton.notify(),
                None => (),
            }
            if before + 1 == self.total {
                // Everybody goes home: those who sleep are woken, and those who are about to see it.
                self.over.store(true, Ordering::SeqCst);
                barrier::heavy();
                while let Some(worker) = self.sleepers.take_worker() {
                    self.wake(worker, 0);
                }
            }
        }

        /// The life of a worker: as `run_worker`, `find_runnable` and `idle::sleep`.
        fn work(&self, me: usize, searching: bool) {
            self.live(me, searching, false);
        }

        /// As [`work`](Self::work), but it sleeps before it looks at anything.
        fn work_after_lying_down(&self, me: usize) {
            self.live(me, false, true);
        }

        fn live(&self, me: usize, mut searching: bool, mut surplus: bool) {
            let mut processor = me;
            loop {
                if !std::mem::take(&mut surplus) && self.take() {
                    if std::mem::take(&mut searching) {
                        let more = || self.queued.load(Ordering::Acquire) != 0;
                        if let Some(processor) = self.sleepers.found(more, || self.spare) {
                            self.start_searcher(processor);
                        }
                    }
                    self.run();
                    continue;
                }
                let searched = std::mem::take(&mut searching);
                let look = self.sleepers.lie_down(me, processor, searched, |_| false, || self.spare);
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                if look
                    && self.queued.load(Ordering::Acquire) != 0
                    && let Some(back) = self.sleepers.take_back(&me)
                {
                    processor = back;
                    searching = self.sleepers.start_searching();
                    continue;
                }
                self.beds[me].baton.wait();
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                processor = self.beds[me].brought.load(Ordering::Relaxed);
                searching = true;
            }
        }
    }

    // A wake-up that is lost is a worker asleep with work in the queue: a deadlock, which Loom reports.

    /// Somebody without a processor queues work while the only worker, which searches, goes to sleep. Every interleaving.
    #[test]
    fn loom_work_against_sleep() {
        model(NO_BOUND, || {
            let world = World::new(1, false, 0);
            let theirs = world.clone();
            let worker = thread::spawn(move || theirs.work(0, true));
            world.queue();
            worker.join().unwrap();
        });
    }

    /// Twice as much, with two workers of which one searches. Up to two preemptions: going to sleep and queueing are a
    /// store, a barrier and a look each, and what comes between is under the lock.
    #[test]
    fn loom_two_workers_sleep_against_work() {
        model(Some(2), || {
            let world = World::new(2, false, 0);
            let workers: Vec<_> = (0..2)
                .map(|me| {
                    let theirs = world.clone();
                    thread::spawn(move || theirs.work(me, me == 0))
                })
                .collect();
            world.queue();
            world.queue();
            workers.into_iter().for_each(|w| w.join().unwrap());
        });
    }

    /// Two pieces of work of which the first needs the second: whoever finds the first has another worker woken for what
    /// was queued while it searched. Up to three preemptions.
    #[test]
    fn loom_who_finds_work_wakes_the_next() {
        model(Some(3), || {
            let world = World::new(2, true, 0);
            let workers: Vec<_> = (0..2)
                .map(|me| {
                    let theirs = world.clone();
                    thread::spawn(move || theirs.work(me, me == 0))
                })
                .collect();
            world.queue();
            world.queue();
            workers.into_iter().for_each(|w| w.join().unwrap());
        });
    }

    /// One idle processor of two is of no use: a worker leaves its work behind and goes to sleep, as those do whose
    /// processor is surplus, while another one goes to sleep too, and somebody without a processor queues more. Up to three
    /// preemptions.
    #[test]
    fn loom_what_is_left_behind_is_found_by_the_last_to_lie_down() {
        model(Some(3), || {
            let world = World::new(2, false, 1);
            let (surplus, other) = (world.clone(), world.clone());
            let surplus = thread::spawn(move || {
                surplus.queued.fetch_add(1, Ordering::Release);
                surplus.work_after_lying_down(0);
            });
            let other = thread::spawn(move || other.work(1, true));
            world.queue();
            surplus.join().unwrap();
            other.join().unwrap();
        });
    }
}
