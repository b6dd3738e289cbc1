//! `csp::channel` has whatever crossbeam-channel has: each public item, with the same signature, each trait
//! implementation, and each auto trait exactly where crossbeam's has it.
//!
//! The items are read from the sources of the two, crossbeam-channel's as cargo has unpacked it for this test (it is a
//! dev-dependency), so that a new release with a new item makes the test fail. What types tell is asked of the compiler.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::MutexGuard;

use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Fields, FnArg, GenericParam, Generics, Item, ReturnType, Signature, Type, UseTree, Visibility};

mod sources {
    use super::*;

    /// The public items of a crate or module: what it exports, and what there is to say about it, one line each.
    #[derive(Default)]
    pub(super) struct Api {
        pub(super) exported: BTreeSet<String>,
        /// The modules that they are in, as far as they are re-exported.
        pub(super) modules: BTreeMap<String, BTreeSet<String>>,
        pub(super) items: BTreeSet<String>,
        reading: BTreeSet<String>,
    }

    impl Api {
        /// Adds the names that a file exports.
        pub(super) fn export(&mut self, file: &Path) {
            for item in parse(file).items {
                match item {
                    Item::Use(item) if is_public(&item.vis) => self.leaves(&item.tree, ""),
                    Item::Macro(item) if item.attrs.iter().any(|a| a.path().is_ident("macro_export")) => {
                        let hidden = item.attrs.iter().any(|a| a.to_token_stream().to_string().contains("hidden"));
                        self.exported.extend(item.ident.filter(|_| !hidden).map(|name| name.to_string()));
                    }
                    _ => {}
                }
            }
        }

        fn leaves(&mut self, tree: &UseTree, module: &str) {
            let name = match tree {
                UseTree::Path(path) => {
                    let module = if path.ident == "crate" { String::new() } else { format!("{module}/{}", path.ident) };
                    return self.leaves(&path.tree, &module);
                }
                UseTree::Group(group) => return group.items.iter().for_each(|tree| self.leaves(tree, module)),
                UseTree::Name(name) => name.ident.to_string(),
                UseTree::Rename(rename) => rename.rename.to_string(),
                UseTree::Glob(_) => panic!("the names that a glob exports cannot be read"),
            };
            self.exported.insert(name.clone());
            self.modules.entry(module.to_owned()).or_default().insert(name);
        }

        /// Adds what a file says about the names that are exported from a module.
        pub(super) fn read(&mut self, module: &str, file: &Path) {
            self.reading = self.modules.get(module).cloned().unwrap_or_default();
            for item in parse(file).items {
                match item {
                    Item::Fn(item) if is_public(&item.vis) && self.exports(&item.sig.ident) => {
                        self.items.insert(signature(item.sig, None));
                    }
                    Item::Struct(item) if is_public(&item.vis) && self.exports(&item.ident) => {
                        let fields = public_fields(&item.fields);
                        self.items.insert(format!("struct {}{} {fields}", item.ident, names(&item.generics)));
                        self.derives(&item.attrs, &item.ident, &item.generics);
                    }
                    Item::Enum(item) if is_public(&item.vis) && self.exports(&item.ident) => {
                        for variant in &item.variants {
                            let fields = text(&variant.fields);
                            self.items.insert(format!("enum {}::{}{fields}", item.ident, variant.ident));
                        }
                        self.derives(&item.attrs, &item.ident, &item.generics);
                    }
                    Item::Impl(item) => self.implementation(item),
                    _ => {}
                }
            }
        }

        fn exports(&self, name: &impl ToString) -> bool {
            self.reading.contains(&name.to_string())
        }

        fn derives(&mut self, attributes: &[Attribute], name: &impl Display, generics: &Generics) {
            for attribute in attributes.iter().filter(|a| a.path().is_ident("derive")) {
                let traits = attribute
                    .parse_args_with(syn::punctuated::Punctuated::<syn::Path, syn::Token![,]>::parse_terminated);
                for derived in traits.unwrap() {
                    let derived = text(&derived);
                    let bounds =
                        if generics.type_params().next().is_some() { format!("T : {derived}") } else { String::new() };
                    self.items.insert(format!("impl<{bounds}> {derived} for {name}{}", names(generics)));
                }
            }
        }

