use csp::go;

fn f(_: i32) {}

fn main() {
    go!(nmae = "a", priority = 2, f(1));
}
