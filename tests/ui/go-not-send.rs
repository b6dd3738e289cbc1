use std::rc::Rc;

use csp::go;

fn g(_: Rc<i32>) {}

fn main() {
    let n = Rc::new(1);
    go!(g(n));
}
