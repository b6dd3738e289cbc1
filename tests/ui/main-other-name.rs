#[csp::main]
fn start() {}

fn main() {
    start();
}
