//! The shells of the function-like macros: they pass `$crate` on, so that the procedural macros behind them find this
//! crate whatever the user calls it and through whichever re-export.

/// Starts a goroutine.
///
/// As in Go, the function, the receiver and the arguments of the call are evaluated now, in the caller, from left to
/// right; the call itself runs in the goroutine. The value is the goroutine's [`JoinHandle`](crate::JoinHandle), which
/// may be dropped.
///
/// ```
/// # use csp_core as csp;
/// use csp::go;
///
/// fn add(a: i32, b: i32) -> i32 {
///     a + b
/// }
///
/// let mut n = 1;
/// let sum = go!(add(n, 10)); // `n` is read here ..
/// n = 5;
/// assert_eq!(sum.join().unwrap(), 11); // .. and not when `add` runs
/// assert_eq!(n, 5);
/// ```
///
/// # What it takes
///
/// | form | evaluated now | runs in the goroutine |
/// |---|---|---|
/// | `go!(f(a, b))`, `go!(module::f::<T>(a))` | `f`, `a`, `b` | the call |
/// | `go!(x.method(a))` | `x`, `a` | the call |
/// | `go!((closure)(a))` | the closure, `a` | the call |
/// | <code>go!(\|\| ..)</code>, <code>go!(move \|\| ..)</code> | the captures, as in any closure | the body |
/// | `go!({ .. })`, `go! { stmt; stmt }` | the captures, by `move` | the block |
/// | `go!(println!("{n}"))`, `go!(for x in rx { .. })` | likewise | likewise |
///
/// The goroutine owns what it is given. An argument is bound as by `let`, so it is moved unless it is `Copy` or a
/// reference, and `?` in an argument returns from the caller. A receiver or function that is a variable or a field
/// (`tx`, `self.pool`) is captured as a `move` closure captures it, after the arguments; anything else in its place is
/// evaluated first. Everything has to be [`Send`] and `'static`, except inside [`wait_group!`](crate::wait_group!),
/// where a goroutine may borrow.
///
/// The goroutine's value is what the call, closure or block returns. In a block `return` ends the goroutine; `?` works
/// in a block that ends in a `Result`.
///
/// ```
/// # use csp_core as csp;
/// use csp::go;
///
/// let (tx, rx) = csp::bounded(3);
/// go!(tx.clone().send("method"));
/// go!((|text: &'static str, tx: csp::Sender<_>| tx.send(text))("closure", tx.clone()));
/// go! {
///     let text = "block";
///     tx.send(text)
/// };
/// let mut texts = rx.iter().collect::<Vec<_>>();
/// texts.sort();
/// assert_eq!(texts, ["block", "closure", "method"]);
/// ```
///
/// # Options
///
/// They come before the call, as `option = value`:
///
/// | option | value | as in |
/// |---|---|---|
/// | `name` | `impl Into<String>`: shown in panic messages, reports and traces | [`Builder::name`] |
/// | `stack` | `usize`: the size of the stack in bytes | [`Builder::stack_size`] |
/// | `wg` | `&WaitGroup`: counts the goroutine in now, and out however it ends | [`Builder::wait_group`] |
/// | `locked` | `bool`: the goroutine owns its OS thread from the start | [`Builder::locked`] |
///
/// [`Builder::name`]: crate::Builder::name
/// [`Builder::stack_size`]: crate::Builder::stack_size
/// [`Builder::wait_group`]: crate::Builder::wait_group
/// [`Builder::locked`]: crate::Builder::locked
///
/// ```
/// # use csp_core as csp;
/// use csp::{WaitGroup, go};
///
/// fn fetch(page: u32, tx: csp::Sender<u32>) {
///     tx.send(page).unwrap();
/// }
///
/// let wg = WaitGroup::new();
/// let (tx, rx) = csp::unbounded();
/// for page in 0..3 {
///     go!(name = format!("fetch {page}"), stack = 64 << 10, wg = &wg, fetch(page, tx.clone()));
/// }
/// wg.wait();
/// assert_eq!(rx.try_iter().sum::<u32>(), 3);
/// ```
///
/// # Panics
///
/// Where a goroutine cannot be started, as [`spawn`](crate::spawn) does. A panic in the goroutine does not spread: it
/// is reported, and [`join`](crate::JoinHandle::join) returns it.
///
/// # Notes
///
/// - `go!` is an expression: `go! { .. }` as a statement ends with `;`.
/// - `go!(f(x))` evaluates `x` now and `go!({ f(x) })` evaluates it later; a `;` makes a block, so `go! { f(x); }` is
///   the latter.
/// - Parameters of a closure that is an argument may need types, unless it is a `move` closure.
/// - Go starts `go func(x int) { .. }(i)`; here it is <code>go!((|x: i32| { .. })(i))</code>.
#[macro_export]
macro_rules! go {
    ($($tokens:tt)*) => {
        $crate::__private::go_impl!([$crate] $($tokens)*)
    };
}

