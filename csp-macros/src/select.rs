//! `select!`: arms in crossbeam's syntax and in Go's, which expand to one call of csp-core's `select` and a `match`.
//!
//! ```text
//! select! {
//!     recv(a) -> x => BODY0,
//!     tx <- value() => BODY1,
//!     default => BODY2,
//! }
//!
//! {
//!     enum Chosen3<A0, A1, A2> { A0(A0), A1(A1), A2(A2) }
//!     let chosen;
//!     match (&mut recv(match &a { channel => channel }), &mut send(match &tx { channel => channel }, value())) {
//!         (operation0, operation1) => chosen = {
//!             let chosen = poll(Order::Random, [operation0.arm(), operation1.arm()]);
//!             match chosen {
//!                 0 => Chosen3::A0({ let result = operation0.finish(); result }),
//!                 1 => Chosen3::A1({ let result = operation1.finish(); }),
//!                 _ => Chosen3::A2(()),
//!             }
//!         },
//!     };
//!     match chosen {
//!         Chosen3::A0(result) => match result { x => BODY0 },
//!         Chosen3::A1(()) => BODY1,
//!         Chosen3::A2(()) => BODY2,
//!     }
//! }
//! ```
//!
//! The tuple evaluates channels and values once and in order, and its statement keeps their temporaries until the
//! choice is made. Its end ends them, and with them every borrow of a channel, before a body runs. Where dropping one
//! of them panics, `chosen` has the received message already, and drops it. No closure and no loop is around what the
//! user wrote, so `break`, `continue`, `return` and `?` act on the enclosing function.
//!
//! A result of which the pattern binds nothing is not part of what is chosen: it is dropped at once.
//!
//! crossbeam's `send(tx, value)` makes its value only when it has been chosen. Its operation is `offer(channel1)`, whose
//! `finish` gives the right to send; the arm of the outer `match` is then
//!
//! ```text
//!         Chosen3::A1(result) => { let result = result.send(value()); match result { _ => BODY1 } }
//! ```
//!
//! Where a pattern can fail to match, the choice is made in a loop: an arm whose result does not match is taken out,
//! and the others are waited for. The loop tests a copy of the pattern without bindings, which moves nothing; the
//! `match` at the end binds.
//!
//! Nothing nests with the number of arms, and no enum grows with it (see [`grow`]), so that rustc's time is close to
//! linear in it: `cargo check` of 600 arms takes a second.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{Error, Expr, FieldPat, Pat, Result, Token, bracketed, parse_quote};

use crate::shell::{Crate, Errors, hidden, local, start};

pub(crate) fn expand(library: &Crate, input: ParseStream) -> Result<TokenStream> {
    let order;
    bracketed!(order in input);
    let order = order.parse()?;
    Ok(Select::parse_arms(input)?.expand(library, &order))
}

/// The arms of `select! { .. }`.
#[derive(Default)]
pub(crate) struct Select {
    arms: Vec<Arm>,
    default: Option<DefaultArm>,
    otherwise: Option<ElseArm>,
}

/// `recv(rx) -> pattern => body` or `pattern = <-rx => body`, and so on.
struct Arm {
    operation: Operation,
    pattern: Option<Pat>,
    /// The condition in `, if condition`.
    guard: Option<Expr>,
    body: Expr,
}

enum Operation {
    Recv {
        channel: Expr,
    },
    /// `late`: the value is made when the arm has been chosen, if possible.
    Send {
        channel: Expr,
        value: Expr,
        late: bool,
    },
}

/// `default => body`, `default(timeout) => body`.
struct DefaultArm {
    timeout: Option<Expr>,
    /// How many arms stand before it: the timeout is evaluated after their channels.
    position: usize,
    body: Expr,
}

/// `else => body`: runs when every other arm is out.
struct ElseArm {
    body: Expr,
}

const ARMS: &str = "`recv(rx) -> pattern`, `send(tx, value) -> pattern`, `pattern = <-rx`, `tx <- value` or `default`";

impl Select {
    pub(crate) fn parse_arms(input: ParseStream) -> Result<Select> {
        let mut select = Select::default();
        let mut errors = Errors::default();
        while !input.is_empty() {
            let Some(head) = Head::parse(input, &mut errors)? else { break };
            let Some(body) = errors.keep(parse_body(input, &head)) else { break };
            select.add(head, body, &mut errors);
        }
        errors.or(select)
    }

