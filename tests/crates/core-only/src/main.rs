//! `#[csp::main]` of csp-core, without the facade.

#[csp_core::main]
fn main() {
    assert!(csp_core::current().is_some());
    std::process::exit(3);
}
