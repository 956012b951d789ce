//! Golden transcripts: text files of command and response APDUs with typed steps, played against a
//! [`Card`].
//!
//! One step a line; a line that begins with a blank continues the one before; `#` begins a comment.
//!
//! | step | meaning |
//! |---|---|
//! | `card KIND` | which card the transcript is for, once, first: `admin`, `admin+puk`, `blank`, `created`, `puk`, `uninitialised`, `uninitialised+puk` |
//! | `> HEX` | send this command |
//! | `< PATTERN` | the response must match, status word included |
//! | `reset` | warm reset of the connection |
//! | `connection NAME` | go on with this connection; it is made at its first mention |
//! | `disconnect NAME` | this connection ends |
//! | `set NAME HEX` | defines a variable |
//! | `encrypt SCHEME PUBLIC PLAIN NAME` | encrypts to the public key (`7F49` template) and defines a variable; `pkcs1`, `oaep` (SHA-1), `raw` |
//! | `verify SCHEME PUBLIC DATA SIGNATURE` | the signature must be right; `pkcs1` (data as sent to the card), `raw` (the padded block), `ecdsa` (hash; DER signature) |
//! | `external KEY CHALLENGE NAME` | answers a challenge of external authentication with an admin key |
//! | `mutual KEY CARD HOST NAME` | the host's cryptogram of mutual authentication |
//! | `mutual-answer KEY CARD HOST CRYPTOGRAM` | the card's cryptogram must be right |
//! | `differ HEX HEX` | the two must not be equal |
//!
//! In HEX, blanks do not matter except in arguments of steps, and `{name}` or `{name[a..b]}` stands for
//! a variable or a part of it. In PATTERN also `??` for any byte, `*` for any number of bytes (once),
//! and `{name:N}` or `{name:*}` to define a variable as the next N bytes or as what `*` would match.
//! `{pin}`, `{puk}`, `{adminkey}` and `{cardid}` are defined from the start.

mod cryptography;
mod parse;
mod pattern;
pub mod pcscd;

use std::collections::BTreeMap;
use std::fmt;

use cardea_card::{Card, Connection};

use self::pattern::{Hex, Pattern};

/// A parsed transcript.
#[derive(Clone, Debug)]
pub struct Transcript {
    card: CardKind,
    steps: Vec<(usize, Step)>,
}

/// Which card a transcript or a test is for. All have the PIN [`PIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CardKind {
    /// As `Created`, with the admin key [`ADMIN_KEY`].
    Admin,
    /// As `Admin`, with the PUK [`PUK`].
    AdminAndPuk,
    /// Operational without file system.
    Blank,
    /// Operational with file system.
    Created,
    /// In initialisation state, without PIN.
    Uninitialised,
    /// The same, with room for a PUK.
    UninitialisedWithPuk,
    /// As `Created`, with the PUK [`PUK`].
    WithPuk,
}

/// PIN of test cards.
pub const PIN: &[u8] = b"123456";
/// PUK of test cards.
pub const PUK: &[u8] = b"12345678";
/// Admin key of test cards: not the usual default, so that nothing works by chance.
pub const ADMIN_KEY: &[u8; 24] = b"0123456789abcdefFEDCBA98";

/// A line that is not a step, or a step that did not go as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptError {
    /// Line number from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TranscriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for TranscriptError {}

#[derive(Clone, Debug)]
enum Step {
    Command(Hex),
    Connection(String),
    Differ(Hex, Hex),
    Disconnect(String),
    Encrypt(Encryption, Hex, Hex, String),
    External(Hex, Hex, String),
    Mutual(Hex, Hex, Hex, String),
    MutualAnswer(Hex, Hex, Hex, Hex),
    Reset,
    Response(Pattern),
    Set(String, Hex),
    Verify(Signature, Hex, Hex, Hex),
}

#[derive(Clone, Copy, Debug)]
enum Encryption {
    Oaep,
    Pkcs1,
    Raw,
}

#[derive(Clone, Copy, Debug)]
enum Signature {
    Ecdsa,
    Pkcs1,
    Raw,
}

type Variables = BTreeMap<String, Vec<u8>>;

