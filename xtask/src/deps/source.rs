//! One source file: the modules in it, what they define and import, and the paths they mention.
//!
//! What is compiled for tests or documentation alone is left out.

use std::collections::BTreeSet;

use crate::tokens::{Kind, Token, tokens};

/// A module: the file's own, or one that is written inside it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    /// Its name below the file's own module, which has none.
    pub(super) path: Vec<String>,
    /// Modules that it declares and that have files of their own.
    pub(super) children: Vec<String>,
    /// Items that it defines.
    pub(super) names: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    pub(super) mentions: Vec<Mention>,
}

/// One leaf of a `use` tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Mention,
    pub(super) name: Name,
}

/// Under which name something is imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// As `_`.
    Anonymous,
    /// Everything in it.
    Glob,
    Named(String),
}

/// A path as written, and its line. One that begins with `::` has an empty first segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// The modules of a source text; the first is the file's own.
pub(super) fn modules(text: &str) -> Vec<Module> {
    let tokens = tokens(text);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        done: Vec::new(),
    };
    reader.module(Vec::new());
    let mut modules = reader.done;
    modules.sort_by(|a, b| a.path.cmp(&b.path));
    modules
}

/// What an attribute says of the item behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// In products.
    In,
    /// In tests or documentation alone.
    Out,
}

struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    done: Vec<Module>,
}

