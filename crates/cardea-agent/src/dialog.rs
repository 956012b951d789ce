//! What is asked, in which words, and what is done with a blocked PIN.

use std::sync::Arc;
use std::time::Duration;

use cardea_client::Process;
use cardea_client::dictation::{from_dictation, to_dictation};
use cardea_terms::{CharacterClass, CharacterRule, PinPolicy, PinRuleError, for_dialog, tame};

use crate::pinentry::{Error, Open, Options, Pinentry};
use crate::secret::Secret;
use crate::unblocking::{Refusal, Unblocking};

/// Dialogs for one question, after which the program has to ask again.
const ROUNDS: u32 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    NewPin,
    NewPuk,
    Pin,
    Puk,
}

impl Purpose {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "new-pin" => Self::NewPin,
            "new-puk" => Self::NewPuk,
            "pin" => Self::Pin,
            "puk" => Self::Puk,
            _ => return None,
        })
    }

    fn is_new(self) -> bool {
        matches!(self, Self::NewPin | Self::NewPuk)
    }

    /// As in "asks for …".
    fn words(self) -> &'static str {
        match self {
            Self::NewPin => "a new PIN",
            Self::NewPuk => "a new PUK",
            Self::Pin => "the PIN",
            Self::Puk => "the PUK",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::NewPin | Self::Pin => "PIN",
            Self::NewPuk | Self::Puk => "PUK",
        }
    }
}

/// How a blocked PIN is set anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnblockMode {
    ChallengeResponse,
    #[default]
    None,
    Puk,
}

/// What is known of a question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) pid: u32,
    /// When that process started, in clock ticks; 0 = not known.
    pub(crate) started: u64,
    /// The unit of systemd that it belongs to; empty = none.
    pub(crate) unit: String,
    pub(crate) door: String,
    /// Whom the program does it for; empty = itself.
    pub(crate) behalf: String,
    pub(crate) tries_left: Option<u32>,
    pub(crate) policy: PinPolicy,
    pub(crate) unblock: UnblockMode,
    pub(crate) error: Option<String>,
    pub(crate) limit: Duration,
}

/// Asks at this session's screen or terminal.
pub(crate) struct Dialogs {
    pub(crate) options: Options,
    pub(crate) open: Arc<Open>,
}

impl Dialogs {
    /// A PIN or PUK that can be right. A blocked PIN leads to its unblocking, and the new one is the answer.
    pub(crate) fn secret(
        &self,
        purpose: Purpose,
        hints: &Hints,
        unblocking: &dyn Unblocking,
    ) -> Result<Secret, Error> {
        if purpose == Purpose::Pin && hints.tries_left == Some(0) {
            return self.unblock(hints, unblocking);
        }
        self.ask(
            purpose,
            &describe(purpose, hints),
            hints,
            hints.error.clone(),
        )
    }

    /// Yes or no.
    pub(crate) fn consent(&self, action: &str, hints: &Hints) -> Result<bool, Error> {
        let mut pinentry = self.open(hints.limit)?;
        let text = format!(
            "{}\n{} wants to {}",
            card(hints),
            asker(hints),
            tame(action)
        );
        pinentry.set("SETDESC", &text)?;
        pinentry.set("SETOK", "Allow")?;
        pinentry.set("SETCANCEL", "Refuse")?;
        pinentry.confirm()
    }

    fn open(&self, limit: Duration) -> Result<Pinentry, Error> {
        let mut pinentry = Pinentry::start(&self.options, &self.open, limit)?;
        pinentry.set("SETTITLE", "Virtual smart card")?;
        Ok(pinentry)
    }

    /// Asks until what is typed can be right.
    fn ask(
        &self,
        purpose: Purpose,
        description: &str,
        hints: &Hints,
        mut error: Option<String>,
    ) -> Result<Secret, Error> {
        for _ in 0..ROUNDS {
            let secret = self.ask_once(purpose, description, hints, error.as_deref())?;
            match secret.and_then(|secret| plausible(purpose, hints, &secret).map(|()| secret)) {
                Ok(secret) => return Ok(secret),
                Err(why) => error = Some(why),
            }
        }
        Err(Error::Cancelled)
    }

