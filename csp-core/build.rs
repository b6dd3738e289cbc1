//! Decides where goroutines have stacks of their own (`csp_native`): x86-64 Linux with glibc, not under Miri or Loom; whether
//! a sanitizer is to see each allocation and each thread (`csp_sanitized`); and where `PerWorker` keeps blocks at hand
//! (`csp_magazines`): where the first is so and the second is not.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(csp_native, csp_sanitized, csp_magazines)");
    let set = |name: &str| std::env::var_os(name).is_some();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    let target = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", "64");
    let native = target && !set("CARGO_CFG_MIRI") && !set("CARGO_CFG_CSP_LOOM");
    let sanitized = ["CARGO_CFG_SANITIZE", "CARGO_CFG_CSP_ASAN", "CARGO_CFG_CSP_TSAN"].into_iter().any(set);
    for (name, is_set) in [("native", native), ("sanitized", sanitized), ("magazines", native && !sanitized)] {
        if is_set {
            println!("cargo::rustc-cfg=csp_{name}");
        }
    }
}