impl<'a> Reader<'_, 'a> {
    fn peek(&self, ahead: usize) -> Option<Kind<'a>> {
        Some(self.tokens.get(self.at + ahead)?.kind)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    /// Reads up to the end of the text or of the group that the module is.
    fn module(&mut self, path: Vec<String>) {
        let mut module = Module {
            path,
            ..Module::default()
        };
        let mut depth = 0_usize;
        while let Some(kind) = self.peek(0) {
            match kind {
                Kind::Mark('#') if self.is_attribute() => {
                    let inner = self.peek(1) == Some(Kind::Mark('!'));
                    match self.attribute(&mut module.mentions) {
                        Verdict::Out if inner => self.skip_to_end(),
                        Verdict::Out => self.skip_item(),
                        Verdict::In => {}
                    }
                    continue;
                }
                Kind::Open(_) => depth += 1,
                Kind::Close(_) if depth == 0 => break,
                Kind::Close(_) => depth -= 1,
                Kind::Name("use") if self.peek(1) != Some(Kind::Mark('<')) => {
                    self.at += 1;
                    self.tree(&[], &mut module.imports);
                    continue;
                }
                Kind::Name("pub")
                    if self.peek(1) == Some(Kind::Open('('))
                        && self.peek(2) == Some(Kind::Name("in")) =>
                {
                    // Who may see it, not what it needs.
                    self.at += 1;
                    self.skip_group();
                    continue;
                }
                Kind::Name("mod") if depth == 0 && self.child(&mut module) => continue,
                Kind::Name(word) => {
                    if depth == 0 {
                        module.names.extend(self.defined(word));
                    }
                    self.mention(word, &mut module.mentions);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        self.done.push(module);
    }

    /// `mod name;` or `mod name { … }`
    fn child(&mut self, module: &mut Module) -> bool {
        let Some(Kind::Name(name)) = self.peek(1) else {
            return false;
        };
        match self.peek(2) {
            Some(Kind::Mark(';')) => {
                module.children.push(name.to_owned());
                self.at += 3;
            }
            Some(Kind::Open('{')) => {
                self.at += 3;
                let mut path = module.path.clone();
                path.push(name.to_owned());
                self.module(path);
                self.at += 1;
            }
            _ => return false,
        }
        true
    }

    /// The name of the item that a keyword begins.
    fn defined(&self, keyword: &str) -> Option<String> {
        let ahead = match keyword {
            "const" | "enum" | "fn" | "struct" | "trait" | "type" | "union" => 1,
            "static" if self.peek(1) == Some(Kind::Name("mut")) => 2,
            "static" => 1,
            "macro_rules" if self.peek(1) == Some(Kind::Mark('!')) => 2,
            _ => return None,
        };
        match self.peek(ahead)? {
            // `const fn`, which says its name itself.
            Kind::Name("async" | "extern" | "fn" | "unsafe") => None,
            Kind::Name(name) => Some(name.to_owned()),
            _ => None,
        }
    }

    /// A path in code. Of one segment it says nothing: what it names was imported or is here.
    fn mention(&mut self, word: &str, found: &mut Vec<Mention>) {
        let line = self.line();
        let before = |back: usize| {
            let at = self.at.checked_sub(back)?;
            Some(self.tokens.get(at)?.kind)
        };
        let mut segments = Vec::new();
        match before(1) {
            // The end of `<T as Trait>::Name`, or of a path that a macro puts together.
            Some(Kind::Path) if matches!(before(2), Some(Kind::Mark('>') | Kind::Close(_))) => {
                self.at += 1;
                return;
            }
            Some(Kind::Path) => segments.push(String::new()),
            _ => {}
        }
        segments.push(word.to_owned());
        self.at += 1;
        while let (Some(Kind::Path), Some(Kind::Name(next))) = (self.peek(0), self.peek(1)) {
            segments.push(next.to_owned());
            self.at += 2;
        }
        if segments.len() > 1 {
            found.push(Mention { segments, line });
        }
    }

    /// One tree of a `use` declaration, up to what ends it.
    fn tree(&mut self, prefix: &[String], found: &mut Vec<Import>) {
        let mut segments = prefix.to_vec();
        let mut line = self.line();
        if self.peek(0) == Some(Kind::Path) {
            segments.push(String::new());
            self.at += 1;
        }
        let name = loop {
            match self.peek(0) {
                Some(Kind::Name("as")) => {
                    let alias = match self.peek(1) {
                        Some(Kind::Name("_")) | None => Name::Anonymous,
                        Some(Kind::Name(alias)) => Name::Named(alias.to_owned()),
                        Some(_) => Name::Anonymous,
                    };
                    self.at += 2;
                    break alias;
                }
                Some(Kind::Name("self")) if !segments.is_empty() => self.at += 1,
                Some(Kind::Name(name)) => {
                    line = self.line();
                    segments.push(name.to_owned());
                    self.at += 1;
                }
                Some(Kind::Path) => self.at += 1,
                Some(Kind::Mark('*')) => {
                    line = self.line();
                    self.at += 1;
                    break Name::Glob;
                }
                Some(Kind::Open('{')) => {
                    self.at += 1;
                    while !matches!(self.peek(0), Some(Kind::Close(_)) | None) {
                        self.tree(&segments, found);
                        if !matches!(self.peek(0), Some(Kind::Close(_))) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => match segments.last() {
                    Some(last) => break Name::Named(last.clone()),
                    None => {
                        self.at += 1;
                        return;
                    }
                },
            }
        };
        found.push(Import {
            path: Mention { segments, line },
            name,
        });
    }

    fn is_attribute(&self) -> bool {
        match self.peek(1) {
            Some(Kind::Mark('!')) => self.peek(2) == Some(Kind::Open('[')),
            next => next == Some(Kind::Open('[')),
        }
    }

    /// An attribute, which may mention paths itself.
    fn attribute(&mut self, mentions: &mut Vec<Mention>) -> Verdict {
        while self.peek(0) != Some(Kind::Open('[')) {
            self.at += 1;
        }
        let begin = self.at + 1;
        let verdict = match self.peek(1) {
            Some(Kind::Name("test")) if self.peek(2) == Some(Kind::Close(']')) => Verdict::Out,
            Some(Kind::Name("cfg")) => {
                self.at = begin + 2;
                match self.predicate() {
                    Some(false) => Verdict::Out,
                    _ => Verdict::In,
                }
            }
            _ => Verdict::In,
        };
        self.at = begin - 1;
        let end = self.at + self.group_length();
        while self.at < end {
            match self.peek(0) {
                Some(Kind::Name(word)) => self.mention(word, mentions),
                _ => self.at += 1,
            }
        }
        verdict
    }

    /// A predicate of `cfg` in a product: nothing when it may be so or not.
    fn predicate(&mut self) -> Option<bool> {
        let Some(Kind::Name(name)) = self.peek(0) else {
            return None;
        };
        self.at += 1;
        if self.peek(0) != Some(Kind::Open('(')) {
            return match name {
                "test" | "doc" => Some(false),
                _ => None,
            };
        }
        self.at += 1;
        let mut parts = Vec::new();
        while !matches!(self.peek(0), Some(Kind::Close(_)) | None) {
            parts.push(self.predicate());
            while !matches!(self.peek(0), Some(Kind::Mark(',') | Kind::Close(_)) | None) {
                self.at += 1;
            }
            if self.peek(0) == Some(Kind::Mark(',')) {
                self.at += 1;
            }
        }
        self.at += 1;
        match name {
            "not" => parts.first().copied().flatten().map(|value| !value),
            "all" if parts.contains(&Some(false)) => Some(false),
            "all" if parts.iter().all(|part| *part == Some(true)) => Some(true),
            "any" if parts.contains(&Some(true)) => Some(true),
            "any" if parts.iter().all(|part| *part == Some(false)) => Some(false),
            _ => None,
        }
    }

    /// The rest of a module.
    fn skip_to_end(&mut self) {
        while let Some(kind) = self.peek(0) {
            match kind {
                Kind::Open(_) => self.skip_group(),
                Kind::Close(_) => return,
                _ => self.at += 1,
            }
        }
    }

    fn skip_group(&mut self) {
        self.at += self.group_length();
    }

    /// The number of tokens in a group, with its brackets.
    fn group_length(&self) -> usize {
        let mut depth = 0_usize;
        let mut length = 0;
        while let Some(kind) = self.peek(length) {
            length += 1;
            match kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) if depth <= 1 => break,
                Kind::Close(_) => depth -= 1,
                _ => {}
            }
        }
        length
    }

    /// An item, statement, field or arm behind an attribute that leaves it out.
    fn skip_item(&mut self) {
        while self.peek(0) == Some(Kind::Mark('#')) && self.is_attribute() {
            self.attribute(&mut Vec::new());
        }
        let mut item = Item::Other;
        while let Some(kind) = self.peek(0) {
            match kind {
                Kind::Close(_) => return,
                Kind::Mark(';') => {
                    self.at += 1;
                    return;
                }
                Kind::Mark(',') if item == Item::Other => {
                    self.at += 1;
                    return;
                }
                Kind::Open('{') => {
                    self.skip_group();
                    if item != Item::ToSemicolon {
                        return;
                    }
                    continue;
                }
                Kind::Open(_) => {
                    self.skip_group();
                    continue;
                }
                Kind::Name(word) => item = item.after(word),
                _ => {}
            }
            self.at += 1;
        }
    }
}

/// What is skipped, as far as it says where its end is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    /// A field, an arm, an expression: a comma ends it.
    Other,
    /// A block ends it, or a semicolon.
    ToBlock,
    /// A semicolon ends it, whatever blocks are in it.
    ToSemicolon,
}

impl Item {
    fn after(self, word: &str) -> Self {
        match word {
            "fn" | "impl" | "trait" | "mod" | "struct" | "enum" | "union" | "unsafe" | "async"
            | "extern" | "macro_rules" => Self::ToBlock,
            "use" | "const" | "static" | "type" | "let" if self == Self::Other => Self::ToSemicolon,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Module {
        let mut modules = modules(text);
        assert_eq!(modules.len(), 1, "{modules:?}");
        modules.remove(0)
    }

    fn imports(text: &str) -> Vec<(String, String, usize)> {
        let shown = |import: Import| {
            let name = match import.name {
                Name::Anonymous => "_".to_owned(),
                Name::Glob => "*".to_owned(),
                Name::Named(name) => name,
            };
            (import.path.segments.join("::"), name, import.path.line)
        };
        only(text).imports.into_iter().map(shown).collect()
    }

    fn mentions(text: &str) -> Vec<String> {
        only(text)
            .mentions
            .into_iter()
            .map(|mention| mention.segments.join("::"))
            .collect()
    }

    fn line(path: &str, name: &str, line: usize) -> (String, String, usize) {
        (path.to_owned(), name.to_owned(), line)
    }

    #[test]
    fn nested_use_trees_are_taken_apart() {
        let text = "
use crate::a;
pub(crate) use super::b::{self, c as d, e::{f, g::*},
    h as _};
use ::i::j;
use {k::l, self::m};
";
        assert_eq!(
            imports(text),
            [
                line("crate::a", "a", 2),
                line("super::b", "b", 3),
                line("super::b::c", "d", 3),
                line("super::b::e::f", "f", 3),
                line("super::b::e::g", "*", 3),
                line("super::b::h", "_", 4),
                line("::i::j", "j", 5),
                line("k::l", "l", 6),
                line("self::m", "m", 6),
            ]
        );
    }

    #[test]
    fn paths_in_code_and_in_macros_are_found() {
        let text = "
fn f(x: crate::a::A) -> super::b::B {
    let y = vec![<c::C as d::D>::new(), ::e::E::<g::G>::f()];
    x.map(self::h::h).collect::<Vec<_>>()
}";
        assert_eq!(
            mentions(text),
            [
                "crate::a::A",
                "super::b::B",
                "c::C",
                "d::D",
                "::e::E",
                "g::G",
                "self::h::h",
            ]
        );
    }

    #[test]
    fn paths_in_attributes_are_found() {
        assert_eq!(
            mentions("#[arg(default_value = crate::a::A, help = [\"x\"])] #[test] fn f() {}"),
            ["crate::a::A"]
        );
    }

    #[test]
    fn visibility_is_not_a_mention() {
        assert!(mentions("pub(in crate::a) fn f() {} fn g() -> impl Fn() + use<'a> {}").is_empty());
    }

    #[test]
    fn definitions_are_those_of_the_module_itself() {
        let module = only(
            "const A: u8 = 1; static mut B: u8 = 2; pub const fn c() { fn inner() {} }
             struct D; enum E { F } trait G { fn h(); } type I = u8; macro_rules! j { () => {} }",
        );
        let names: Vec<&str> = module.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["A", "B", "D", "E", "G", "I", "c", "j"]);
    }

    #[test]
    fn modules_are_children_or_inside() {
        let modules = modules("mod a; pub(crate) mod b { mod c; use super::x; } fn f() { d::e() }");
        let [file, inside] = modules.as_slice() else {
            panic!("{modules:?}");
        };
        assert_eq!(file.children, ["a"]);
        assert_eq!(file.mentions.len(), 1);
        assert_eq!(inside.path, ["b"]);
        assert_eq!(inside.children, ["c"]);
        assert_eq!(inside.imports.len(), 1);
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        let text = "
#[cfg(test)]
use crate::a;
#[cfg(all(test, feature = \"x\"))]
#[derive(Debug)]
struct A<B, C>(crate::b::B);
#[cfg(not(test))]
use crate::c;
#[cfg(any(test, feature = \"x\"))]
use crate::d;
#[cfg(test)]
const X: [u8; 2] = { crate::e::E };
#[test]
fn f<A, B>() -> [u8; 3] { crate::f::f() }
#[cfg(doc)]
use crate::g::{h, i};
struct S {
    #[cfg(test)]
    a: crate::j::J,
    b: crate::k::K,
}
#[cfg(test)]
mod l;
#[cfg(test)]
mod tests { use super::*; mod m {} }
#[cfg(target_os = \"linux\")]
use crate::n;
";
        let module = only(text);
        let paths: Vec<String> = module
            .imports
            .iter()
            .map(|import| &import.path)
            .chain(&module.mentions)
            .map(|mention| mention.segments.join("::"))
            .collect();
        assert_eq!(paths, ["crate::c", "crate::d", "crate::n", "crate::k::K"]);
        assert!(module.children.is_empty());
    }

    #[test]
    fn module_that_only_tests_compile_is_empty() {
        let modules = modules("mod a { #![cfg(test)] use crate::b; fn f() {} } use crate::c;");
        let [file, inside] = modules.as_slice() else {
            panic!("{modules:?}");
        };
        assert_eq!(file.imports.len(), 1);
        assert_eq!(inside.imports, []);
    }

    #[test]
    fn text_that_breaks_off_ends() {
        for text in [
            "use a::{b,",
            "use a::{b; c",
            "use",
            "use ;",
            "#[cfg(",
            "mod a {",
            "#[cfg(test)]",
            "}",
        ] {
            modules(text);
        }
    }
}
