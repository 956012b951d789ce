//! The expressions, and what to write instead.

use super::Token;

/// Where an expression is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In documentation comments.
    Comments,
    Everywhere,
    /// In documents and messages. A comment may begin like a heading.
    Prose,
}

/// An expression.
pub(super) struct Pattern {
    /// Words separated by blanks. `*` is any word, `#` a number, `*'s` a possessive, `a|b` either, `^` the beginning
    /// of a sentence, `$` the end of a clause; other marks stand for themselves.
    words: &'static str,
    /// Words that excuse it when they come directly before.
    not_after: &'static [&'static str],
    /// Words that excuse it when they come directly behind, or in the place of its last `*`.
    not_before: &'static [&'static str],
    /// Where it is searched for.
    pub(super) scope: Scope,
    /// What to write instead.
    pub(super) better: &'static str,
}

impl Pattern {
    const fn new(words: &'static str, better: &'static str) -> Self {
        Self {
            words,
            not_after: &[],
            not_before: &[],
            scope: Scope::Everywhere,
            better,
        }
    }

    /// The number of tokens from `start` that match.
    pub(super) fn at(&self, tokens: &[Token], start: usize) -> Option<usize> {
        let text = |index: usize| tokens.get(index).map(|token| token.text.as_str());
        let before = start.checked_sub(1).and_then(text);
        let mut length = 0;
        for word in self.words.split(' ') {
            let next = text(start + length);
            let fits = match word {
                "^" => before.is_none_or(|before| matches!(before, "." | ";" | ":" | "!" | "?")),
                "$" => next.is_none_or(ends_clause),
                "*" => next.is_some_and(|next| is_word(next) && !self.not_before.contains(&next)),
                "*'s" => next.is_some_and(|next| next.ends_with("'s") || next.ends_with("’s")),
                word => next.is_some_and(|next| {
                    word.split('|').any(|word| match word {
                        "#" => next.starts_with(|c: char| c.is_ascii_digit()),
                        word => word == next,
                    })
                }),
            };
            if !fits {
                return None;
            }
            if !matches!(word, "^" | "$") {
                length += 1;
            }
        }
        let excused = |word: Option<&str>, by: &[&str]| word.is_some_and(|word| by.contains(&word));
        let behind = text(start + length);
        (!excused(before, self.not_after) && !excused(behind, self.not_before)).then_some(length)
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(char::is_alphanumeric) || token == "`"
}

fn ends_clause(token: &str) -> bool {
    !is_word(token)
}

/// What follows “is no” in good English.
const NO: &[&str] = &[
    "longer",
    "more",
    "less",
    "better",
    "worse",
    "other",
    "different",
    "way",
];

pub(super) const PATTERNS: &[Pattern] = &[
    // *who* for *whoever*
    Pattern::new("; who", "whoever; anyone who; someone who"),
    Pattern::new(
        "by|with|to|for|from|against who",
        "whoever; anyone who; whom",
    ),
    Pattern {
        scope: Scope::Prose,
        ..Pattern::new(
            "^ who has|knows|holds|loses|reads|wants|waits|needs|gives|types",
            "whoever; anyone who",
        )
    },
    // *is no X* for *is not an X*
    Pattern {
        not_after: &["there", "where"],
        not_before: NO,
        ..Pattern::new("is|are|was|were no *", "is not a …")
    },
    Pattern::new("that|what is none", "that is not a …; nothing"),
    // telling
    Pattern {
        not_before: &["apart", "from"],
        ..Pattern::new(
            "is|are|was|were|be|been told",
            "is reported, shown, returned, logged",
        )
    },
    Pattern::new(
        "tells how|what|which|whether|where|who|why|so|on",
        "shows, reports, says",
    ),
    Pattern::new("` tells $", "check with …; shows"),
    // right and wrong
    Pattern::new("is|are|was|were right $", "correct; valid"),
    Pattern::new("is|are|was|were not right", "invalid; incorrect"),
    Pattern {
        not_after: &["what", "something", "nothing"],
        not_before: &["with"],
        ..Pattern::new("is|are|was|were wrong", "incorrect; invalid")
    },
    // stories
    Pattern::new("for ever", "permanently; cannot be undone"),
    Pattern::new("at hand", "available; given"),
    Pattern {
        not_before: &["text"],
        ..Pattern::new("in clear", "unencrypted; in the clear")
    },
    Pattern {
        not_before: &["than"],
        ..Pattern::new("any more $", "no longer")
    },
    Pattern::new("is|are there already", "already exists"),
    Pattern::new("worth nothing", "no longer of use"),
    Pattern::new("mend|mends|mended", "fix; repair"),
    Pattern::new("goes no further", "is refused"),
    // grammar
    Pattern::new(
        "has|have not #|a|an|the|any|enough",
        "does not have; is not … long",
    ),
    Pattern::new("of *'s own $", "the …’s own …"),
    Pattern::new("of *'s own and|for|in|on|that|with", "the …’s own …"),
    Pattern::new("of the|a|an|each|this|that *'s own $", "the …’s own …"),
    Pattern::new(
        "of the|a|an|each|this|that *'s own and|for|in|on|that|with",
        "the …’s own …",
    ),
    // comments that do not stand alone
    Pattern {
        scope: Scope::Comments,
        ..Pattern::new(
            "^ the same with|for|to|in|on|of|because|when|where",
            "Like [`…`], and …",
        )
    },
];
