//! `go!`: the call is taken apart, what Go evaluates in the caller is evaluated there, and the rest becomes a closure.
//!
//! ```text
//! go!(name = n, f(a, g(b)))       {
//!                                     let builder = $crate::Builder::new().name(n);
//!                                     let arg0 = a;
//!                                     let arg1 = g(b);
//!                                     builder.spawn(move || f(arg0, arg1)).expect(..)
//!                                 }
//! go!(self.pool.run(job))         { let arg0 = job; $crate::spawn(move || self.pool.run(arg0)) }
//! go!(|| ..)                      $crate::spawn(|| ..)
//! go! { stmt; stmt }              $crate::spawn(move || { stmt; stmt })
//! ```
//!
//! Each argument is bound by a `let` of its own: types flow back into it from the call, its temporaries (a lock's
//! guard, say) end with it, and it is evaluated in its place. Three things stay where they are written, inside the
//! `move` closure:
//!
//! - A function or receiver that is a variable, a field, or what one of these points to. The closure captures it now.
//!   Bound by value, `self.pool` would be moved out of `self`; in place it is borrowed as in any method call.
//! - A `move` closure as an argument, since bound by a `let` it would lose the parameter types that the call expects
//!   of it. It captures the same values at the same time either way.
//! - A literal.
//!
//! In a `wait_group!` the input begins with `@[scope]`, put there by that macro, and `scope.spawn` takes the place of
//! `$crate::spawn`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprCall, ExprClosure, ExprMethodCall, Ident, Result, Token, UnOp, bracketed};

use crate::shell::{Crate, Errors, hidden, local, start, ungrouped, unparenthesised};

pub(crate) fn expand(library: &Crate, input: ParseStream) -> Result<TokenStream> {
    Ok(input.parse::<Go>()?.expand(library))
}

/// `go!(option = value, .., work)`.
struct Go {
    /// The scope's variable, inside `wait_group!`.
    scope: Option<TokenStream>,
    settings: Vec<Setting>,
    work: Work,
}

/// `name = "fetch"`.
struct Setting {
    name: Ident,
    /// The method of `Builder` that takes the value.
    method: &'static str,
    value: Expr,
}

/// What the goroutine runs.
enum Work {
    /// `f(a, b)`.
    Call(ExprCall),
    /// `x.f(a, b)`.
    MethodCall(ExprMethodCall),
    /// `|| ..`, `move || ..`.
    Closure(ExprClosure),
    /// Anything that is a block or can stand for one: all of it runs later.
    Block(TokenStream),
}

const OPTIONS: [(&str, &str); 4] =
    [("name", "name"), ("stack", "stack_size"), ("wg", "wait_group"), ("locked", "locked")];

const WORK: &str = "a function call, a method call, a closure or a block";

impl Parse for Go {
    fn parse(input: ParseStream) -> Result<Go> {
        let scope = if input.parse::<Option<Token![@]>>()?.is_some() {
            let scope;
            bracketed!(scope in input);
            Some(scope.parse()?)
        } else {
            None
        };
        let mut errors = Errors::default();
        let settings = parse_settings(input, scope.is_some(), &mut errors)?;
        let work = errors.keep(Work::parse(input, settings.last()));
        let work = errors.or(work)?.expect("an error or some work");
        Ok(Go { scope, settings, work })
    }
}

fn parse_settings(input: ParseStream, scoped: bool, errors: &mut Errors) -> Result<Vec<Setting>> {
    let mut settings = Vec::<Setting>::new();
    while at_setting(input) {
        let ahead = input.fork();
        let name = ahead.parse::<Ident>()?;
        ahead.parse::<Token![=]>()?;
        let known = OPTIONS.iter().find(|(option, _)| name == option);
        let value = match (ahead.parse::<Expr>(), known) {
            (Ok(value), _) if ahead.peek(Token![,]) => value,
            (Ok(_), None) if ahead.is_empty() => return Err(unknown_option(&name)),
            (Ok(value), Some(_)) if ahead.is_empty() => {
                return Err(Error::new_spanned(value, format!("expected {WORK} after the options")));
            }
            (Ok(_), Some(_)) if !ahead.peek(Token![;]) => return Err(ahead.error("expected `,`")),
            (Err(error), Some(_)) => return Err(error),
            // An assignment, the first of several statements.
            _ => break,
        };
        ahead.parse::<Token![,]>()?;
        input.advance_to(&ahead);
        match known {
            None => errors.push(unknown_option(&name)),
            Some(_) if settings.iter().any(|setting| setting.name == name) => {
                errors.push(Error::new_spanned(&name, format!("the option `{name}` is given twice")));
            }
            Some(("wg", _)) if scoped => errors.push(Error::new_spanned(
                &name,
                "`wg` inside `wait_group!`, which counts its goroutines itself\n\
                 help: remove the option, or start the goroutine outside the block",
            )),
            Some((_, method)) => settings.push(Setting { name, method, value }),
        }
    }
    Ok(settings)
}