    fn add(&mut self, head: Head, body: Expr, errors: &mut Errors) {
        match head.kind() {
            HeadKind::Default(timeout) => {
                if self.default.is_some() {
                    errors.push(Error::new(head.start(), "a second `default`: a `select!` has one at most"));
                } else if self.otherwise.is_some() {
                    errors.push(Error::new(head.start(), DEFAULT_AND_ELSE));
                }
                if let Some(timeout) = errors.keep(head.timeout(timeout)) {
                    self.default = Some(DefaultArm { timeout, position: self.arms.len(), body });
                }
            }
            HeadKind::Else => {
                if self.otherwise.is_some() {
                    errors.push(Error::new(head.start(), "a second `else`: a `select!` has one at most"));
                } else if self.default.is_some() {
                    errors.push(Error::new(head.start(), DEFAULT_AND_ELSE));
                }
                errors.keep(head.bare("else", 1));
                self.otherwise = Some(ElseArm { body });
            }
            HeadKind::Operation => {
                if let Some((operation, pattern)) = errors.keep(head.operation())
                    && let Some(guard) = errors.keep(head.condition())
                {
                    self.arms.push(Arm { operation, pattern, guard, body });
                }
            }
        }
    }

    /// The bodies, which are inline.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Expr> {
        let arms = self.arms.iter().map(|arm| &arm.body);
        arms.chain(self.default.iter().map(|arm| &arm.body)).chain(self.otherwise.iter().map(|arm| &arm.body))
    }
}

const DEFAULT_AND_ELSE: &str = "`default` and `else` in one `select!`: `default` runs also when every other arm is out";

fn parse_body(input: ParseStream, head: &Head) -> Result<Expr> {
    if input.is_empty() || input.peek(Token![,]) {
        return Err(Error::new(head.end, "expected the arm's body after `=>`"));
    }
    let body = Expr::parse_with_earlier_boundary_rule(input)?;
    if input.parse::<Option<Token![,]>>()?.is_none() && !input.is_empty() && !is_block(&body) {
        return Err(input.error("expected `,` between the arms"));
    }
    Ok(body)
}

/// Whether no comma is needed after it, as in a `match`.
fn is_block(body: &Expr) -> bool {
    match body {
        Expr::Group(group) => is_block(&group.expr),
        Expr::Block(_) | Expr::Unsafe(_) | Expr::If(_) | Expr::Match(_) => true,
        Expr::Loop(_) | Expr::While(_) | Expr::ForLoop(_) | Expr::Const(_) | Expr::TryBlock(_) => true,
        _ => false,
    }
}

/// An arm up to its `=>`. It is taken as tokens, because `<-` means nothing to Rust's own grammar: `tx <- value` would
/// be a comparison.
struct Head {
    tokens: Vec<TokenTree>,
    /// The `if` of `, if condition`, and the condition.
    guard: Option<(Span, Vec<TokenTree>)>,
    /// Where the `=>` is.
    end: Span,
}

enum HeadKind<'a> {
    Default(Option<&'a Group>),
    Else,
    Operation,
}

impl Head {
    /// Nothing if there is no `=>` to be found, so that there is no telling what follows.
    fn parse(input: ParseStream, errors: &mut Errors) -> Result<Option<Head>> {
        let mut tokens = Vec::new();
        while !input.is_empty() && !input.peek(Token![=>]) {
            tokens.push(input.parse::<TokenTree>()?);
        }
        let Some(arrow) = input.parse::<Option<Token![=>]>>()? else {
            let end = tokens.last().map_or_else(Span::call_site, TokenTree::span);
            let head = Head { tokens, guard: None, end };
            let missing = || Error::new(end, "expected `=>` and a body after this arm");
            errors.push(head.body_without_arrow().unwrap_or_else(missing));
            return Ok(None);
        };
        let comma = tokens.windows(2).position(|pair| is_punct(&pair[0], ',') && is_ident(&pair[1], "if"));
        let guard = comma.map(|comma| (tokens[comma + 1].span(), tokens.drain(comma..).skip(2).collect()));
        Ok(Some(Head { tokens, guard, end: arrow.spans[0] }))
    }

