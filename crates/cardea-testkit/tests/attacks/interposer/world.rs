//! A card between two cases of the walk, what its owner knows, and what must never cross the bus.

use std::error::Error;

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference, PrivateOperation, PublicKey};
use cardea_card::{Card, CardError, Connection, KeyNumber};
use cardea_testkit::bare::BarePins as _;

use super::adversary::Conversation;
use super::rules;
use crate::bench::{
    ADMIN_KEY, Bench, Kind, PIN, PUK, SECOND_PIN, THIRD_PIN, WRONG_PIN, new_key, pin,
};
use crate::bus::{self, NEW_ADMIN_KEY, PLAIN, SCALAR};
use crate::needles::Needles;
use crate::raw::Salt;
use crate::vault::admin_failures;

/// What the walk signs.
pub(crate) const DIGEST: [u8; 32] = [7; 32];

pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) record: CardRecord,
    /// The card file before the operation.
    pub(crate) before: CardRecord,
    pub(crate) pin: &'static [u8],
    pub(crate) puk: &'static [u8],
    pub(crate) admin_key: [u8; 24],
    pub(crate) secrets: Needles,
    pub(crate) salt: Salt,
    /// Tries of the PIN that were used up before the operation.
    pub(crate) spent: u32,
    /// Whether the interposer uses the tickets that it has recorded.
    pub(crate) tries_tickets: bool,
}

/// A card in use.
pub(crate) struct Visit {
    pub(crate) card: Card,
    pub(crate) connection: Connection,
}

/// What an operation reported.
pub(crate) enum Report {
    Done(Vec<u8>),
    Failed(String),
}

impl Report {
    pub(crate) fn of(result: Result<Vec<u8>, CardError>) -> Self {
        match result {
            Ok(output) => Self::Done(output),
            Err(error) => Self::failure(&error),
        }
    }

    /// An error with its causes.
    pub(crate) fn failure(error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| (*error).source());
        let texts: Vec<_> = causes.map(ToString::to_string).collect();
        Self::Failed(texts.join(": "))
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// How an operation ended that leaves nothing behind.
    pub(crate) fn ending(&self) -> Ending {
        match self {
            Self::Done(_) => Ending::Harmless,
            Self::Failed(_) => Ending::Refused,
        }
    }

    /// How a change ended, by what was reported and whether the new value holds.
    pub(crate) fn change_ending(&self, is_changed: bool) -> Result<Ending, String> {
        match (self, is_changed) {
            (Self::Done(_), true) => Ok(Ending::Harmless),
            (Self::Done(_), false) => Err("it is reported as changed and is not".into()),
            (Self::Failed(_), false) => Ok(Ending::Refused),
            (Self::Failed(text), true) if text.contains("not known") => Ok(Ending::Unsettled),
            (Self::Failed(text), true) => {
                Err(format!("it is changed and reported as failed: {text}"))
            }
        }
    }
}

/// How a case ended in which no rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// The operation succeeded.
    Harmless,
    /// It was reported as done and was not, because a response without an HMAC was believed. Nobody gains by it.
    Misreported,
    /// It failed and changed nothing.
    Refused,
    /// It failed, the error says that it is not known what was changed, and it was changed.
    Unsettled,
}

/// Whose value an operation compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Adm,
    None,
    Pin,
    Puk,
}

impl World {
    /// A new card with a key of each of these classes.
    pub(crate) fn new(kind: Kind, classes: &[KeyClass]) -> Self {
        let bench = Bench::new();
        let record = bench.with_keys(&bench.record(kind), classes);
        let mut secrets = Needles::default();
        for (name, secret) in [
            ("the PIN", PIN),
            ("the second PIN", SECOND_PIN),
            ("the third PIN", THIRD_PIN),
            ("a wrong PIN", WRONG_PIN),
            ("the PUK", PUK),
            ("the admin key", &ADMIN_KEY[..]),
            ("the new admin key", &NEW_ADMIN_KEY),
            ("deciphered data", PLAIN),
            ("the imported scalar", &SCALAR),
        ] {
            secrets.add(name, secret);
        }
        bus::learn(&mut secrets, &record, &ADMIN_KEY);
        let salt = bench.salt();
        Self {
            bench,
            before: record.clone(),
            record,
            pin: PIN,
            puk: PUK,
            admin_key: ADMIN_KEY,
            secrets,
            salt,
            spent: 0,
            tries_tickets: true,
        }
    }