impl Transcript {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// [`TranscriptError`] for the first line that is not a step.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        parse::parse(text)
    }

    /// Which card it is for.
    #[must_use]
    pub fn card(&self) -> CardKind {
        self.card
    }

    /// Plays it against a card, over connections of its own, which end with it.
    ///
    /// # Errors
    ///
    /// [`TranscriptError`] for the first step that did not go as written.
    pub fn play(&self, card: &mut Card) -> Result<(), TranscriptError> {
        let mut player = Player::new(card);
        let result = self.steps.iter().try_for_each(|(line, step)| {
            player.step(step).map_err(|message| TranscriptError {
                line: *line,
                message,
            })
        });
        let result = result.and_then(|()| match player.response {
            None => Ok(()),
            Some(_) => Err(TranscriptError {
                line: self.steps.last().map_or(0, |(line, _)| *line),
                message: "the last response was not looked at".to_owned(),
            }),
        });
        player.finish();
        result
    }
}

/// Connections, variables and the response that is still to be compared.
struct Player<'a> {
    card: &'a mut Card,
    connections: BTreeMap<String, Connection>,
    current: String,
    variables: Variables,
    response: Option<Vec<u8>>,
}

impl<'a> Player<'a> {
    fn new(card: &'a mut Card) -> Self {
        let variables = [
            ("pin", PIN.to_vec()),
            ("puk", PUK.to_vec()),
            ("adminkey", ADMIN_KEY.to_vec()),
            ("cardid", card.record().id.as_bytes().to_vec()),
        ];
        Self {
            card,
            connections: BTreeMap::new(),
            current: "main".to_owned(),
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            response: None,
        }
    }

    fn finish(self) {
        for connection in self.connections.into_values() {
            self.card.disconnect(connection);
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if !matches!(step, Step::Response(_)) && self.response.is_some() {
            return Err("the response before was not looked at".to_owned());
        }
        match step {
            Step::Command(hex) => {
                let command = hex.resolve(&self.variables)?;
                let (card, connection) = self.connection();
                let response = card.transmit(connection, &command);
                self.response = Some(response.to_vec());
            }
            Step::Connection(name) => self.current.clone_from(name),
            Step::Differ(a, b) => {
                if a.resolve(&self.variables)? == b.resolve(&self.variables)? {
                    return Err("the two are equal".to_owned());
                }
            }
            Step::Disconnect(name) => match self.connections.remove(name) {
                Some(connection) => self.card.disconnect(connection),
                None => return Err(format!("no connection {name}")),
            },
            Step::Encrypt(scheme, public, plain, name) => {
                let public = public.resolve(&self.variables)?;
                let plain = plain.resolve(&self.variables)?;
                let cryptogram = cryptography::encrypt(*scheme, &public, &plain)?;
                self.variables.insert(name.clone(), cryptogram);
            }
            Step::External(key, challenge, name) => {
                let key = key.resolve(&self.variables)?;
                let challenge = challenge.resolve(&self.variables)?;
                let answer = cryptography::external(&key, &challenge)?;
                self.variables.insert(name.clone(), answer);
            }
            Step::Mutual(key, card, host, name) => {
                let key = key.resolve(&self.variables)?;
                let card = card.resolve(&self.variables)?;
                let host = host.resolve(&self.variables)?;
                let cryptogram = cryptography::mutual(&key, &card, &host)?;
                self.variables.insert(name.clone(), cryptogram);
            }
            Step::MutualAnswer(key, card, host, cryptogram) => cryptography::mutual_answer(
                &key.resolve(&self.variables)?,
                &card.resolve(&self.variables)?,
                &host.resolve(&self.variables)?,
                &cryptogram.resolve(&self.variables)?,
            )?,
            Step::Reset => {
                let (card, connection) = self.connection();
                card.reset(connection);
            }
            Step::Response(pattern) => {
                let response = self.response.take().ok_or("no command was sent")?;
                pattern
                    .compare(&response, &mut self.variables)
                    .map_err(|what| format!("{what}; the response is {}", hex(&response)))?;
            }
            Step::Set(name, hex) => {
                let value = hex.resolve(&self.variables)?;
                self.variables.insert(name.clone(), value);
            }
            Step::Verify(scheme, public, data, signature) => cryptography::verify(
                *scheme,
                &public.resolve(&self.variables)?,
                &data.resolve(&self.variables)?,
                &signature.resolve(&self.variables)?,
            )?,
        }
        Ok(())
    }

    fn connection(&mut self) -> (&mut Card, &mut Connection) {
        let Self {
            card,
            connections,
            current,
            ..
        } = self;
        let connection = connections
            .entry(current.clone())
            .or_insert_with(|| card.connect());
        (card, connection)
    }
}

/// Upper-case hexadecimal without blanks.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
