#[csp::main]
async fn main() {}
