//! `wait_group!`: the block becomes the closure of `scope`, and each `go!` in it is told the scope's variable.
//!
//! ```text
//! wait_group! { go!(f(&x)); g() }     $crate::scope(|scope| { go!(@[scope] f(&x)); g() })
//! ```
//!
//! A closure, and not a guard in the caller's frame that waits when dropped: an `async` function's frame may be
//! forgotten while the goroutines still borrow from it, a function that is running may not.
//!
//! The `go!`s are found among the tokens, at any depth: in `if` and `for`, in closures, in the arguments of other
//! macros, in other `go!`s, and behind any path. Left alone are those of a nested `wait_group!`, which has a scope of
//! its own, and those in the body of a nested `fn`, which cannot see the variable. A `go!` that another macro's
//! expansion writes is not among the tokens and starts a goroutine that may not borrow. A local `macro_rules! go`
//! would reach neither that one nor `csp::go!`, and would clash with the imported name.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::visit::{self, Visit};
use syn::{Block, Error, Expr, Lifetime, Result, Stmt};

use crate::select::Select;
use crate::shell::{Crate, Errors, local};

pub(crate) fn expand(library: &Crate, input: ParseStream) -> Result<TokenStream> {
    WaitGroup::parse(input)?.expand(library)
}

/// `wait_group! { body }`.
struct WaitGroup {
    body: TokenStream,
    /// The body ends in a `go!`, whose handle is not meant to be the block's value: it could not leave the block.
    ends_in_go: bool,
}

impl WaitGroup {
    fn parse(input: ParseStream) -> Result<WaitGroup> {
        let body = input.parse::<TokenStream>()?;
        // What does not parse here, rustc will report, and better.
        let Ok(statements) = Block::parse_within.parse2(body.clone()) else {
            return Ok(WaitGroup { body, ends_in_go: false });
        };
        let mut escapes = Escapes::default();
        statements.iter().for_each(|statement| escapes.visit_stmt(statement));
        let ends_in_go = match statements.last() {
            Some(Stmt::Macro(last)) => last.semi_token.is_none() && names(&last.mac.path, "go"),
            Some(Stmt::Expr(Expr::Macro(last), None)) => names(&last.mac.path, "go"),
            _ => false,
        };
        escapes.errors.or(WaitGroup { body, ends_in_go })
    }

    fn expand(self, library: &Crate) -> Result<TokenStream> {
        let scope = local("scope", Span::call_site());
        let body = scoped(self.body, &scope);
        let end = self.ends_in_go.then(|| quote!(;));
        Ok(quote!(#library::scope(|#scope| { #body #end })))
    }
}

fn names(path: &syn::Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}

/// Puts `@[scope]` at the head of each `go!`.
fn scoped(tokens: TokenStream, scope: &Ident) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut done = TokenStream::new();
    // The macro whose arguments the next group is; whether the next braces are the body of a `fn`.
    let mut called = None;
    let mut in_fn = false;
    while let Some(token) = tokens.next() {
        let callee = called.take();
        match token {
            TokenTree::Ident(ref name) => {
                if name == "fn" && matches!(tokens.peek(), Some(TokenTree::Ident(_))) {
                    in_fn = true;
                }
                called = tokens
                    .next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == '!'))
                    .map(|bang| (name.to_string(), bang));
                done.extend([token]);
                if let Some((_, bang)) = &called {
                    done.extend([bang.clone()]);
                }
            }
            TokenTree::Group(group) => {
                let is_body = in_fn && group.delimiter() == Delimiter::Brace;
                in_fn &= !is_body;
                let callee = callee.as_ref().map(|(name, _)| name.as_str());
                let stream = match callee {
                    _ if is_body => group.stream(),
                    Some("wait_group") => group.stream(),
                    Some("go") => {
                        let rest = scoped(group.stream(), scope);
                        quote!(@[#scope] #rest)
                    }
                    _ => scoped(group.stream(), scope),
                };
                let mut new = Group::new(group.delimiter(), stream);
                new.set_span(group.span());
                done.extend([new]);
            }
            TokenTree::Punct(ref punct) => {
                in_fn &= punct.as_char() != ';';
                done.extend([token]);
            }
            TokenTree::Literal(_) => done.extend([token]),
        }
    }
    done
}

/// Finds what would leave the block but cannot, the block being a closure.
#[derive(Default)]
struct Escapes {
    errors: Errors,
    /// The loops around the place being visited, and the labels.
    loops: usize,
    labels: Vec<Lifetime>,
}

impl Escapes {
    fn report(&mut self, at: impl ToTokens, what: &str, help: &str) {
        let message = format!(
            "{what} cannot leave `wait_group!`, which ends when its goroutines have ended\n\
             help: {help}"
        );
        self.errors.push(Error::new_spanned(at, message));
    }

    fn jump(&mut self, at: impl ToTokens, what: &str, label: Option<&Lifetime>) {
        let stays = match label {
            Some(label) => self.labels.contains(label),
            None => self.loops > 0,
        };
        if !stays {
            self.report(at, what, "make the decision the value of the block, and act on it after the block");
        }
    }

    fn labelled(&mut self, label: Option<&syn::Label>, is_loop: bool, visit: impl FnOnce(&mut Self)) {
        let labels = self.labels.len();
        self.labels.extend(label.map(|label| label.name.clone()));
        self.loops += usize::from(is_loop);
        visit(self);
        self.loops -= usize::from(is_loop);
        self.labels.truncate(labels);
    }
}

impl<'ast> Visit<'ast> for Escapes {
    fn visit_expr_return(&mut self, expr: &'ast syn::ExprReturn) {
        self.report(
            expr.return_token,
            "`return`",
            "make the decision the value of the block, and return after the block",
        );
        visit::visit_expr_return(self, expr);
    }

    fn visit_expr_try(&mut self, expr: &'ast syn::ExprTry) {
        self.report(
            expr.question_token,
            "`?`",
            "make the `Result` the value of the block, and use `?` after the block",
        );
        visit::visit_expr_try(self, expr);
    }

    fn visit_expr_break(&mut self, expr: &'ast syn::ExprBreak) {
        self.jump(expr.break_token, "`break`", expr.label.as_ref());
        visit::visit_expr_break(self, expr);
    }

    fn visit_expr_continue(&mut self, expr: &'ast syn::ExprContinue) {
        self.jump(expr.continue_token, "`continue`", expr.label.as_ref());
    }

    fn visit_expr_loop(&mut self, expr: &'ast syn::ExprLoop) {
        self.labelled(expr.label.as_ref(), true, |this| this.visit_block(&expr.body));
    }

    fn visit_expr_while(&mut self, expr: &'ast syn::ExprWhile) {
        self.labelled(expr.label.as_ref(), true, |this| {
            this.visit_expr(&expr.cond);
            this.visit_block(&expr.body);
        });
    }

    fn visit_expr_for_loop(&mut self, expr: &'ast syn::ExprForLoop) {
        self.visit_expr(&expr.expr);
        self.labelled(expr.label.as_ref(), true, |this| this.visit_block(&expr.body));
    }

    fn visit_expr_block(&mut self, expr: &'ast syn::ExprBlock) {
        self.labelled(expr.label.as_ref(), false, |this| this.visit_block(&expr.block));
    }

    /// The bodies of a `select!` are inline.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        if (names(&mac.path, "select") || names(&mac.path, "select_biased"))
            && let Ok(select) = mac.parse_body_with(Select::parse_arms)
        {
            select.bodies().for_each(|body| self.visit_expr(body));
        }
    }

    // Each of these is a function of its own.
    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}
