//! `cargo xtask words`: expressions that STYLE.md ("Words", "Messages") rules out, in documents, messages and
//! documentation comments.
//!
//! What: a search for fixed expressions, each of which has a better one; it names file and line.
//! What not: no grammar. An expression that is right in one place has its exception beside it.

mod patterns;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::patterns::{PATTERNS, Scope};
use crate::shell::{Workspace, say};

/// Crates whose sources are not searched yet. The list only shrinks.
const TO_COME: &[&str] = &["cardea-testkit"];

/// Documents outside `docs/`.
const DOCUMENTS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "README.md",
    "STYLE.md",
    "packaging/README.md",
];

/// A piece of text, and the lines that its parts come from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passage {
    /// Pieces with their line numbers, counted from 1.
    pieces: Vec<(usize, String)>,
    /// Whether it documents an item of the source.
    documents: bool,
}

/// Checks the workspace.
pub(crate) fn run() -> Result<()> {
    check(&Workspace::locate()?)
}

/// Fails if there is any.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let found = search(&workspace.root)?;
    found.iter().for_each(|line| say(line));
    match found.len() {
        0 => Ok(()),
        count => bail!("{count} expressions that STYLE.md rules out"),
    }
}

/// What was found, a line each.
fn search(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pages: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root.join(name)).collect();
    pages.extend(files(&root.join("docs"), "md")?);
    for page in pages.iter().filter(|page| page.exists()) {
        let text = read(page)?;
        report(root, page, &prose(&text), &mut found);
    }
    for folder in folders(&root.join("crates"))? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if TO_COME.contains(&&*name) {
            continue;
        }
        for file in files(&folder.join("src"), "rs")? {
            let text = read(&file)?;
            report(root, &file, &source::passages(&text), &mut found);
        }
    }
    Ok(found)
}

fn report(root: &Path, file: &Path, passages: &[Passage], found: &mut Vec<String>) {
    let name = file.strip_prefix(root).unwrap_or(file).display();
    for passage in passages {
        for (line, words, better) in matches(passage) {
            found.push(format!("{name}:{line}: “{words}”: {better}"));
        }
    }
}

/// The lines of a page, without its code. Of a table of bad and good examples, only the good ones.
fn prose(page: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    let (mut in_code, mut examples) = (false, false);
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if line.starts_with('|') {
            examples |= line.starts_with("| Bad |");
        } else {
            examples = false;
        }
        if in_code || line.starts_with("    ") || line.starts_with("Bad: ") {
            continue;
        }
        let cells = line.split('|');
        let cells: Vec<&str> = match (line.starts_with('|'), examples) {
            (false, _) => vec![line],
            (true, false) => cells.collect(),
            (true, true) => cells.skip(2).take(1).collect(),
        };
        passages.extend(cells.into_iter().map(|cell| Passage {
            pieces: vec![(number + 1, cell.to_owned())],
            documents: false,
        }));
    }
    passages
}

/// A word or a mark, and its line.
#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

/// Words in lower case; marks that end a clause; everything in backquotes as one.
fn tokens(passage: &Passage) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut in_code = false;
    for (line, piece) in &passage.pieces {
        let mut word = String::new();
        let mut push = |text: &mut String| {
            if !text.is_empty() {
                tokens.push(Token {
                    line: *line,
                    text: std::mem::take(text),
                });
            }
        };
        for c in piece.chars() {
            if c == '`' {
                push(&mut word);
                in_code = !in_code;
                if in_code {
                    push(&mut "`".to_owned());
                }
            } else if in_code {
            } else if c.is_alphanumeric() || (matches!(c, '\'' | '’' | '-') && !word.is_empty()) {
                word.extend(c.to_lowercase());
            } else {
                push(&mut word);
                if matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '(' | ')' | '—') {
                    push(&mut c.to_string());
                }
            }
        }
        push(&mut word);
    }
    tokens
}

