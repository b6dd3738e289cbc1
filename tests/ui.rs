//! What the macros say when they are misused. `TRYBUILD=overwrite cargo test --test ui` writes down what they say now.

use std::process::Command;

/// The texts are rustc's in part, and change with it.
const TOOLCHAIN: &str = "rustc 1.95.";

#[test]
fn misuse_is_reported_where_it_is_written() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("failed to run rustc").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(TOOLCHAIN) || version.contains("nightly") {
        println!("skipped: the expected texts are those of {TOOLCHAIN}x, this is {version}");
        return;
    }
    if !cfg!(debug_assertions) {
        println!("skipped: what the compiler says does not depend on the profile; the debug run looks at it");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
