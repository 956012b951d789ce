//! This machine's side: the daemon that has the cards, and the person who types PINs and consents.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cardea_card::Guest;
use cardea_client::Client;
use cardea_client::message::{
    CardRequest, ConnectionRequest, Failure, FailureKind, Operation, Reply, Request, SecretBytes,
};

use crate::terminal::output::{note, printable};
use crate::terminal::prompt;

/// For requests that ask nobody.
const SHORT: Duration = Duration::from_secs(60);

/// Three PINs of two minutes.
const PERSON: Duration = Duration::from_secs(400);

/// A person answers within a minute, and the daemon takes some time.
const CONSENT: Duration = Duration::from_secs(70);

/// Wrong PINs typed at the terminal, after which the program has to ask again.
const ROUNDS: u32 = 3;

/// Consecutive refusals after which the redirection ends.
const MOST_REFUSALS: u32 = 3;

/// A refused command is not asked about again in this time.
const REMEMBERED: Duration = Duration::from_secs(3);

/// Longest PIN (GIDS 2.0).
const MAX_PIN: usize = 127;

/// One connection to this machine's daemon: that of one program at the other end. What is verified on it is for
/// that program alone.
pub(crate) struct Local<'a> {
    client: Client,
    host: &'a str,
    connection: u64,
    /// Which application of the card that has power its commands are for.
    guest: Guest,
    /// The last command that the person has refused, and when.
    refused: Option<(Instant, Vec<u8>)>,
}

impl<'a> Local<'a> {
    pub(crate) fn new(socket: &Path, host: &'a str) -> Self {
        Self {
            client: Client::new(socket),
            host,
            connection: 0,
            guest: Guest::default(),
            refused: None,
        }
    }

    /// Sends a request to the daemon. A failure to do so is a refusal.
    pub(crate) fn call(&mut self, request: &Request, limit: Duration) -> Reply {
        if !self.client.is_connected() || self.client.connections() != self.connection {
            let whom = self.host.to_owned();
            // Its questions to the person name that machine.
            if let Err(error) = self.client.call(
                &Request::Connection(ConnectionRequest::OnBehalf { whom }),
                SHORT,
            ) {
                return away(&error);
            }
            self.connection = self.client.connections();
            self.guest.reset();
        }
        let reply = match self.client.call(request, limit) {
            Ok(reply) => reply,
            Err(error) => return away(&error),
        };
        match (request, &reply) {
            (
                Request::Card {
                    request: CardRequest::Power { .. },
                    ..
                },
                _,
            ) => self.guest.reset(),
            (
                Request::Card {
                    request: CardRequest::Transmit { apdu, .. },
                    ..
                },
                Reply::Response(response),
            ) => {
                self.guest.answered(apdu.expose(), response.expose());
            }
            _ => {}
        }
        reply
    }

    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Whether a person has just refused this very command. OpenSC 0.23 sends it several times for one signature.
    fn was_refused(&self, request: &Request) -> bool {
        match (request, &self.refused) {
            (
                Request::Card {
                    request: CardRequest::Transmit { apdu, .. },
                    ..
                },
                Some((at, refused)),
            ) => at.elapsed() < REMEMBERED && apdu.expose() == refused,
            _ => false,
        }
    }

    fn remember(&mut self, request: &Request) {
        if let Request::Card {
            request: CardRequest::Transmit { apdu, .. },
            ..
        } = request
        {
            self.refused = Some((Instant::now(), apdu.expose().to_vec()));
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.call(request, SHORT)
    }
}

fn away(error: &cardea_client::ClientError) -> Reply {
    refused(FailureKind::Removed, error.to_string())
}

/// A refusal.
pub(crate) fn refused(kind: FailureKind, message: impl Into<String>) -> Reply {
    Reply::Failed(Failure {
        kind,
        message: message.into(),
        tries_left: None,
    })
}

/// Who is asked: at the agent of the session, or at this terminal where no agent runs. One question at a time.
#[derive(Debug)]
pub(crate) struct Person {
    host: String,
    /// Whether each use of a key needs consent.
    consent: bool,
    refusals: Mutex<u32>,
}

/// The person has refused too often.
#[derive(Debug)]
pub(crate) struct Annoyed;

impl Person {
    pub(crate) fn new(host: &str, consent: bool) -> Self {
        Self {
            host: host.to_owned(),
            consent,
            refusals: Mutex::new(0),
        }
    }

