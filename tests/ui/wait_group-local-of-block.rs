use csp::{go, wait_group};

fn f(_: &i32) {}

fn g() {
    wait_group! {
        let n = 1;
        go!(f(&n));
    }
}

fn main() {
    g();
}
