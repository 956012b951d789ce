//! Tokens without a card around them, whose TPM counts: no record of theirs changes by a PIN.

use cardea_card::record::{Provisional, TpmRecord};
use cardea_card::secret::Pin;
use cardea_card::token::{
    PinAuthority, PinError, PinReference, PinStatus, StoreError, TokenError, TokenRecord, Unblocker,
};

use crate::software::CARD_ID;

/// [`PinAuthority`] of a token whose record is of no interest.
#[expect(missing_docs, reason = "as in the other trait")]
pub trait BarePins {
    fn status(&mut self, reference: PinReference) -> Result<PinStatus, TokenError>;
    fn verify(&mut self, reference: PinReference, pin: &Pin) -> Result<(), PinError>;
    fn change(&mut self, reference: PinReference, old: &Pin, new: &Pin) -> Result<(), PinError>;
    fn unblock(&mut self, by: Unblocker, new: &Pin) -> Result<(), TokenError>;
    fn initialise(
        &mut self,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), TokenError>;
    fn logout(&mut self);
    fn disarm(&mut self);
}

impl<T: PinAuthority> BarePins for T {
    fn status(&mut self, reference: PinReference) -> Result<PinStatus, TokenError> {
        PinAuthority::status(self, Unused::new().current(), reference)
    }

    fn verify(&mut self, reference: PinReference, pin: &Pin) -> Result<(), PinError> {
        PinAuthority::verify(self, &mut Unused::new(), reference, pin)
    }

    fn change(&mut self, reference: PinReference, old: &Pin, new: &Pin) -> Result<(), PinError> {
        PinAuthority::change(self, &mut Unused::new(), reference, old, new)
    }

    fn unblock(&mut self, by: Unblocker, new: &Pin) -> Result<(), TokenError> {
        let done = PinAuthority::unblock(self, &mut Unused::new(), by, new);
        done.map_err(of_token)
    }

    fn initialise(
        &mut self,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), TokenError> {
        let done = PinAuthority::initialise(self, &mut Unused::new(), reference, provisional, new);
        done.map_err(of_token)
    }

    fn logout(&mut self) {
        PinAuthority::logout(self);
    }

    fn disarm(&mut self) {
        PinAuthority::disarm(self);
    }
}

/// Nothing is compared that could be wrong.
#[expect(clippy::panic, reason = "a fixture has no one to report to")]
fn of_token(error: PinError) -> TokenError {
    match error {
        PinError::Token(error) => error,
        other => panic!("{other}"),
    }
}

/// A record that nobody may change.
struct Unused(TpmRecord);

impl Unused {
    fn new() -> Self {
        let gids = cardea_card::gids::created_card(cardea_card::record::CardId::new(CARD_ID));
        Self(crate::software::card_record(gids, 0, None).tpm)
    }
}

impl TokenRecord for Unused {
    fn current(&self) -> &TpmRecord {
        &self.0
    }

    #[expect(clippy::panic, reason = "a fixture has no one to report to")]
    fn save(&mut self, _record: TpmRecord) -> Result<(), StoreError> {
        panic!("the TPM counts, and the record changes");
    }
}
