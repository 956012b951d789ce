//! Firmware that resets the count of a PIN index whenever a policy authorises it: every reading of the counter allows
//! further guesses. The multiplexer emulates it.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::PinReference;
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::{Flaw, KnownCounter};
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};
use cardea_tpm::{NewCard, NewSecrets, PIN_LIMIT, TpmError};

use crate::bench::{Bench, Kind, Outcome, PIN, WRONG_PIN, index, pin, succeeds_if, value};
use crate::raw::{Auth, Entity, cc};

/// A card is created in such a TPM.
pub(crate) fn creation_with_forgetful_firmware() -> Outcome {
    let bench = Bench::new();
    bench.mux.emulate(Some(Flaw::forgetful_counters(vec![])));
    let new = NewCard::new(NewSecrets::Given {
        pin: pin(PIN),
        puk: None,
        admin_key: None,
    });
    let Err(error) = bench.service.prepare_card(&[], new) else {
        return Err("the TPM is considered fit for cards".into());
    };
    assert!(matches!(error, TpmError::CountReset), "{error}");
    Ok(())
}

/// The PIN of an existing card in such a TPM is guessed.
pub(crate) fn guesses_without_end() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Plain);
    bench.restart();
    bench.mux.emulate(Some(forgetful(&record)));
    // What a daemon does when it starts.
    let taken: Vec<u32> = record.tpm.indices.iter().map(|it| it.handle).collect();
    if let Err(error) = bench.service.check_counters(&taken) {
        assert!(matches!(error, TpmError::CountReset), "{error}");
        let checked = bench.service.check_card(&record);
        succeeds_if!(checked.is_ok(), "the card is used nevertheless");
        return Ok(());
    }
    let mut token = bench.service.token(&record).unwrap();
    for _ in 0..3 * PIN_LIMIT {
        assert!(token.verify(PinReference::Pin, &pin(WRONG_PIN)).is_err());
        drop(token.status(PinReference::Pin));
    }
    succeeds_if!(
        token.verify(PinReference::Pin, &pin(PIN)).is_ok(),
        "after {} wrong PINs another one is compared",
        3 * PIN_LIMIT
    );
    Ok(())
}

/// The flaw, for this card's PIN too.
fn forgetful(record: &CardRecord) -> Flaw {
    let counter = index(record, IndexRole::Pin);
    Flaw::forgetful_counters(vec![KnownCounter {
        index: counter.handle,
        value: value(record, IndexRole::Pin, PIN).to_vec(),
        limit: counter.limit,
    }])
}

/// The card's PIN index.
struct Counter<'a> {
    bench: &'a Bench,
    record: &'a CardRecord,
    entity: Entity,
}

impl<'a> Counter<'a> {
    fn of(bench: &'a Bench, record: &'a CardRecord) -> Self {
        let pin = index(record, IndexRole::Pin);
        Self {
            bench,
            record,
            entity: Entity::named(pin.handle, &pin.name),
        }
    }

    fn compare(&self, typed: &[u8]) -> u32 {
        let shown = value(self.record, IndexRole::Pin, typed);
        let session = self.bench.policy_session();
        let auth = Auth::Password(&shown);
        let code = self
            .bench
            .policy_secret(&self.entity, auth, &session, b"sess");
        self.bench.flush(session.handle);
        code
    }

    fn fail(&self, times: u32) {
        const BAD_AUTH: u32 = 0x9A2;
        for _ in 0..times {
            assert_eq!(self.compare(WRONG_PIN), BAD_AUTH);
        }
    }

    /// The count, read with the approval that needs no secret.
    fn read(&self) -> u32 {
        let mut approvals = self.record.tpm.approvals.iter();
        let wanted = ApprovalId::P6.as_str();
        let approval = approvals.find(|found| found.id == wanted).unwrap();
        let birth = name_of(&self.record.tpm.birth_public);
        let session = self.bench.policy_session();
        self.bench.policy_command_code(&session, cc::NV_READ);
        let role = role_ref(IndexRole::Pin);
        let (digest, ticket) = (&approval.digest, &approval.ticket);
        let approved = self
            .bench
            .policy_authorize(&session, digest, role, &birth, ticket);
        assert_eq!(approved, 0);
        let entities = [self.entity.clone(), self.entity.clone()];
        let auth = [Auth::Session(&session, &[])];
        let answer = self
            .bench
            .send(cc::NV_READ, &entities, &auth, &[0, 8, 0, 0]);
        self.bench.flush(session.handle);
        assert_eq!(answer.code, 0);
        u32::from_be_bytes(answer.body[6..10].try_into().unwrap())
    }
}

const BLOCKED: u32 = 0x12F;

#[test]
fn wrong_pins_are_forgotten_with_the_flaw_only() {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Plain);
    // The daemon's sessions would occupy the slots.
    bench.restart();
    let counter = Counter::of(&bench, &record);
    counter.fail(3);
    assert_eq!(counter.read(), 3);
    assert_eq!((counter.compare(PIN), counter.read()), (0, 0));
    bench.mux.emulate(Some(forgetful(&record)));
    for _ in 0..4 {
        counter.fail(3);
        assert_eq!(counter.read(), 0, "reading resets it");
    }
    assert_eq!(counter.compare(PIN), 0);
    bench.mux.emulate(None);
    counter.fail(3);
    assert_eq!(counter.read(), 3);
}

#[test]
fn blocked_pin_opens_again_with_the_flaw_only() {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Plain);
    bench.restart();
    let counter = Counter::of(&bench, &record);
    bench.mux.emulate(Some(forgetful(&record)));
    counter.fail(PIN_LIMIT);
    assert_eq!(counter.compare(PIN), BLOCKED);
    assert_eq!((counter.read(), counter.compare(PIN)), (0, 0));
    bench.mux.emulate(None);
    counter.fail(PIN_LIMIT);
    assert_eq!((counter.read(), counter.compare(PIN)), (PIN_LIMIT, BLOCKED));
}
