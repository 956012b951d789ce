//! The administrator's vault: answers, and what they must not open.

use cardea_card::record::{CardRecord, IndexRole, VaultKind};
use cardea_card::token::{AdminAnswer, AdminError, AdminForm, Unblocker};
use cardea_card::{Card, CardError, Connection};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::ADM_LIMIT;
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};

use crate::bench::{
    ADMIN_KEY, Bench, Kind, Outcome, PIN, SECOND_PIN, admin_key, counter_object, index, pin,
    succeeds_if, value,
};
use crate::raw::{Auth, Entity, SessionKind, cc, sized};

pub(crate) fn external(challenge: &[u8]) -> [u8; 8] {
    let mut answer = challenge.to_vec();
    admin_key().encrypt(&mut answer);
    answer.try_into().unwrap()
}

pub(crate) const HOST: [u8; 16] = [0x73; 16];

pub(crate) fn mutual(challenge: &[u8]) -> [u8; 40] {
    let mut cryptogram = [challenge, &HOST, &[0x5A; 7], &[0x80]].concat();
    admin_key().encrypt(&mut cryptogram);
    cryptogram.try_into().unwrap()
}

/// An answer in its form, with its challenge.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) challenge: Vec<u8>,
    pub(crate) form: AdminForm,
}

impl Said {
    pub(crate) fn new(card: &mut Card, form: AdminForm) -> Self {
        let challenge = card.admin_challenge(form).unwrap();
        Self { challenge, form }
    }

    /// Says it, on a connection of its own; true if it makes an administrator.
    pub(crate) fn say(&self, card: &mut Card) -> bool {
        let mut connection = card.connect();
        let accepted = self.answer_on(card, &mut connection);
        let may = card.unblock_by_admin(&mut connection, &pin(SECOND_PIN));
        assert_eq!(accepted, may.is_ok());
        card.disconnect(connection);
        accepted
    }

    /// Answers the challenge and does nothing else; true if the answer is accepted.
    pub(crate) fn answer(&self, card: &mut Card) -> bool {
        let mut connection = card.connect();
        self.answer_on(card, &mut connection)
    }

    fn answer_on(&self, card: &mut Card, connection: &mut Connection) -> bool {
        let (external, mutual);
        let answer = match self.form {
            AdminForm::External => {
                external = self::external(&self.challenge);
                AdminAnswer::External(&external)
            }
            AdminForm::Mutual => {
                mutual = self::mutual(&self.challenge);
                AdminAnswer::Mutual {
                    host: &HOST,
                    cryptogram: &mutual,
                }
            }
        };
        card.admin_answer(connection, &self.challenge, answer)
            .is_ok()
    }
}

/// A used answer, at once and with the card file of before.
pub(crate) fn used_answer() -> Outcome {
    for form in [AdminForm::External, AdminForm::Mutual] {
        let bench = Bench::new();
        let before = bench.record(Kind::Admin);
        let mut card = bench.open(&before);
        let said = Said::new(&mut card, form);
        assert!(said.say(&mut card), "the administrator's own");
        succeeds_if!(said.say(&mut card), "{form:?}: accepted twice");
        drop(card);
        // By somebody who kept the file too; and the engine may be a fresh one.
        let mut card = bench.open(&before);
        succeeds_if!(
            said.say(&mut card),
            "{form:?}: accepted again with the card file of before"
        );
        // Nor any of the other answers of that time, had they been listened to.
        let other = Said::new(&mut card, form);
        succeeds_if!(
            other.say(&mut card),
            "{form:?}: an answer that was never given is good with the card file of before"
        );
    }
    Ok(())
}

/// Every wrong answer is counted by the TPM, and the wait after five of them outlives the daemon.
pub(crate) fn guessing_answers() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Admin);
    let mut card = bench.open(&record);
    let guess = |card: &mut Card| {
        let challenge = card.admin_challenge(AdminForm::External).unwrap();
        let mut connection = card.connect();
        let judged = card.admin_answer(
            &mut connection,
            &challenge,
            AdminAnswer::External(b"a guess!"),
        );
        card.disconnect(connection);
        judged.unwrap_err()
    };
    for tried in 1..=5 {
        let error = guess(&mut card);
        assert!(
            matches!(error, CardError::Admin(AdminError::Wrong)),
            "{error}"
        );
        succeeds_if!(
            admin_failures(&bench, &record) != tried,
            "a wrong answer is not counted"
        );
    }
    for restarts in 0..3 {
        let error = guess(&mut card);
        succeeds_if!(
            !matches!(error, CardError::Admin(AdminError::Delayed { .. })),
            "a sixth answer is looked at at once after {restarts} restarts"
        );
        assert_eq!(admin_failures(&bench, &record), 5);
        drop(card);
        bench.restart();
        card = bench.open(&record);
    }
    correct_answer_during_the_wait(&bench, &record, &mut card);
    Ok(())
}