    /// The card, with a service that has not sent anything to the TPM yet.
    pub(crate) fn cold(&mut self) -> Visit {
        self.bench.restart();
        let mut card = self.bench.open_unchecked(&self.record);
        let connection = card.connect();
        Visit { card, connection }
    }

    /// The card, after the checks that a daemon makes when it starts.
    pub(crate) fn warm(&mut self) -> Visit {
        let visit = self.cold();
        self.bench.service.check_card(&self.record).unwrap();
        visit
    }

    /// The card with the PIN verified.
    pub(crate) fn verified(&mut self) -> Visit {
        let mut visit = self.warm();
        visit.verify(self.pin).unwrap();
        visit
    }

    /// Checks that the card is intact, and that no more tries are used up than one for the value that was entered and
    /// those of the interposer's own comparisons.
    pub(crate) fn check(&self, entry: Entry, heard: &Conversation) -> Result<(), String> {
        let checked = self.bench.service.check_card(&self.record);
        checked.map_err(|fault| format!("the card is not intact: {fault}"))?;
        for index in &self.record.tpm.indices {
            let (failures, of_role, before) = match index.role {
                IndexRole::Pin => (self.bench.failures(&self.record), Entry::Pin, self.spent),
                IndexRole::Puk => {
                    let failures = self.bench.failures_of(&self.record, PinReference::Puk);
                    (failures, Entry::Puk, 0)
                }
                IndexRole::Adm => (admin_failures(&self.bench, &self.record), Entry::Adm, 0),
            };
            let own = rules::own_comparisons(heard, index.handle);
            if failures > before + u32::from(entry == of_role) + own {
                return Err(format!("{failures} tries of {:?} are used up", index.role));
            }
        }
        Ok(())
    }

    /// Which of two PINs or PUKs works: exactly one must. No failure is counted afterwards.
    pub(crate) fn working(
        &self,
        reference: PinReference,
        [one, other]: [&'static [u8]; 2],
    ) -> Result<&'static [u8], String> {
        let works = |typed| {
            let mut token = self.bench.service.token(&self.record).unwrap();
            token.verify(reference, &pin(typed)).is_ok()
        };
        match (works(one), works(other)) {
            (true, false) if works(one) => Ok(one),
            (false, true) => Ok(other),
            (false, false) => Err(format!("no {reference:?} works")),
            _ => Err(format!("two {reference:?}s work")),
        }
    }

    /// The PIN works as before, and no other does.
    pub(crate) fn check_pin(&self) -> Result<(), String> {
        self.working(PinReference::Pin, [self.pin, WRONG_PIN])
            .map(drop)
    }
}

impl Visit {
    pub(crate) fn verify(&mut self, typed: &[u8]) -> Result<(), CardError> {
        self.card
            .verify_pin(&mut self.connection, PinReference::Pin, &pin(typed))
    }

    pub(crate) fn sign(&mut self, key: KeyNumber) -> Result<Vec<u8>, CardError> {
        let operation = PrivateOperation::SignEcdsa { digest: &DIGEST };
        let signed = self.card.use_key(&mut self.connection, key, operation)?;
        Ok(signed.to_vec())
    }

    pub(crate) fn generate(&mut self, algorithm: KeyAlgorithm) -> Result<KeyNumber, CardError> {
        let class = KeyClass::Session;
        self.card
            .generate_key(&mut self.connection, algorithm, &new_key(class))
    }
}

/// Whether this is a signature of [`DIGEST`] by the card's key.
pub(crate) fn is_signature(card: &Card, key: KeyNumber, signed: &[u8]) -> bool {
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
    let keys = card.keys().unwrap();
    let (_, info) = keys.iter().find(|(found, _)| *found == key).unwrap();
    let PublicKey::Ec { x, y } = &info.public else {
        panic!("not an elliptic curve key");
    };
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&[&[4][..], x, y].concat()).unwrap();
    p256::ecdsa::Signature::from_slice(signed)
        .is_ok_and(|signature| key.verify_prehash(&DIGEST, &signature).is_ok())
}
