#[csp::test]
fn works(n: i32) {}

fn main() {}
