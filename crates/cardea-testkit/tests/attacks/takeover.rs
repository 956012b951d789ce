//! Root deletes a card's PIN counter and makes it again with a PIN of its own.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::KeyClass;
use cardea_tpm::policy::{
    ApprovalId, NV_DEFINED, NV_WRITTEN, index_policy, name_of, nv_public, role_ref,
};

use crate::bench::{Bench, Kind, Outcome, PIN, index, signs_with, succeeds_if, value};
use crate::raw::{Auth, Entity, OWNER, Session, cc, sized};

const ROOT_PIN: &[u8] = b"pin-of-root";

/// The whole attack: everything that root has seen on the bus and reads in the card file is put to use.
pub(crate) fn counter_made_again() -> Outcome {
    let bench = Bench::new();
    // Root listens while the card is made.
    let blank = bench.record(Kind::Admin);
    let overheard: Vec<Vec<u8>> = bench
        .mux
        .exchanges()
        .into_iter()
        .filter(|exchange| [cc::POLICY_AUTHORIZE, cc::POLICY_SIGNED].contains(&exchange.code()))
        .map(|exchange| exchange.command)
        .collect();
    assert!(overheard.len() >= 2, "the bus was heard");
    let record = bench.with_keys(&blank, &[KeyClass::Session, KeyClass::Always]);
    let references: Vec<u8> = record.keys.iter().map(|key| key.reference).collect();
    assert!(signs_with(&bench, &record, PIN, references[0]));

    let counter = Counter::of(&record);
    counter.undefine(&bench);
    succeeds_if!(
        counter.define(&bench, NV_WRITTEN) == 0,
        "an index can be defined as written"
    );
    assert_eq!(counter.define(&bench, NV_DEFINED), 0);
    for (at, command) in overheard.iter().enumerate() {
        let session = bench.policy_session();
        if command[6..10] == cc::POLICY_SIGNED.to_be_bytes() {
            bench.replay_signature(&record, command, &session);
        }
        bench.policy_command_code(&session, cc::NV_WRITE);
        // The approval that was heard next belongs to the signature.
        let approval = overheard[at..]
            .iter()
            .find(|command| command[6..10] == cc::POLICY_AUTHORIZE.to_be_bytes());
        if let Some(approval) = approval {
            let mut approval = approval.clone();
            approval[10..14].copy_from_slice(&session.handle.to_be_bytes());
            bench.bytes(&approval);
        }
        counter.write(&bench, Auth::Session(&session, &[]));
        bench.flush(session.handle);
    }
    for approval in &record.tpm.approvals {
        let id = ApprovalId::parse(&approval.id).unwrap();
        let session = bench.policy_session();
        if let (Some((_, policy_ref)), _) = id.policy() {
            let own = Auth::Password(&counter.value);
            bench.policy_secret(&counter.entity, own, &session, policy_ref);
        }
        bench.policy_command_code(&session, cc::NV_WRITE);
        let birth = name_of(&record.tpm.birth_public);
        let policy_ref = role_ref(approval.role);
        bench.policy_authorize(
            &session,
            &approval.digest,
            policy_ref,
            &birth,
            &approval.ticket,
        );
        counter.write(&bench, Auth::Session(&session, &[]));
        bench.flush(session.handle);
    }
    counter.write(&bench, Auth::Password(&counter.value));
    counter.write_as_owner(&bench);

    // The engine must call the card lost; and where it were fooled, the TPM must not sign.
    succeeds_if!(
        bench.service.check_card(&record).is_ok(),
        "the card with root's PIN is taken for the card"
    );
    for key in &record.keys {
        let policy_ref: [&[u8]; 2] = [b"sess", b"once"];
        for policy_ref in policy_ref {
            let loaded = bench.load(&key.object.private, &key.object.public).unwrap();
            let session = bench.policy_session();
            for entity in [&counter.entity, &counter.unwritten] {
                let own = Auth::Password(&counter.value);
                bench.policy_secret(entity, own, &session, policy_ref);
            }
            let code = bench.sign(&loaded, Auth::Session(&session, &[]));
            succeeds_if!(code == 0, "root signs with key {:02X}", key.reference);
            bench.flush(session.handle);
            bench.flush(loaded.handle);
        }
    }
    Ok(())
}

/// The PIN counter in root's hands.
struct Counter {
    handle: u32,
    policy: [u8; 32],
    value: [u8; 32],
    /// As the card knows it.
    entity: Entity,
    /// As root makes it.
    unwritten: Entity,
}

impl Counter {
    fn of(record: &CardRecord) -> Self {
        let pin = index(record, IndexRole::Pin);
        let policy = index_policy(&name_of(&record.tpm.birth_public), IndexRole::Pin);
        let unwritten = name_of(&nv_public(pin.handle, NV_DEFINED, &policy));
        Self {
            handle: pin.handle,
            policy,
            value: value(record, IndexRole::Pin, ROOT_PIN),
            entity: Entity::named(pin.handle, &pin.name),
            unwritten: Entity::named(pin.handle, &unwritten),
        }
    }

    fn undefine(&self, bench: &Bench) {
        let entities = [Entity::plain(OWNER), self.entity.clone()];
        let owner = [Auth::Password(&[])];
        let answer = bench.send(cc::NV_UNDEFINE_SPACE, &entities, &owner, &[]);
        assert_eq!(answer.code, 0, "root can delete it");
    }

    fn define(&self, bench: &Bench, attributes: u32) -> u32 {
        let public = nv_public(self.handle, attributes, &self.policy);
        let parameters = [sized(&self.value), sized(&public)].concat();
        let owner = [Auth::Password(&[])];
        let entities = [Entity::plain(OWNER)];
        bench
            .send(cc::NV_DEFINE_SPACE, &entities, &owner, &parameters)
            .code
    }

    fn write(&self, bench: &Bench, auth: Auth<'_>) {
        self.write_by(bench, &self.unwritten, auth);
    }

    fn write_as_owner(&self, bench: &Bench) {
        self.write_by(bench, &Entity::plain(OWNER), Auth::Password(&[]));
    }

    fn write_by(&self, bench: &Bench, by: &Entity, auth: Auth<'_>) {
        let data = [&sized(&[0, 0, 0, 0, 0, 0, 0, 5])[..], &[0, 0]].concat();
        let entities = [by.clone(), self.unwritten.clone()];
        bench.send(cc::NV_WRITE, &entities, &[auth], &data);
    }
}

impl Bench {
    /// PolicySigned as it was heard, in a session of root's.
    fn replay_signature(&self, record: &CardRecord, heard: &[u8], session: &Session) {
        let public = [&[0, 0][..], &sized(&record.tpm.birth_public)].concat();
        let parameters = [&public[..], &OWNER.to_be_bytes()].concat();
        let birth = self.send(cc::LOAD_EXTERNAL, &[], &[], &parameters).handle();
        let mut command = heard.to_vec();
        command[10..14].copy_from_slice(&birth.to_be_bytes());
        command[14..18].copy_from_slice(&session.handle.to_be_bytes());
        self.bytes(&command);
        // With the session's own nonce too.
        let old = usize::from(u16::from_be_bytes([command[18], command[19]]));
        let mut fresh = command[..18].to_vec();
        fresh.extend(sized(&session.nonce_tpm));
        fresh.extend_from_slice(&command[20 + old..]);
        let length = u32::try_from(fresh.len()).unwrap();
        fresh[2..6].copy_from_slice(&length.to_be_bytes());
        self.bytes(&fresh);
        self.flush(birth);
    }
}
