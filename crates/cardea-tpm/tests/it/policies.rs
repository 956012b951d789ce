//! Every policy of a card as the TPM computes it, and what it lets through.

use cardea_card::record::{CardRecord, IndexRole, VaultKind};
use cardea_card::token::KeyClass;
use cardea_tpm::policy::{ApprovalId, a_hash, cc, index_policy, name_of, role_ref, sealed_policy};
use cardea_tpm::{AdminKey, Service};

use crate::raw::{
    Auth, flush, policy_authorize, policy_command_code, policy_digest, policy_secret,
    policy_session, send, sized,
};
use crate::support::{ADMIN_KEY, Kind, PIN, PUK, Swtpm, make};

/// The admin value, which the vault gives to who has the admin key; of this kind of entry also m.
fn opened(card: &CardRecord, kind: VaultKind) -> (Vec<u8>, Option<[u8; 24]>) {
    let key = AdminKey::new(&ADMIN_KEY).unwrap();
    let vault = card.tpm.vault.as_ref().unwrap();
    let entry = vault
        .entries
        .iter()
        .find(|entry| entry.kind == kind)
        .unwrap();
    let mut answer = entry.challenge.clone();
    key.encrypt(&mut answer);
    let value = cardea_tpm::vault::candidate(vault, entry, &answer).unwrap();
    let mask = cardea_tpm::vault::mask(vault, entry, &answer).map(|mask| *mask);
    (value.to_vec(), mask)
}

fn value_of(card: &CardRecord, role: IndexRole) -> Vec<u8> {
    let typed = match role {
        IndexRole::Adm => return opened(card, VaultKind::External).0,
        IndexRole::Pin => PIN,
        IndexRole::Puk => PUK,
    };
    cardea_tpm::auth::auth_value(&card.tpm.salt, role, typed).to_vec()
}

fn handle_of(card: &CardRecord, role: IndexRole) -> u32 {
    let index = card.tpm.indices.iter().find(|index| index.role == role);
    index.unwrap().handle
}

fn name_of_index(card: &CardRecord, role: IndexRole) -> &[u8] {
    let index = card.tpm.indices.iter().find(|index| index.role == role);
    &index.unwrap().name
}

/// Goes the way of an approval in a session of its own, up to the index's policy.
fn satisfied(service: &Service, card: &CardRecord, id: ApprovalId) -> u32 {
    let session = policy_session(service);
    let (asked, code) = id.policy();
    if let Some((role, policy_ref)) = asked {
        let (index, value) = (handle_of(card, role), value_of(card, role));
        assert_eq!(
            policy_secret(service, index, &value, session, policy_ref),
            0,
            "{id:?}"
        );
    }
    policy_command_code(service, session, code);
    session
}

#[test]
fn tpm_computes_every_approved_policy_as_we_do_and_takes_its_approval() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut seen = Vec::new();
    for kind in [Kind::Admin, Kind::AdminAndPuk] {
        let card = make(&service, kind);
        let birth = name_of(&card.tpm.birth_public);
        for approval in &card.tpm.approvals {
            let id = ApprovalId::parse(&approval.id).unwrap();
            let session = satisfied(&service, &card, id);
            assert_eq!(policy_digest(&service, session), approval.digest, "{id:?}");
            let policy_ref = role_ref(approval.role);
            let (digest, ticket) = (&approval.digest, &approval.ticket);
            // Not under another index's policyRef, and not for another policy.
            for (digest, policy_ref) in
                [(*digest, &b"else"[..]), (a_hash(digest, b"x"), policy_ref)]
            {
                let refused =
                    policy_authorize(&service, session, &digest, policy_ref, &birth, ticket);
                assert_ne!(refused, 0, "{id:?}");
            }
            let taken = policy_authorize(&service, session, digest, policy_ref, &birth, ticket);
            assert_eq!(taken, 0, "{id:?}");
            let expected = index_policy(&birth, approval.role);
            assert_eq!(policy_digest(&service, session), expected, "{id:?}");
            flush(&service, session);
            seen.push(id);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    let unused = [ApprovalId::U1, ApprovalId::U2];
    assert_eq!(seen.len() + unused.len(), ApprovalId::ALL.len(), "{seen:?}");
}

#[test]
fn tpm_computes_key_policies_as_we_do() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    for (class, policy_ref) in [(KeyClass::Session, b"sess"), (KeyClass::Always, b"once")] {
        let session = policy_session(&service);
        let (index, value) = (
            handle_of(&card, IndexRole::Pin),
            value_of(&card, IndexRole::Pin),
        );
        assert_eq!(
            policy_secret(&service, index, &value, session, policy_ref),
            0
        );
        let expected = cardea_tpm::policy::key_policy(name_of_index(&card, IndexRole::Pin), class);
        assert_eq!(policy_digest(&service, session), expected);
        flush(&service, session);
    }
}

#[test]
fn admin_value_of_the_vault_unseals_the_masked_admin_key() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Admin);
    let (value, mask) = opened(&card, VaultKind::Mutual);
    let sealed = card.tpm.sealed_key.as_ref().unwrap();
    let srk = card.tpm.srk.handle;
    let parts = [&sized(&sealed.private)[..], &sized(&sealed.public)].concat();
    let (code, response) = send(&service, 0x157, &[srk], &[Auth::Password(&[])], &parts);
    assert_eq!(code, 0, "Load");
    let object = u32::from_be_bytes(response[..4].try_into().unwrap());

    // Neither a password nor a session without the admin value.
    let (code, _) = send(&service, 0x15E, &[object], &[Auth::Password(&[])], &[]);
    assert_eq!(code, 0x12F);
    let session = policy_session(&service);
    policy_command_code(&service, session, cc::UNSEAL);
    let (code, _) = send(&service, 0x15E, &[object], &[Auth::Session(session)], &[]);
    assert_eq!(code, 0x99D);
    flush(&service, session);

    let session = policy_session(&service);
    let index = handle_of(&card, IndexRole::Adm);
    assert_eq!(policy_secret(&service, index, &value, session, b"adm"), 0);
    policy_command_code(&service, session, cc::UNSEAL);
    let expected = sealed_policy(name_of_index(&card, IndexRole::Adm));
    assert_eq!(policy_digest(&service, session), expected);
    let (code, response) = send(&service, 0x15E, &[object], &[Auth::Session(session)], &[]);
    assert_eq!(code, 0, "Unseal");
    // Size of the parameters, then a TPM2B of 24 bytes.
    let masked = &response[6..30];
    let mask = mask.unwrap();
    let key: Vec<u8> = masked
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    assert_eq!(key, ADMIN_KEY);
}
