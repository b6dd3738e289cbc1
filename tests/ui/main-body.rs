#[csp::main]
fn main() -> Result<(), std::num::ParseIntError> {
    let n: i32 = "1".parse()?;
    n
}
