//! `cargo xtask book`: the pages as a book, below the build folder.
//!
//! What: the check that every page is in the summary and that every relative link leads somewhere; the book itself, by
//! mdbook, from a copy of the pages and of the files that they link to.
//! What not: addresses on the network. CI checks without making the book, as mdbook takes two minutes to build.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use self::links::{Link, anchors, in_html, links};
use crate::shell::{self, Workspace, say};
use crate::{tools, words};

/// The list of pages, and where its links lead from.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The book's settings.
const SETTINGS: &str = "docs/book.toml";

/// Makes the book.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::locate()?;
    check(&workspace)?;
    let book = workspace.target.join("book");
    if book.exists() {
        fs::remove_dir_all(&book).with_context(|| book.display().to_string())?;
    }
    assemble(&workspace.root, &book)?;
    let mdbook = tools::MDBOOK.ensure(&workspace)?;
    let html = book.join("html");
    // A relative folder would be one from here.
    shell::run(
        Command::new(mdbook)
            .args(["build", "--dest-dir"])
            .args([&html, &book]),
    )?;
    ensure!(html.join("index.html").is_file(), "mdbook has made no book");
    let broken = broken_in_html(&html)?;
    broken.iter().for_each(|line| say(line));
    ensure!(broken.is_empty(), "{} broken links", broken.len());
    say(&format!("   {}", html.join("index.html").display()));
    Ok(())
}

/// Fails if a page is in no summary or a link leads nowhere.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let problems = problems(&workspace.root)?;
    problems.iter().for_each(|line| say(line));
    match problems.len() {
        0 => Ok(()),
        count => bail!("{count} broken links or pages that are not in {SUMMARY}"),
    }
}

/// A line each.
fn problems(root: &Path) -> Result<Vec<String>> {
    let pages = pages(root)?;
    let summary = Path::new(SUMMARY);
    let mut anchored: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    let mut problems = Vec::new();
    for page in &pages {
        let text = read(&root.join(page))?;
        for Link { line, target } in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let mut problem = |what: &str| {
                problems.push(format!("{}:{line}: {target}: {what}", page.display()));
            };
            let Some(file) = resolve(page, file) else {
                problem("outside the tree");
                continue;
            };
            if page == summary && !listed.insert(file.clone()) {
                problem("listed twice");
            }
            let path = root.join(&file);
            if !path.is_file() {
                problem(if path.is_dir() {
                    "a folder"
                } else {
                    "there is no such file"
                });
                continue;
            }
            if anchor.is_empty() {
                continue;
            }
            if !anchored.contains_key(&file) {
                anchored.insert(file.clone(), anchors(&read(&path)?));
            }
            if !anchored
                .get(&file)
                .is_some_and(|known| known.contains(anchor))
            {
                problem("there is no such heading");
            }
        }
    }
    for page in pages.iter().filter(|page| *page != summary) {
        if !listed.contains(page) {
            problems.push(format!("{}: not in {SUMMARY}", page.display()));
        }
    }
    Ok(problems)
}

/// All pages, from the root of the tree.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages: Vec<PathBuf> = fs::read_dir(root)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("packaging/README.md"));
    pages.extend(words::files(&root.join("docs"), "md")?);
    pages
        .iter()
        .map(|page| Ok(page.strip_prefix(root)?.to_owned()))
        .collect()
}

