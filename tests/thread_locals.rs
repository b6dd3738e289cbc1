//! A stress test of thread identities: ten thousand goroutines on four processors, each of which holds on to everything
//! that belongs to a thread while it moves from one OS thread to another, hundreds of times.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use parking_lot::ReentrantMutex;
use support::{in_child, native, scaled, thread_id};

thread_local! {
    static PLAIN: Cell<u64> = const { Cell::new(0) };
    static BORROWED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static COUNTED: Rc<Cell<u64>> = Rc::new(Cell::new(0));
}

/// Counts how often the calling goroutine finds itself on another OS thread.
struct Travels {
    at: i64,
    count: u64,
}

impl Travels {
    fn begin() -> Self {
        Self { at: thread_id(), count: 0 }
    }

    fn look(&mut self) {
        let now = thread_id();
        self.count += u64::from(now != self.at);
        self.at = now;
    }
}

/// Errno's address is that of the goroutine's own; the number is one that no call gives.
fn set_errno(own: u64) {
    // SAFETY: the address is that of the caller's errno, and used at once.
    unsafe { libc::__errno_location().write(1_000_000 + own as i32) };
}

/// Whether errno is as it was set, or what a call of the runtime left there; but not another goroutine's.
fn errno_is_own(own: u64) -> bool {
    // SAFETY: as above.
    let errno = unsafe { libc::__errno_location().read() };
    errno == 1_000_000 + own as i32 || errno < 1_000_000
}

/// Parks so often, holding all it can.
fn travel(own: u64, parks: u64, handle: &tokio::runtime::Handle, mutex: &Arc<ReentrantMutex<Cell<u64>>>) -> u64 {
    let mut travels = Travels::begin();
    let me = thread::current().id();
    let counted = COUNTED.with(Rc::clone);
    let tokio = handle.enter();
    let locked = mutex.lock();
    PLAIN.set(own);
    counted.set(own);
    locked.set(own);
    BORROWED.with_borrow_mut(|borrowed| {
        borrowed.push(own);
        for _ in 0..parks {
            set_errno(own);
            csp::yield_now();
            assert!(errno_is_own(own));
            travels.look();
            assert_eq!(PLAIN.get(), own);
            assert_eq!((counted.get(), Rc::strong_count(&counted)), (own, 2));
            assert_eq!(tokio::runtime::Handle::current().id(), handle.id());
            // Its owner may lock it again.
            assert_eq!(mutex.try_lock().expect("it is ours").get(), own);
        }
        assert_eq!(borrowed.pop(), Some(own));
        assert!(borrowed.is_empty());
    });
    assert_eq!(thread::current().id(), me);
    drop(locked);
    drop(tokio);
    assert!(tokio::runtime::Handle::try_current().is_err());
    travels.count
}

#[test]
fn ten_thousand_goroutines_keep_what_is_theirs_across_hundreds_of_migrations() {
    let outcome = in_child(&[], || {
        csp::runtime::set_max_procs(4);
        let (goroutines, parks) = scaled((10_000, 900), (300, 30));
        let runtimes: [_; 4] = std::array::from_fn(|_| tokio::runtime::Builder::new_current_thread().build().unwrap());
        // One stdout, and so one turn at it. What waits for the turn is parked, and not a thread in a futex.
        let (give_turn, turn) = csp::bounded(1);
        let (arrive, arrived) = (csp::WaitGroup::new(), csp::WaitGroup::new());
        arrive.add(goroutines as isize);
        arrived.add(1);
        let goroutine = |own: u64| {
            let handle = runtimes[own as usize % 4].handle().clone();
            let (give_turn, turn, arrive, arrived) = (give_turn.clone(), turn.clone(), arrive.clone(), arrived.clone());
            csp::spawn(move || {
                // All of them at once, each with its own thread-locals.
                arrive.done();
                arrived.wait();
                let mutex = Arc::new(ReentrantMutex::new(Cell::new(0)));
                let travels = travel(own, parks, &handle, &mutex);

                let () = turn.recv().unwrap();
                let mut stdout = std::io::stdout().lock();
                write!(stdout, "\nline {own}").unwrap();
                csp::yield_now();
                // Its owner may lock it again.
                print!(" of");
                csp::yield_now();
                writeln!(stdout, " {own}").unwrap();
                drop(stdout);
                give_turn.send(()).unwrap();
                travels
            })
        };
        let all = (0..goroutines).map(goroutine).collect::<Vec<_>>();
        arrive.wait();
        arrived.done();
        give_turn.send(()).unwrap();
        let travels = all.into_iter().map(|goroutine| goroutine.join().unwrap()).collect::<Vec<_>>();
        let (least, sum) = (travels.iter().min().unwrap(), travels.iter().sum::<u64>());
        println!("\nmigrations of a goroutine: {least} at least, {} on average", sum / goroutines);
        if native() {
            assert!(sum / goroutines >= 100, "too few of the parks were migrations to show anything");
        }
        println!("goroutines {goroutines}");
    });
    let outcome = outcome.expect_success();
    let goroutines = outcome.stdout.lines().find_map(|line| line.strip_prefix("goroutines ")).unwrap().parse().unwrap();
    let lines = outcome.stdout.lines().filter(|line| line.starts_with("line ")).collect::<Vec<_>>();
    assert_eq!(lines.len(), goroutines);
    let lines = lines.into_iter().collect::<HashSet<_>>();
    for own in 0..goroutines {
        assert!(
            lines.contains(format!("line {own} of {own}").as_str()),
            "goroutine {own} did not have stdout to itself"
        );
    }
    outcome.stdout.lines().filter(|line| line.starts_with("migrations")).for_each(|line| println!("{line}"));
}

/// The thread-locals of a stack stay when its goroutine ends, as those of a thread of a pool do; they are dropped by
/// nobody, and never while somebody uses them.
#[test]
fn thread_locals_stay_for_the_next_goroutine_on_the_stack() {
    thread_local!(static USES: Cell<u32> = const { Cell::new(0) });
    struct Witness(Cell<bool>);
    impl Drop for Witness {
        fn drop(&mut self) {
            assert!(csp::current().is_none(), "dropped while a goroutine runs");
        }
    }
    thread_local!(static WITNESS: Witness = const { Witness(Cell::new(false)) });
    in_child(&[("GOMAXPROCS", "1")], || {
        let uses = (0..100).map(|_| {
            let goroutine = csp::spawn(|| {
                WITNESS.with(|witness| witness.0.set(true));
                USES.set(USES.get() + 1);
                USES.get()
            });
            goroutine.join().unwrap()
        });
        // One after another they run on a few warm stacks.
        assert!(uses.max().unwrap() > 1);
    })
    .expect_success();
}
