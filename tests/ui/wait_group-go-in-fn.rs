use csp::{go, wait_group};

fn f(_: &i32) {}

fn g() {
    wait_group! {
        fn inner(n: &i32) {
            go!(f(n));
        }
        inner(&1);
    }
}

fn main() {
    g();
}
