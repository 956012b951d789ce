//! Links and headings of pages, as far as our pages use them.

use std::collections::BTreeSet;

/// A link to another file of the tree or to a heading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) target: String,
}

/// The relative links of a page, pictures among them.
pub(super) fn links(page: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text) in prose(page) {
        let text = without_code(text);
        for piece in text.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(Link {
                    line,
                    target: target.to_owned(),
                });
            }
        }
    }
    found
}

/// What links can name in a page: its headings, as GitHub and mdbook write them.
pub(super) fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in prose(page) {
        let heading = text.trim_start_matches('#');
        if heading.len() == text.len() || !heading.starts_with(' ') {
            continue;
        }
        let name = anchor(heading.trim());
        let mut number = 0;
        let mut unique = name.clone();
        while !found.insert(unique) {
            number += 1;
            unique = format!("{name}-{number}");
        }
    }
    found
}

/// The relative links of a page of the finished book.
pub(super) fn in_html(page: &str) -> Vec<&str> {
    [" href=\"", " src=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .filter_map(|piece| piece.split('"').next())
        .filter(|target| !target.contains(':'))
        .collect()
}

/// Lines outside blocks of code, counted from 1.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    page.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!in_code && !fence).then_some((number + 1, line))
    })
}

/// A line without what is in backquotes.
fn without_code(line: &str) -> String {
    let pieces = line.split('`').enumerate();
    let outside = pieces.map(|(at, piece)| if at % 2 == 0 { piece } else { "" });
    outside.collect()
}

fn anchor(heading: &str) -> String {
    let mut text = String::new();
    // Of a link, its words.
    for (at, piece) in heading.split("](").enumerate() {
        let piece = match piece.split_once(')') {
            Some((_, rest)) if at > 0 => rest,
            _ => piece,
        };
        text.push_str(piece);
    }
    text.chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => letter.to_lowercase().next(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let page = "a [b](c.md) `[d](e.md)` ![f](g.svg)\n```sh\n[h](i.md)\n```\n[j](k.md#l), [m](http://n/)\n";
        let found: Vec<(usize, String)> = links(page)
            .into_iter()
            .map(|link| (link.line, link.target))
            .collect();
        let expected = [(1, "c.md"), (1, "g.svg"), (5, "k.md#l")];
        assert_eq!(
            found,
            expected.map(|(line, target)| (line, target.to_owned()))
        );
    }

    #[test]
    fn headings_are_named_as_github_names_them() {
        let page = "# The command `cardea`\n## PKCS#11: 3.1, and on\n```\n# no\n```\n## Twice\n## Twice\n#no\n## [Link](x.md) too\n";
        let expected = [
            "the-command-cardea",
            "pkcs11-31-and-on",
            "twice",
            "twice-1",
            "link-too",
        ];
        assert_eq!(anchors(page), expected.map(str::to_owned).into());
    }

    #[test]
    fn links_of_the_finished_book_are_found() {
        let page = r#"<a href="b.html#c">x</a> <img src="d.svg"> <a href="https://e/">y</a>"#;
        assert_eq!(in_html(page), ["b.html#c", "d.svg"]);
    }
}
