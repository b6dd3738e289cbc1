#[csp::test(procs = 2)]
fn works() {}

fn main() {}