/// Waits for the first of several channel operations that can go on, and runs its arm.
///
/// Where more than one is ready, one of them is chosen at random, each with the same probability. Waiting parks the
/// goroutine, or the thread where the caller is not a goroutine.
///
/// Go's arms and crossbeam's can be mixed in one `select!`:
///
/// | arm | does |
/// |---|---|
/// | `pattern = <-rx => body` | receives; the pattern is matched with what `rx.recv()` returns |
/// | `<-rx => body` | receives; what `rx.recv()` returns is dropped before the body runs |
/// | `tx <- value => body` | sends |
/// | `pattern = tx <- value => body` | sends; the pattern is matched with what `tx.send(value)` returns |
/// | `recv(rx) -> pattern => body` | receives |
/// | `send(tx, value) -> pattern => body` | sends |
/// | `default => body` | runs when no operation is ready |
/// | `default(timeout) => body` | runs when none has become ready within `timeout` |
/// | `else => body` | runs when every other arm is out (see below) |
///
/// ```
/// # use csp_core as csp;
/// use csp::{go, select};
///
/// let (numbers_tx, numbers) = csp::bounded(0);
/// let (quit_tx, quit) = csp::bounded::<()>(0);
/// go!(move || {
///     for n in 1..=3 {
///         numbers_tx.send(n).unwrap();
///     }
///     drop(quit_tx);
///     csp::never::<()>().recv()
/// });
///
/// let mut sum = 0;
/// loop {
///     select! {
///         n = <-numbers => sum += n.unwrap(),
///         recv(quit) -> _ => break,
///     }
/// }
/// assert_eq!(sum, 6);
/// ```
///
/// Channels, values, conditions and the timeout are evaluated once, from top to bottom, on entering, whichever arm runs
/// in the end; within an arm the channel is first, then the value, then the condition. There is one exception: the
/// value of `send(tx, value)` is evaluated when that arm has been chosen, as in crossbeam. A channel may be anything that
/// derefs to a [`Sender`](crate::channel::Sender) or [`Receiver`](crate::channel::Receiver); it is borrowed until the
/// choice is made, and not while a body runs.
///
/// A result of which the pattern binds nothing, as `_` and `Ok(_)` do, is dropped before the body runs. Of any other
/// result, what the pattern does not bind lives until the arm ends. Values that were not sent are dropped before the
/// body, too.
///
/// ```
/// # use csp_core as csp;
/// use csp::select;
///
/// let (tx, rx) = csp::bounded(1);
/// let mut parcel = Some(String::from("a parcel"));
/// for _ in 0..2 {
///     select! {
///         send(tx, parcel.take().unwrap()) -> sent => sent.unwrap(), // once: then there is no room
///         default => {}
///     }
/// }
/// assert_eq!(rx.recv().as_deref(), Ok("a parcel"));
///
/// let text = String::from("hello");
/// let text = select! {
///     recv(rx) -> _ => unreachable!("it is empty"),
///     tx <- text.clone() => text, // Go's arm: cloned in any case
///     send(tx, text) -> _ => String::new(), // crossbeam's arm: moved if it is chosen
/// };
/// # _ = text;
/// ```
///
/// While the value of a chosen `send(tx, value)` is made, a receiver may be waiting for it: so it better be quick. If
/// that is left by `?`, `break`, `return` or a panic, nothing is sent and the receiver goes on waiting.
///
/// Arms are separated by commas, which may be left out after a block. There may be any number of them. A body is no
/// closure: `break`, `continue`, `return` and `?` act on the enclosing function. The `select!` is an expression, and
/// its value is the body's.
///
/// ```
/// # use csp_core as csp;
/// use std::time::Duration;
///
/// use csp::select;
///
/// fn first_or_zero(a: &csp::Receiver<u32>, b: &csp::Receiver<u32>) -> Result<u32, csp::channel::RecvError> {
///     let n = select! {
///         n = <-a => n?,
///         n = <-b => n? + 1,
///         default(Duration::from_millis(1)) => return Ok(0),
///     };
///     Ok(n * 10)
/// }
///
/// let (tx, rx) = csp::bounded(1);
/// assert_eq!(first_or_zero(&rx, &csp::never()), Ok(0));
/// tx.send(4).unwrap();
/// assert_eq!(first_or_zero(&csp::never(), &rx), Ok(50));
/// drop(tx);
/// assert!(first_or_zero(&rx, &csp::never()).is_err());
/// ```
///
/// # Closed channels
///
/// An operation on a closed channel is ready, and returns its error: `n = <-rx` gets `Err(RecvError)`. With a pattern
/// that this error does not match, such as `Ok(n) = <-rx`, the arm is taken out of this `select!` and the others are
/// waited for. When none is left, `else` runs. So is any other result taken that the pattern does not match: it is
/// dropped, and the arm is out.
///
/// ```
/// # use csp_core as csp;
/// use csp::select;
///
/// let (tx, a) = csp::bounded(1);
/// let (_, b) = csp::bounded::<i32>(1); // closed
/// tx.send(7).unwrap();
/// drop(tx);
/// let mut received = Vec::new();
/// loop {
///     select! {
///         Ok(n) = <-a => received.push(n),
///         Ok(n) = <-b => received.push(n),
///         else => break,
///     }
/// }
/// assert_eq!(received, [7]);
/// ```
///
/// # Conditions
///
/// An arm with `, if condition` takes part only if the condition, evaluated on entering, is true. It stands where a
/// Go program sets a channel to `nil`; as there, channel and value are evaluated all the same.
///
/// ```
/// # use csp_core as csp;
/// use csp::select;
///
/// // Passes three numbers on, through a queue of its own.
/// let (tx, input) = csp::bounded(3);
/// let (output, rx) = csp::bounded(3);
/// (1..=3).for_each(|n| tx.send(n).unwrap());
/// let mut queue = std::collections::VecDeque::new();
/// let mut sent = 0;
/// while sent < 3 {
///     select! {
///         Ok(n) = <-input, if queue.len() < 2 => queue.push_back(n),
///         output <- queue.front().copied().unwrap_or(0), if !queue.is_empty() => {
///             queue.pop_front();
///             sent += 1;
///         }
///     }
/// }
/// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
/// ```
///
/// # Panics
///
/// When every arm is out, by its pattern or by its condition, and there is neither `else` nor `default`.
///
/// # Compared with Go and crossbeam
///
/// `select! {}` parks for ever, as in Go. A name to the left of `=` is a new variable, as with Go's `:=`; to assign to
/// one that exists, do so in the body. A channel that is the result of a function called `recv` or `send` is written in
/// parentheses: `(recv(x)) <- value`. crossbeam's `select!` takes neither refutable patterns, nor conditions, nor
/// `else`; whatever it takes means the same here. (With a refutable pattern the value of `send(tx, value)` is evaluated on
/// entering.) For a number of channels that is known only at run time there is [`Select`](crate::channel::Select).
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => {
        $crate::__private::select_impl!([$crate] [Random] $($tokens)*)
    };
}

