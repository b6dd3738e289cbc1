use csp::go;

fn g(_: &i32) {}

fn main() {
    let n = 1;
    go!(g(&n));
}