/// It is not looked at, and costs neither a try nor the challenge.
fn correct_answer_during_the_wait(bench: &Bench, record: &CardRecord, card: &mut Card) {
    let challenge = card.admin_challenge(AdminForm::External).unwrap();
    let answer = external(&challenge);
    let mut connection = card.connect();
    let mut judge = |card: &mut Card| {
        card.admin_answer(&mut connection, &challenge, AdminAnswer::External(&answer))
    };
    let Err(CardError::Admin(AdminError::Delayed { seconds })) = judge(card) else {
        panic!("the sixth answer was looked at");
    };
    assert_eq!(admin_failures(bench, record), 5);
    std::thread::sleep(std::time::Duration::from_secs(seconds.into()));
    judge(card).unwrap();
    card.disconnect(connection);
    assert_eq!(admin_failures(bench, record), 0);
}

pub(crate) fn admin_failures(bench: &Bench, record: &CardRecord) -> u32 {
    if let Some(counter) = counter_object(record, IndexRole::Adm) {
        return counter.count;
    }
    let (failures, limit) = bench.counted(record, IndexRole::Adm).unwrap();
    assert_eq!(limit, ADM_LIMIT);
    failures
}

fn authorize(
    bench: &Bench,
    record: &CardRecord,
    session: &crate::raw::Session,
    id: ApprovalId,
) -> u32 {
    let birth = name_of(&record.tpm.birth_public);
    let mut approvals = record.tpm.approvals.iter();
    let approval = approvals.find(|found| found.id == id.as_str()).unwrap();
    let (digest, ticket) = (&approval.digest, &approval.ticket);
    bench.policy_authorize(session, digest, role_ref(approval.role), &birth, ticket)
}

/// The administrator's value, by an answer to one of the vault's challenges.
pub(crate) fn admin_value(record: &CardRecord) -> [u8; 32] {
    let vault = record.tpm.vault.as_ref().unwrap();
    let mut entries = vault.entries.iter();
    let entry = entries.find(|entry| entry.kind == VaultKind::External);
    let entry = entry.unwrap();
    *cardea_tpm::vault::candidate(vault, entry, &external(&entry.challenge)).unwrap()
}

/// Who hears an external answer and has file and TPM is administrator until the next rotation, and does not
/// learn the admin key.
pub(crate) fn admin_key_from_an_external_answer() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Admin);
    let vault = record.tpm.vault.as_ref().unwrap();
    let of = |kind| vault.entries.iter().find(move |entry| entry.kind == kind);
    let entry = of(VaultKind::External).unwrap();
    let answer = external(&entry.challenge);
    let masked = unseal(&bench, &record, &admin_value(&record))
        .expect("the administrator's value opens K xor m");
    // m, by whatever this answer might open.
    for entry in &vault.entries {
        if let Some(mask) = cardea_tpm::vault::mask(vault, entry, &answer) {
            succeeds_if!(
                xor(&masked, &*mask) == ADMIN_KEY,
                "an external answer opens the admin key"
            );
        }
    }
    succeeds_if!(masked == ADMIN_KEY, "the sealed object is the admin key");
    // The harness is right: a mutual answer does reveal it.
    let entry = of(VaultKind::Mutual).unwrap();
    let mut answer = entry.challenge.clone();
    admin_key().encrypt(&mut answer);
    let mask = cardea_tpm::vault::mask(vault, entry, &answer).unwrap();
    assert_eq!(xor(&masked, &*mask), ADMIN_KEY);
    Ok(())
}

pub(crate) fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(a, b)| a ^ b).collect()
}

/// K ⊕ m, with the administrator's value.
pub(crate) fn unseal(bench: &Bench, record: &CardRecord, adm: &[u8; 32]) -> Option<Vec<u8>> {
    let sealed = record.tpm.sealed_key.as_ref().unwrap();
    let session = bench.policy_session();
    let counter = bench.counter(record, IndexRole::Adm);
    bench.policy_secret(&counter, Auth::Password(adm), &session, b"adm");
    bench.put_away(&counter);
    let object = bench.load(&sealed.private, &sealed.public).ok()?;
    bench.policy_command_code(&session, cc::UNSEAL);
    let auth = [Auth::Session(&session, &[])];
    let answer = bench.send(cc::UNSEAL, std::slice::from_ref(&object), &auth, &[]);
    bench.flush(session.handle);
    bench.flush(object.handle);
    (answer.code == 0).then(|| answer.body[6..30].to_vec())
}