    fn kind(&self) -> HeadKind<'_> {
        match &self.tokens[..] {
            [first, ..] if is_ident(first, "else") => HeadKind::Else,
            [first, ..] if is_ident(first, "default") && find_arrow(&self.tokens).is_none() => {
                HeadKind::Default(self.tokens.get(1).and_then(parenthesised))
            }
            _ => HeadKind::Operation,
        }
    }

    fn start(&self) -> Span {
        self.tokens.first().map_or(self.end, TokenTree::span)
    }

    /// Nothing after the first `count` tokens, which are the keyword's.
    fn bare(&self, keyword: &str, count: usize) -> Result<()> {
        if let Some(token) = self.tokens.get(count) {
            return Err(Error::new(token.span(), format!("unexpected token after `{keyword}`, expected `=>`")));
        }
        match &self.guard {
            Some((at, _)) => Err(Error::new(*at, format!("`{keyword}` takes no condition"))),
            None => Ok(()),
        }
    }

    /// `default`, `default()`, `default(timeout)`.
    fn timeout(&self, arguments: Option<&Group>) -> Result<Option<Expr>> {
        let Some(arguments) = arguments else { return self.bare("default", 1).map(|()| None) };
        self.bare("default", 2)?;
        let arguments = parse_arguments(arguments)?;
        match arguments.get(1) {
            Some(second) => Err(Error::new_spanned(
                second,
                "`default` takes one argument at most, the time to wait: `default(timeout)`",
            )),
            None => Ok(arguments.into_iter().next()),
        }
    }

    fn condition(&self) -> Result<Option<Expr>> {
        self.guard.as_ref().map(|(_, tokens)| parse_part(tokens, self.end, "a condition", Expr::parse)).transpose()
    }

    fn operation(&self) -> Result<(Operation, Option<Pat>)> {
        self.parse_operation().map_err(|error| self.body_without_arrow().unwrap_or(error))
    }

    fn parse_operation(&self) -> Result<(Operation, Option<Pat>)> {
        match &self.tokens[..] {
            [] => Err(Error::new(self.end, format!("expected an arm before `=>`: {ARMS}"))),
            [name, arguments, rest @ ..]
                if (is_ident(name, "recv") || is_ident(name, "send"))
                    && !rest.first().is_some_and(|next| is_punct(next, '.') || is_punct(next, '?'))
                    && parenthesised(arguments).is_some() =>
            {
                let arguments = parenthesised(arguments).expect("just seen");
                self.crossbeam(&name.to_string(), arguments, rest)
            }
            [first, _, ..] if is_ident(first, "let") => Err(Error::new(
                first.span(),
                "an arm has no `let`\nhelp: write `pattern = <-rx`, which binds the pattern's variables",
            )),
            [first, second, ..] if is_ident(first, "case") && !is_punct(second, '=') && !is_punct(second, '.') => {
                Err(Error::new(first.span(), "an arm has no `case`\nhelp: write `pattern = <-rx => body`"))
            }
            tokens => match find_arrow(tokens) {
                Some(arrow) => self.go(&tokens[..arrow], tokens[arrow].span(), &tokens[arrow + 2..]),
                None => Err(self.no_operation()),
            },
        }
    }

    /// `recv(rx) -> pattern`, `send(tx, value) -> pattern`.
    fn crossbeam(&self, name: &str, arguments: &Group, rest: &[TokenTree]) -> Result<(Operation, Option<Pat>)> {
        let pattern = match rest {
            [] => Err(Error::new(
                self.end,
                format!("expected `-> pattern` after `{name}(..)`\nhelp: write `-> _` to ignore what it returns"),
            )),
            [minus, greater, pattern @ ..] if is_punct(minus, '-') && is_punct(greater, '>') => {
                parse_part(pattern, self.end, "a pattern", Pat::parse_multi_with_leading_vert)
            }
            [less, minus, ..] if is_punct(less, '<') && is_punct(minus, '-') => {
                Err(error_at_pair(rest, &format!("expected `->` after `{name}(..)`, found `<-`")))
            }
            [other, ..] => Err(Error::new(other.span(), format!("expected `-> pattern` after `{name}(..)`"))),
        };
        let mut errors = Errors::default();
        let pattern = errors.keep(pattern);
        let operation = errors.keep(parse_arguments(arguments).and_then(|expressions| {
            let count = expressions.len();
            let mut expressions = expressions.into_iter();
            match (name, count) {
                ("recv", 1) => Ok(Operation::Recv { channel: expressions.next().expect("one") }),
                ("send", 2) => {
                    let channel = expressions.next().expect("the first of two");
                    let value = expressions.next().expect("the second of two");
                    let late = !is_constant_expression(&value);
                    Ok(Operation::Send { channel, value, late })
                }
                ("recv", _) => Err(Error::new(arguments.span(), "`recv` takes one argument, the channel: `recv(rx)`")),
                _ => Err(Error::new(
                    arguments.span(),
                    "`send` takes two arguments, the channel and the value: `send(tx, value)`",
                )),
            }
        }));
        errors.or(operation.map(|operation| (operation, pattern))).map(|arm| arm.expect("an error or an operation"))
    }

    /// `<-rx`, `pattern = <-rx`, `tx <- value`, `pattern = tx <- value`.
    fn go(&self, before: &[TokenTree], arrow: Span, after: &[TokenTree]) -> Result<(Operation, Option<Pat>)> {
        if let Some(second) = find_arrow(after) {
            return Err(error_at_pair(&after[second..], "a second `<-`: an arm receives or sends once"));
        }
        let (pattern, channel) = match find_assignment(before) {
            Some(equals) => {
                let pattern = parse_target(&before[..equals], before[equals].span(), before.len() == equals + 1)?;
                (Some(pattern), &before[equals + 1..])
            }
            None => (None, before),
        };
        let operation = if channel.is_empty() {
            if let Some(arrow) = find_pair(after, '-', '>') {
                let message =
                    "unexpected `->`\nhelp: behind `<-` is the channel; the pattern comes first: `pattern = <-rx`";
                return Err(error_at_pair(&after[arrow..], message));
            }
            let channel = parse_part(after, self.end, "a channel after `<-`", Expr::parse)?;
            Operation::Recv { channel }
        } else {
            let channel = parse_part(channel, arrow, "a channel before `<-`", Expr::parse)?;
            let value = parse_part(after, self.end, "the value to send after `<-`", Expr::parse)?;
            Operation::Send { channel, value, late: false }
        };
        Ok((operation, pattern))
    }

    /// What is wrong with an arm that has no `<-`.
    fn no_operation(&self) -> Error {
        let tokens = &self.tokens[..];
        if let Some(arrow) = find_pair(tokens, '<', '-') {
            return error_at_pair(&tokens[arrow..], "expected `<-`, written without a space");
        }
        if let Some(arrow) = find_pair(tokens, '-', '>') {
            let message = "unexpected `->`\nhelp: an arm that receives is `pattern = <-rx` or `recv(rx) -> pattern`";
            return error_at_pair(&tokens[arrow..], message);
        }
        if let Some(equals) = find_assignment(tokens) {
            let at = tokens.get(equals + 1).map_or(self.end, TokenTree::span);
            return Error::new(at, "expected `<-` and a channel\nhelp: write `pattern = <-rx` to receive");
        }
        let tokens = tokens.iter().cloned().collect::<TokenStream>();
        Error::new_spanned(tokens, format!("expected {ARMS}"))
    }

    /// The braces that would be the arm's body, if there were a `=>` before them. Only asked for when the head makes no
    /// sense: `Message { id }` is a pattern, `if a { b } else { c }` an expression.
    fn body_without_arrow(&self) -> Option<Error> {
        let body = self.tokens.windows(2).find_map(|pair| match &pair[1] {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => match &pair[0] {
                TokenTree::Ident(name) => name.to_string().starts_with(|c: char| c == '_' || c.is_lowercase()),
                TokenTree::Group(_) => true,
                _ => false,
            }
            .then_some(body),
            _ => None,
        })?;
        Some(Error::new(body.span_open(), "expected `=>` before the arm's body"))
    }
}