    /// A login with a PIN that is typed here.
    pub(crate) fn login(
        &self,
        local: &mut Local<'_>,
        card: &str,
        name: &str,
    ) -> Result<Reply, Annoyed> {
        let mut refusals = self.turn();
        let request = Request::card(card, CardRequest::LoginByAgent);
        let reply = match local.call(&request, PERSON) {
            Reply::Failed(failure) if failure.kind == FailureKind::NoAgent => {
                self.at_terminal(name, failure, |pin| {
                    let card = card.to_owned();
                    local.ask(&Request::card(card, CardRequest::Login { pin }))
                })
            }
            reply => reply,
        };
        judge(&mut refusals, reply)
    }

    /// VERIFY with a PIN that is typed here.
    pub(crate) fn enter_pin(
        &self,
        local: &mut Local<'_>,
        (card, seconds): (&str, u32),
        name: &str,
    ) -> Result<Reply, Annoyed> {
        let mut refusals = self.turn();
        let request = Request::card(card, CardRequest::EnterPin { seconds });
        let reply = match local.call(&request, PERSON) {
            Reply::Failed(failure) if failure.kind == FailureKind::NoAgent => {
                // The program at the reader asks again by itself.
                self.once(name, None, &failure).map_or_else(
                    |reply| *reply,
                    |pin| {
                        let mut apdu = vec![0, 0x20, 0, 0x80];
                        apdu.extend(u8::try_from(pin.expose().len()));
                        apdu.extend_from_slice(pin.expose());
                        local.ask(&Request::card(
                            card,
                            CardRequest::Transmit {
                                apdu: SecretBytes::new(apdu),
                            },
                        ))
                    },
                )
            }
            reply => reply,
        };
        let reply = match judge(&mut refusals, reply)? {
            // The status words of a PIN pad (PC/SC part 10 §2.5.2): time-out, or cancelled.
            Reply::Failed(failure) if failure.kind == FailureKind::NoAgent => status([0x64, 0x00]),
            Reply::Failed(failure) if failure.kind == FailureKind::Cancelled => {
                status([0x64, 0x01])
            }
            reply => reply,
        };
        Ok(reply)
    }

    /// Asks whether a key may be used now; the refusal if not.
    pub(crate) fn consents(
        &self,
        local: &mut Local<'_>,
        (card, name): (&str, &str),
        request: &Request,
    ) -> Result<Option<Reply>, Annoyed> {
        if !self.consent {
            return Ok(None);
        }
        if local.was_refused(request) {
            return Ok(Some(refused(FailureKind::Cancelled, "refused")));
        }
        let action = action(local, card, request);
        let mut refusals = self.turn();
        let asked = Request::card(
            card,
            CardRequest::AskConsent {
                action: action.clone(),
            },
        );
        let reply = match local.call(&asked, CONSENT) {
            Reply::Failed(failure) if failure.kind == FailureKind::NoAgent => {
                let question = format!(
                    "{} wants to {action}, with card {}. Allow it? [y/N] ",
                    self.host,
                    printable(name)
                );
                match prompt::ask_shown(&question) {
                    Ok(said) if matches!(said.as_slice(), b"y" | b"Y" | b"yes") => Reply::Done,
                    Ok(_) => refused(FailureKind::Cancelled, "refused"),
                    Err(error) => self.nobody(name, &failure, error),
                }
            }
            reply => reply,
        };
        Ok(match judge(&mut refusals, reply)? {
            Reply::Done => None,
            other => {
                local.remember(request);
                Some(other)
            }
        })
    }

