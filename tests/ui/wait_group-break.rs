use csp::{wait_group};

fn f(_: &i32) {}

fn g() {
    'outer: for n in 0..3 {
        wait_group! {
            for m in 0..n {
                if m == 2 {
                    break 'outer;
                }
                break;
            }
            continue;
        }
    }
}

fn main() {
    g();
}
