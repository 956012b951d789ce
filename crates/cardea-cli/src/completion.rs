//! Names for completions: of cards, and of a card's keys, as the daemon knows them now.
//!
//! The scripts that clap writes know commands and options.
//! For names each script asks this program, by the hidden command `complete`, with the words that were typed: which
//! argument the last one is follows from the same definition as everything else.
//! clap's own dynamic engine is behind its feature `unstable-dynamic`, and makes every shell run the program at its
//! start; this runs it at the tabulator only.

use std::path::PathBuf;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{CardRequest, Reply, Request};
use cardea_terms::is_unsafe_to_show;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Cli;

/// Nobody waits longer for a completion; a daemon that is busy has none.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The script of a shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cardea", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        // The function of this name is what the shell loads; it asks first, and has clap's for the rest.
        Shell::Zsh => {
            let script = script.replacen("_cardea() {", "_cardea_static() {", 1);
            match script.rsplit_once("if [ \"$funcstack[1]\" = \"_cardea\" ]; then") {
                Some((functions, load)) => {
                    format!("{functions}{ZSH}if [ \"$funcstack[1]\" = \"_cardea\" ]; then{load}")
                }
                None => script.replacen("_cardea_static() {", "_cardea() {", 1),
            }
        }
        _ => script,
    }
}

const BASH: &str = r#"
_cardea_names() {
    local name
    COMPREPLY=()
    while IFS= read -r name; do
        COMPREPLY+=("$(printf %q "$name")")
    done < <(command cardea complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    (( ${#COMPREPLY[@]} )) || _cardea "$@"
}

complete -F _cardea_names -o nosort -o bashdefault -o default cardea
"#;

const FISH: &str = r#"
function __cardea_names
    type -q cardea; or return
    set -l words (commandline --tokens-expanded --cut-at-cursor 2>/dev/null; or commandline -opc)
    command cardea complete -- $words[2..] (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete -c cardea -f -a "(__cardea_names)"
# The value of an option has completions of its own; the condition keeps the option itself from being offered twice.
for option in card key
    complete -c cardea -n "contains -- --$option (commandline -opc)" -l $option -x -a "(__cardea_names)"
end
"#;

const ZSH: &str = r#"_cardea() {
    local -a names
    names=(${(f)"$(command cardea complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)"})
    (( $#names )) && compadd -a names
    _cardea_static "$@"
}

"#;

/// Names that the last word may become, one per line of output.
pub(crate) fn names(socket: PathBuf, words: &[String]) -> Vec<String> {
    let Some(place) = place(words) else {
        return Vec::new();
    };
    let mut client = Client::new(place.socket.map_or(socket, PathBuf::from));
    let names = match place.card {
        None => client
            .cards(ANSWER_TIME)
            .map(|cards| cards.into_iter().map(|card| card.name).collect()),
        Some(card) => client
            .call(&Request::card(card, CardRequest::Show), ANSWER_TIME)
            .map(|reply| match reply {
                Reply::Card(card) => card
                    .keys
                    .into_iter()
                    .map(|key| match key.label.is_empty() {
                        true => format!("{:02X}", key.reference),
                        false => key.label,
                    })
                    .collect(),
                _ => Vec::new(),
            }),
    };
    let mut names: Vec<String> = names.unwrap_or_default();
    // A name with a line end would be two, and a terminal obeys control characters.
    names.retain(|name| name.starts_with(&place.begin) && !name.chars().any(is_unsafe_to_show));
    names.sort();
    names.dedup();
    names
}

/// What the last word is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The card whose key it is; a card itself if there is none.
    card: Option<String>,
    begin: String,
    socket: Option<String>,
}

fn place(words: &[String]) -> Option<Place> {
    let (last, words) = words.split_last()?;
    let root = {
        let mut command = Cli::command();
        command.build();
        command
    };
    let mut command = &root;
    let mut waiting: Option<&Arg> = None;
    let mut positionals = 0;
    let (mut card, mut socket) = (None, None);
    for word in words.iter().map(|word| unquoted(word)) {
        if let Some(argument) = waiting.take() {
            if argument.get_id() == "socket" {
                socket = Some(word);
            }
        } else if let Some(option) = word.strip_prefix("--") {
            let (name, value) = option
                .split_once('=')
                .map_or((option, None), |(name, value)| {
                    (name, Some(value.to_owned()))
                });
            let argument = long(command, name)?;
            match value {
                Some(value) if argument.get_id() == "socket" => socket = Some(value),
                Some(_) => {}
                None => waiting = argument.get_action().takes_values().then_some(argument),
            }
        } else if word.starts_with('-') {
            // No short option takes a value.
        } else if let Some(found) = command.find_subcommand(&word) {
            command = found;
        } else {
            if positional(command, positionals)?.get_id() == "card" {
                card = Some(word);
            }
            positionals += 1;
        }
    }
    let begin = unquoted(last);
    if waiting.is_none() && (begin.starts_with('-') || command.has_subcommands()) {
        return None;
    }
    let argument = match waiting {
        Some(argument) => argument,
        None => positional(command, positionals)?,
    };
    let value = argument.get_value_names()?.first()?.as_str();
    let is_of_card = |command: &Command| {
        command
            .get_arguments()
            .any(|known| known.get_id() == "card")
    };
    match value {
        "ID" if argument.get_id() == "card" => Some(Place {
            card: None,
            begin,
            socket,
        }),
        "KEY" if is_of_card(command) => Some(Place {
            card: Some(card?),
            begin,
            socket,
        }),
        _ => None,
    }
}

fn long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    arguments.find(|argument| argument.get_long() == Some(name))
}

fn positional(command: &Command, index: usize) -> Option<&Arg> {
    command.get_positionals().nth(index)
}

/// A word as it was typed, without the shell's quotes.
fn unquoted(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut escaped = false;
    for c in word.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' | '\'' if !escaped => {}
            _ => {
                text.push(c);
                escaped = false;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<(Option<String>, String)> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        place(&words).map(|place| (place.card, place.begin))
    }

    #[test]
    fn cards_and_keys_are_known_by_their_place() {
        let card = |begin: &str| Some((None, begin.to_owned()));
        let key = |card: &str, begin: &str| Some((Some(card.to_owned()), begin.to_owned()));
        for (line, wanted) in [
            ("card show ", card("")),
            ("card show Al", card("Al")),
            ("card show --json Al", card("Al")),
            ("pin unblock --puk-file puk Al", card("Al")),
            ("redirect dev1 --card ", card("")),
            ("cert show Alice wo", key("Alice", "wo")),
            ("csr create Alice --key ", key("Alice", "")),
            ("csr create Alice --out x --key wo", key("Alice", "wo")),
            ("key delete 'Ali\\ce' ", key("Alice", "")),
            ("", None),
            ("card ", None),
            ("card show -", None),
            ("card show Alice ", None),
            ("card create --admin-key ", None),
            ("card create --name ", None),
            ("helpdesk respond --card-id ", None),
            ("csr create --key ", None),
            ("key import Alice ", None),
            ("no such ", None),
            ("--unknown x ", None),
        ] {
            assert_eq!(of(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn socket_of_the_line_is_the_one_that_is_asked() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in ["--socket /s card show ", "card show --socket=/s "] {
            assert_eq!(place(&words(line)).unwrap().socket.as_deref(), Some("/s"));
        }
    }
}
