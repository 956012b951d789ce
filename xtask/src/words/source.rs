//! Documentation comments and string literals of a Rust file.

use super::Passage;

/// The passages of a file, in order. Comments that are not documentation are left out.
pub(super) fn passages(source: &str) -> Vec<Passage> {
    let mut scanner = Scanner {
        rest: source,
        line: 1,
        passages: Vec::new(),
        comment: Passage::default(),
    };
    while scanner.step() {}
    scanner.end_comment();
    scanner.passages
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    passages: Vec<Passage>,
    /// The documentation comment that may go on in the next line.
    comment: Passage,
}

impl<'a> Scanner<'a> {
    /// Takes one element. False at the end.
    fn step(&mut self) -> bool {
        let rest = self.rest;
        let Some(first) = rest.chars().next() else {
            return false;
        };
        if rest.starts_with("//") {
            self.line_comment();
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
            self.take(end);
        } else if let Some(hashes) = raw_string(rest) {
            self.raw(hashes);
        } else if first == '"' {
            self.literal();
        } else if first == '\'' {
            self.take(character(rest));
        } else if first.is_alphanumeric() || first == '_' {
            // Whole words, so that the r of `for` does not begin a raw string.
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            self.end_comment();
            self.take(end.unwrap_or(rest.len()));
        } else {
            if !first.is_whitespace() || rest.starts_with("\n\n") {
                self.end_comment();
            }
            self.take(first.len_utf8());
        }
        true
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn end_comment(&mut self) {
        if !self.comment.pieces.is_empty() {
            let comment = std::mem::take(&mut self.comment);
            self.passages.push(comment);
        }
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let text = self.take(end);
        let documents =
            text.starts_with("//!") || (text.starts_with("///") && !text.starts_with("////"));
        let Some(content) = text.get(3..).filter(|_| documents) else {
            self.end_comment();
            return;
        };
        if content.trim().is_empty() {
            self.end_comment();
        } else {
            self.comment.documents = true;
            self.comment.pieces.push((line, content.to_owned()));
        }
    }

    fn raw(&mut self, hashes: usize) {
        let line = self.line;
        self.take(self.rest.find('"').map_or(1, |at| at + 1));
        let close = format!("\"{}", "#".repeat(hashes));
        let end = self.rest.find(&close).unwrap_or(self.rest.len());
        let content = self.take(end);
        self.push(line, content);
        self.take(close.len());
    }

    fn literal(&mut self) {
        let line = self.line;
        self.take(1);
        let mut escaped = false;
        let end = self.rest.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let content = self.take(end.unwrap_or(self.rest.len()));
        self.push(line, content);
        self.take(1);
    }

    /// A string, whose lines follow each other.
    fn push(&mut self, line: usize, content: &str) {
        let lines = content.lines().enumerate();
        let pieces = lines.map(|(number, piece)| {
            let piece = piece.trim_end_matches('\\').replace("\\n", ". ");
            (line + number, piece)
        });
        self.passages.push(Passage {
            pieces: pieces.collect(),
            documents: false,
        });
    }
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let text = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = text.len() - text.trim_start_matches('#').len();
    text.get(hashes..)?.starts_with('"').then_some(hashes)
}

/// The length of a character literal, or of the mark of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars
                .find(|(_, c)| *c == '\'')
                .map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<(usize, String)> {
        let pieces = passages(source).into_iter().map(|passage| passage.pieces);
        pieces
            .map(|pieces| {
                let line = pieces.first().map_or(0, |(line, _)| *line);
                let texts: Vec<String> = pieces.into_iter().map(|(_, text)| text).collect();
                (line, texts.join(" "))
            })
            .collect()
    }

    #[test]
    fn comments_and_strings_are_found_with_their_lines() {
        let source = r##"//! What
//! it is.

// Not this one.
/// For `a`.
fn a<'a>(c: char) -> &'a str {
    let _ = ('"', '\'', '\\', b"one \" two");
    let for_r = r#"raw "text""#;
    "a \
     b"
}
"##;
        let found = texts(source);
        let expected = [
            (1, " What  it is."),
            (5, " For `a`."),
            (7, "one \\\" two"),
            (8, "raw \"text\""),
            (9, "a       b"),
        ];
        let expected = expected.map(|(line, text)| (line, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn comment_after_another_item_is_another_passage() {
        let source = "/// One.\nstruct A;\n/// Two.\n///\n/// Three.\nstruct B;\n";
        let lines: Vec<usize> = texts(source).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}