        fn implementation(&mut self, item: syn::ItemImpl) {
            let mut of = &*item.self_ty;
            while let Type::Reference(reference) = of {
                of = &reference.elem;
            }
            let Type::Path(path) = of else { return };
            if !self.exports(&path.path.segments.last().unwrap().ident) {
                return;
            }
            let mut of_trait = item.trait_.map(|(_, path, _)| path);
            let mut for_type = (*item.self_ty).clone();
            // Lifetimes are numbered as they come, whatever they are called.
            let mut canonical = Canonical::default();
            of_trait.iter_mut().for_each(|path| canonical.visit_path_mut(path));
            canonical.visit_type_mut(&mut for_type);
            canonical.this = Some(for_type.clone());
            let mut generics = item.generics;
            canonical.visit_generics_mut(&mut generics);
            let (bounds, for_type) = (bounds(&generics), text(&for_type));
            let Some(of_trait) = of_trait.map(|path| text(&path)) else {
                for member in item.items {
                    if let syn::ImplItem::Fn(method) = member
                        && is_public(&method.vis)
                    {
                        let method = signature(method.sig, Some(&mut canonical));
                        self.items.insert(format!("impl<{bounds}> {for_type} :: {method}"));
                    }
                }
                return;
            };
            // Not to be called or named: `Drop`, and the trait behind crossbeam's macros.
            if of_trait == "Drop" || of_trait == "SelectHandle" {
                return;
            }
            self.items.insert(format!("impl<{bounds}> {of_trait} for {for_type}"));
            for member in item.items {
                if let syn::ImplItem::Type(mut associated) = member {
                    canonical.visit_type_mut(&mut associated.ty);
                    let (name, is) = (&associated.ident, text(&associated.ty));
                    self.items.insert(format!("impl<{bounds}> {of_trait} for {for_type} :: {name} = {is}"));
                }
            }
        }
    }

