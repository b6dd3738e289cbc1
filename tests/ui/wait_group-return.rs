use csp::wait_group;

fn f(_: &i32) {}

fn g() {
    let n = 1;
    wait_group! {
        csp::go!(f(&n));
        if n > 1 {
            return;
        }
    }
}

fn main() {
    g();
}
