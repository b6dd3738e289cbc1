//! The procedural macros of the `csp` crate. Use them through `csp`; nothing here is meant to be named directly.
//!
//! | macro | parsed and expanded in | reached through |
//! |---|---|---|
//! | `go!` | `go.rs` | `csp::go!`, a shell that passes `[$crate]` on to [`go_impl!`] |
//! | `select!`, `select_biased!` | `select.rs` | likewise, [`select_impl!`] |
//! | `wait_group!` | `wait_group.rs` | likewise, [`wait_group_impl!`] |
//! | `#[csp::main]`, `#[csp::test]` | `entry.rs` | re-exported as they are |
//!
//! Each file holds the typed tree of its macro, the parser with its diagnostics, and the expansion. An expansion names
//! the runtime only by the crate path that it was given, so that it does not matter under which name, or through which
//! other crate, the user reaches it. Its locals carry `mixed_site` spans and cannot meet the user's names; the user's
//! own tokens go through with their spans, so that rustc's messages point into the user's code.

#![forbid(unsafe_code)]

mod entry;
mod go;
mod select;
mod shell;
#[cfg(test)]
mod tests;
mod wait_group;

use proc_macro::TokenStream;

/// The implementation of `csp::go!`.
#[doc(hidden)]
#[proc_macro]
pub fn go_impl(input: TokenStream) -> TokenStream {
    shell::expand(input.into(), go::expand).into()
}

/// The implementation of `csp::select!` and `csp::select_biased!`.
#[doc(hidden)]
#[proc_macro]
pub fn select_impl(input: TokenStream) -> TokenStream {
    shell::expand(input.into(), select::expand).into()
}

/// The implementation of `csp::wait_group!`.
#[doc(hidden)]
#[proc_macro]
pub fn wait_group_impl(input: TokenStream) -> TokenStream {
    shell::expand(input.into(), wait_group::expand).into()
}

/// Runs `main` as the first goroutine.
///
/// `main` may return whatever a Rust `main` may return: `()`, `Result`, `ExitCode`, anything that is
/// [`Termination`](std::process::Termination). As in Go, the process ends when it returns, whatever the other
/// goroutines do, and a program in which every goroutine waits for another is reported as a deadlock and ends with
/// status 2. Pin `main` to the process's main thread with `csp::lock_os_thread()`, as GUI libraries need it.
///
/// The library is looked up in `Cargo.toml`, under whatever name it has there. Where it is reached through another
/// crate's re-export, say so: `#[csp::main(crate = other::csp)]`.
///
/// # Examples
///
/// ```
/// #[csp::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (tx, rx) = csp::bounded(0);
///     csp::go!(tx.send("41".parse::<i32>()? + 1));
///     assert_eq!(rx.recv()?, 42);
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Kind::Main, args.into(), item.into()).into()
}

/// Runs a test as a goroutine.
///
/// It stands for `#[test]` (which is not to be written beside it) and works with `#[ignore]`, `#[should_panic]` and
/// tests that return a `Result`. A panic of the test's goroutine is the test's panic. The library is found as by
/// [`#[csp::main]`](macro@main), and `crate = path` says where it is otherwise.
///
/// # Examples
///
/// ```
/// #[csp::test]
/// fn echo() -> Result<(), csp::channel::RecvError> {
///     let (tx, rx) = csp::bounded(0);
///     csp::go!(tx.send(1));
///     assert_eq!(rx.recv()?, 1);
///     Ok(())
/// }
///
/// #[csp::test]
/// #[should_panic(expected = "no luck")]
/// fn panics() {
///     panic!("no luck");
/// }
/// # // rustdoc does not run the tests of an example.
/// # assert_eq!({ let (tx, rx) = csp::bounded(1); tx.send(1).unwrap(); rx.recv() }, Ok(1));
/// ```
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Kind::Test, args.into(), item.into()).into()
}