    fn parse(file: &Path) -> syn::File {
        let source = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    fn is_public(visibility: &Visibility) -> bool {
        matches!(visibility, Visibility::Public(_))
    }

    fn text(tokens: &impl ToTokens) -> String {
        tokens.to_token_stream().to_string()
    }

    /// Brings types to one form: paths by their last name, `Self` by its own, lifetimes numbered.
    #[derive(Default)]
    struct Canonical {
        lifetimes: BTreeMap<String, usize>,
        count: usize,
        this: Option<Type>,
    }

    impl VisitMut for Canonical {
        fn visit_lifetime_mut(&mut self, lifetime: &mut syn::Lifetime) {
            let name = lifetime.ident.to_string();
            if name == "static" || self.this.is_some() && name == "_" {
                return;
            }
            let number = match self.lifetimes.get(&name).filter(|_| name != "_") {
                Some(number) => *number,
                None => {
                    self.count += 1;
                    self.lifetimes.insert(name, self.count);
                    self.count
                }
            };
            lifetime.ident = quote::format_ident!("l{number}");
        }

        fn visit_type_mut(&mut self, of: &mut Type) {
            if let (Type::Path(path), Some(this)) = (&*of, &self.this)
                && path.path.is_ident("Self")
            {
                *of = this.clone();
                return;
            }
            visit_mut::visit_type_mut(self, of);
        }

        fn visit_path_mut(&mut self, path: &mut syn::Path) {
            visit_mut::visit_path_mut(self, path);
            // `Self::IntoIter` is left alone.
            if path.segments[0].ident != "Self" {
                let last = path.segments.last().unwrap().clone();
                path.segments = [last].into_iter().collect();
                path.leading_colon = None;
            }
        }
    }

    /// The names of type parameters.
    fn names(generics: &Generics) -> String {
        let names = generics.type_params().map(|parameter| parameter.ident.to_string()).collect::<Vec<_>>();
        if names.is_empty() { String::new() } else { format!("<{}>", names.join(", ")) }
    }

    /// What is asked of type parameters.
    fn bounds(generics: &Generics) -> String {
        let mut bounds = generics
            .params
            .iter()
            .filter_map(|parameter| match parameter {
                GenericParam::Type(parameter) if !parameter.bounds.is_empty() => {
                    Some(format!("{} : {}", parameter.ident, text(&parameter.bounds)))
                }
                _ => None,
            })
            .collect::<Vec<_>>();
        bounds.extend(generics.where_clause.iter().flat_map(|clause| clause.predicates.iter().map(|p| text(&p))));
        bounds.sort();
        bounds.join(", ")
    }

    fn public_fields(fields: &Fields) -> String {
        match fields {
            Fields::Unit => ";".into(),
            _ => fields.iter().filter(|field| is_public(&field.vis)).map(text).collect::<Vec<_>>().join(", "),
        }
    }

    /// A signature by types: what a caller can tell of it.
    fn signature(mut signature: Signature, canonical: Option<&mut Canonical>) -> String {
        let mut own = Canonical::default();
        let canonical = canonical.unwrap_or(&mut own);
        canonical.visit_signature_mut(&mut signature);
        let qualifiers =
            [signature.constness.map(|_| "const "), signature.unsafety.map(|_| "unsafe ")].into_iter().flatten();
        let inputs = signature
            .inputs
            .iter()
            .map(|input| match input {
                FnArg::Receiver(receiver) => match &receiver.reference {
                    Some(_) if receiver.mutability.is_some() => "& mut self".to_owned(),
                    Some(_) => "& self".to_owned(),
                    None => "self".to_owned(),
                },
                FnArg::Typed(argument) => text(&argument.ty),
            })
            .collect::<Vec<_>>();
        let output = match &signature.output {
            ReturnType::Default => String::new(),
            ReturnType::Type(_, output) => format!(" -> {}", text(output)),
        };
        let (name, generics, bounds) = (&signature.ident, names(&signature.generics), bounds(&signature.generics));
        format!("{}fn {name}{generics}({}){output} [{bounds}]", qualifiers.collect::<String>(), inputs.join(", "))
    }
}

/// Where cargo has the source of crossbeam-channel.
fn crossbeam_source() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Without a filter it wants the sources of what is needed on other platforms only, which nobody has fetched.
    let rustc = Command::new("rustc").arg("-vV").output().expect("failed to run rustc");
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("failed to run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "crossbeam-channel").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src")
}

fn crossbeam() -> sources::Api {
    let source = crossbeam_source();
    let mut api = sources::Api::default();
    for file in ["lib.rs", "select_macro.rs"] {
        api.export(&source.join(file));
    }
    for module in api.modules.keys().cloned().collect::<Vec<_>>() {
        api.read(&module, &source.join(format!(".{module}.rs")));
    }
    api
}

fn csp() -> sources::Api {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("csp-core/src");
    let mut api = sources::Api::default();
    api.export(&source.join("channel.rs"));
    for module in api.modules.keys().cloned().collect::<Vec<_>>() {
        match &*module {
            // The macros.
            "" => {}
            "/select" => api.read(&module, &source.join("select/dynamic.rs")),
            _ => api.read(&module, &source.join(format!(".{module}.rs"))),
        }
    }
    // What turns receivers into iterators.
    api.read("/chan/handle", &source.join("chan/iter.rs"));
    api
}

#[test]
fn every_item_of_crossbeam_channel_is_here_with_its_signature() {
    let (theirs, ours) = (crossbeam(), csp());
    let missing = theirs.exported.difference(&ours.exported).collect::<Vec<_>>();
    assert!(missing.is_empty(), "not exported: {missing:#?}");
    let missing = theirs.items.difference(&ours.items).collect::<Vec<_>>();
    assert!(missing.is_empty(), "missing, or different: {missing:#?}");

    // It is read what there is to read.
    for name in ["bounded", "tick", "Sender", "IntoIter", "SelectedOperation", "ReadyTimeoutError", "select_biased"] {
        assert!(theirs.exported.contains(name), "{name} is not among {:#?}", theirs.exported);
    }
    for item in [
        "const fn never<T>() -> Receiver < T > []",
        "struct SendError<T> pub T",
        "enum TrySendError::Full(T)",
        "impl<T : Clone> Clone for SendError<T>",
        "impl<> Sender < T > :: fn send_timeout(& self, T, Duration) -> Result < () , SendTimeoutError < T > > []",
        "impl<> Select < 'l1 > :: fn recv<T>(& mut self, & 'l1 Receiver < T >) -> usize []",
        "impl<> Select < 'l1 > :: fn select_deadline(& mut self, Instant) -> \
         Result < SelectedOperation < 'l1 > , SelectTimeoutError > []",
        "impl<T : Send> Send for Receiver < T >",
        "impl<> IntoIterator for & 'l1 Receiver < T > :: IntoIter = Iter < 'l1 , T >",
        "impl<> From < RecvError > for TryRecvError",
    ] {
        assert!(theirs.items.contains(item), "{item} is not among {:#?}", theirs.items);
    }
    assert!(theirs.items.len() > 130, "{}", theirs.items.len());
}

