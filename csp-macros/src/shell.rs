//! What the function-like macros share: their input begins with what the shell in csp-core put there.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, Result, bracketed};

/// The path of csp-core, as the `$crate` of its shell: good in every crate, whatever that crate calls csp.
pub(crate) struct Crate(TokenStream);

impl ToTokens for Crate {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.0.to_tokens(tokens);
    }
}

/// Takes `[$crate]` off `input` and hands the rest, which the user wrote, to `expansion`.
pub(crate) fn expand(input: TokenStream, expansion: fn(&Crate, ParseStream) -> Result<TokenStream>) -> TokenStream {
    let parser = |input: ParseStream| {
        let path;
        bracketed!(path in input);
        expansion(&Crate(path.parse()?), input)
    };
    parser.parse2(input).unwrap_or_else(|error| {
        // In braces several errors are one expression, wherever the macro stands.
        let errors = error.into_compile_error();
        quote!({ #errors })
    })
}

/// A local of the expansion, which no local of the user's can be, nor any constant that people write. Messages about
/// it point at `at`.
pub(crate) fn local(name: &str, at: Span) -> Ident {
    Ident::new(&format!("__{name}"), hidden(at))
}

/// The span of code that is the expansion's own, shown to people as `at`.
pub(crate) fn hidden(at: Span) -> Span {
    Span::mixed_site().located_at(at)
}

/// The span of the first token: what stable Rust lets a macro point at.
pub(crate) fn start(tokens: impl ToTokens) -> Span {
    tokens.into_token_stream().into_iter().next().map_or_else(Span::call_site, |token| token.span())
}

/// The expression inside the invisible groups that `$e:expr` puts around it.
pub(crate) fn ungrouped(mut expr: Expr) -> Expr {
    while let Expr::Group(group) = expr {
        expr = *group.expr;
    }
    expr
}

/// The expression inside parentheses, which rustc finds unnecessary where a `let` binds it.
pub(crate) fn unparenthesised(mut expr: Expr) -> Expr {
    while let Expr::Paren(paren) = expr {
        expr = *paren.expr;
    }
    expr
}

/// Errors, gathered to be reported together.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}
