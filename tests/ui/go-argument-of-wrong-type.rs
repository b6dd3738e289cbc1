use csp::go;

fn f(_: i32) {}

fn main() {
    let text = "one";
    go!(f(text));
}
