//! How many stacks there are, and what they cost. Each test is a process of its own: the numbers are the process's.

#![cfg(target_os = "linux")]

mod support;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use support::{in_child, own_stacks, scaled};

/// Resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

fn slots() -> usize {
    csp::runtime::stats().slots
}

#[test]
fn a_million_goroutines_one_after_another_need_a_handful_of_stacks() {
    in_child(&[], || {
        let count = scaled(1_000_000, 5_000);
        let all = csp::spawn(move || (0..count).map(|i| csp::spawn(move || i & 1).join().unwrap()).sum::<u64>());
        assert_eq!(all.join().unwrap(), count / 2);
        assert!(slots() < 200, "{}", slots());
    })
    .expect_success();
}

#[test]
fn a_million_goroutines_that_nobody_waits_for_need_a_handful_of_stacks() {
    in_child(&[], || {
        let count = scaled(1_000_000, 5_000);
        let wg = csp::WaitGroup::new();
        let group = wg.clone();
        // By a goroutine, and by a plain thread, which nothing holds back.
        let by_goroutine = csp::spawn(move || (0..count / 2).for_each(|_| _ = group.go(|| ())));
        for _ in 0..count / 2 {
            wg.go(|| ());
        }
        by_goroutine.join().unwrap();
        wg.wait();
        // One that runs at each processor, and what the processors have made ahead.
        let most = 100 + 64 * csp::runtime::max_procs();
        assert!(slots() < most, "{}", slots());
    })
    .expect_success();
}

#[test]
fn goroutines_that_have_not_started_own_no_stack() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let started = csp::spawn(|| {
            // None of them starts before this goroutine parks: there is one processor.
            let all = (0..200).map(|_| csp::spawn(|| ())).collect::<Vec<_>>();
            (all, slots())
        });
        let (all, slots) = started.join().unwrap();
        all.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        assert!(slots < 100, "{slots}");
    })
    .expect_success();
}

#[test]
fn a_hundred_thousand_goroutines_are_parked_at_once() {
    let outcome = in_child(&[], || {
        // A stack that is not ours takes two memory mappings, of which there are 65,530.
        let count = if own_stacks() { 100_000 } else { scaled(20_000, 1_000) };
        let (open, gate) = csp::bounded::<()>(0);
        let (arrive, all) = (csp::WaitGroup::new(), count);
        arrive.add(all as isize);
        csp::spawn(|| ()).join().unwrap();
        let before = resident();
        let parked = (0..count).map(|_| {
            let (gate, arrive) = (gate.clone(), arrive.clone());
            csp::spawn(move || {
                arrive.done();
                gate.recv().unwrap_err();
                1
            })
        });
        let parked = parked.collect::<Vec<_>>();
        arrive.wait();
        let each = (resident() - before) / count;
        assert!(csp::num_goroutines() == count && slots() >= count);
        println!("\n{count} parked goroutines take {each} bytes each");
        // Two pages of stack and identity, and a little for the records.
        assert!(each < if own_stacks() { 20 << 10 } else { 64 << 10 }, "{each}");
        drop(open);
        assert_eq!(parked.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<usize>(), count);
    });
    let outcome = outcome.expect_success();
    outcome.stdout.lines().filter(|line| line.contains("bytes each")).for_each(|line| println!("{line}"));
}

#[test]
fn stacks_are_used_again() {
    in_child(&[], || {
        let wave = || {
            let count = scaled(2_000, 100);
            let (open, gate) = csp::bounded::<()>(0);
            let parked = (0..count).map(|_| {
                let gate = gate.clone();
                csp::spawn(move || gate.recv().unwrap_err())
            });
            let parked = parked.collect::<Vec<_>>();
            drop(open);
            parked.into_iter().for_each(|goroutine| _ = goroutine.join().unwrap());
            count
        };
        let count = wave();
        (0..5).for_each(|_| _ = wave());
        // Those of the first wave, and what was made ahead.
        assert!(slots() <= count + 256, "{}", slots());
    })
    .expect_success();
}

#[test]
fn an_idle_processor_makes_stacks_ahead_where_more_and_more_are_used() {
    in_child(&[("GOMAXPROCS", "1")], || {
        if !own_stacks() || thread::available_parallelism().map_or(1, |cpus| cpus.get()) == 1 {
            return; // Threads are not made ahead; and without a second CPU no processor is idle beside one at work.
        }
        let all = || {
            let compute_until = |enough: &dyn Fn() -> bool, limit| {
                let start = Instant::now();
                while !enough() && start.elapsed() < limit {
                    std::hint::spin_loop();
                }
            };
            let (open, gate) = csp::bounded::<()>(0);
            let arrive = csp::WaitGroup::new();
            let parked = (0..100).map(|_| {
                let gate = gate.clone();
                arrive.add(1);
                let arrive = arrive.clone();
                csp::spawn(move || {
                    arrive.done();
                    gate.recv().unwrap_err()
                })
            });
            let parked = parked.collect::<Vec<_>>();
            arrive.wait();
            csp::runtime::set_max_procs(2);
            // Batches of 4, 4, 8, 16, 32 and 64 were needed, and these are beyond.
            compute_until(&|| slots() >= 128 + 32, Duration::from_secs(20));
            assert!(slots() >= 128 + 32, "{}", slots());
            // They are enough.
            compute_until(&|| slots() > 256, Duration::from_millis(200));
            assert!(slots() <= 256, "{}", slots());
            drop(open);
            parked.into_iter().for_each(|goroutine| _ = goroutine.join().unwrap());
        };
        csp::spawn(all).join().unwrap();
    })
    .expect_success();
}

#[test]
fn the_memory_of_deep_stacks_is_given_back_when_they_are_idle() {
    in_child(&[], || {
        if !own_stacks() {
            return; // Threads keep their stacks until they end.
        }
        /// Touches about so many bytes of stack.
        #[inline(never)]
        fn deep(bytes: usize) -> usize {
            let frame = black_box([1_u8; 1024]);
            if bytes <= 1024 { usize::from(frame[0]) } else { deep(bytes - 1024) + usize::from(black_box(frame)[9]) }
        }
        const GOROUTINES: usize = 400;
        let (open, gate) = csp::bounded::<()>(0);
        let arrive = csp::WaitGroup::new();
        arrive.add(GOROUTINES as isize);
        let before = resident();
        let all = (0..GOROUTINES).map(|_| {
            let (gate, arrive) = (gate.clone(), arrive.clone());
            let deep = move || {
                black_box(deep(200 << 10));
                arrive.done();
                gate.recv().unwrap_err();
            };
            csp::Builder::new().stack_size(1 << 20).spawn(deep).unwrap()
        });
        let all = all.collect::<Vec<_>>();
        arrive.wait();
        let most = resident() - before;
        assert!(most >= GOROUTINES * (200 << 10), "{most}");
        drop(open);
        all.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        // The program does nothing from here on. A quarter of it may stay, in reserve.
        let start = Instant::now();
        while resident().saturating_sub(before) > most / 4 {
            let left = resident().saturating_sub(before);
            assert!(start.elapsed() < Duration::from_secs(60), "{left} bytes of {most} are still there");
            thread::sleep(Duration::from_millis(20));
        }
        println!("given back after {:?}", start.elapsed());
        // And the stacks are as good as new.
        assert!(csp::Builder::new().stack_size(1 << 20).spawn(|| deep(200 << 10)).unwrap().join().unwrap() > 0);
    })
    .expect_success();
}
