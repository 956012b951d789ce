//! `cargo xtask sizes`: no long function, no long file, no module named after nothing.
//!
//! A table may be longer than a function: arrays, a macro's rows, the arms of a `match` or the fields of a structure
//! that are most of the function, with few lines a row.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{Workspace, say};
use crate::tokens::{Kind, Token, tokens};

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION: usize = 100;
/// Lines of a table: the arguments of a call are none.
const TABLE: usize = 10;
/// Lines of a file.
const FILE: usize = 800;
/// What holds anything, and says nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];
/// Where our sources are.
const FOLDERS: &[&str] = &["crates", "examples", "fuzz", "xtask"];

/// Functions that are longer, and why: the file, the function, the reason. An entry that no longer holds fails the
/// check.
const EXEMPT: &[(&str, &str, &str)] = &[(
    "crates/cardea-store/src/tests/arbitrary.rs",
    "full",
    "a card with every field, written out",
)];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (files, found) = check(&workspace.root, EXEMPT)?;
    found.iter().for_each(|line| say(&format!("sizes: {line}")));
    match found.len() {
        0 => {
            say(&format!("sizes: {files} files, nothing too large"));
            Ok(())
        }
        count => bail!("{count} things too large or named after nothing"),
    }
}

/// How many files there are below a root, and what is too large in them.
fn check(root: &Path, exempt: &[(&str, &str, &str)]) -> Result<(usize, Vec<String>)> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        sources(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut found = Vec::new();
    let mut met = vec![false; exempt.len()];
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let path = file.strip_prefix(root).unwrap_or(file).to_string_lossy();
        let lines = text.lines().count();
        if lines > FILE {
            found.push(format!("{path}: {lines} lines, more than {FILE}"));
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = match &*stem {
            // What a folder is called; a crate's root is not a module.
            "mod" => file.parent().and_then(Path::file_name).unwrap_or_default(),
            _ => file.file_stem().unwrap_or_default(),
        };
        if EMPTY_NAMES.iter().any(|empty| name == *empty) {
            found.push(format!(
                "{path}: the module's name does not say what it holds"
            ));
        }
        for function in functions(&tokens(&text)) {
            let of_function =
                |(file, name, _): &&(&str, &str, &str)| path == *file && function.name == *name;
            match exempt.iter().position(|entry| of_function(&entry)) {
                Some(at) => {
                    if let Some(met) = met.get_mut(at) {
                        *met = true;
                    }
                }
                None => found.push(format!(
                    "{path}:{}: {} has {} lines, more than {FUNCTION}",
                    function.line, function.name, function.lines
                )),
            }
        }
    }
    let stale = exempt.iter().zip(met).filter(|(_, met)| !met);
    found.extend(stale.map(|((file, name, _), _)| {
        format!("{file}: {name} is not too long; remove it from EXEMPT")
    }));
    Ok((files.len(), found))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                sources(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// A function that is too long.
#[derive(Debug, PartialEq, Eq)]
struct Long {
    name: String,
    /// Where it begins.
    line: usize,
    lines: usize,
}

/// The functions of a file that are too long and not tables.
fn functions(tokens: &[Token<'_>]) -> Vec<Long> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [
            keyword,
            Token {
                kind: Kind::Name(name),
                ..
            },
        ] = pair
        else {
            continue;
        };
        if keyword.kind != Kind::Name("fn") {
            continue;
        }
        let Some(body) = body(tokens.get(at..).unwrap_or_default()) else {
            continue;
        };
        let lines = lines(body) + line(body).saturating_sub(keyword.line);
        if lines > FUNCTION && !is_table(body, lines) {
            found.push(Long {
                name: (*name).to_owned(),
                line: keyword.line,
                lines,
            });
        }
    }
    found
}

/// The braces of a function and what is between them; none for a declaration.
fn body<'t, 'a>(function: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let mut at = 0;
    loop {
        let rest = function.get(at..)?;
        match rest.first()?.kind {
            Kind::Mark(';') => return None,
            Kind::Open('{') => return Some(group(rest)),
            Kind::Open(_) => at += group(rest).len(),
            _ => at += 1,
        }
    }
}

/// The group that the tokens begin with.
fn group<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let mut depth = 0_usize;
    let end = tokens.iter().position(|token| {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    end.and_then(|end| tokens.get(..=end)).unwrap_or(tokens)
}

fn line(group: &[Token<'_>]) -> usize {
    group.first().map_or(0, |token| token.line)
}

fn lines(group: &[Token<'_>]) -> usize {
    let last = group.last().map_or(0, |token| token.line);
    last + 1 - line(group).min(last)
}

/// Whether groups of rows are three quarters of the function.
fn is_table(body: &[Token<'_>], function: usize) -> bool {
    let mut rows = 0;
    let mut at = 1;
    while let Some((before, rest)) = body
        .split_at_checked(at)
        .filter(|(_, rest)| !rest.is_empty())
    {
        match table(before, rest) {
            Some(table) => {
                rows += lines(table);
                at += table.len();
            }
            None => at += 1,
        }
    }
    rows * 4 >= function * 3
}

/// The group that the rest begins with, if it is long enough and has rows of eight lines at most on average.
fn table<'t, 'a>(before: &[Token<'a>], rest: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let last = before.last().map(|token| token.kind);
    let is_struct = match last {
        Some(Kind::Name(name)) => name.starts_with(char::is_uppercase),
        _ => false,
    };
    let is_match = || {
        let head = before.iter().rev();
        head.take_while(|token| !matches!(token.kind, Kind::Mark(';') | Kind::Open('{')))
            .any(|token| token.kind == Kind::Name("match"))
    };
    let rows_of = match rest.first()?.kind {
        Kind::Open('[') => elements,
        Kind::Open(_) if last == Some(Kind::Mark('!')) => elements,
        Kind::Open('{') if is_match() => arms,
        Kind::Open('{') if is_struct => elements,
        _ => return None,
    };
    let group = group(rest);
    let lines = lines(group);
    (lines >= TABLE && lines <= rows_of(group) * 8).then_some(group)
}

/// What commas separate.
fn elements(group: &[Token<'_>]) -> usize {
    let commas = of_own_level(group).filter(|token| token.kind == Kind::Mark(','));
    commas.count()
}

fn arms(group: &[Token<'_>]) -> usize {
    let marks: Vec<_> = of_own_level(group).map(|token| token.kind).collect();
    let arrow = [Kind::Mark('='), Kind::Mark('>')];
    marks.windows(2).filter(|pair| *pair == arrow).count()
}

/// The tokens of a group that are in no group inside it.
fn of_own_level<'t, 'a>(group: &'t [Token<'a>]) -> impl Iterator<Item = &'t Token<'a>> {
    let mut depth = 0_usize;
    group.iter().filter(move |token| match token.kind {
        Kind::Open(_) => {
            depth += 1;
            false
        }
        Kind::Close(_) => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a tree of one crate.
    fn wrong(files: &[(&str, String)], exempt: &[(&str, &str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        check(folder.path(), exempt).unwrap().1
    }

    /// A function with this many lines in its body, each of them `line`.
    fn function(before: &str, line: &str, count: usize, after: &str) -> String {
        format!(
            "fn long<const N: usize>(a: [u8; 2]) -> u8\n{{{before}\n{}{after}}}\n",
            line.repeat(count)
        )
    }

    #[test]
    fn function_of_a_hundred_lines_passes_and_a_longer_one_does_not() {
        let path = "crates/one/src/lib.rs";
        let passes = function("", "go();\n", 97, "");
        assert!(wrong(&[(path, passes)], &[]).is_empty());
        let fails = function("", "go();\n", 98, "");
        assert_eq!(
            wrong(&[(path, format!("\n{fails}"))], &[]),
            ["crates/one/src/lib.rs:2: long has 101 lines, more than 100"]
        );
    }

    #[test]
    fn declaration_and_function_pointer_are_not_functions() {
        let text = format!(
            "trait T {{ fn declared(&self); }}\ntype F = fn(u8);\nconst A: [u8; 1] = [{}];\n",
            "\n".repeat(200)
        );
        assert!(wrong(&[("fuzz/src/lib.rs", text)], &[]).is_empty());
    }

    #[test]
    fn tables_may_be_longer() {
        let array = function("run(&[", "(1, \"one\"),\n", 150, "]);\n");
        let rows = function("match a {", "[1, _] => 1,\n", 150, "}\n");
        let called = function("types! {", "One: Two,\n", 150, "}\n");
        let fields = format!("Settings {{\n{}}};\n", "a: 1,\n".repeat(10));
        let structures = function("go();\ngo();\n", &fields, 20, "");
        for text in [array, rows, called, structures] {
            assert!(
                wrong(&[("xtask/src/main.rs", text.clone())], &[]).is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn table_of_a_few_long_rows_or_beside_other_work_is_a_function() {
        let work = format!("1 => {{\n{}}}\n", "go();\n".repeat(40));
        let arms = function("match a {", &work, 3, "}\n");
        let beside = function("go();\n", "go();\n", 60, "run(&[\n1,\n2,\n3,\n4,\n]);\n").replacen(
            "go();\n",
            &"go();\n".repeat(60),
            1,
        );
        let calls = function("", "call(&[\n1,\n2,\n3,\n]);\n", 50, "");
        for text in [arms, beside, calls] {
            assert_eq!(
                wrong(&[("xtask/src/main.rs", text.clone())], &[]).len(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn long_file_is_found() {
        let path = "examples/one/src/main.rs";
        assert!(wrong(&[(path, "\n".repeat(800))], &[]).is_empty());
        assert_eq!(
            wrong(&[(path, "\n".repeat(801))], &[]),
            ["examples/one/src/main.rs: 801 lines, more than 800"]
        );
    }

    #[test]
    fn modules_named_after_nothing_are_found() {
        for path in [
            "crates/one/src/utils.rs",
            "crates/one/src/common/mod.rs",
            "crates/one/tests/it/helpers.rs",
            "xtask/src/misc.rs",
        ] {
            let found = wrong(&[(path, String::new())], &[]);
            assert_eq!(
                found,
                [format!(
                    "{path}: the module's name does not say what it holds"
                )]
            );
        }
        assert!(wrong(&[("crates/one/src/common_name.rs", String::new())], &[]).is_empty());
    }

    #[test]
    fn exemption_holds_for_its_function_and_fails_when_it_is_not_needed() {
        let path = "crates/one/src/lib.rs";
        let exempt = [(path, "long", "a reason")];
        let long = function("", "go();\n", 200, "");
        assert!(wrong(&[(path, long)], &exempt).is_empty());
        assert_eq!(
            wrong(&[(path, "fn long() {}\n".to_owned())], &exempt),
            [format!(
                "{path}: long is not too long; remove it from EXEMPT"
            )]
        );
    }

    #[test]
    fn target_folders_are_left_out() {
        assert!(wrong(&[("fuzz/target/utils.rs", String::new())], &[]).is_empty());
    }
}