/// Whether it makes no difference when it is evaluated.
fn is_constant_expression(value: &Expr) -> bool {
    match value {
        Expr::Lit(_) => true,
        Expr::Tuple(tuple) => tuple.elems.iter().all(is_constant_expression),
        Expr::Unary(syn::ExprUnary { op: syn::UnOp::Neg(_), expr, .. }) => matches!(**expr, Expr::Lit(_)),
        Expr::Paren(inner) => is_constant_expression(&inner.expr),
        Expr::Group(inner) => is_constant_expression(&inner.expr),
        _ => false,
    }
}

/// What stands to the left of `=`.
fn parse_target(tokens: &[TokenTree], equals: Span, receives: bool) -> Result<Pat> {
    if let [.., colon] = tokens
        && is_punct(colon, ':')
    {
        let message = "expected `=`, found `:=`\nhelp: write `pattern = <-rx`, which binds the pattern's variables";
        return Err(Error::new_spanned(colon, message));
    }
    if let Some(comma) = tokens.iter().find(|token| is_punct(token, ','))
        && receives
    {
        let message = "a receive gives one value, a `Result`\n\
                       help: write `Ok(v) = <-rx`, or match the `Result` in the body";
        return Err(Error::new(comma.span(), message));
    }
    if tokens.is_empty() {
        return Err(Error::new(equals, "expected a pattern before `=`"));
    }
    parse_part(tokens, equals, "a pattern", Pat::parse_multi_with_leading_vert).map_err(|_| {
        let message = "expected a pattern\n\
                       help: an arm binds new variables; to assign, bind one and assign it in the body: \
                       `v = <-rx => place = v`";
        Error::new_spanned(tokens.iter().cloned().collect::<TokenStream>(), message)
    })
}

