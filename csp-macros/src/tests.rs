//! Tests of the parsers alone. What they accept and reject is tested with the library, in the workspace's `tests`.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use crate::{entry, go, select, shell, wait_group};

/// A generator of numbers that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

/// What people write in the macros, in any order.
fn scramble(random: &mut Random, depth: usize) -> TokenStream {
    let words = quote!(
        recv(rx) send(tx, 1) default default(t) else go! select! wait_group! fn f |x| || move async return break ? . ::
        name = "n" wg = &wg , , , ; : := @ if let case v _ Ok(v) Message { id } 'a 1 -1
            <- <- <- -> -> => => => = = == < -
        {} { f(x); } [0] x.y f(x) *p $ # [a]
    );
    let words = words.into_iter().collect::<Vec<_>>();
    let count = random.below(12);
    (0..count)
        .map(|_| match &words[random.below(words.len())] {
            TokenTree::Group(group) if depth > 0 && random.below(2) == 0 => {
                proc_macro2::Group::new(group.delimiter(), scramble(random, depth - 1)).into()
            }
            token => token.clone(),
        })
        .collect()
}

#[test]
fn whatever_is_written_expands_or_is_an_error() {
    let mut random = Random(1);
    let mut expanded = [0, 0, 0];
    for _ in 0..5_000 {
        let tokens = scramble(&mut random, 2);
        let done = [
            shell::expand(quote!([krate] #tokens), go::expand),
            shell::expand(quote!([krate] [Random] #tokens), select::expand),
            shell::expand(quote!([krate] #tokens), wait_group::expand),
        ];
        for (count, output) in expanded.iter_mut().zip(&done) {
            *count += usize::from(!output.to_string().contains("compile_error"));
        }
        // Blocks are passed on as they are, for rustc to read; a `select!` has been read to its end.
        if let Err(error) = syn::parse2::<syn::Expr>(done[1].clone()) {
            panic!("{error}: select! {{ {tokens} }} became {}", done[1]);
        }
        entry::expand(entry::Kind::Main, quote!(crate = csp), quote!(fn main() { #tokens }));
        entry::expand(entry::Kind::Test, tokens.clone(), tokens);
    }
    assert!(expanded.iter().all(|&count| count > 50), "{expanded:?}");
}
