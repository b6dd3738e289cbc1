//! The library is called `rt` in Cargo.toml.

use rt as library;

include!("../../check.rs");

#[rt::test]
fn the_attribute_finds_the_library() {
    assert!(rt::current().is_some());
}

#[rt::test(crate = rt)]
fn the_attribute_takes_a_path() -> Result<(), std::num::ParseIntError> {
    assert_eq!(rt::go!("1".parse::<i32>()).join().unwrap()?, 1);
    Ok(())
}

#[test]
fn main_runs_as_a_goroutine_and_returns_its_status() {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_csp-test-renamed")).status().unwrap();
    assert_eq!(status.code(), Some(7));
}
