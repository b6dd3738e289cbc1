use csp::{go, wait_group};

fn f(_: &i32) {}

fn g() {
    wait_group! {
        for n in 0..3 {
            go!(|| f(&n));
        }
    }
}

fn main() {
    g();
}
