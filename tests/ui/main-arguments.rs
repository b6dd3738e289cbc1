#[csp::main]
fn main(args: Vec<String>) {}
