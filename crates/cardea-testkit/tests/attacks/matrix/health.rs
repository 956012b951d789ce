//! Whether a card is as it was: whole, with its tries, and silent without the PIN; and whether it serves its holder.

use cardea_card::record::IndexRole;
use cardea_card::token::{PinReference, PrivateOperation, PublicKey};
use cardea_testkit::multiplexer::PowerEvent;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;

use super::live::Live;
use super::row::{After, Object};
use crate::bench::{Outcome, PIN, PUK, pin, succeeds_if, value};
use crate::raw::{Auth, EMPTY, cc};
use crate::vault::admin_value;

impl Live {
    /// Whether the card is what it is said to be after an attempt.
    pub(super) fn judge(&mut self, after: After) -> Outcome {
        match after {
            After::Whole => self.unharmed(0),
            After::Tried => {
                self.unharmed(1)?;
                self.forgive()?;
                self.unharmed(0)
            }
            After::Off => {
                let checked = self.bench.service.check_card(&self.record);
                succeeds_if!(checked.is_ok(), "the card is usable");
                self.bench.mux.power(PowerEvent::Reset);
                self.restart();
                self.unharmed(0)?;
                self.serves()
            }
            After::Lost => {
                self.restart();
                let checked = self.bench.service.check_card(&self.record);
                succeeds_if!(checked.is_ok(), "the card is usable");
                self.silent()
            }
            After::Without => {
                succeeds_if!(
                    self.counter(IndexRole::Pin) != Ok((0, 5)),
                    "the PIN has another count or limit"
                );
                let key = self.entity(Object::Ec);
                let session = self.satisfied(b"sess");
                let code = self.sign(Object::Ec, &key, Auth::Session(&session, &[]));
                self.bench.flush(session.handle);
                self.bench.flush(key.handle);
                succeeds_if!(code != 0, "the key does not sign after the PIN: {code:#X}");
                self.silent()
            }
        }
    }

    /// The card is whole, its counters are what they were, and no key signs without a PIN.
    pub(super) fn unharmed(&self, tries: u32) -> Outcome {
        let mut spent = 0;
        for record in &self.record.tpm.indices {
            let (count, limit) = self
                .counter(record.role)
                .map_err(|code| format!("{:?} cannot be read: {code:#X}", record.role))?;
            succeeds_if!(
                limit != record.limit,
                "{:?} has a limit of {limit}",
                record.role
            );
            spent += count;
        }
        succeeds_if!(spent != tries, "{spent} tries are spent, not {tries}");
        if let Err(fault) = self.bench.service.check_card(&self.record) {
            return Err(format!("the card is not whole: {fault}"));
        }
        self.silent()
    }

    /// No key signs without a PIN, and the sealed key stays sealed.
    fn silent(&self) -> Outcome {
        for object in &self.keys {
            let (private, public) = self.blob(*object);
            let Ok(key) = self.bench.load(private, public) else {
                continue;
            };
            let by_value = self.sign(*object, &key, EMPTY);
            let session = self.bench.policy_session();
            let by_policy = self.sign(*object, &key, Auth::Session(&session, &[]));
            succeeds_if!(
                by_value == 0 || by_policy == 0,
                "the {object} signs without a PIN"
            );
            self.bench.flush(session.handle);
            self.bench.flush(key.handle);
        }
        if self.record.tpm.sealed_key.is_none() {
            return Ok(());
        }
        let (private, public) = self.blob(Object::Vault);
        if let Ok(sealed) = self.bench.load(private, public) {
            let entity = std::slice::from_ref(&sealed);
            let code = self.bench.send(cc::UNSEAL, entity, &[EMPTY], &[]).code;
            succeeds_if!(code == 0, "the admin key is unsealed");
            self.bench.flush(sealed.handle);
        }
        Ok(())
    }