/// Parses all of `tokens`. What is missing at their end is reported at `end`.
fn parse_part<T>(
    tokens: &[TokenTree],
    end: Span,
    what: &str,
    parse: impl FnOnce(ParseStream) -> Result<T>,
) -> Result<T> {
    if tokens.is_empty() {
        return Err(Error::new(end, format!("expected {what}")));
    }
    let stop = quote_spanned!(end=> =>);
    let parser = |input: ParseStream| {
        let part = parse(input)?;
        if input.peek(Token![=>]) {
            return input.parse::<Token![=>]>().map(|_| part);
        }
        Err(input.error(if input.peek(Token![if]) {
            "expected `,` before the condition\n\
             help: write `.., if condition =>`; it is evaluated before the operation and cannot use what that returns"
        } else {
            "unexpected token, expected `=>`"
        }))
    };
    parser.parse2(tokens.iter().cloned().chain(stop).collect())
}

fn parse_arguments(arguments: &Group) -> Result<Punctuated<Expr, Token![,]>> {
    Punctuated::parse_terminated.parse2(arguments.stream())
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn is_joint(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char && punct.spacing() == Spacing::Joint)
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

fn parenthesised(token: &TokenTree) -> Option<&Group> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group),
        _ => None,
    }
}

fn find_pair(tokens: &[TokenTree], first: char, second: char) -> Option<usize> {
    tokens.windows(2).position(|pair| is_punct(&pair[0], first) && is_punct(&pair[1], second))
}

/// An error about the first two tokens.
fn error_at_pair(tokens: &[TokenTree], message: &str) -> Error {
    Error::new_spanned(tokens[..2].iter().cloned().collect::<TokenStream>(), message)
}

/// The `<-`: without a space inside, and neither in `::<-1>` nor in `<<-1`.
fn find_arrow(tokens: &[TokenTree]) -> Option<usize> {
    (0..tokens.len().saturating_sub(1)).find(|&at| {
        is_joint(&tokens[at], '<')
            && is_punct(&tokens[at + 1], '-')
            && !(at > 0 && (is_punct(&tokens[at - 1], ':') || is_joint(&tokens[at - 1], '<')))
    })
}

/// The `=`, but not that of `..=`, `==` or `<=`.
fn find_assignment(tokens: &[TokenTree]) -> Option<usize> {
    (0..tokens.len()).find(|&at| {
        let part_of_last = at > 0
            && matches!(&tokens[at - 1], TokenTree::Punct(punct)
                if punct.spacing() == Spacing::Joint && punct.as_char() != ':');
        let part_of_next = is_joint(&tokens[at], '=') && tokens.get(at + 1).is_some_and(|next| is_punct(next, '='));
        is_punct(&tokens[at], '=') && !part_of_last && !part_of_next
    })
}

/// Whether the pattern is bound to match, as far as its looks tell. `Ok(_) | Err(_)` does not look like it.
fn is_irrefutable(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) | Pat::Rest(_) => true,
        Pat::Ident(binding) => match &binding.subpat {
            Some((_, pattern)) => is_irrefutable(pattern),
            None => !is_constant(binding),
        },
        Pat::Paren(pattern) => is_irrefutable(&pattern.pat),
        Pat::Reference(pattern) => is_irrefutable(&pattern.pat),
        Pat::Tuple(pattern) => pattern.elems.iter().all(is_irrefutable),
        _ => false,
    }
}

/// Whether what looks like a binding is a constant or a unit variant, by the case of its name.
fn is_constant(binding: &syn::PatIdent) -> bool {
    binding.by_ref.is_none()
        && binding.mutability.is_none()
        && binding.ident.to_string().starts_with(|c: char| c.is_uppercase())
}

/// Makes of a pattern one that matches the same values and binds nothing.
#[derive(Default)]
struct Unbind {
    /// Whether there was something to take away.
    found: bool,
}

