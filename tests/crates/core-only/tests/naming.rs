//! The library is csp-core, without the facade.

use csp_core as library;

include!("../../check.rs");

#[csp_core::test]
fn the_attribute_finds_the_library() {
    assert!(csp_core::current().is_some());
}

#[test]
fn main_runs_as_a_goroutine() {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_csp-test-core-only")).status().unwrap();
    assert_eq!(status.code(), Some(3));
}