/// Where a link leads, from the root of the tree; without a file, to the page itself.
fn resolve(page: &Path, file: &str) -> Option<PathBuf> {
    if file.is_empty() {
        return Some(page.to_owned());
    }
    let mut path = page.parent()?.to_owned();
    for component in Path::new(file).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// The pages and the files that they link to, with the paths that they have in the tree.
fn assemble(root: &Path, book: &Path) -> Result<()> {
    let source = book.join("src");
    let put = |file: &Path, content: &[u8]| -> Result<()> {
        let to = source.join(file);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::write(&to, content).with_context(|| to.display().to_string())
    };
    for page in pages(root)? {
        let text = read(&root.join(&page))?;
        if page == Path::new(SUMMARY) {
            // Its links lead from the root of the book.
            let text = text.replace("](", "](docs/").replace("](docs/../", "](");
            put(Path::new("SUMMARY.md"), text.as_bytes())?;
            continue;
        }
        for Link { target, .. } in links(&text) {
            let file = target.split_once('#').map_or(&*target, |(file, _)| file);
            let file = resolve(&page, file).context("links were checked")?;
            if file.extension().is_none_or(|extension| extension != "md") {
                put(&file, &fs::read(root.join(&file))?)?;
            }
        }
        put(&page, to_indexes(&text).as_bytes())?;
    }
    fs::copy(root.join(SETTINGS), book.join("book.toml"))?;
    Ok(())
}

/// The page with links to `index.md` in place of `README.md`, as which mdbook writes it.
fn to_indexes(page: &str) -> String {
    let mut pieces = page.split("](");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (target, rest) = piece.split_once(')').unwrap_or((piece, ""));
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        text.push_str("](");
        match file.strip_suffix("README.md") {
            Some(folder) if piece.contains(')') => {
                let mark = if anchor.is_empty() { "" } else { "#" };
                text.push_str(&format!("{folder}index.md{mark}{anchor}){rest}"));
            }
            _ => text.push_str(piece),
        }
    }
    text
}

/// Links of the finished book that lead to no file of it.
fn broken_in_html(html: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for page in words::files(html, "html")? {
        let name = page.strip_prefix(html)?;
        // Its links lead from wherever the missing page was.
        if name == Path::new("404.html") {
            continue;
        }
        for target in in_html(&read(&page)?) {
            let file = target.split(['#', '?']).next().unwrap_or_default();
            let leads = resolve(name, file).is_some_and(|file| html.join(file).is_file());
            if !leads {
                broken.push(format!("{}: {target}", name.display()));
            }
        }
    }
    Ok(broken)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of pages, and what is wrong with it.
    fn problems_of(pages: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let all = [("packaging/README.md", ""), ("README.md", "")];
        for (name, text) in all.iter().chain(pages) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        problems(folder.path()).unwrap()
    }

    const LISTED: &str = "[a](../README.md)\n- [b](../packaging/README.md)\n- [c](one.md)\n";

    #[test]
    fn links_that_lead_somewhere_are_no_problem() {
        let page = "# One two\n[self](#one-two) [up](../README.md) [web](https://example.org/x)\n";
        let problems = problems_of(&[(SUMMARY, LISTED), ("docs/one.md", page)]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn pages_that_are_not_listed_are_found() {
        let pages = [
            (SUMMARY, LISTED),
            ("docs/one.md", ""),
            ("docs/deep/two.md", ""),
        ];
        assert_eq!(
            problems_of(&pages),
            ["docs/deep/two.md: not in docs/SUMMARY.md"]
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let page = "[x](two.md)\n[x](../docs)\n[x](#three)\n[x](../../out.md)\n";
        let found = problems_of(&[(SUMMARY, LISTED), ("docs/one.md", page)]);
        let expected = [
            "docs/one.md:1: two.md: there is no such file",
            "docs/one.md:2: ../docs: a folder",
            "docs/one.md:3: #three: there is no such heading",
            "docs/one.md:4: ../../out.md: outside the tree",
        ];
        assert_eq!(found, expected);
        let twice = format!("{LISTED}- [c](one.md)\n");
        let found = problems_of(&[(SUMMARY, &twice), ("docs/one.md", "")]);
        assert_eq!(found, ["docs/SUMMARY.md:4: one.md: listed twice"]);
    }

    #[test]
    fn pages_that_are_indexes_are_linked_as_such() {
        let page = "[a](b/README.md) README.md [c](README.md#d) [e](f.md) [g](";
        assert_eq!(
            to_indexes(page),
            "[a](b/index.md) README.md [c](index.md#d) [e](f.md) [g]("
        );
    }

    #[test]
    fn book_has_the_pages_and_what_they_link_to() {
        let workspace = Workspace::locate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        assemble(&workspace.root, folder.path()).unwrap();
        let source = folder.path().join("src");
        let summary = read(&source.join("SUMMARY.md")).unwrap();
        for Link { target, .. } in links(&summary) {
            assert!(source.join(&target).is_file(), "{target}");
        }
        for file in ["docs/picture.svg", "docs/recording.txt", "../book.toml"] {
            assert!(source.join(file).is_file(), "{file}");
        }
    }
}
