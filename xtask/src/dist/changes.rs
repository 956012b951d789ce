//! The changelog of packages, from `CHANGELOG.md`.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::clock;

/// Width of a line, as Debian has it.
const WIDTH: usize = 78;

/// `CHANGELOG.md`.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    newest: Section,
    older: Vec<Section>,
}

/// One version.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    /// Without one while it is not released.
    pub(super) version: Option<String>,
    /// As written: `2026-12-01`.
    date: Option<String>,
    /// Kinds of changes, each with its points.
    groups: Vec<(String, Vec<String>)>,
}

impl Changes {
    /// Headings are `## Unreleased` or `## 0.2.0 (2026-12-01)`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                sections.push(Section::headed(heading)?);
                continue;
            }
            let Some(section) = sections.last_mut() else {
                continue;
            };
            if let Some(kind) = line.strip_prefix("### ") {
                section.groups.push((kind.trim().to_owned(), Vec::new()));
            } else if let Some(point) = line.strip_prefix("- ") {
                let group = section.groups.last_mut();
                let (_, points) = group.with_context(|| format!("no kind of change: {line}"))?;
                points.push(point.to_owned());
            } else if let Some(more) = line.strip_prefix("  ")
                && let Some((_, points)) = section.groups.last_mut()
                && let Some(point) = points.last_mut()
            {
                point.push(' ');
                point.push_str(more.trim());
            }
        }
        let mut sections = sections.into_iter();
        Ok(Self {
            newest: sections.next().context("CHANGELOG.md has no versions")?,
            older: sections.collect(),
        })
    }

    pub(super) fn newest(&self) -> &Section {
        &self.newest
    }
}

impl Section {
    fn headed(heading: &str) -> Result<Self> {
        if heading.trim() == "Unreleased" {
            return Ok(Self::default());
        }
        let dated = heading.trim().strip_suffix(')');
        let (version, date) = dated
            .and_then(|heading| heading.split_once(" ("))
            .with_context(|| format!("a version without its date in CHANGELOG.md: {heading}"))?;
        Ok(Self {
            version: Some(version.to_owned()),
            date: Some(date.to_owned()),
            groups: Vec::new(),
        })
    }

    fn epoch(&self) -> Result<Option<u64>> {
        self.date.as_deref().map(clock::epoch).transpose()
    }
}

/// In the form of `/usr/share/doc/*/changelog.gz` of a native package.
pub(super) fn debian(
    changes: &Changes,
    version: &str,
    epoch: u64,
    maintainer: &str,
) -> Result<String> {
    let mut text = String::new();
    let mut sections = vec![(version, epoch, &changes.newest)];
    for section in &changes.older {
        let version = section.version.as_deref();
        let version = version.context("only the first version may be unreleased")?;
        let epoch = section.epoch()?.context("a version has no date")?;
        sections.push((version, epoch, section));
    }
    for (version, epoch, section) in sections {
        writeln!(text, "cardea ({version}) unstable; urgency=medium\n")?;
        for (kind, points) in &section.groups {
            writeln!(text, "  [ {kind} ]")?;
            for point in points {
                text.push_str(&wrapped(point, "  * ", "    "));
            }
            text.push('\n');
        }
        let date = clock::shown(epoch, "--rfc-email")?;
        writeln!(text, " -- {maintainer}  {date}\n")?;
    }
    // One empty line between versions, none at the end.
    text.pop();
    Ok(text)
}

/// Text in lines of [`WIDTH`].
fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = next.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\nAll.\n\n## Unreleased\n\n### Added\n\n- One thing.\n  More of it.\n\
        - Another.\n\n## 0.0.9 (2026-01-02)\n\n### Fixed\n\n- Old.\n";

    #[test]
    fn versions_become_entries_of_debian() {
        let changes = Changes::parse(TEXT).unwrap();
        assert_eq!(
            debian(
                &changes,
                "0.1.0~20261130.120903",
                1_796_040_543,
                "Name <a@b.c>"
            )
            .unwrap(),
            "cardea (0.1.0~20261130.120903) unstable; urgency=medium\n\n  [ Added ]\n  * One thing. More of it.\n  \
             * Another.\n\n -- Name <a@b.c>  Mon, 30 Nov 2026 12:09:03 +0000\n\n\
             cardea (0.0.9) unstable; urgency=medium\n\n  [ Fixed ]\n  * Old.\n\n \
             -- Name <a@b.c>  Fri, 02 Jan 2026 00:00:00 +0000\n"
        );
    }

    #[test]
    fn heading_without_a_date_is_refused() {
        assert!(Changes::parse("## 0.2.0\n").is_err());
        assert!(Changes::parse("nothing").is_err());
    }

    #[test]
    fn long_lines_are_wrapped() {
        let text = wrapped(&"word ".repeat(40), "  * ", "    ");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