impl VisitMut for Unbind {
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        // What a macro binds does not show.
        self.found |= matches!(pattern, Pat::Macro(_) | Pat::Verbatim(_));
        let Pat::Ident(binding) = pattern else { return visit_mut::visit_pat_mut(self, pattern) };
        self.found |= !is_constant(binding);
        match binding.subpat.take() {
            Some((_, subpattern)) => {
                *pattern = *subpattern;
                self.visit_pat_mut(pattern);
            }
            None if is_constant(binding) => {}
            None => *pattern = parse_quote!(_),
        }
    }

    /// `Message { id }` is `Message { id: _ }`.
    fn visit_field_pat_mut(&mut self, field: &mut FieldPat) {
        if field.colon_token.is_none() {
            self.found = true;
            field.colon_token = Some(Default::default());
            *field.pat = parse_quote!(_);
        }
        self.visit_pat_mut(&mut field.pat);
    }
}

impl Arm {
    fn is_irrefutable(&self) -> bool {
        self.pattern.as_ref().is_none_or(is_irrefutable)
    }

    /// The value to send, if it is made when the arm has been chosen. Not where the result may put the arm out again: by
    /// then the value is used up.
    fn late_value(&self) -> Option<&Expr> {
        match &self.operation {
            Operation::Send { value, late: true, .. } if self.is_irrefutable() => Some(value),
            _ => None,
        }
    }

    /// The pattern, if it binds anything.
    fn binding(&self) -> Option<&Pat> {
        let mut unbind = Unbind::default();
        unbind.visit_pat_mut(&mut self.pattern.clone()?);
        self.pattern.as_ref().filter(|_| unbind.found)
    }

