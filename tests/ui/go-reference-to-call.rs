use csp::go;

fn f(_: i32) {}

fn main() {
    let text = String::new();
    go!(&text.len());
}
