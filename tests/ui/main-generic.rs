#[csp::main]
fn main<T>()
where
    T: Send,
{
}
