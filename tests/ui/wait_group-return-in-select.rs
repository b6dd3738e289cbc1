use csp::{wait_group};

fn f(_: &i32) {}

fn g() {
    let (_tx, rx) = csp::bounded::<i32>(0);
    wait_group! {
        csp::select! {
            v = <-rx => drop(v),
            default => return,
        }
    }
}

fn main() {
    g();
}
