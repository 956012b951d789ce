//! Text that fits the terminal: lines that are broken at blanks, cells that are shortened.
//!
//! Only what a person reads on a terminal is broken; files and pipes get whole lines.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use cardea_terms::tame_within;
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthStr;

/// What tables fit, on every terminal that people have.
pub(crate) const COLUMNS: usize = 80;

/// Narrower than this, a line is not broken at all.
const NARROWEST: usize = 40;

/// The columns of a terminal; `None` for anything else, and for a terminal that does not say.
pub(crate) fn of_terminal(output: impl AsFd + IsTerminal) -> Option<usize> {
    if !output.is_terminal() {
        return None;
    }
    let columns = usize::from(tcgetwinsize(output).ok()?.ws_col);
    (columns >= NARROWEST).then_some(columns)
}

/// Breaks a line at blanks. What follows the first line is indented by so many blanks; a word that does not fit stays
/// whole.
pub(crate) fn wrapped(line: &str, indent: usize, columns: Option<usize>) -> String {
    let Some(columns) = columns.filter(|columns| line.width() > *columns) else {
        return line.to_owned();
    };
    let begin = line.len() - line.trim_start_matches(' ').len();
    let mut text = " ".repeat(begin);
    let mut used = begin;
    let mut is_first = true;
    for word in line.get(begin..).unwrap_or_default().split(' ') {
        if is_first {
            is_first = false;
        } else if used + 1 + word.width() > columns {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += word.width();
    }
    text
}

/// Breaks a command where the shell goes on: at a blank outside quotes, behind which a backslash ends the line. A word
/// that does not fit stays whole.
pub(crate) fn continued(command: &str, columns: Option<usize>) -> Vec<String> {
    const INDENT: &str = "    ";
    const END: &str = " \\";
    let Some(columns) = columns.filter(|columns| command.width() > *columns) else {
        return vec![command.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in shell_words(command) {
        let is_first = line.trim_start().is_empty();
        if !is_first && line.width() + 1 + word.width() + END.width() > columns {
            lines.push(line + END);
            line = INDENT.to_owned();
        } else if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The parts of a command between blanks outside quotes.
fn shell_words(command: &str) -> Vec<&str> {
    let mut quote = None;
    let mut is_escaped = false;
    command
        .split(|character: char| {
            let is_plain = !is_escaped;
            is_escaped = is_plain && character == '\\' && quote != Some('\'');
            match quote {
                None if is_plain && matches!(character, '\'' | '"') => quote = Some(character),
                Some(open) if is_plain && open == character => quote = None,
                _ => {}
            }
            is_plain && quote.is_none() && character == ' '
        })
        .collect()
}

/// Shortens the cells of some columns, the widest first, until every row fits.
pub(crate) fn fit<const N: usize>(rows: &mut [[String; N]], flexible: &[usize], columns: usize) {
    let mut widths = [0; N];
    for row in rows.iter() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let between = 2 * N.saturating_sub(1);
    while widths.iter().sum::<usize>() + between > columns {
        let widest = flexible
            .iter()
            .filter_map(|column| widths.get(*column).map(|width| (*width, *column)))
            .max();
        let Some((width, column)) = widest.filter(|(width, _)| *width > SHORTEST) else {
            return;
        };
        if let Some(of_column) = widths.get_mut(column) {
            *of_column = width - 1;
        }
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = tame_within(cell, width - 1);
        }
    }
}

/// No cell is made shorter.
const SHORTEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_only() {
        let line = "warning: one two three four five";
        assert_eq!(wrapped(line, 2, None), line);
        assert_eq!(wrapped(line, 2, Some(80)), line);
        assert_eq!(
            wrapped(line, 2, Some(16)),
            "warning: one two\n  three four\n  five"
        );
        assert_eq!(
            wrapped("  cardea card create", 4, Some(10)),
            "  cardea\n    card\n    create"
        );
        let long = "x".repeat(50);
        assert_eq!(
            wrapped(&format!("a {long} b"), 1, Some(20)),
            format!("a\n {long}\n b")
        );
    }

    #[test]
    fn commands_are_broken_where_the_shell_goes_on() {
        let command = r#"printf 'a  %s\n' "b  c" \ d >> /etc/file"#;
        assert_eq!(continued(command, None), [command]);
        assert_eq!(continued(command, Some(command.len())), [command]);
        let broken = continued(command, Some(20));
        assert_eq!(
            broken,
            [
                r"printf 'a  %s\n' \",
                r#"    "b  c" \ d >> \"#,
                "    /etc/file"
            ]
        );
        // A shell takes both for the same.
        let words = |command: &str| {
            let script = format!("set -- {command}; printf '[%s]' \"$@\"");
            let said = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let command = command.replace(" >>", "");
        let broken = continued(&command, Some(12));
        assert!(broken.len() > 3, "{broken:?}");
        assert_eq!(words(&broken.join("\n")), words(&command));
        assert_eq!(continued("one-long-word", Some(5)), ["one-long-word"]);
    }

    #[test]
    fn rows_fit_and_the_widest_cells_are_shortened() {
        let mut rows = [
            ["00".to_owned(), "n".repeat(127), "owner".to_owned()],
            ["01".to_owned(), "work".to_owned(), "o".repeat(40)],
        ];
        fit(&mut rows, &[1, 2], 40);
        for row in &rows {
            let width: usize = row.iter().map(|cell| cell.width()).sum();
            assert!(width + 4 <= 40, "{row:?}");
        }
        assert_eq!(rows[1][1], "work");
        assert!(
            rows[0][1].contains('…') && rows[1][2].contains('…'),
            "{rows:?}"
        );
        // What cannot be shortened stays.
        let mut rows = [["x".repeat(90), "work".to_owned()]];
        fit(&mut rows, &[1], 80);
        assert_eq!(rows[0][0].len(), 90);
    }
}
