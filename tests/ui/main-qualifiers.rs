#[csp::main]
unsafe extern "C" fn main() {}
