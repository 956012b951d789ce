//! What every card must do, whatever its token: run over the software token and over a TPM.
//!
//! A card made for the suite has the PIN [`PIN`] with 5 tries, a PUK, where there is one, of
//! [`PUK`] with 10 tries, and a token that makes P-256 and
//! RSA-2048 keys; what needs P-384 or RSA-3072 is left out where the token has not got them.

mod cases;
mod contents;
mod transcripts;

use cardea_card::record::{CardId, IndexRecord, IndexRole, Provisional, SecretLengths};
use cardea_card::secret::Pin;
use cardea_card::token::KeyAlgorithm;
use cardea_card::{Card, gids};

use crate::software::{
    CARD_ID, ManualClock, MemoryStore, SeededRng, SoftwareToken, card_record, empty_vault,
};
use crate::transcript::{ADMIN_KEY, CardKind, PIN, PUK};

pub use self::transcripts::TRANSCRIPTS;

/// What a case found.
type Outcome = Result<(), String>;

/// Transcripts with keys that not every TPM has.
const NEEDS: [(&str, KeyAlgorithm); 2] = [
    ("curves.txt", KeyAlgorithm::P384),
    ("rsa3072.txt", KeyAlgorithm::Rsa3072),
];

/// Makes a fresh card of a kind.
pub type MakeCard<'a> = &'a mut dyn FnMut(CardKind) -> Card;

/// Runs everything; fails with the names of the cases that failed and what they found.
///
/// # Panics
///
/// When a case fails.
pub fn run_all(make_card: MakeCard<'_>) {
    let mut failures = Vec::new();
    let has = make_card(CardKind::Created).algorithms();
    for (name, text) in TRANSCRIPTS {
        let needed = NEEDS.iter().find(|(needs, _)| needs == name);
        if needed.is_some_and(|(_, algorithm)| !has.contains(algorithm)) {
            continue;
        }
        if let Err(error) = transcripts::play(text, make_card) {
            failures.push(format!("{name}: {error}"));
        }
    }
    for (name, case) in cases::CASES.iter().chain(contents::CASES) {
        if let Err(error) = case(make_card) {
            failures.push(format!("{name}: {error}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A card over the software token, and the parts that a test steers it by.
#[derive(Debug)]
pub struct SoftwareCard {
    /// The card's token.
    pub token: SoftwareToken,
    /// The card's file.
    pub store: MemoryStore,
    /// The card's clock.
    pub clock: ManualClock,
}

impl SoftwareCard {
    /// A fresh card of a kind.
    ///
    /// # Panics
    ///
    /// When the engine refuses the record, which would be a bug.
    #[must_use]
    #[expect(clippy::panic, reason = "a fixture has no one to report to")]
    pub fn new(kind: CardKind) -> (Card, Self) {
        let length = |secret: &[u8]| u8::try_from(secret.len()).unwrap_or(u8::MAX);
        let pin = |secret: &[u8]| {
            Pin::new(secret).unwrap_or_else(|error| panic!("the test PIN is not one: {error}"))
        };
        let uninitialised = matches!(
            kind,
            CardKind::Uninitialised | CardKind::UninitialisedWithPuk
        );
        let gids = match kind {
            CardKind::Blank => gids::blank_card(),
            _ if uninitialised => gids::uninitialised_card(),
            _ => gids::created_card(CardId::new(CARD_ID)),
        };
        let puk = matches!(
            kind,
            CardKind::AdminAndPuk | CardKind::UninitialisedWithPuk | CardKind::WithPuk
        )
        .then_some(PUK);
        let mut record = card_record(gids, length(PIN), puk.map(length));
        let parts = Self {
            token: SoftwareToken::new(pin(PIN), puk.map(pin), 7),
            store: MemoryStore::default(),
            clock: ManualClock::default(),
        };
        if matches!(kind, CardKind::Admin | CardKind::AdminAndPuk) {
            parts.token.set_admin_key(*ADMIN_KEY);
            record.tpm.vault = Some(empty_vault());
        }
        if uninitialised {
            record.lengths = SecretLengths::default();
            record.provisional = Some(Provisional {
                pin: Some([1; 32]),
                adm: Some([2; 32]),
                puk: puk.map(|_| [3; 32]),
            });
            // All that the engine looks at of an index.
            record.tpm.indices = puk
                .map(|_| IndexRecord {
                    role: IndexRole::Puk,
                    handle: 0,
                    name: Vec::new(),
                    limit: 0,
                })
                .into_iter()
                .collect();
        }
        match parts.open(record) {
            Ok(card) => (card, parts),
            Err(error) => panic!("the card does not open: {error}"),
        }
    }

    /// Opens a card over the same token, store and clock.
    ///
    /// # Errors
    ///
    /// As [`Card::open`].
    pub fn open(
        &self,
        record: cardea_card::record::CardRecord,
    ) -> Result<Card, cardea_card::CardError> {
        Card::open(
            record,
            Box::new(self.token.clone()),
            Box::new(self.store.clone()),
            Box::new(self.clock.clone()),
            Box::new(SeededRng::new(11)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_succeeds_over_the_software_token() {
        run_all(&mut |kind| SoftwareCard::new(kind).0);
    }
}