/// The places that match a pattern: line, the words, what is better.
fn matches(passage: &Passage) -> Vec<(usize, String, &'static str)> {
    let tokens = tokens(passage);
    let mut found = Vec::new();
    for pattern in PATTERNS.iter().filter(|pattern| match pattern.scope {
        Scope::Comments => passage.documents,
        Scope::Everywhere => true,
        Scope::Prose => !passage.documents,
    }) {
        for start in 0..tokens.len() {
            let Some(length) = pattern.at(&tokens, start) else {
                continue;
            };
            let part = tokens.get(start..start + length).unwrap_or_default();
            let words: Vec<&str> = part.iter().map(|token| token.text.as_str()).collect();
            let line = part.first().map_or(0, |token| token.line);
            found.push((line, words.join(" "), pattern.better));
        }
    }
    found
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries(folder)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// Files of that kind, at any depth, in order.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("{} cannot be listed", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a comment and as prose.
    fn found(text: &str) -> Vec<String> {
        let passages = [true, false].map(|documents| Passage {
            pieces: vec![(1, text.to_owned())],
            documents,
        });
        let matches = passages.iter().flat_map(matches);
        matches.map(|(_, words, _)| words).collect()
    }

    #[test]
    fn expressions_of_the_style_guide_are_found() {
        for (text, words) in [
            ("everybody; who is no administrator sees own cards", "; who"),
            ("an answer by who has the key", "by who"),
            ("Who loses it can only clear the TPM", "who loses"),
            ("this is no message of this version", "is no message"),
            ("users who are no administrators", "are no administrators"),
            ("the program is told so", "is told"),
            ("it may have been done, `cardea card list` tells", "` tells"),
            ("the status tells how long", "tells how"),
            ("PIN of work is right", "is right"),
            ("the path is not right: too long", "is not right"),
            ("the PIN is wrong", "is wrong"),
            ("marked as imported for ever", "for ever"),
            ("a key at hand", "at hand"),
            ("the value goes in clear", "in clear"),
            ("the HMAC has not 32 bytes", "has not 32"),
            ("a connection of the program's own", "of the program's own"),
            ("there are no such logins any more", "any more"),
            ("the file is there already", "is there already"),
            ("F is worth nothing", "worth nothing"),
            ("The same with an open folder.", "the same with"),
            ("says what mends it", "mends"),
        ] {
            assert!(
                found(text).iter().any(|found| found.starts_with(words)),
                "{text}: {:?}",
                found(text)
            );
        }
    }

    #[test]
    fn ordinary_english_is_not() {
        for text in [
            "there is no such card",
            "the card is no longer redirected",
            "there are no keys",
            "a user who has the key; one who does not",
            "Who may do what",
            "it has not been read yet",
            "tells them apart",
            "what is wrong with it",
            "wrong PIN; 4 tries left",
            "`this is no message`",
            "for everybody",
            "the card's own key",
            "a folder of its own",
            "in clear text",
            "not any more than that",
            "the name of the standard's own interfaces",
            "pieces that cannot be told from others",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn pages_are_searched_without_code_and_bad_examples() {
        let page = "\
A line that is told.

```sh
echo for ever
```

    for ever

| Bad | Good | Why |
|---|---|---|
| is told | at hand | for ever |

| Name | Meaning |
|---|---|
| x | is told |
";
        let lines: Vec<usize> = prose(page)
            .iter()
            .flat_map(matches)
            .map(|(line, ..)| line)
            .collect();
        assert_eq!(lines, [1, 11, 15]);
    }

    #[test]
    fn tree_is_searched_by_file_and_line() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("docs/tasks/one.md", "Fine.\n\nGone for ever.\n");
        put(
            "crates/new/src/a/b.rs",
            "//! Fine.\n\nfn a() -> &'static str {\n    \"it is told\"\n}\n",
        );
        put("crates/cardea-testkit/src/lib.rs", "//! For ever.\n");
        let found = search(root.path()).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("docs/tasks/one.md:3: “for ever”"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("crates/new/src/a/b.rs:4: “is told”"),
            "{found:?}"
        );
    }

    #[test]
    fn crates_to_come_exist() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        for name in TO_COME {
            assert!(crates.join(name).is_dir(), "{name}");
        }
    }
}