    fn ask_once(
        &self,
        purpose: Purpose,
        description: &str,
        hints: &Hints,
        error: Option<&str>,
    ) -> Result<Result<Secret, String>, Error> {
        let mut pinentry = self.open(hints.limit)?;
        pinentry.set("SETDESC", description)?;
        let prompt = match purpose {
            Purpose::NewPin => "New PIN:",
            Purpose::NewPuk => "New PUK:",
            Purpose::Pin => "PIN:",
            Purpose::Puk => "PUK:",
        };
        pinentry.set("SETPROMPT", prompt)?;
        if let Some(error) = error {
            pinentry.set("SETERROR", &tame(error))?;
        }
        // Not the second field of pinentry-curses 1.3: the return key after the first entry already reports that the
        // two do not match.
        if purpose.is_new()
            && !pinentry.is_drawn_by_curses()?
            && pinentry.set("SETREPEAT", "Again:")?
        {
            pinentry.set("SETREPEATERROR", "The two entries do not match")?;
        }
        let first = pinentry.pin()?;
        if purpose.is_new() && !pinentry.was_repeated() {
            drop(pinentry);
            let mut pinentry = self.open(hints.limit)?;
            pinentry.set("SETDESC", description)?;
            pinentry.set("SETPROMPT", "Again:")?;
            let second = pinentry.pin()?;
            if first.expose() != second.expose() {
                return Ok(Err("the two entries do not match".into()));
            }
        }
        Ok(Ok(first))
    }

    /// Sets a new PIN on the PUK's or the administrator's word.
    fn unblock(&self, hints: &Hints, unblocking: &dyn Unblocking) -> Result<Secret, Error> {
        match hints.unblock {
            UnblockMode::None => {
                let mut pinentry = self.open(hints.limit)?;
                let text = format!(
                    "{}\nIts PIN is blocked, and there is neither a PUK nor an administrator to unblock it.",
                    card(hints)
                );
                pinentry.set("SETDESC", &text)?;
                pinentry.message()?;
                Err(Error::Cancelled)
            }
            UnblockMode::Puk => self.unblock_by_puk(hints, unblocking),
            UnblockMode::ChallengeResponse => self.unblock_by_response(hints, unblocking),
        }
    }

    fn unblock_by_puk(&self, hints: &Hints, unblocking: &dyn Unblocking) -> Result<Secret, Error> {
        let mut error = None;
        let own = Hints {
            policy: PinPolicy::puk(),
            ..hints.clone()
        };
        for _ in 0..ROUNDS {
            let text = format!(
                "{}\nIts PIN is blocked. Unblock it with the PUK.",
                card(hints)
            );
            let puk = self.ask(Purpose::Puk, &text, &own, error.take())?;
            let new = self.new_pin(hints)?;
            match unblocking.unblock_by_puk(&puk, &new) {
                Ok(()) => return Ok(new),
                Err(Refusal::Wrong(text)) => error = Some(text),
                Err(Refusal::Failed(text)) => return Err(Error::Failed(text)),
            }
        }
        Err(Error::Cancelled)
    }

    fn unblock_by_response(
        &self,
        hints: &Hints,
        unblocking: &dyn Unblocking,
    ) -> Result<Secret, Error> {
        let mut error = None;
        for _ in 0..ROUNDS {
            let reset = unblocking.reset().map_err(Error::Failed)?;
            let challenge = reset.challenge().try_into();
            let challenge = challenge.map_err(|_| Error::Failed("not a challenge".into()))?;
            let response = self.response(hints, &to_dictation(challenge), error.take())?;
            let new = self.new_pin(hints)?;
            match reset.complete(&response, &new) {
                Ok(()) => return Ok(new),
                Err(Refusal::Wrong(text)) => error = Some(text),
                Err(Refusal::Failed(text)) => return Err(Error::Failed(text)),
            }
        }
        Err(Error::Cancelled)
    }

    fn new_pin(&self, hints: &Hints) -> Result<Secret, Error> {
        let text = format!(
            "{}\nChoose a new PIN: {}",
            card(hints),
            rules(&hints.policy)
        );
        self.ask(Purpose::NewPin, &text, hints, None)
    }

    /// The help desk's answer to a challenge, 8 bytes. What cannot be one is asked again.
    fn response(
        &self,
        hints: &Hints,
        challenge: &str,
        mut error: Option<String>,
    ) -> Result<Secret, Error> {
        let text = format!(
            "{}\nIts PIN is blocked. Read this to your help desk, and type the response:\n\n{}",
            card(hints),
            challenge
        );
        for _ in 0..ROUNDS {
            let mut pinentry = self.open(hints.limit)?;
            pinentry.set("SETDESC", &text)?;
            pinentry.set("SETPROMPT", "Answer:")?;
            if let Some(error) = &error {
                pinentry.set("SETERROR", error)?;
            }
            match from_dictation(pinentry.pin()?.expose()) {
                Ok(response) => return Ok(Secret::of(&response)),
                Err(why) => error = Some(format!("the answer: {why}")),
            }
        }
        Err(Error::Cancelled)
    }
}

