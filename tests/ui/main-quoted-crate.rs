#[csp::main(crate = "csp")]
fn main() {}