/// Whether a type has a trait, by what the compiler knows of it without parameters.
macro_rules! has {
    ($type:ty: $($trait:tt)*) => {{
        #[allow(dead_code, reason = "it is not asked for where there is the other")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Ask<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "where there is none")]
        impl<T: ?Sized + $($trait)*> Ask<T> {
            const ANSWER: bool = true;
        }
        <Ask<$type>>::ANSWER
    }};
}

macro_rules! compare {
    ($differences:ident, $($trait:path),* => $($type:tt)*) => {
        compare!(@ $differences, [$($trait),*] crossbeam_channel::$($type)* => csp::channel::$($type)*)
    };
    (@ $differences:ident, [$($trait:path),*] $theirs:ty => $ours:ty) => {$(
        let (theirs, ours) = const { (has!($theirs: $trait), has!($ours: $trait)) };
        $differences.note(stringify!($ours: $trait), theirs, ours);
    )*};
}

#[derive(Default)]
struct Differences {
    found: Vec<String>,
    compared: usize,
    have: usize,
}

impl Differences {
    fn note(&mut self, what: &str, theirs: bool, ours: bool) {
        self.compared += 1;
        self.have += usize::from(theirs);
        // A receiver of what must not be moved can be moved, itself.
        if theirs != ours && !(ours && what.ends_with("PhantomPinned > : Unpin")) {
            self.found.push(format!("{what}: {theirs} in crossbeam, {ours} here"));
        }
    }
}

/// Compares each type, with messages that are `Send` and `Sync`, one of them, or neither; and with ones that have other
/// traits or not.
macro_rules! compare_with_messages {
    ($differences:ident, $($message:ty),*) => {$(
        compare_with_messages!(@ $differences, $message:
            [Sender<$message>] [Receiver<$message>]
            [Iter<'static, $message>] [TryIter<'static, $message>] [IntoIter<$message>]
            [SendError<$message>] [TrySendError<$message>] [SendTimeoutError<$message>]
        );
    )*};
    (@ $differences:ident, $message:ty: $([$($type:tt)*])*) => {$(
        compare!($differences,
            Send, Sync, Unpin, std::panic::UnwindSafe, std::panic::RefUnwindSafe, Clone, Copy, Debug, Display, Default,
            PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, std::error::Error,
            Iterator<Item = $message>, std::iter::FusedIterator, ExactSizeIterator, DoubleEndedIterator,
            IntoIterator<Item = $message>
            => $($type)*
        );
    )*};
}

macro_rules! compare_plain {
    ($differences:ident: $([$($type:tt)*])*) => {$(
        compare!($differences,
            Send, Sync, Unpin, std::panic::UnwindSafe, std::panic::RefUnwindSafe, Clone, Copy, Debug, Display, Default,
            PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, std::error::Error
            => $($type)*
        );
    )*};
}

#[test]
fn every_type_has_a_trait_where_crossbeams_has_it() {
    let mut differences = Differences::default();
    compare_with_messages!(
        differences,
        (),
        Cell<()>,
        MutexGuard<'static, ()>,
        Rc<()>,
        &'static mut u8,
        &'static Cell<u8>,
        Box<dyn Fn()>,
        f64,
        std::marker::PhantomPinned
    );
    compare_plain!(differences:
        [Select<'static>] [SelectedOperation<'static>]
        [RecvError] [TryRecvError] [RecvTimeoutError]
        [TrySelectError] [SelectTimeoutError] [TryReadyError] [ReadyTimeoutError]
    );
    assert!(differences.found.is_empty(), "{:#?}", differences.found);
    assert!(differences.compared > 1000 && differences.have > 400 && differences.have < differences.compared);
}

