#[csp::test]
async fn works() {}

fn main() {}
