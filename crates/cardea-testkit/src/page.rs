//! Pages of `docs/`, whose commands the tests run.

use std::path::Path;

/// A page in Markdown.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// A page of `docs/uses/`, by its name without the ending.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn of_uses(name: &str) -> Self {
        Self::read("docs/uses", name)
    }

    /// A page of `docs/` itself, by its name without the ending.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn of_docs(name: &str) -> Self {
        Self::read("docs", name)
    }

    fn read(folder: &str, name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join(folder).join(name).with_extension("md");
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { text }
    }

    /// The sections that have shell commands, by their headings, and the commands.
    #[must_use]
    pub fn sections(&self) -> Vec<(&str, String)> {
        let sections = self.text.split("\n## ").skip(1).filter_map(|section| {
            let (heading, rest) = section.split_once('\n')?;
            let blocks = rest.split("```sh\n").skip(1);
            let commands: String = blocks
                .filter_map(|block| block.split("```").next())
                .collect();
            (!commands.is_empty()).then_some((heading, commands))
        });
        sections.collect()
    }

    /// The commands of one section.
    ///
    /// # Panics
    ///
    /// When there are none.
    #[must_use]
    pub fn section(&self, heading: &str) -> String {
        let mut sections = self.sections().into_iter();
        let found = sections.find(|(name, _)| *name == heading);
        found
            .unwrap_or_else(|| panic!("no commands under {heading:?}"))
            .1
    }

    /// The first command that begins so, of those in code, shell or not.
    #[must_use]
    pub fn line(&self, beginning: &str) -> Option<String> {
        let mut lines = self.text.lines().map(str::trim);
        lines
            .find(|line| line.starts_with(beginning))
            .map(str::to_owned)
    }

    /// The first block of code in a language.
    #[must_use]
    pub fn block(&self, language: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("```{language}\n"))?;
        rest.split("```").next()
    }

    /// Whether the page says this, whatever the line breaks.
    #[must_use]
    pub fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }
}
