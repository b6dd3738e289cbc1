use csp::{wait_group};

fn f(_: &i32) {}

fn g() -> Result<(), std::num::ParseIntError> {
    wait_group! {
        let n: i32 = "1".parse()?;
        drop(n);
    }
    Ok(())
}

fn main() {
    g();
}
