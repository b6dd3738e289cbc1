use csp::{go, wait_group};

fn f(_: &i32) {}

fn g() {
    let text = String::new();
    wait_group! {
        for _ in 0..3 {
            go!(text.len());
        }
    }
}

fn main() {
    g();
}
