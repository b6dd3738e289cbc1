use csp::go;

fn f(_: i32) {}

fn main() {
    go!(stack = "64k", f(1));
}
