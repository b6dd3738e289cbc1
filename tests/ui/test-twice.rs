#[csp::test]
#[test]
fn works() {}

fn main() {}