fn at_setting(input: ParseStream) -> bool {
    input.peek(Ident) && input.peek2(Token![=]) && !input.peek2(Token![==]) && !input.peek2(Token![=>])
}

fn unknown_option(name: &Ident) -> Error {
    let options = OPTIONS.map(|(option, _)| format!("`{option}`")).join(", ");
    let message = format!(
        "unknown option `{name}`, expected one of {options}\n\
         help: for an assignment in the goroutine, write a block: `go!({{ {name} = .. }})`"
    );
    Error::new_spanned(name, message)
}

impl Work {
    fn parse(input: ParseStream, last: Option<&Setting>) -> Result<Work> {
        if input.is_empty() {
            return Err(match last {
                Some(last) => Error::new_spanned(&last.value, format!("expected {WORK} after the options")),
                None => Error::new(
                    Span::call_site(),
                    format!("expected {WORK}\nhelp: write `go!(f(x))`, `go!(x.f())`, `go!(|| ..)` or `go!({{ .. }})`"),
                ),
            });
        }
        let ahead = input.fork();
        match ahead.parse::<Expr>() {
            Ok(expr) if ahead.is_empty() || ahead.peek(Token![,]) => {
                input.advance_to(&ahead);
                input.parse::<Option<Token![,]>>()?;
                if at_setting(input) {
                    return Err(input.error("options come before the call"));
                }
                if !input.is_empty() {
                    return Err(input.error("`go!` starts one call; for more of them, write a block: `go!({ .. })`"));
                }
                Work::from_expr(ungrouped(expr))
            }
            // Statements. What is wrong with them, if anything, rustc says best.
            _ => {
                let statements = input.parse::<TokenStream>()?;
                Ok(Work::Block(quote!({ #statements })))
            }
        }
    }

    fn from_expr(expr: Expr) -> Result<Work> {
        match expr {
            Expr::Call(call) => Ok(Work::Call(call)),
            Expr::MethodCall(call) => Ok(Work::MethodCall(call)),
            Expr::Closure(closure) if closure.asyncness.is_none() && closure.inputs.is_empty() => {
                Ok(Work::Closure(closure))
            }
            Expr::Paren(paren) => Work::from_expr(ungrouped(*paren.expr)),
            Expr::Block(_) | Expr::Unsafe(_) | Expr::Macro(_) | Expr::If(_) | Expr::Match(_) => {
                Ok(Work::Block(expr.into_token_stream()))
            }
            Expr::Loop(_) | Expr::While(_) | Expr::ForLoop(_) => Ok(Work::Block(expr.into_token_stream())),
            misuse => Err(explain(&misuse)),
        }
    }
}

/// Why the expression is no [`Work`].
fn explain(expr: &Expr) -> Error {
    const NO_ASYNC: &str = "csp has no `async`: a goroutine calls functions that block, and only the goroutine waits";
    match expr {
        Expr::Closure(closure) if closure.asyncness.is_some() => Error::new_spanned(closure.asyncness, NO_ASYNC),
        Expr::Closure(closure) => Error::new_spanned(
            &closure.inputs,
            "a closure with parameters has to be called\n\
             help: write `go!((|x| ..)(value))`, or a closure without parameters",
        ),
        Expr::Async(block) => Error::new_spanned(block.async_token, NO_ASYNC),
        Expr::Await(expr) => Error::new_spanned(expr.await_token, NO_ASYNC),
        Expr::Path(_) => {
            let path = expr.to_token_stream();
            Error::new_spanned(
                expr,
                format!("expected a call\nhelp: write `{path}()` to run `{path}` in the goroutine"),
            )
        }
        Expr::Try(expr) => Error::new_spanned(
            expr.question_token,
            "`?` has no function to return from when the call runs\n\
             help: join the goroutine and use `?` on what it returns, or handle the error in a block",
        ),
        Expr::Reference(reference) if matches!(*reference.expr, Expr::MethodCall(_)) => Error::new_spanned(
            reference.and_token,
            "this `&` takes a reference to what the call returns\n\
             help: to call a method on a reference, write `(&x).method()`",
        ),
        _ => Error::new_spanned(
            expr,
            format!("expected {WORK}\nhelp: to evaluate this in the goroutine, write `go!({{ .. }})`"),
        ),
    }
}

impl Go {
    fn expand(self, library: &Crate) -> TokenStream {
        let mut now = Now::default();
        let builder = self.builder(library);
        let closure = match self.work {
            Work::Call(mut call) => {
                let at = start(&call);
                *call.func = now.callee(*call.func, "func");
                now.arguments(&mut call.args);
                quote_spanned!(hidden(at)=> move || #call)
            }
            Work::MethodCall(mut call) => {
                let at = start(&call);
                *call.receiver = now.callee(*call.receiver, "receiver");
                now.arguments(&mut call.args);
                quote_spanned!(hidden(at)=> move || #call)
            }
            Work::Closure(closure) => closure.into_token_stream(),
            Work::Block(block) => quote_spanned!(hidden(start(&block))=> move || #block),
        };
        let spawn = match (builder, self.scope) {
            (None, None) => quote!(#library::spawn(#closure)),
            (None, Some(scope)) => quote!(#scope.spawn(#closure)),
            (Some(builder), scope) => {
                let variable = local("builder", Span::call_site());
                now.lets = [quote_spanned!(hidden(Span::call_site())=> let #variable = #builder;), now.lets]
                    .into_iter()
                    .collect();
                let spawn = match scope {
                    None => quote!(#variable.spawn(#closure)),
                    Some(scope) => quote!(#scope.spawn_with(#variable, #closure)),
                };
                quote!(::core::result::Result::expect(#spawn, "failed to start a goroutine"))
            }
        };
        if now.lets.is_empty() {
            return spawn;
        }
        let lets = now.lets;
        quote!({ #lets #spawn })
    }

    /// `Builder::new().name(..)..`, if there are options.
    fn builder(&self, library: &Crate) -> Option<TokenStream> {
        let settings = self.settings.iter().map(|Setting { name, method, value }| {
            let method = Ident::new(method, name.span());
            quote!(.#method(#value))
        });
        (!self.settings.is_empty()).then(|| quote!(#library::Builder::new()#(#settings)*))
    }
}

/// What is evaluated in the caller: `let`s, in source order.
#[derive(Default)]
struct Now {
    lets: TokenStream,
    arguments: usize,
}

impl Now {
    /// The function, or the receiver of a method.
    fn callee(&mut self, expr: Expr, name: &str) -> Expr {
        if is_place(&expr) {
            return expr;
        }
        let expr = unparenthesised(expr);
        let variable = local(name, start(&expr));
        // A method may take it by `&mut self`, and a closure may be `FnMut`.
        self.lets.extend(quote_spanned!(variable.span()=> #[allow(unused_mut)] let mut #variable = #expr;));
        Expr::Verbatim(variable.into_token_stream())
    }

    fn arguments<P>(&mut self, arguments: &mut Punctuated<Expr, P>) {
        for argument in arguments {
            if matches!(argument, Expr::Lit(_)) || is_move_closure(argument) {
                continue;
            }
            let variable = local(&format_ident!("arg{}", self.arguments).to_string(), start(&argument));
            self.arguments += 1;
            self.lets.extend(quote_spanned!(variable.span()=> let #variable = #argument;));
            *argument = Expr::Verbatim(variable.into_token_stream());
        }
    }
}

/// A variable, a field, or what one of these points to: naming it evaluates nothing.
fn is_place(expr: &Expr) -> bool {
    match expr {
        Expr::Path(_) => true,
        Expr::Field(field) => is_place(&field.base),
        Expr::Group(group) => is_place(&group.expr),
        Expr::Paren(paren) => is_place(&paren.expr),
        Expr::Unary(unary) => matches!(unary.op, UnOp::Deref(_)) && is_place(&unary.expr),
        _ => false,
    }
}

fn is_move_closure(expr: &Expr) -> bool {
    match expr {
        Expr::Closure(closure) => closure.capture.is_some(),
        Expr::Group(group) => is_move_closure(&group.expr),
        Expr::Paren(paren) => is_move_closure(&paren.expr),
        _ => false,
    }
}
