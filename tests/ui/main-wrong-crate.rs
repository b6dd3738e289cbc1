#[csp::main(crate = elsewhere::csp)]
fn main() {}