/// What cannot be right costs no try.
fn plausible(purpose: Purpose, hints: &Hints, secret: &Secret) -> Result<(), String> {
    if secret.is_too_long() {
        return Err(format!("a {} must have at most 127 bytes", purpose.noun()));
    }
    if secret.expose().is_empty() {
        return Err("nothing was typed".to_owned());
    }
    let checked = hints.policy.check(secret.expose());
    checked.map_err(|error| match error {
        PinRuleError::Length { min, max } => format!("it must have {min} to {max} characters"),
        PinRuleError::Missing(_) | PinRuleError::Disallowed(_) => rules(&hints.policy),
    })
}

fn card(hints: &Hints) -> String {
    format!("Card “{}”", for_dialog(&hints.name))
}

/// Who asks.
fn asker(hints: &Hints) -> String {
    let program = program(hints);
    if hints.behalf.is_empty() {
        return program;
    }
    format!("{program}, for {},", for_dialog(&hints.behalf))
}

fn program(hints: &Hints) -> String {
    match (hints.door.as_str(), hints.program.as_str()) {
        // pcscd does not tell whose program it is, which the text says below.
        ("reader", _) => "A program at the card reader".into(),
        (_, "") => "A program".into(),
        (_, program) => match program
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            None => format!("{} (process {})", for_dialog(program), hints.pid),
            Some(name) => match executable(hints.pid, hints.started) {
                Some(path) => format!("{} (process {})", for_dialog(&path), hints.pid),
                None if hints.unit.is_empty() => {
                    format!(
                        "A program that calls itself “{}” (process {})",
                        for_dialog(name),
                        hints.pid
                    )
                }
                None => format!(
                    "A program that calls itself “{}” (process {}, {})",
                    for_dialog(name),
                    hints.pid,
                    for_dialog(&hints.unit)
                ),
            },
        },
    }
}

/// The executable of a process of this user, which the daemon, a user of its own, cannot read. `started` is when the
/// process that is meant began: one that has its id by now is another.
fn executable(pid: u32, started: u64) -> Option<String> {
    let process = Process::find(pid)?;
    let is_the_same = started > 0 && process.start() == Some(started);
    is_the_same.then(|| process.executable())?
}

/// The text of the dialog.
fn describe(purpose: Purpose, hints: &Hints) -> String {
    let mut text = format!(
        "{}\n{} asks for {}.",
        card(hints),
        asker(hints),
        purpose.words()
    );
    if hints.door == "reader" {
        text.push_str(
            "\nIt came through the reader (pcscd), which does not tell whose program it is.\
             \nRefuse it if you have not started anything that uses the card.",
        );
    }
    if purpose.is_new() {
        text.push_str(&format!("\n{}.", rules(&hints.policy)));
    } else {
        match hints.tries_left {
            None => {}
            Some(1) => text.push_str(&format!(
                "\nLast try: after another wrong {} it is blocked.",
                purpose.noun()
            )),
            Some(left) => text.push_str(&format!("\n{left} tries left.")),
        }
    }
    text
}

/// A policy in words.
fn rules(policy: &PinPolicy) -> String {
    let mut text = format!("{} to {} characters", policy.min(), policy.max());
    for class in policy.classes(CharacterRule::Required).filter_map(one) {
        text.push_str(&format!(", at least one {class}"));
    }
    for class in policy.classes(CharacterRule::Disallowed).filter_map(one) {
        text.push_str(&format!(", no {class}"));
    }
    text
}

