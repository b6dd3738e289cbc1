use csp::go;

fn f(_: i32) {}

fn main() {
    go!("1".parse::<i32>()?);
}