    /// The correct values give the tries back.
    fn forgive(&self) -> Outcome {
        for record in &self.record.tpm.indices {
            let (role, value) = (record.role, self.value(record.role));
            let session = self.bench.policy_session();
            let auth = Auth::Password(&value);
            let index = self.index(role);
            let code = self.bench.policy_secret(&index, auth, &session, b"");
            self.bench.flush(session.handle);
            succeeds_if!(code != 0, "{role:?} has another value: {code:#X}");
        }
        Ok(())
    }

    /// The correct value of an index.
    fn value(&self, role: IndexRole) -> [u8; 32] {
        match role {
            IndexRole::Pin => self.pin_value(),
            IndexRole::Puk => value(&self.record, role, PUK),
            IndexRole::Adm => admin_value(&self.record),
        }
    }

    /// The card's holder verifies the PIN and signs with every key; once more where something of the daemon's was
    /// gone, as it finds out when it uses it.
    pub(super) fn serves(&mut self) -> Outcome {
        self.served().or_else(|_| self.served())
    }

    fn served(&mut self) -> Outcome {
        let (mut card, mut connection) = self.holder.take().unwrap_or_else(|| {
            let mut card = self.bench.open(&self.record);
            let connection = card.connect();
            (card, connection)
        });
        let verified = card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN));
        let mut outcome = verified.map_err(|error| format!("the PIN is refused: {error}"));
        for object in &self.keys {
            let number = self.key(*object).number();
            let used = match object {
                Object::Rsa => card.use_key(&mut connection, number, pkcs1()),
                _ => card.use_key(&mut connection, number, ecdsa()),
            };
            outcome = outcome
                .and(used.map_err(|error| format!("the {object} does not sign: {error}")))
                .map(drop);
        }
        // Armed again, as the daemon does once its client has the answer.
        outcome = outcome.and(
            card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
                .map_err(|error| format!("the PIN is refused: {error}")),
        );
        self.bench.service.run_idle_work();
        self.holder = Some((card, connection));
        // In its turn after that; and it needs no session, which would take another's place.
        let time = self.bench.service.time();
        outcome.and(time.map(drop).map_err(|error| error.to_string()))
    }

    /// Whether what the card's holder signs is the key's signature; none if there is none.
    pub(super) fn holder_signs(&mut self, object: Object) -> Option<bool> {
        let number = self.key(object).number();
        let (card, connection) = self.holder.as_mut()?;
        let signature = card.use_key(connection, number, ecdsa()).ok()?;
        let keys = card.keys().unwrap();
        let (_, info) = keys.iter().find(|(found, _)| *found == number).unwrap();
        let PublicKey::Ec { x, y } = &info.public else {
            panic!("an EC key");
        };
        let point = [&[4], &x[..], y].concat();
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
        let signature = p256::ecdsa::Signature::from_slice(&signature).ok()?;
        Some(key.verify_prehash(&[7; 32], &signature).is_ok())
    }
}

fn ecdsa() -> PrivateOperation<'static> {
    PrivateOperation::SignEcdsa { digest: &[7; 32] }
}

fn pkcs1() -> PrivateOperation<'static> {
    PrivateOperation::RsaRaw { block: &[1; 256] }
}

#[cfg(not(feature = "weakened"))]
mod tests {
    use super::super::live::Live;
    use super::super::row::{After, Object};

    #[test]
    fn card_that_is_not_as_it_should_be_is_noticed() {
        let mut live = Live::small(Object::Nothing);
        assert_eq!(live.judge(After::Whole), Ok(()));
        assert!(live.judge(After::Tried).is_err(), "no try was spent");
        assert!(live.judge(After::Lost).is_err(), "the card is there");
        assert_eq!(live.wrong_pin(), 0x9A2);
        assert!(live.judge(After::Whole).is_err(), "a try was spent");
        assert_eq!(live.judge(After::Tried), Ok(()));
        live.bench.service.destroy_card(&live.record.tpm).unwrap();
        assert!(live.judge(After::Whole).is_err(), "the card is gone");
        assert!(live.judge(After::Without).is_err(), "its PIN too");
    }
}
