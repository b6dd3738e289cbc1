#[csp::main]
const fn main() {}