/// Waits like [`select!`](crate::select!), but where more than one operation is ready the topmost of them is chosen.
///
/// ```
/// # use csp_core as csp;
/// use csp::select_biased;
///
/// let (urgent_tx, urgent) = csp::bounded(10);
/// let (tx, rx) = csp::bounded(10);
/// for n in 0..10 {
///     urgent_tx.send(n).unwrap();
///     tx.send(n).unwrap();
/// }
/// for n in 0..10 {
///     select_biased! {
///         recv(urgent) -> m => assert_eq!(m, Ok(n)),
///         recv(rx) -> _ => unreachable!("`urgent` is ready"),
///     }
/// }
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($tokens:tt)*) => {
        $crate::__private::select_impl!([$crate] [Biased] $($tokens)*)
    };
}

/// A block whose goroutines may borrow from the enclosing function, and which ends when all of them have ended.
///
/// [`go!`](crate::go!) inside it starts a *scoped* goroutine and gives a
/// [`ScopedJoinHandle`](crate::ScopedJoinHandle); of its options, `wg` is not to be had here. The block's value is that
/// of its last expression, and `()` if that is a `go!`.
///
/// ```
/// # use csp_core as csp;
/// use csp::{go, wait_group};
///
/// fn square(cell: &mut u32) {
///     *cell *= *cell;
/// }
///
/// let mut cells = [1, 2, 3];
/// let count = wait_group! {
///     for cell in &mut cells {
///         go!(square(cell));
///     }
///     3
/// };
/// assert_eq!((count, cells), (3, [1, 4, 9]));
/// ```
///
/// # Borrowing
///
/// What a goroutine borrows has to be declared outside the block, as with [`std::thread::scope`]. As everywhere, `go!`
/// owns what it is given, and lends what is given as a reference:
///
/// - `go!(work(&x, i))` lends `x`. A variable of the block, such as a loop's `i`, is moved or copied in.
/// - `go!(x.work(i))` moves `x` in, unless `x` is a reference, as `self` often is; `go!((&x).work(i))` lends it.
/// - <code>go!(|| ..)</code> borrows what its body uses, and <code>go!(move || ..)</code> and `go!({ .. })` take it:
///   say `let x = &x;` before, outside the block, to lend it to them.
///
/// ```
/// # use csp_core as csp;
/// use csp::{go, wait_group};
///
/// let text = String::from("a borrowed text");
/// let mut words = 0;
/// let mut bytes = 0;
/// wait_group! {
///     go!(|| words = text.split(' ').count());
///     go!(|| bytes = text.len());
/// }
/// assert_eq!((words, bytes), (3, 15));
/// ```
///
/// # Leaving the block
///
/// `return`, `?`, `break` and `continue` cannot leave the block, which is a closure and ends only when its goroutines
/// have. Make the decision the block's value, and act on it behind the block:
///
/// ```
/// # use csp_core as csp;
/// use csp::{go, wait_group};
///
/// fn sum(texts: &[&str]) -> Result<i32, std::num::ParseIntError> {
///     let numbers = wait_group! {
///         let goroutines = texts.iter().map(|text| go!(text.parse::<i32>())).collect::<Vec<_>>();
///         goroutines.into_iter().map(|goroutine| goroutine.join().unwrap()).collect::<Result<Vec<_>, _>>()
///     }?;
///     Ok(numbers.iter().sum())
/// }
///
/// assert_eq!(sum(&["1", "20", "300"]), Ok(321));
/// assert!(sum(&["1", "one"]).is_err());
/// ```
///
/// # Panics
///
/// If a goroutine panicked and its handle was not joined, once all of them have ended. If the block itself panics, it
/// waits for its goroutines first.
///
/// # Which `go!`s are scoped
///
/// Those that are written in the block, at any depth: in loops, closures, arguments of other macros, and other `go!`s.
/// Not those that another macro expands to, nor those in a `fn` inside the block; use [`scope`](crate::scope), on which
/// this macro is built, to start scoped goroutines from there. [`spawn`](crate::spawn) starts a goroutine which the
/// block does not wait for.
#[macro_export]
macro_rules! wait_group {
    ($($tokens:tt)*) => {
        $crate::__private::wait_group_impl!([$crate] $($tokens)*)
    };
}
