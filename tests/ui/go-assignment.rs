use csp::go;

fn f(_: i32) {}

fn main() {
    let mut x = 1;
    go!(x = 2);
}
