use csp::{WaitGroup, go, wait_group};

fn main() {
    let wg = WaitGroup::new();
    wait_group! {
        go!(wg = &wg, drop(1));
    }
}
