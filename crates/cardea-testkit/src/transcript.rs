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
pub mod personalisation;

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
        let id = *card.record().id.as_bytes();
        let mut engine = Engine {
            card,
            connections: BTreeMap::new(),
        };
        let result = self.play_to(&mut engine, PIN, &id);
        for connection in engine.connections.into_values() {
            engine.card.disconnect(connection);
        }
        result
    }

    /// Plays it to a card that is reached in another way, with that PIN and id; one connection is all there is.
    ///
    /// # Errors
    ///
    /// [`TranscriptError`] for the first step that did not go as written, or that takes more than commands.
    pub fn play_through(
        &self,
        pin: &[u8],
        id: &[u8],
        transmit: &mut dyn FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<(), TranscriptError> {
        self.play_to(&mut Line { transmit }, pin, id)
    }

    fn play_to(&self, far: &mut dyn Far, pin: &[u8], id: &[u8]) -> Result<(), TranscriptError> {
        let mut player = Player::new(far, pin, id);
        let result = self.steps.iter().try_for_each(|(line, step)| {
            player.step(step).map_err(|message| TranscriptError {
                line: *line,
                message,
            })
        });
        result.and_then(|()| match player.response {
            None => Ok(()),
            Some(_) => Err(TranscriptError {
                line: self.steps.last().map_or(0, |(line, _)| *line),
                message: "the last response was not looked at".to_owned(),
            }),
        })
    }
}

/// The side that answers.
trait Far {
    fn transmit(&mut self, connection: &str, command: &[u8]) -> Result<Vec<u8>, String>;
    fn reset(&mut self, connection: &str) -> Result<(), String>;
    fn disconnect(&mut self, connection: &str) -> Result<(), String>;
}

/// A card's engine in our hands.
struct Engine<'a> {
    card: &'a mut Card,
    connections: BTreeMap<String, Connection>,
}

impl Engine<'_> {
    fn connection(&mut self, name: &str) -> (&mut Card, &mut Connection) {
        let Self { card, connections } = self;
        let connection = connections
            .entry(name.to_owned())
            .or_insert_with(|| card.connect());
        (card, connection)
    }
}

impl Far for Engine<'_> {
    fn transmit(&mut self, connection: &str, command: &[u8]) -> Result<Vec<u8>, String> {
        let (card, connection) = self.connection(connection);
        Ok(card.transmit(connection, command).to_vec())
    }

    fn reset(&mut self, connection: &str) -> Result<(), String> {
        let (card, connection) = self.connection(connection);
        card.reset(connection);
        Ok(())
    }

    fn disconnect(&mut self, connection: &str) -> Result<(), String> {
        let ended = self.connections.remove(connection);
        let ended = ended.ok_or_else(|| format!("no connection {connection}"))?;
        self.card.disconnect(ended);
        Ok(())
    }
}

/// Whatever takes commands.
struct Line<'a> {
    transmit: &'a mut dyn FnMut(&[u8]) -> Vec<u8>,
}

impl Far for Line<'_> {
    fn transmit(&mut self, connection: &str, command: &[u8]) -> Result<Vec<u8>, String> {
        match connection {
            MAIN => Ok((self.transmit)(command)),
            other => Err(format!("there is no connection {other}")),
        }
    }

    fn reset(&mut self, _connection: &str) -> Result<(), String> {
        Err("there is no reset".to_owned())
    }

    fn disconnect(&mut self, connection: &str) -> Result<(), String> {
        Err(format!("there is no connection {connection}"))
    }
}

/// The connection that is there from the start.
const MAIN: &str = "main";

/// Variables and the response that is still to be compared.
struct Player<'a> {
    far: &'a mut dyn Far,
    current: String,
    variables: Variables,
    response: Option<Vec<u8>>,
}

impl<'a> Player<'a> {
    fn new(far: &'a mut dyn Far, pin: &[u8], id: &[u8]) -> Self {
        let variables = [
            ("pin", pin.to_vec()),
            ("puk", PUK.to_vec()),
            ("adminkey", ADMIN_KEY.to_vec()),
            ("cardid", id.to_vec()),
        ];
        Self {
            far,
            current: MAIN.to_owned(),
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            response: None,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if !matches!(step, Step::Response(_)) && self.response.is_some() {
            return Err("the response before was not looked at".to_owned());
        }
        match step {
            Step::Command(hex) => {
                let command = hex.resolve(&self.variables)?;
                self.response = Some(self.far.transmit(&self.current, &command)?);
            }
            Step::Connection(name) => self.current.clone_from(name),
            Step::Differ(a, b) => {
                if a.resolve(&self.variables)? == b.resolve(&self.variables)? {
                    return Err("the two are equal".to_owned());
                }
            }
            Step::Disconnect(name) => self.far.disconnect(name)?,
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
            Step::Reset => self.far.reset(&self.current)?,
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
}

/// Upper-case hexadecimal without blanks.
pub(crate) fn hex(bytes: &[u8]) -> String {
    base16ct::upper::encode_string(bytes)
}
