//! Hello: a goroutine is one `go!` away, and a channel carries its answer back.
//!
//! Run it with `cargo run --example hello`.

use csp::{Sender, bounded, go};

fn greet(out: Sender<String>, name: &str) {
    out.send(format!("hello, {name}")).expect("main receives until every greeter is done");
}

#[csp::main]
fn main() {
    let (tx, rx) = bounded(0);
    for name in ["gopher", "ferris", "world"] {
        // As in Go, the arguments are evaluated here and now; the call runs in the new goroutine.
        go!(greet(tx.clone(), name));
    }
    drop(tx); // The channel closes with its last sender, and that ends the loop below.

    let mut greetings = Vec::new();
    for greeting in rx {
        println!("{greeting}");
        greetings.push(greeting);
    }

    greetings.sort(); // The goroutines run in any order.
    assert_eq!(greetings, ["hello, ferris", "hello, gopher", "hello, world"]);
}
