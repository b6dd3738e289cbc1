//! `#[csp::main]` of a library called `rt`.

use std::process::ExitCode;

#[rt::main]
fn main() -> ExitCode {
    let main = rt::current().expect("`main` is a goroutine");
    match rt::go!(name = "other", rt::current()).join().unwrap() {
        Some(other) if other.id() != main.id() => ExitCode::from(7),
        _ => ExitCode::FAILURE,
    }
}