/// One character of a class; none of one that people do not type.
fn one(class: CharacterClass) -> Option<&'static str> {
    match class {
        CharacterClass::Uppercase => Some("capital letter"),
        CharacterClass::Lowercase => Some("small letter"),
        CharacterClass::Digits => Some("digit"),
        CharacterClass::Special => Some("special character"),
        CharacterClass::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_words() {
        let mut bytes = [0; 32];
        for (place, number) in bytes.chunks_exact_mut(4).zip([1_u32, 6, 12, 2, 0, 1, 0, 2]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let policy = PinPolicy::parse(&bytes).unwrap();
        assert_eq!(
            rules(&policy),
            "6 to 12 characters, at least one digit, no capital letter"
        );
    }

    #[test]
    fn dialog_tells_card_program_and_tries() {
        let hints = Hints {
            name: "work".into(),
            program: "/usr/bin/ssh".into(),
            pid: 7,
            door: "socket".into(),
            tries_left: Some(4),
            ..Hints::default()
        };
        let text = describe(Purpose::Pin, &hints);
        assert_eq!(
            text,
            "Card “work”\n/usr/bin/ssh (process 7) asks for the PIN.\n4 tries left."
        );
        let last = Hints {
            tries_left: Some(1),
            door: "reader".into(),
            ..hints
        };
        let text = describe(Purpose::Pin, &last);
        assert!(
            text.contains("A program at the card reader asks for the PIN")
                && text.contains("(pcscd), which does not tell whose program it is")
                && text.contains("Last try"),
            "{text}"
        );
    }

    #[test]
    fn program_that_the_daemon_cannot_name_is_named_here() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let hints = Hints {
            name: "work".into(),
            program: "[harmless]".into(),
            unit: "session-3.scope".into(),
            pid: child.id(),
            started: Process::find(child.id()).unwrap().start().unwrap(),
            ..Hints::default()
        };
        let named = asker(&hints);
        // Another process has the id by now.
        let other = asker(&Hints {
            started: hints.started - 1,
            ..hints.clone()
        });
        let unknown = asker(&Hints {
            started: 0,
            unit: String::new(),
            ..hints.clone()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            named.starts_with('/') && named.contains(" (process "),
            "{named}"
        );
        assert!(!named.contains("harmless"), "{named}");
        let pid = hints.pid;
        assert_eq!(
            other,
            format!("A program that calls itself “harmless” (process {pid}, session-3.scope)")
        );
        assert_eq!(
            unknown,
            format!("A program that calls itself “harmless” (process {pid})")
        );
        assert_eq!(asker(&hints), other, "it is gone");
    }

    #[test]
    fn dialog_tells_whom_the_program_asks_for() {
        let hints = Hints {
            name: "work".into(),
            program: "/usr/bin/cardea".into(),
            pid: 7,
            behalf: "dev1\n".into(),
            ..Hints::default()
        };
        let text = describe(Purpose::Pin, &hints);
        assert_eq!(
            text,
            "Card “work”\n/usr/bin/cardea (process 7), for dev1\u{FFFD}, asks for the PIN."
        );
    }

    #[test]
    fn programs_add_no_lines_to_a_dialog() {
        for separator in ["\n", "\r\n", "\u{85}", "\u{2028}", "\u{2029}"] {
            let hints = Hints {
                name: format!("work{separator}Last try"),
                program: format!("/tmp/a{separator}5 tries left.{separator}/usr/bin/ssh"),
                ..Hints::default()
            };
            let text = describe(Purpose::Pin, &hints);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(
                !text.contains(['\u{85}', '\u{2028}', '\u{2029}', '\r']),
                "{text:?}"
            );
        }
    }

    #[test]
    fn long_and_turned_names_leave_the_question_in_sight() {
        let hints = Hints {
            name: "x".repeat(127),
            program: format!("/tmp/{}\u{202E}/ssh", "y".repeat(4000)),
            pid: 7,
            behalf: "z".repeat(4000),
            ..Hints::default()
        };
        let text = describe(Purpose::Pin, &hints);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest < Some(180), "{text}");
        assert!(
            text.contains("/ssh (process 7)") && text.contains("asks for the PIN."),
            "{text}"
        );
        assert!(!text.contains('\u{202E}'), "{text:?}");
    }

    #[test]
    fn what_cannot_be_right_is_told() {
        let hints = Hints::default();
        for wrong in [&b""[..], b"123", &[b'1'; 128]] {
            assert!(plausible(Purpose::Pin, &hints, &Secret::of(wrong)).is_err());
        }
        assert!(plausible(Purpose::Pin, &hints, &Secret::of(b"1234")).is_ok());
    }

    /// The commands that a pinentry of this flavor gets when a new PIN is asked for.
    fn commands_for_a_new_pin(flavor: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (folder.path().join("pinentry"), folder.path().join("log"));
        let script = format!(
            "#!/bin/sh\necho OK\nwhile read -r line; do echo \"$line\" >> {}; case \"$line\" in \
             GETINFO*) echo 'D {flavor}';; GETPIN*) echo 'D 271828';; BYE*) exit;; esac; echo OK; done\n",
            log.display()
        );
        std::fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let dialogs = Dialogs {
            options: Options {
                program: program.display().to_string(),
                tty: None,
            },
            open: Arc::default(),
        };
        let hints = Hints {
            limit: Duration::from_secs(30),
            ..Hints::default()
        };
        let pin = dialogs.ask(Purpose::NewPin, "", &hints, None).unwrap();
        assert_eq!(pin.expose(), b"271828");
        std::fs::read_to_string(log).unwrap()
    }

    #[test]
    fn second_field_of_curses_is_not_used() {
        for flavor in ["curses", "gnome3:curses"] {
            let commands = commands_for_a_new_pin(flavor);
            assert!(!commands.contains("SETREPEAT"), "{commands}");
            assert_eq!(commands.matches("GETPIN").count(), 2, "{commands}");
            assert!(commands.contains("SETPROMPT Again:"), "{commands}");
        }
        let commands = commands_for_a_new_pin("gnome3");
        assert!(commands.contains("SETREPEAT Again:"), "{commands}");
    }
}
