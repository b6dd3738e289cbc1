//! The library is reached through another crate.

use csp_test_reexport::{csp as library, parallel_sum, receive_or, start};

include!("../../check.rs");

#[test]
fn macros_that_expand_to_csps_work() {
    let offset = 1;
    assert_eq!(parallel_sum!(1, 2 + offset, add(2, 3)), 9);
    let (_, closed) = library::bounded(0);
    assert_eq!(receive_or!(closed, 5), 5);
}

#[test]
fn a_macro_may_be_exported_by_another_name() {
    assert_eq!(start!(add(1, 2)).join().unwrap(), 3);
    // Not known as `go!`, and so not scoped.
    wait_group! {
        let goroutine: library::JoinHandle<i32> = start!(add(1, 2));
        go!(goroutine.join())
    }
}

#[library::test(crate = library)]
fn the_attribute_takes_a_path() {
    assert!(library::current().is_some());
}

#[test]
fn an_error_of_main_is_its_status() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_csp-test-through-reexport")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "Error: \"on purpose\"\n");
}
