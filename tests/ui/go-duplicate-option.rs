use csp::go;

fn f(_: i32) {}

fn main() {
    go!(name = "a", stack = 1 << 16, name = "b", f(1));
}
