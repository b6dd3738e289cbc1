//! `#[csp::main]` where Cargo.toml does not name csp.

use csp_test_reexport::csp;

#[csp::main(crate = csp_test_reexport::csp)]
fn main() -> Result<(), String> {
    match csp::current() {
        Some(_) => Err("on purpose".to_owned()),
        None => Ok(()),
    }
}
