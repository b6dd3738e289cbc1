//! Decides where goroutines have stacks of their own (`csp_native`): x86-64 Linux with glibc, not under Miri or Loom; and where
//! `PerWorker` keeps blocks at hand (`csp_magazines`): there, unless a sanitizer is to see each allocation.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(csp_native, csp_magazines)");
    let set = |name: &str| std::env::var_os(name).is_some();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    let target = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", "64");
    if target && !set("CARGO_CFG_MIRI") && !set("CARGO_CFG_CSP_LOOM") {
        println!("cargo::rustc-cfg=csp_native");
        let sanitized = ["CARGO_CFG_SANITIZE", "CARGO_CFG_CSP_ASAN", "CARGO_CFG_CSP_TSAN"].into_iter().any(set);
        if !sanitized {
            println!("cargo::rustc-cfg=csp_magazines");
        }
    }
}
