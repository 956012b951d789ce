//! Rust source as tokens: as much of the language as is needed to find paths.
//!
//! Comments are left out, and the contents of strings. Macros are tokens like everything else, so the paths in
//! them are found too.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Where a group in `()`, `[]` or `{}` begins.
    Open(char),
    /// Where a group ends.
    Close(char),
    /// A string, character, number or lifetime.
    Literal,
    /// Any other character.
    Mark(char),
    /// An identifier or keyword; a raw identifier without its `r#`.
    Name(&'a str),
    /// `::`
    Path,
}

/// A token and the line it begins in, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) line: usize,
}

/// The tokens of a source text. A text that rustc would refuse gives some tokens, too.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
    };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let line = lexer.line;
        match lexer.next() {
            Some(kind) => found.push(Token { kind, line }),
            None => return found,
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Kind<'a>> {
        let first = self.rest.chars().next()?;
        Some(match first {
            '(' | '[' | '{' => {
                self.take(1);
                Kind::Open(first)
            }
            ')' | ']' | '}' => {
                self.take(1);
                Kind::Close(first)
            }
            '"' => self.string(),
            '\'' => self.quote(),
            _ if self.rest.starts_with("::") => {
                self.take(2);
                Kind::Path
            }
            _ if first.is_ascii_digit() => self.number(),
            _ if is_name(first) => self.name(),
            _ => {
                self.take(first.len_utf8());
                Kind::Mark(first)
            }
        })
    }

    /// White space and comments, nested ones too.
    fn skip_blank(&mut self) {
        loop {
            let blank = self.length_while(char::is_whitespace);
            self.take(blank);
            if self.rest.starts_with("//") {
                let length = self.length_while(|c| c != '\n');
                self.take(length);
            } else if self.rest.starts_with("/*") {
                self.skip_block_comment();
            } else {
                return;
            }
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(first) = self.rest.chars().next() {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.take(first.len_utf8());
            }
        }
    }

    /// An identifier, or the literal that an identifier's letters begin: `r"…"`, `br#"…"#`, `b'…'`, `r#name`.
    fn name(&mut self) -> Kind<'a> {
        let length = self.length_while(is_name);
        let name = self.take(length);
        match name {
            "b" | "c" if self.rest.starts_with('"') => self.string(),
            "b" if self.rest.starts_with('\'') => self.quote(),
            "r" | "br" | "cr" => {
                let hashes = self.length_while(|c| c == '#');
                let after = self.rest.get(hashes..).unwrap_or_default();
                if after.starts_with('"') {
                    self.raw_string(hashes)
                } else if name == "r" && hashes == 1 && after.starts_with(is_name) {
                    self.take(1);
                    let length = self.length_while(is_name);
                    Kind::Name(self.take(length))
                } else {
                    Kind::Name(name)
                }
            }
            _ => Kind::Name(name),
        }
    }

    fn string(&mut self) -> Kind<'a> {
        self.take(1);
        self.quoted('"')
    }

    /// The rest of a literal behind its opening quote.
    fn quoted(&mut self, quote: char) -> Kind<'a> {
        while let Some(first) = self.rest.chars().next() {
            self.take(first.len_utf8());
            if first == quote {
                break;
            }
            if first == '\\'
                && let Some(escaped) = self.rest.chars().next()
            {
                self.take(escaped.len_utf8());
            }
        }
        Kind::Literal
    }

    fn raw_string(&mut self, hashes: usize) -> Kind<'a> {
        let end = format!("\"{}", "#".repeat(hashes));
        self.take(hashes + 1);
        let length = self
            .rest
            .find(&end)
            .map_or(self.rest.len(), |at| at + end.len());
        self.take(length);
        Kind::Literal
    }

    /// A character or a lifetime.
    fn quote(&mut self) -> Kind<'a> {
        self.take(1);
        let mut ahead = self.rest.chars();
        let first = ahead.next();
        if first == Some('\\') || ahead.next() == Some('\'') {
            return self.quoted('\'');
        }
        let length = self.length_while(is_name);
        self.take(length);
        Kind::Literal
    }

    fn number(&mut self) -> Kind<'a> {
        loop {
            let length = self.length_while(is_name);
            self.take(length);
            let mut ahead = self.rest.chars();
            if ahead.next() != Some('.') || !ahead.next().is_some_and(|c| c.is_ascii_digit()) {
                return Kind::Literal;
            }
            self.take(1);
        }
    }

    fn length_while(&self, wanted: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len())
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn paths_and_marks_are_told_apart() {
        assert_eq!(
            kinds("a::b : c"),
            [
                Kind::Name("a"),
                Kind::Path,
                Kind::Name("b"),
                Kind::Mark(':'),
                Kind::Name("c"),
            ]
        );
    }

    #[test]
    fn comments_and_strings_hide_what_they_contain() {
        let text = r##"
            // crate::a
            /* crate::b /* crate::c */ crate::d */
            "crate::e \" crate::f" r#"crate::g " crate::h"# b"crate::i" br"crate::j" c"crate::k"
            name
        "##;
        let mut expected = [Kind::Literal; 6];
        expected[5] = Kind::Name("name");
        assert_eq!(kinds(text), expected);
    }

    #[test]
    fn characters_and_lifetimes_end_where_they_should() {
        assert_eq!(
            kinds(r"'a' '\'' b'\\' '{' '\u{7f}' &'a x 'static r#mod"),
            [
                Kind::Literal,
                Kind::Literal,
                Kind::Literal,
                Kind::Literal,
                Kind::Literal,
                Kind::Mark('&'),
                Kind::Literal,
                Kind::Name("x"),
                Kind::Literal,
                Kind::Name("mod"),
            ]
        );
    }

    #[test]
    fn numbers_leave_ranges_and_methods_alone() {
        assert_eq!(
            kinds("0..9 1.5e3 0xff_u8 1.max(2)"),
            [
                Kind::Literal,
                Kind::Mark('.'),
                Kind::Mark('.'),
                Kind::Literal,
                Kind::Literal,
                Kind::Literal,
                Kind::Literal,
                Kind::Mark('.'),
                Kind::Name("max"),
                Kind::Open('('),
                Kind::Literal,
                Kind::Close(')'),
            ]
        );
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines: Vec<usize> = tokens("a\n/* \n */ b \"\n\n\" c\n\nd")
            .into_iter()
            .map(|token| token.line)
            .collect();
        assert_eq!(lines, [1, 3, 3, 5, 7]);
    }

    #[test]
    fn text_that_breaks_off_ends() {
        for text in ["\"abc", "r#\"abc", "/* abc", "'", "'\\", "b'", "r#"] {
            tokens(text);
        }
    }
}