/// The card file and the TPM in an attacker's hands, who has no secret: everything in the file is tried.
pub(crate) fn pin_reset_without_a_secret() -> Outcome {
    for kind in [Kind::Admin, Kind::Puk] {
        let bench = Bench::new();
        let record = bench.record(kind);
        let counter = index(&record, IndexRole::Pin);
        let counter = Entity::named(counter.handle, &counter.name);
        let root = value(&record, IndexRole::Pin, SECOND_PIN);
        let tries = [&sized(&[0, 0, 0, 0, 0, 0, 0, 99])[..], &[0, 0]].concat();
        let own = value(&record, IndexRole::Puk, b"guess");
        for approval in &record.tpm.approvals {
            let id = ApprovalId::parse(&approval.id).unwrap();
            let (asked, code) = id.policy();
            for guessed in [false, true] {
                let session = bench.session(SessionKind::Policy, false, None);
                if let (true, Some((role, policy_ref))) = (guessed, asked) {
                    let asked = index(&record, role);
                    let asked = Entity::named(asked.handle, &asked.name);
                    bench.policy_secret(&asked, Auth::Password(&own), &session, policy_ref);
                }
                // Under the approved command, then under the ones that would help.
                bench.policy_command_code(&session, code);
                authorize(&bench, &record, &session, id);
                let auth = [Auth::Session(&session, &[])];
                let entities = [counter.clone()];
                let set = bench.send(cc::NV_CHANGE_AUTH, &entities, &auth, &sized(&root));
                let entities = [counter.clone(), counter.clone()];
                let written = bench.send(cc::NV_WRITE, &entities, &auth, &tries);
                succeeds_if!(
                    set.code == 0 || written.code == 0,
                    "approval {id:?} alone resets the PIN"
                );
                bench.flush(session.handle);
            }
        }
        // Through the engine: guesses of every kind, and no proof at all.
        let mut card = bench.open(&record);
        let mut connection = card.connect();
        let reset = card.unblock_by_admin(&mut connection, &pin(SECOND_PIN));
        succeeds_if!(reset.is_ok(), "nobody's administrator resets the PIN");
        let mut token = bench.service.token(&record).unwrap();
        for by in [Unblocker::Admin, Unblocker::Puk] {
            let reset = token.unblock(by, &pin(SECOND_PIN));
            succeeds_if!(reset.is_ok(), "no proof resets the PIN as {by:?}");
        }
        drop(token);
        succeeds_if!(
            bench.accepts(&record, SECOND_PIN) || !bench.accepts(&record, PIN),
            "the PIN is another one"
        );
    }
    Ok(())
}

/// Root writes an entry of its own into the vault, with the host's HMAC, and waits for the administrator.
pub(crate) fn planted_entry() -> Outcome {
    use cardea_tpm::vault::{candidate, make_vault};
    let bench = Bench::new();
    let mut record = bench.record(Kind::Admin);
    // An entry for a key that root knows: made by the same code, for another admin key.
    let own_key = cardea_tpm::AdminKey::new(&[0x42; 24]).unwrap();
    let mut draw = 0u8;
    let mut random = |buffer: &mut [u8]| {
        draw = draw.wrapping_add(1);
        buffer.fill(draw);
    };
    let own = make_vault(&own_key, &[0; 32], &[0; 24], &[], &mut random);
    let planted = own.entries[0].clone();
    let vault = record.tpm.vault.as_mut().unwrap();
    vault.entries.push(planted.clone());
    let mut card = bench.open(&record);
    // A challenge of the card's own: what is planted must not be shown before it pays.
    let said = loop {
        let said = Said::new(&mut card, AdminForm::External);
        if said.challenge != planted.challenge {
            break said;
        }
    };
    said.say(&mut card);
    let after = card.record().clone();
    drop(card);
    let vault = after.tpm.vault.as_ref().unwrap();
    let Some(entry) = vault.entry(VaultKind::External, &planted.challenge) else {
        return Ok(());
    };
    let mut answer = planted.challenge.clone();
    own_key.encrypt(&mut answer);
    let adm = candidate(vault, entry, &answer).unwrap();
    let counter = bench.counter(&after, IndexRole::Adm);
    let session = bench.policy_session();
    let code = bench.policy_secret(&counter, Auth::Password(&*adm), &session, b"adm");
    succeeds_if!(code == 0, "root reads the next admin value from the file");
    Ok(())
}