    /// Takes the arm out and goes on if its result does not match. It moves nothing.
    fn test(&self, names: &Names, operation: &Ident) -> Option<TokenStream> {
        let mut pattern = self.pattern.clone().filter(|_| self.late_value().is_none())?;
        if self.is_irrefutable() && (self.binding().is_some() || matches!(pattern, Pat::Wild(_))) {
            // There is nothing to find out, and rustc sees the pattern elsewhere or need not see it.
            return None;
        }
        Unbind::default().visit_pat_mut(&mut pattern);
        let result = &names.result;
        let mismatch = (!self.is_irrefutable()).then(|| {
            quote!(_ => {
                #operation.disable();
                continue;
            })
        });
        Some(quote! {
            #[allow(unreachable_patterns)]
            match #result {
                #pattern => {}
                #mismatch
            }
        })
    }

    /// Matches the result, if there is one, and runs the body.
    fn bind(&self, names: &Names) -> MatchArm {
        let body = &self.body;
        if let Some(value) = self.late_value() {
            let (result, pattern) =
                (&names.result, self.pattern.as_ref().map_or_else(|| quote!(_), ToTokens::to_token_stream));
            let sent = quote!(#result.send(#value));
            let body = match self.binding() {
                Some(_) => quote! {{
                    #[allow(unreachable_code)]
                    let #result = #sent;
                    match #result { #pattern => #body }
                }},
                // What nobody binds ends before the body.
                None => quote! {{
                    match #sent { #pattern => {} };
                    #body
                }},
            };
            return MatchArm { pattern: result.to_token_stream(), body };
        }
        let Some(pattern) = self.binding() else {
            return MatchArm { pattern: quote!(()), body: body.to_token_stream() };
        };
        let Names { library, result, .. } = names;
        let mismatch = (!self.is_irrefutable())
            .then(|| quote!(#[allow(unreachable_patterns)] _ => #library::constant_taken_for_binding(),));
        let body = quote! {
            match #result {
                #pattern => #body,
                #mismatch
            }
        };
        MatchArm { pattern: result.to_token_stream(), body }
    }
}

/// Makes one of many things: up to [`Node::WIDTH`] neighbours go into a node, which is one of the things of the next
/// level.
///
/// What comes out of a `select!` is an enum with a type parameter for each arm, and the time that rustc takes for that
/// grows with the fourth power of their number. So the outcomes of many arms are a tree of enums.
fn grow<T>(mut things: Vec<T>, mut node: impl FnMut(&[T]) -> T) -> T {
    loop {
        things = things.chunks(Node::WIDTH).map(&mut node).collect();
        if things.len() == 1 {
            return things.pop().expect("one");
        }
    }
}

/// One of so many outcomes, each of a type of its own: all of a `select!`, unless it has many.
struct Node {
    width: usize,
}

impl Node {
    /// Up to here a tree would gain nothing.
    const WIDTH: usize = 16;

    fn declaration(&self) -> TokenStream {
        let name = self.name();
        let variants = (0..self.width).map(|index| self.variant(index)).collect::<Vec<_>>();
        quote! {
            #[allow(clippy::large_enum_variant)]
            enum #name<#(#variants),*> { #(#variants(#variants)),* }
        }
    }

    /// The outcome `index`: an expression or a pattern, as `inner` is.
    fn outcome(&self, index: usize, inner: &TokenStream) -> TokenStream {
        let (name, variant) = (self.name(), self.variant(index));
        quote!(#name::#variant(#inner))
    }

    /// An item, and so not hygienic: visible to the bodies, but nobody writes it.
    fn name(&self) -> Ident {
        local(&format!("Chosen{}", self.width), Span::call_site())
    }

    fn variant(&self, index: usize) -> Ident {
        Ident::new(&format!("A{index}"), Span::mixed_site())
    }
}

/// An arm of a `match` on an outcome: on a leaf of the tree, or on a node.
struct MatchArm {
    pattern: TokenStream,
    body: TokenStream,
}

/// The names that an expansion uses.
struct Names {
    library: TokenStream,
    chosen: Ident,
    entered: Ident,
    result: Ident,
}

impl Names {
    fn new(library: &Crate) -> Names {
        let at = Span::call_site();
        Names {
            library: quote!(#library::__private::select),
            chosen: local("chosen", at),
            entered: local("entered", at),
            result: local("result", at),
        }
    }

    fn operation(&self, index: usize) -> Ident {
        local(&format!("operation{index}"), Span::call_site())
    }

    /// Where it is no `Duration`, rustc says so about the user's expression.
    fn timeout(&self, duration: &Expr) -> Ident {
        local("timeout", start(duration))
    }

    /// Where it is no channel, rustc says so about the user's expression.
    fn channel(&self, channel: &Expr) -> Ident {
        local("channel", start(channel))
    }
}

impl Select {
    fn expand(&self, library: &Crate, order: &Ident) -> TokenStream {
        let names = Names::new(library);
        let Names { library, chosen, .. } = &names;
        if self.arms.is_empty() && self.default.is_none() && self.otherwise.is_none() {
            return quote!(match #library::wait(#library::Order::#order, []) { _ => #library::no_such_arm() });
        }
        let arms = self.arms.iter().map(|arm| arm.bind(&names));
        let last = self.last().map(|body| MatchArm { pattern: quote!(()), body: body.to_token_stream() });
        let mut widths = BTreeSet::new();
        let MatchArm { body, .. } = grow(arms.chain(last).collect(), |arms| {
            let node = Node { width: arms.len() };
            widths.insert(node.width);
            let arms = arms.iter().enumerate().map(|(index, MatchArm { pattern, body })| {
                let outcome = node.outcome(index, pattern);
                quote!(#outcome => #body,)
            });
            MatchArm { pattern: quote!(#chosen), body: quote!(match #chosen { #(#arms)* }) }
        });
        let enums = widths.into_iter().map(|width| Node { width }.declaration());
        let evaluation = self.evaluate(&names, self.choose(&names, order));
        quote!({
            #(#enums)*
            #evaluation
            #body
        })
    }

    /// The body of `default` or `else`.
    fn last(&self) -> Option<&Expr> {
        let default = self.default.as_ref().map(|arm| &arm.body);
        default.or(self.otherwise.as_ref().map(|arm| &arm.body))
    }

    /// `choice`, inside the `match` that evaluates channels, values, conditions and the timeout.
    fn evaluate(&self, names: &Names, choice: TokenStream) -> TokenStream {
        let Names { library, chosen, .. } = names;
        let mut operands = Vec::new();
        let mut variables = Vec::new();
        let mut default = self.default.as_ref().filter(|default| default.timeout.is_some());
        for index in 0..=self.arms.len() {
            if let Some(DefaultArm { timeout: Some(duration), .. }) = default.take_if(|arm| arm.position == index) {
                operands.push(duration.to_token_stream());
                variables.push(names.timeout(duration));
            }
            let Some(arm) = self.arms.get(index) else { break };
            let guard = arm.guard.as_ref().map(|condition| quote!(.when(#condition)));
            let (Operation::Recv { channel } | Operation::Send { channel, .. }) = &arm.operation;
            let variable = names.channel(channel);
            let reference = reference(channel);
            let channel = quote!(match #reference { #variable => #variable });
            let begin = match &arm.operation {
                Operation::Recv { .. } => quote!(recv(#channel)),
                Operation::Send { .. } if arm.late_value().is_some() => quote!(offer(#channel)),
                Operation::Send { value, .. } => quote!(send(#channel, #value)),
            };
            operands.push(quote!(&mut #library::#begin #guard));
            variables.push(names.operation(index));
        }
        quote! {
            let #chosen;
            match (#(#operands,)*) { (#(#variables,)*) => #chosen = #choice };
        }
    }

    /// The wait, and what the arm that it chose has done, or been granted, as an outcome.
    fn choose(&self, names: &Names, order: &Ident) -> TokenStream {
        let Names { library, chosen, entered, result } = names;
        let retries = !self.arms.iter().all(Arm::is_irrefutable);
        let can_be_empty = retries || self.otherwise.is_some() || self.arms.iter().any(|arm| arm.guard.is_some());
        let operations = (0..self.arms.len()).map(|index| names.operation(index)).collect::<Vec<_>>();
        let order = quote!(#library::Order::#order);
        let arms = quote!([#(#operations.arm()),*]);
        let wait = match &self.default {
            Some(DefaultArm { timeout: Some(duration), .. }) if retries => {
                let timeout = names.timeout(duration);
                quote!(#library::wait_timeout(#order, #arms, #timeout.saturating_sub(#entered.elapsed())))
            }
            Some(DefaultArm { timeout: Some(duration), .. }) => {
                let timeout = names.timeout(duration);
                quote!(#library::wait_timeout(#order, #arms, #timeout))
            }
            // Before an arm is made of it: most often it is looked at in vain.
            Some(_) if let [operation] = &operations[..] => {
                quote!(if #operation.must_wait() { #library::polled_in_vain() } else { #library::poll(#order, #arms) })
            }
            Some(_) => quote!(#library::poll(#order, #arms)),
            None if can_be_empty => quote!(#library::wait_else(#order, #arms)),
            None => quote!(#library::wait(#order, #arms)),
        };
        let count = self.arms.len();
        let all_out = (can_be_empty && self.last().is_none()).then(|| {
            quote!(if #chosen == #count {
                ::core::panic!("every arm of this `select!` is out, and it has no `else`")
            })
        });
        let results = self.arms.iter().zip(&operations).map(|(arm, operation)| {
            let test = arm.test(names, operation);
            match arm.binding() {
                _ if arm.late_value().is_some() => quote!(#operation.finish()),
                Some(_) => quote!({ let #result = #operation.finish(); #test #result }),
                // What nobody binds ends here.
                None => quote!({ let #result = #operation.finish(); #test }),
            }
        });
        let last = self.last().map(|_| quote!(()));
        let leaves = results.chain(last).enumerate().map(|(index, result)| (index..=index, result)).collect();
        let (_, outcome) = grow(leaves, |arms: &[(RangeInclusive<usize>, TokenStream)]| {
            let node = Node { width: arms.len() };
            let whole = *arms[0].0.start()..=*arms[node.width - 1].0.end();
            let arms = arms.iter().enumerate().map(|(index, (range, inner))| {
                let outcome = node.outcome(index, inner);
                let (from, to) = (range.start(), range.end());
                if index + 1 == node.width {
                    quote!(_ => #outcome,)
                } else if from == to {
                    quote!(#from => #outcome,)
                } else {
                    quote!(#from..=#to => #outcome,)
                }
            });
            (whole, quote!(match #chosen { #(#arms)* }))
        });
        let choice = quote!({ let #chosen = #wait; #all_out #outcome });
        if !retries {
            return choice;
        }
        let entered = matches!(&self.default, Some(DefaultArm { timeout: Some(_), .. }))
            .then(|| quote!(let #entered = ::std::time::Instant::now();));
        quote!({ #entered loop { break #choice } })
    }
}

/// `&channel`: whatever the user names, a channel or a reference to one or a pointer to one, coerces from there. Not in
/// the call, where rustc would take the type that the call expects into a block or an `if`, and find it wrong there.
fn reference(channel: &Expr) -> Expr {
    let and_token = Token![&](hidden(start(channel)));
    Expr::Reference(syn::ExprReference {
        attrs: Vec::new(),
        and_token,
        mutability: None,
        expr: Box::new(channel.clone()),
    })
}
