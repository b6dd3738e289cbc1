use csp::go;

fn f(_: i32) {}

fn main() {
    go!(f(1), f(2));
}
