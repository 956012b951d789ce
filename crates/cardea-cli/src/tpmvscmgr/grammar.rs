//! The grammar of `tpmvscmgr`: options begin with `/`, and only values are case-sensitive.

use std::ffi::OsString;

use cardea_terms::CounterMode;

use crate::policy::Policy;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Create(Create),
    Destroy(Destroy),
    /// The text of `/?`, for one command or all.
    Help(Option<Verb>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Destroy,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Create {
    pub(super) quiet: bool,
    pub(super) name: String,
    pub(super) admin_key: AdminKey,
    pub(super) pin: Given,
    /// Absent: a card without PUK.
    pub(super) puk: Option<Given>,
    pub(super) generate: bool,
    pub(super) machine: Machine,
    pub(super) policy: Option<Policy>,
    pub(super) attestation: Option<Attestation>,
    /// Not of Microsoft's grammar, whose cards are all in object mode.
    pub(super) counter_mode: Option<CounterMode>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destroy {
    pub(super) quiet: bool,
    pub(super) instance: String,
    pub(super) machine: Machine,
}

/// Which machine, and who calls it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) host: Option<String>,
    /// Not of Microsoft's grammar, whose callers are always those who are signed in.
    pub(super) user: Option<String>,
    /// Not of Microsoft's grammar either.
    pub(super) password_fd: Option<u32>,
}

impl Machine {
    /// Takes an option, if it is one of these.
    fn option(&mut self, option: &str, words: &mut Words) -> Result<bool, String> {
        match option {
            "/machine" => once(&mut self.host, words.value(option)?, option)?,
            "/user" => once(&mut self.user, words.value(option)?, option)?,
            "/passwordfd" => {
                let number = words.value(option)?;
                let number = number.parse();
                let number = number.map_err(|_| format!("{option} takes a number"))?;
                once(&mut self.password_fd, number, option)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn checked(self) -> Result<Self, String> {
        match self.host.is_none() && (self.user.is_some() || self.password_fd.is_some()) {
            true => Err("/user and /passwordfd need /machine".to_owned()),
            false => Ok(self),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminKey {
    Default,
    Prompt,
    Random,
}

/// What a card can prove something by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attestation {
    Key,
    KeyAndCertificate,
}

/// Where a PIN or PUK comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Default,
    Prompt,
}

/// Words of a command line, with the one that is next.
struct Words {
    words: Vec<String>,
    next: usize,
}

impl Words {
    fn next(&mut self) -> Option<String> {
        let word = self.words.get(self.next)?.clone();
        self.next += 1;
        Some(word)
    }

    /// The value of an option.
    fn value(&mut self, option: &str) -> Result<String, String> {
        match self.words.get(self.next) {
            Some(word) if !word.starts_with('/') => {
                self.next += 1;
                Ok(word.clone())
            }
            _ => Err(format!("{option} needs a value")),
        }
    }

    /// The next word if it is not an option.
    fn more(&mut self) -> Option<String> {
        let word = self
            .words
            .get(self.next)
            .filter(|word| !word.starts_with('/'))?;
        self.next += 1;
        Some(word.clone())
    }
}

/// Parses a command line, without the program's name.
///
/// # Errors
///
/// Which argument is invalid.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let words = arguments
        .map(|word| {
            word.into_string()
                .map_err(|_| "an argument is not UTF-8".to_owned())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut words = Words { words, next: 0 };
    match words.next().map(|word| word.to_lowercase()).as_deref() {
        Some("create") => create(&mut words),
        Some("destroy") => destroy(&mut words),
        Some("/?") => Ok(Command::Help(None)),
        Some(other) => Err(format!("unknown command {other}: create or destroy")),
        None => Err("a command is missing: create or destroy".into()),
    }
}

fn create(words: &mut Words) -> Result<Command, String> {
    let (mut quiet, mut generate) = (false, false);
    let (mut name, mut admin_key, mut pin, mut puk) = (None, None, None, None);
    let (mut policy, mut attestation, mut counter_mode) = (None, None, None);
    let mut machine = Machine::default();
    while let Some(word) = words.next() {
        let option = word.to_lowercase();
        match option.as_str() {
            "/?" => return Ok(Command::Help(Some(Verb::Create))),
            "/quiet" => once_flag(&mut quiet, &option)?,
            "/generate" => once_flag(&mut generate, &option)?,
            "/name" => once(&mut name, words.value(&option)?, &option)?,
            "/adminkey" => {
                let value = keyword(words, &option, &["default", "prompt", "random"])?;
                let key = [AdminKey::Default, AdminKey::Prompt, AdminKey::Random];
                once(&mut admin_key, key.get(value).copied(), &option)?;
            }
            "/pin" => once(&mut pin, given(words, &option)?, &option)?,
            "/puk" => once(&mut puk, given(words, &option)?, &option)?,
            "/attestation" => {
                let value = keyword(words, &option, &["aik_and_cert", "aik_only"])?;
                let kind = [Attestation::KeyAndCertificate, Attestation::Key];
                once(&mut attestation, kind.get(value).copied(), &option)?;
            }
            "/countermode" => {
                let value = keyword(words, &option, &["nv", "object"])?;
                let mode = [CounterMode::Nv, CounterMode::Object];
                once(&mut counter_mode, mode.get(value).copied(), &option)?;
            }
            "/pinpolicy" => once(&mut policy, pin_policy(words)?, &option)?,
            _ if machine.option(&option, words)? => {}
            _ => return Err(format!("unknown option {word}")),
        }
    }
    if policy.is_some() && pin != Some(Given::Prompt) {
        return Err("/pinpolicy needs /pin prompt".into());
    }
    Ok(Command::Create(Create {
        quiet,
        name: name.ok_or("/name is missing")?,
        admin_key: admin_key.flatten().ok_or("/adminkey is missing")?,
        pin: pin.unwrap_or(Given::Prompt),
        puk,
        generate,
        machine: machine.checked()?,
        policy,
        attestation: attestation.flatten(),
        counter_mode: counter_mode.flatten(),
    }))
}

fn destroy(words: &mut Words) -> Result<Command, String> {
    let mut quiet = false;
    let mut instance = None;
    let mut machine = Machine::default();
    while let Some(word) = words.next() {
        let option = word.to_lowercase();
        match option.as_str() {
            "/?" => return Ok(Command::Help(Some(Verb::Destroy))),
            "/quiet" => once_flag(&mut quiet, &option)?,
            "/instance" => once(&mut instance, words.value(&option)?, &option)?,
            _ if machine.option(&option, words)? => {}
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(Command::Destroy(Destroy {
        quiet,
        instance: instance.ok_or("/instance is missing")?,
        machine: machine.checked()?,
    }))
}

fn once<T>(place: &mut Option<T>, value: T, option: &str) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{option} is given twice")),
    }
}

fn once_flag(place: &mut bool, option: &str) -> Result<(), String> {
    match std::mem::replace(place, true) {
        false => Ok(()),
        true => Err(format!("{option} is given twice")),
    }
}

/// The place of the word in the list.
fn keyword(words: &mut Words, option: &str, known: &[&str]) -> Result<usize, String> {
    let value = words.value(option)?.to_lowercase();
    let found = known.iter().position(|word| *word == value);
    // What was given is not repeated: it may be a key that somebody put here by mistake.
    found.ok_or_else(|| format!("{option} takes {}", known.join(", ").to_uppercase()))
}

fn given(words: &mut Words, option: &str) -> Result<Given, String> {
    Ok(match keyword(words, option, &["default", "prompt"])? {
        0 => Given::Default,
        _ => Given::Prompt,
    })
}

/// `minlen 6 digits REQUIRED …`, up to the next option.
fn pin_policy(words: &mut Words) -> Result<Policy, String> {
    // The defaults are those of Windows.
    let mut rules = vec![("min", "8".to_owned()), ("other", "disallowed".to_owned())];
    let mut count = 0;
    while let Some(word) = words.more() {
        count += 1;
        let keyword = match word.to_lowercase().as_str() {
            "minlen" => "min",
            "maxlen" => "max",
            "uppercase" => "upper",
            "lowercase" => "lower",
            "digits" => "digits",
            "specialchars" => "special",
            _ => return Err(format!("unknown keyword {word} in /pinpolicy")),
        };
        let value = words.value(&word)?.to_lowercase();
        rules.retain(|(known, _)| *known != keyword);
        rules.push((keyword, value));
    }
    if count == 0 {
        return Err("/pinpolicy needs a value".into());
    }
    let text: Vec<String> = rules
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    text.join(",")
        .parse()
        .map_err(|error| format!("/pinpolicy: {error}"))
}

/// The policy of a card that was created without `/pinpolicy`.
pub(super) fn usual_policy() -> Policy {
    "min=8,other=disallowed".parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn refused(line: &str) -> String {
        match parsed(line) {
            Err(text) => text,
            Ok(command) => panic!("{line}: {command:?}"),
        }
    }

    #[test]
    fn examples_of_the_documentation_are_understood() {
        // Microsoft's documentation of tpmvscmgr, "Examples".
        let all_default =
            parsed("create /name VirtualSmartCardForCorpAccess /AdminKey DEFAULT /generate");
        let Ok(Command::Create(create)) = all_default else {
            panic!("{all_default:?}");
        };
        assert_eq!(create.name, "VirtualSmartCardForCorpAccess");
        assert_eq!(create.admin_key, AdminKey::Default);
        assert_eq!((create.pin, create.puk), (Given::Prompt, None));
        assert!(create.generate && !create.quiet && create.policy.is_none());
        assert_eq!(create.counter_mode, None);

        let unmanaged = parsed(
            "create /name VSC /pin PROMPT /pinpolicy minlen 4 maxlen 8 /AdminKey DEFAULT /attestation AIK_AND_CERT /generate",
        );
        let Ok(Command::Create(create)) = unmanaged else {
            panic!("{unmanaged:?}");
        };
        assert_eq!(create.attestation, Some(Attestation::KeyAndCertificate));
        let policy = create.policy.unwrap();
        assert_eq!(
            policy.to_string(),
            "min=4,max=8,other=disallowed"
                .parse::<Policy>()
                .unwrap()
                .to_string()
        );

        assert_eq!(
            parsed(r"DESTROY /Instance ROOT\SMARTCARDREADER\0000"),
            Ok(Command::Destroy(Destroy {
                quiet: false,
                instance: r"ROOT\SMARTCARDREADER\0000".into(),
                machine: Machine::default(),
            }))
        );
    }

    #[test]
    fn keywords_have_no_case() {
        for line in [
            "CREATE /NAME x /ADMINKEY random /PIN default /PUK Default /QUIET",
            "create /name x /adminkey RANDOM /pin DEFAULT /puk DEFAULT /quiet",
        ] {
            let Ok(Command::Create(create)) = parsed(line) else {
                panic!("{line}");
            };
            assert!(create.quiet && !create.generate);
            assert_eq!(create.admin_key, AdminKey::Random);
            assert_eq!(
                (create.pin, create.puk),
                (Given::Default, Some(Given::Default))
            );
        }
        assert_eq!(parsed("/?"), Ok(Command::Help(None)));
        assert_eq!(parsed("Create /?"), Ok(Command::Help(Some(Verb::Create))));
        assert_eq!(
            parsed("destroy /instance x /?"),
            Ok(Command::Help(Some(Verb::Destroy)))
        );
    }

    #[test]
    fn counter_mode_is_an_option_of_ours() {
        for (word, mode) in [("OBJECT", CounterMode::Object), ("nv", CounterMode::Nv)] {
            let line = format!("create /name x /adminkey random /countermode {word}");
            let Ok(Command::Create(create)) = parsed(&line) else {
                panic!("{line}");
            };
            assert_eq!(create.counter_mode, Some(mode));
        }
        let refused = refused("create /name x /adminkey random /countermode file");
        assert!(refused.contains("NV, OBJECT"), "{refused}");
    }

    #[test]
    fn invalid_option_is_named() {
        for (line, text) in [
            ("", "create or destroy"),
            ("make", "make"),
            ("create /adminkey random", "/name"),
            ("create /name x", "/adminkey"),
            ("create /name", "/name needs a value"),
            ("create /name /adminkey random", "/name needs a value"),
            ("create /name x /name y /adminkey random", "twice"),
            ("create /name x /adminkey 010203", "DEFAULT, PROMPT, RANDOM"),
            (
                "create /name x /adminkey random /pin 12345678",
                "DEFAULT, PROMPT",
            ),
            ("create /name x /adminkey random /force", "/force"),
            (
                "create /name x /adminkey random /pinpolicy minlen 4",
                "/pin prompt",
            ),
            (
                "create /name x /adminkey random /pin default /pinpolicy minlen 4",
                "/pin prompt",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy",
                "/pinpolicy",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy minlen 3",
                "/pinpolicy",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy maxlen 128",
                "/pinpolicy",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy minlen 9 maxlen 8",
                "/pinpolicy",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy digits MAYBE",
                "/pinpolicy",
            ),
            (
                "create /name x /adminkey random /pin prompt /pinpolicy colour REQUIRED",
                "colour",
            ),
            ("create /name x /adminkey random /attestation FULL", "AIK"),
            ("destroy", "/instance"),
            ("destroy /instance x /generate", "/generate"),
        ] {
            let error = refused(line);
            assert!(error.contains(text), "{line}: {error}");
        }
        assert!(!refused("create /name x /adminkey 0102030405060708").contains("0102"));
    }
}
