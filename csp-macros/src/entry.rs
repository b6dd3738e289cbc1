//! `#[csp::main]` and `#[csp::test]`: the function stays as it is, inside one of the same name that hands it to the
//! runtime.
//!
//! ```text
//! #[csp::main]                            fn main() -> ExitCode {
//! fn main() -> Result<(), E> { .. }           fn main() -> Result<(), E> { .. }
//!                                             csp::__private::main(main)
//!                                         }
//! ```
//!
//! An inner function rather than a closure: `return` and `?` in the body mean what they meant, and rustc checks the
//! body against the return type that the user wrote.

use std::env;

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::token::Brace;
use syn::{Attribute, Error, Path, Result, ReturnType, Signature, Token, Type, Visibility};

use crate::shell::{Errors, start};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Main,
    Test,
}

pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse2::<Function>(item);
    let mut errors = Errors::default();
    let library = errors.keep(syn::parse2::<Args>(args).and_then(|args| args.library(kind)));
    let function = errors.keep(function);
    let function_name = function.as_ref().map(|function| function.signature.ident.clone());
    if let Some(function) = &function {
        function.check(kind, &mut errors);
    }
    match errors.or(library.zip(function)) {
        Ok(Some((library, function))) => function.expand(kind, library),
        Ok(None) => unreachable!("what is missing is an error"),
        Err(error) => {
            let errors = error.into_compile_error();
            // So that rustc does not miss `main` on top.
            let main = function_name.filter(|name| name == "main").map(|name| quote!(fn #name() {}));
            quote!(#errors #main)
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Main => "#[csp::main]",
            Kind::Test => "#[csp::test]",
        }
    }
}

/// `crate = path`, or nothing.
struct Args {
    library: Option<Path>,
}

impl Parse for Args {
    fn parse(input: ParseStream) -> Result<Args> {
        if input.is_empty() {
            return Ok(Args { library: None });
        }
        if !input.peek(Token![crate]) {
            return Err(input.error("unknown argument, expected nothing or `crate = path::to::csp`"));
        }
        input.parse::<Token![crate]>()?;
        input.parse::<Token![=]>()?;
        if input.peek(syn::LitStr) {
            return Err(input.error("expected a path, without quotes: `crate = path::to::csp`"));
        }
        let library = input.call(Path::parse_mod_style)?;
        input.parse::<Option<Token![,]>>()?;
        if !input.is_empty() {
            return Err(input.error("unexpected argument after `crate = path`"));
        }
        Ok(Args { library: Some(library) })
    }
}

impl Args {
    fn library(self, kind: Kind) -> Result<Library> {
        match self.library {
            Some(path) => Ok(Library::Given(path)),
            None => find_library().ok_or_else(|| {
                let name = kind.name().trim_end_matches(']');
                let message = format!(
                    "`gocsp` is not among the dependencies in Cargo.toml\n\
                     help: say where the library is: `{name}(crate = path::to::csp)]`"
                );
                Error::new(Span::call_site(), message)
            }),
        }
    }
}

/// The library, in the crate being compiled. The attributes have no `$crate`: they are told by the user or Cargo.toml.
enum Library {
    Given(Path),
    Dependency(String),
    /// It is the library that is being compiled.
    Itself,
}

impl Library {
    fn path(&self, at: Span) -> TokenStream {
        match self {
            Library::Given(path) => path.to_token_stream(),
            Library::Dependency(name) => {
                let name = Ident::new(name, at);
                quote_spanned!(at=> ::#name)
            }
            Library::Itself => quote_spanned!(at=> crate),
        }
    }
}

fn find_library() -> Option<Library> {
    for (package, library) in [("gocsp", "csp"), ("csp-core", "csp_core")] {
        let name = match crate_name(package) {
            // Its own unit tests. Its other tests and its examples are crates that depend on it.
            Ok(FoundCrate::Itself) if is_building(library) => return Some(Library::Itself),
            Ok(FoundCrate::Itself) => library.to_owned(),
            // Not renamed: what is found is the package's name.
            Ok(FoundCrate::Name(name)) if name == package.replace('-', "_") => library.to_owned(),
            Ok(FoundCrate::Name(name)) => name,
            Err(proc_macro_crate::Error::CrateNotFound { .. }) => continue,
            // No Cargo.toml to be read: another build system, which knows the library by its own name.
            Err(_) => library.to_owned(),
        };
        return Some(Library::Dependency(name));
    }
    None
}

/// Whether `library` itself is being compiled, and not a documentation test of it.
fn is_building(library: &str) -> bool {
    env::var("CARGO_CRATE_NAME").is_ok_and(|name| name == library)
        && env::var_os("UNSTABLE_RUSTDOC_TEST_PATH").is_none()
}

/// A function whose body is rustc's to read.
struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Function> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let rest = input.cursor().token_stream();
        if !rest.clone().into_iter().any(|token| matches!(token, TokenTree::Ident(name) if name == "fn")) {
            return Err(Error::new(start(rest), "expected a function"));
        }
        let signature = input.parse()?;
        if !input.peek(Brace) {
            return Err(input.error("expected the function's body"));
        }
        let body = input.parse()?;
        Ok(Function { attributes, visibility, signature, body })
    }
}

impl Function {
    fn check(&self, kind: Kind, errors: &mut Errors) {
        let attribute = kind.name();
        let Signature { constness, asyncness, unsafety, abi, ident, generics, inputs, .. } = &self.signature;
        let mut reject = |tokens: &dyn ToTokens, message: String| {
            if !tokens.to_token_stream().is_empty() {
                errors.push(Error::new_spanned(tokens, message));
            }
        };
        reject(
            asyncness,
            format!(
                "`{attribute}` takes a plain `fn`: csp has no `async`, a goroutine calls functions that block\n\
                 help: remove `async`"
            ),
        );
        reject(constness, format!("the function under `{attribute}` cannot be `const`"));
        reject(unsafety, format!("the function under `{attribute}` cannot be `unsafe`"));
        reject(abi, format!("the function under `{attribute}` cannot be `extern`"));
        reject(&generics.params, format!("the function under `{attribute}` cannot be generic"));
        reject(&generics.where_clause, format!("the function under `{attribute}` cannot have a `where` clause"));
        reject(inputs, format!("the function under `{attribute}` takes no arguments"));
        if kind == Kind::Main && ident != "main" {
            reject(
                ident,
                format!(
                    "`#[csp::main]` belongs on `fn main`, which it makes the first goroutine\n\
                     help: start `{ident}` by `go!({ident}())`, or test it under `#[csp::test]`"
                ),
            );
        }
        for attribute in &self.attributes {
            if kind == Kind::Test && attribute.path().is_ident("test") {
                reject(attribute, "`#[csp::test]` makes this a test already: remove `#[test]`".to_owned());
            }
        }
    }

    fn expand(self, kind: Kind, library: Library) -> TokenStream {
        let Function { attributes, visibility, signature, body } = self;
        let Signature { ident, output, .. } = &signature;
        // A type that is no `Termination` is reported where it is written.
        let at = Span::call_site().located_at(match output {
            ReturnType::Default => ident.span(),
            ReturnType::Type(_, ty) => start(ty),
        });
        let library = library.path(at);
        let run = match kind {
            Kind::Main => quote_spanned!(at=> #library::__private::main(#ident)),
            Kind::Test => {
                let name = ident.to_string();
                let name = name.strip_prefix("r#").unwrap_or(&name);
                quote_spanned!(at=> #library::__private::test(
                    ::core::concat!(::core::module_path!(), "::", #name), #ident
                ))
            }
        };
        let inner = quote!(fn #ident() #output #body);
        // A test that should panic must return `()`.
        let (output, run) = match is_unit(output) && kind == Kind::Test {
            true => (TokenStream::new(), quote!(#run;)),
            false => (quote!(-> ::std::process::ExitCode), run),
        };
        let test = (kind == Kind::Test).then(|| quote!(#[::core::prelude::v1::test]));
        quote! {
            #test
            #(#attributes)*
            #visibility fn #ident() #output {
                #inner
                #run
            }
        }
    }
}

fn is_unit(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}
