use csp::{go, wait_group};

fn f(_: &i32) {}

fn g() {
    wait_group! {
        go!(f);
        go!(nmae = "a", f(&1));
    }
}

fn main() {
    g();
}