/// The same code for both.
macro_rules! texts {
    ($library:path) => {{
        use $library as cc;

        fn both(error: &(impl Debug + Display)) -> [String; 4] {
            [format!("{error}"), format!("{error:?}"), format!("[{error:>60}]"), format!("[{error:<60?}]")]
        }

        let errors = [
            both(&cc::SendError(1)),
            both(&cc::TrySendError::Full(1)),
            both(&cc::TrySendError::Disconnected(1)),
            both(&cc::SendTimeoutError::Timeout(1)),
            both(&cc::SendTimeoutError::Disconnected(1)),
            both(&cc::RecvError),
            both(&cc::TryRecvError::Empty),
            both(&cc::TryRecvError::Disconnected),
            both(&cc::RecvTimeoutError::Timeout),
            both(&cc::RecvTimeoutError::Disconnected),
            both(&cc::TrySelectError),
            both(&cc::SelectTimeoutError),
        ];
        let (tx, rx) = cc::bounded::<i32>(1);
        let mut select = cc::Select::new();
        select.send(&tx);
        let operation = select.select();
        let mut others = vec![
            format!("{:?} {:?}", cc::TryReadyError, cc::ReadyTimeoutError),
            format!("{tx:?} {rx:?} {:?} {:?} {:?}", rx.iter(), rx.try_iter(), rx.clone().into_iter()),
            format!("{tx:30?} {:30?} {:30?} {:30?}", rx.iter(), select, operation),
        ];
        operation.send(&tx, 1).unwrap();

        let panics: [fn(); 8] = [
            || drop(cc::Select::new().select()),
            || _ = cc::Select::new().ready(),
            || _ = cc::Select::new().select_timeout(std::time::Duration::MAX).map(drop),
            || cc::Select::new().remove(0),
            || {
                let rx = cc::never::<()>();
                let mut select = cc::Select::new();
                select.recv(&rx);
                select.remove(0);
                select.remove(0);
            },
            || {
                let (tx, _rx) = cc::bounded::<()>(1);
                let mut select = cc::Select::new();
                select.send(&tx);
                drop(select.select());
            },
            || {
                let (tx, rx) = cc::bounded::<()>(1);
                tx.send(()).unwrap();
                let mut select = cc::Select::new();
                select.recv(&rx);
                drop(select.try_select());
            },
            || drop(cc::bounded::<u64>(usize::MAX)),
        ];
        others.extend(panics.map(|panics| {
            let payload = std::panic::catch_unwind(panics).unwrap_err();
            let text = payload.downcast::<String>().map(|text| *text);
            text.unwrap_or_else(|payload| payload.downcast_ref::<&str>().unwrap().to_string())
        }));
        (errors, others)
    }};
}

#[test]
fn errors_types_and_panics_print_what_crossbeams_print() {
    assert_eq!(texts!(csp::channel), texts!(crossbeam_channel));
}

/// (With crossbeam, it ends the process: there the operation panics once more when it is dropped.)
#[test]
fn an_operation_is_completed_with_the_handle_that_was_added() {
    use csp::channel::{Select, bounded};

    fn text(f: impl FnOnce()) -> String {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        payload.downcast_ref::<&str>().unwrap().to_string()
    }

    let (tx, rx) = bounded::<i32>(1);
    let mut select = Select::new_biased();
    select.recv(&rx);
    select.send(&tx);
    let operation = select.select();
    assert_eq!(text(|| _ = operation.send(&tx.clone(), 1)), "passed a sender that wasn't selected");
    // Nothing of it is left.
    assert_eq!(tx.try_send(2), Ok(()));
    let operation = select.select();
    assert_eq!(text(|| _ = operation.recv(&rx.clone())), "passed a receiver that wasn't selected");
}