    fn turn(&self) -> MutexGuard<'_, u32> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the PIN at the terminal until it is correct, the person cancels or no tries are left.
    fn at_terminal(
        &self,
        name: &str,
        no_agent: Failure,
        mut verify: impl FnMut(SecretBytes) -> Reply,
    ) -> Reply {
        let mut error = None;
        for _ in 0..ROUNDS {
            let pin = match self.once(name, error.as_deref(), &no_agent) {
                Ok(pin) => pin,
                Err(reply) => return *reply,
            };
            match verify(pin) {
                Reply::Failed(failure) if failure.kind == FailureKind::PinWrong => {
                    error = Some(failure.message);
                }
                reply => return reply,
            }
        }
        refused(FailureKind::PinWrong, error.unwrap_or_default())
    }

    /// One PIN from the terminal, or the refusal.
    fn once(
        &self,
        name: &str,
        error: Option<&str>,
        no_agent: &Failure,
    ) -> Result<SecretBytes, Box<Reply>> {
        let said = error.map(|error| format!("{error}\n")).unwrap_or_default();
        let asked = format!("{said}PIN of card {}, for {}: ", printable(name), self.host);
        match prompt::ask(&asked) {
            Ok(typed) if typed.is_empty() || typed.len() > MAX_PIN => Err(Box::new(refused(
                FailureKind::Cancelled,
                "no PIN was entered",
            ))),
            Ok(typed) => Ok(SecretBytes::new(typed.to_vec())),
            Err(error) => Err(Box::new(self.nobody(name, no_agent, error))),
        }
    }

    /// There was no answer at the terminal either.
    fn nobody(&self, name: &str, no_agent: &Failure, error: std::io::Error) -> Reply {
        use std::io::ErrorKind::{Interrupted, InvalidInput, UnexpectedEof};
        if matches!(error.kind(), Interrupted | InvalidInput | UnexpectedEof) {
            return refused(FailureKind::Cancelled, "cancelled");
        }
        let text = format!(
            "{} asked for card {}, but nobody can be asked: {}, and there is no terminal",
            self.host,
            printable(name),
            no_agent.message
        );
        note(&text);
        Reply::Failed(no_agent.clone())
    }
}

fn status(word: [u8; 2]) -> Reply {
    Reply::Response(SecretBytes::new(word.to_vec()))
}

/// Counts refusals; anything else ends the row.
fn judge(refusals: &mut u32, reply: Reply) -> Result<Reply, Annoyed> {
    let cancelled = match &reply {
        Reply::Failed(failure) => failure.kind == FailureKind::Cancelled,
        Reply::Response(word) => word.expose() == [0x64, 0x01],
        _ => false,
    };
    *refusals = if cancelled { *refusals + 1 } else { 0 };
    if *refusals >= MOST_REFUSALS {
        return Err(Annoyed);
    }
    Ok(reply)
}

/// What a request does, as text, with the key's name.
fn action(local: &mut Local<'_>, card: &str, request: &Request) -> String {
    let Request::Card {
        request:
            CardRequest::UseKey {
                reference,
                operation,
                ..
            },
        ..
    } = request
    else {
        return "sign or decrypt through its card reader".to_owned();
    };
    let what = match operation {
        Operation::DecryptOaep { .. } | Operation::DecryptPkcs1 { .. } => "decrypt",
        Operation::Ecdh { .. } => "derive a shared secret",
        Operation::RsaRaw { .. } => "sign or decrypt",
        Operation::SignEcdsa { .. } | Operation::SignPkcs1 { .. } | Operation::SignPss { .. } => {
            "sign"
        }
    };
    let contents = local.ask(&Request::card(card, CardRequest::Contents { known: 0 }));
    let label = match contents {
        Reply::Contents {
            contents: Some(contents),
            ..
        } => {
            let mut keys = contents.keys.into_iter();
            keys.find(|key| key.reference == *reference)
                .map(|key| printable(&key.label))
        }
        _ => None,
    };
    match label.filter(|label| !label.is_empty()) {
        Some(label) => format!("{what} with key {label}"),
        None => format!("{what} with key {reference:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_a_row_end_it() {
        let no = || refused(FailureKind::Cancelled, "no");
        let mut refusals = 0;
        for reply in [no(), no(), Reply::Done, no(), status([0x64, 0x01])] {
            assert!(judge(&mut refusals, reply).is_ok());
        }
        assert!(judge(&mut refusals, no()).is_err());
    }
}
