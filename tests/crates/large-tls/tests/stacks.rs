//! Goroutines with the smallest stacks that can be asked for, in a program whose thread-locals would fill them.

use std::collections::HashSet;
use std::hint::black_box;

use csp_test_large_tls::{address, change};

/// Uses `bytes` of stack below the caller, or a frame more. Returns how many calls that took.
fn use_stack(bytes: usize) -> usize {
    #[inline(never)]
    fn down_to(address: usize) -> usize {
        let frame = black_box([1_u8; 256]);
        if frame.as_ptr().addr() <= address {
            return 1;
        }
        // After the call, so that the frame is needed until then.
        down_to(address) + usize::from(black_box(frame)[7])
    }
    let here = 0_u8;
    down_to((&raw const here).addr().saturating_sub(bytes))
}

/// For the frames of the runtime and of the test's own, unoptimised.
const REST: usize = 8 << 10;

#[test]
fn thread_locals_are_no_part_of_the_stack_that_was_asked_for() {
    for size in [1, 16 << 10, 44 << 10, 64 << 10, 100 << 10, 240 << 10, 1 << 20] {
        let (open, gate) = csp::bounded::<()>(0);
        let goroutine = |n: u8| {
            let gate = gate.clone();
            let body = move || {
                change(7, n);
                let calls = use_stack(size.max(44 << 10) - REST);
                // They are all there at once.
                gate.recv().unwrap_err();
                change(n, 7);
                (address(), calls)
            };
            csp::Builder::new().stack_size(size).spawn(body).unwrap()
        };
        let goroutines = (0..100).map(goroutine).collect::<Vec<_>>();
        drop(open);
        let ends = goroutines.into_iter().map(|goroutine| goroutine.join().unwrap()).collect::<Vec<_>>();
        let addresses = ends.iter().map(|(address, _)| *address).collect::<HashSet<_>>();
        assert!(!addresses.contains(&address()) && ends.iter().all(|(_, calls)| *calls > 1));
    }
}

#[test]
fn thread_locals_are_no_part_of_the_stack_that_all_get() {
    let ends = (0..100).map(|_| csp::spawn(|| use_stack((236 << 10) - REST))).collect::<Vec<_>>();
    assert!(ends.into_iter().all(|end| end.join().unwrap() > 1));
}

#[test]
fn stacks_are_the_goroutines_own_where_they_can_be() {
    // The proof at the start needs a stack of the usual size.
    assert_eq!(csp::runtime::fallback_reason(), None);
}
