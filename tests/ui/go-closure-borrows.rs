use csp::go;

fn f(_: i32) {}

fn main() {
    let n = 1;
    go!(|| f(n));
}
