//! Firmware that resets the count of a PIN index whenever a policy authorises it: every reading of the counter allows
//! further guesses. The multiplexer emulates it.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::PinReference;
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::{Flaw, KnownCounter};
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};
use cardea_tpm::{PIN_LIMIT, TpmError};

use crate::bench::{Bench, Kind, Outcome, PIN, WRONG_PIN, index, pin, succeeds_if, value};
use crate::raw::{Auth, Beginning, EMPTY, Entity, NULL, OWNER, PLATFORM, SessionKind, cc};

/// A card is created in such a TPM. Whoever has the device, the card file and the owner's authorisation, which is empty,
/// tries everything on its blocked counters that a policy may authorise, to have them set back.
pub(crate) fn creation_with_forgetful_firmware() -> Outcome {
    let mut bench = Bench::new();
    bench.mux.emulate(Some(Flaw::forgetful_counters(vec![])));
    let record = bench.record(Kind::Both);
    // The daemon's sessions would occupy the slots.
    bench.restart();
    bench.mux.emulate(Some(forgetful(&record)));
    let counter = Counter::of(&bench, &record);
    counter.fail(PIN_LIMIT);
    assert_eq!(counter.compare(PIN), BLOCKED);
    for approval in &record.tpm.approvals {
        let id = ApprovalId::parse(&approval.id).unwrap();
        let code = under(&bench, &record, id);
        succeeds_if!(
            counter.compare(PIN) != BLOCKED,
            "after {PIN_LIMIT} wrong PINs and the use of {} another one is compared",
            approval.id
        );
        succeeds_if!(code == 0, "{} is used without a secret", approval.id);
    }
    for role in [IndexRole::Pin, IndexRole::Adm, IndexRole::Puk] {
        let entity = entity(&record, role);
        for command in [
            cc::NV_READ,
            cc::NV_CERTIFY,
            cc::NV_WRITE,
            cc::NV_CHANGE_AUTH,
        ] {
            let session = bench.policy_session();
            bench.policy_command_code(&session, command);
            let code = authorised(&bench, command, &entity, Auth::Session(&session, &[]));
            bench.flush(session.handle);
            succeeds_if!(code == 0, "{command:#x} of {role:?} without an approval");
        }
        // Deleting is the platform's, and no index of a card allows it by policy.
        let session = bench.policy_session();
        bench.policy_command_code(&session, cc::NV_UNDEFINE_SPACE_SPECIAL);
        let entities = [entity.clone(), Entity::plain(PLATFORM)];
        let auth = [Auth::Session(&session, &[]), EMPTY];
        let deleted = bench.send(cc::NV_UNDEFINE_SPACE_SPECIAL, &entities, &auth, &[]);
        bench.flush(session.handle);
        succeeds_if!(deleted.code == 0, "{role:?} is deleted by policy");
        // A policy cannot stand for the value.
        let session = bench.policy_session();
        let by_policy = bench.policy_session();
        let auth = Auth::Session(&by_policy, &[]);
        let code = bench.policy_secret(&entity, auth, &session, b"sess");
        bench.flush(session.handle);
        bench.flush(by_policy.handle);
        succeeds_if!(code == 0, "a policy stands for the value of {role:?}");
        let beginning = Beginning::new(SessionKind::Hmac, None, Some((&entity, &[])));
        let bound = bench.bytes(&beginning.command);
        succeeds_if!(bound.code == 0, "a session is bound to {role:?}");
        // What the owner may do, and what that changes.
        for command in [cc::NV_READ, cc::NV_CERTIFY] {
            authorised_by(&bench, command, (&Entity::plain(OWNER), &entity), EMPTY);
        }
        succeeds_if!(
            counter.compare(PIN) != BLOCKED,
            "after {PIN_LIMIT} wrong PINs and what else {role:?} allows another one is compared"
        );
    }
    Ok(())
}

fn entity(record: &CardRecord, role: IndexRole) -> Entity {
    let index = index(record, role);
    Entity::named(index.handle, &index.name)
}

/// Uses an approval of the card file for its command, without the secret that it may ask for.
fn under(bench: &Bench, record: &CardRecord, id: ApprovalId) -> u32 {
    let (_, command) = id.policy();
    let mut approvals = record.tpm.approvals.iter();
    let approval = approvals.find(|it| it.id == id.as_str()).unwrap();
    let birth = name_of(&record.tpm.birth_public);
    let session = bench.policy_session();
    bench.policy_command_code(&session, command);
    bench.policy_authorize(
        &session,
        &approval.digest,
        role_ref(id.role()),
        &birth,
        &approval.ticket,
    );
    let entity = entity(record, id.role());
    let code = authorised(bench, command, &entity, Auth::Session(&session, &[]));
    bench.flush(session.handle);
    code
}

/// A command that the index itself authorises.
fn authorised(bench: &Bench, command: u32, index: &Entity, auth: Auth<'_>) -> u32 {
    authorised_by(bench, command, (index, index), auth)
}

fn authorised_by(
    bench: &Bench,
    command: u32,
    (by, index): (&Entity, &Entity),
    auth: Auth<'_>,
) -> u32 {
    /// No failures, and many tries.
    const OPEN: [u8; 12] = [0, 8, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    let both = [by.clone(), index.clone()];
    let answer = match command {
        cc::NV_READ => bench.send(command, &both, &[auth], &[0, 8, 0, 0]),
        cc::NV_CERTIFY => {
            let [by, index] = both;
            // Signed by nobody: no data, no scheme.
            let parameters = [0, 0, 0, 0x10, 0, 8, 0, 0];
            let entities = [Entity::plain(NULL), by, index];
            bench.send(command, &entities, &[EMPTY, auth], &parameters)
        }
        cc::NV_WRITE => bench.send(command, &both, &[auth], &OPEN),
        cc::NV_CHANGE_AUTH => {
            let [by, _] = both;
            bench.send(command, &[by], &[auth], &[0, 1, 7])
        }
        other => panic!("{other:#x}"),
    };
    answer.code
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
