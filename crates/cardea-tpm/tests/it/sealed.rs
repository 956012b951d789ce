//! Cards with sealed policies: what they do, what they can no longer be made to do, and what they prove.

use cardea_attest::{
    AttestationTrust, Bundle, Claims, Creation, Form, Index, Key, Level, Nonce, Refusal,
    Requirements, Role, Statement, Tries, Verifier, Witness, qualifying_data,
};
use cardea_card::record::{CardRecord, IndexRole, RecoveryTarget};
use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyStore as _, PinError, PinReference, PinStatus, PrivateOperation,
    RecoveryKey, TokenErrorKind, Unblocker,
};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::policy::{X_WRITTEN, cc, name_of, sealed_init_policy, x_public};
use cardea_tpm::{CardFault, Evidence, NewCard, Service, TpmError};

use crate::raw::{Auth, OWNER, flush, policy_command_code, policy_session, send, sized};
use crate::support::{Kind, PIN, PUK, Swtpm, make, make_attested, new_card, pin, token};

const NONCE: [u8; 16] = [9; 16];

fn statement(of: &cardea_tpm::Statement) -> Statement {
    Statement {
        attest: of.attest.clone(),
        signature: of.signature.clone(),
    }
}

fn bundle(card: &CardRecord, evidence: &Evidence) -> Bundle {
    let sealed = card.tpm.sealed_policies.as_ref();
    let form = sealed.map_or(Form::Approved, |sealed| Form::Sealed {
        made_at_reset: sealed.made_at_reset,
        witness: evidence.witness.as_ref().map(|it| Witness {
            public: sealed.witness.public.clone(),
            statement: statement(it),
        }),
    });
    let indices = evidence.indices.iter().map(|index| Index {
        role: match index.role {
            None => Role::Sealed,
            Some(IndexRole::Pin) => Role::Pin,
            Some(IndexRole::Adm) => Role::Adm,
            Some(IndexRole::Puk) => Role::Puk,
        },
        public: index.public.clone(),
        statement: statement(&index.statement),
    });
    let keys = card.keys.iter().zip(&evidence.keys).map(|(key, it)| Key {
        public: key.object.public.clone(),
        statement: statement(&it.statement),
        creation: it.creation.as_ref().map(|made| Creation {
            data: key.creation_data.clone().unwrap(),
            statement: statement(made),
            targets: key.recovery.iter().flatten().map(target).collect(),
        }),
    });
    Bundle {
        nonce: NONCE.to_vec(),
        form,
        attestation_key: card.tpm.attestation_key.clone().unwrap().public,
        certificates: Vec::new(),
        storage_root_key: evidence.storage_root_key.clone(),
        birth_key: card.tpm.birth_public.clone(),
        indices: indices.collect(),
        keys: keys.collect(),
        note: None,
    }
}

fn target(target: &RecoveryTarget) -> Vec<u8> {
    target.public.clone()
}

/// What a stranger who knows the attestation key says of the card.
fn judge(service: &Service, card: &CardRecord) -> Result<Claims, Refusal> {
    let references: Vec<u8> = card.keys.iter().map(|key| key.reference).collect();
    let evidence = service
        .evidence(card, qualifying_data(&NONCE), &references)
        .unwrap();
    let pins = [name_of(&card.tpm.attestation_key.as_ref().unwrap().public)];
    let verifier = Verifier {
        trust: AttestationTrust {
            pins: &pins,
            ..AttestationTrust::default()
        },
        nonce: Nonce::Exactly(&NONCE),
        now: 0,
        requirements: Requirements::default(),
    };
    verifier.verify(&bundle(card, &evidence).encode())
}

fn sign(token: &mut cardea_tpm::CardToken, key: &cardea_card::record::KeyRecord) -> bool {
    let operation = PrivateOperation::SignEcdsa { digest: &[3; 32] };
    token.operate(key, operation).is_ok()
}

#[test]
fn sealed_card_of_each_kind_works_like_any_other() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    for (kind, indices) in [
        (Kind::Plain, 2),
        (Kind::Admin, 3),
        (Kind::Puk, 3),
        (Kind::AdminAndPuk, 4),
    ] {
        let card = make_attested(&service, &[], kind);
        assert_eq!(service.defined_indices().unwrap().len(), indices);
        assert_eq!(card.tpm.handles().count(), indices);
        assert!(card.tpm.approvals.is_empty());
        let mut used = token(&service, &card);
        let key = used
            .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
            .unwrap();
        let refused = used.verify(PinReference::Pin, &pin(b"000000"));
        assert!(matches!(refused, Err(PinError::Wrong { left: Some(4) })));
        used.change(PinReference::Pin, &pin(PIN), &pin(b"another"))
            .unwrap();
        used.verify(PinReference::Pin, &pin(b"another")).unwrap();
        assert!(sign(&mut used, &key));
        if matches!(kind, Kind::Puk | Kind::AdminAndPuk) {
            for _ in 0..5 {
                used.verify(PinReference::Pin, &pin(b"000000")).unwrap_err();
            }
            used.verify(PinReference::Puk, &pin(PUK)).unwrap();
            used.unblock(Unblocker::Puk, &pin(PIN)).unwrap();
            used.change(PinReference::Puk, &pin(PUK), &pin(b"11223344"))
                .unwrap();
            used.verify(PinReference::Puk, &pin(b"11223344")).unwrap();
            let status = used.status(PinReference::Pin).unwrap();
            assert_eq!(status, PinStatus { left: 5, limit: 5 });
        } else {
            used.change(PinReference::Pin, &pin(b"another"), &pin(PIN))
                .unwrap();
        }
        drop(used);
        tpm.power_cycle();
        let mut again = token(&service, &card);
        again.verify(PinReference::Pin, &pin(PIN)).unwrap();
        assert!(sign(&mut again, &key));
        again
            .change(PinReference::Pin, &pin(PIN), &pin(b"still changes"))
            .unwrap();
        drop(again);
        service.destroy_card(&card.tpm).unwrap();
        assert_eq!(service.defined_indices().unwrap(), [0u32; 0]);
    }
}

#[test]
fn evidence_is_complete_after_the_reset_that_follows_creation() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make_attested(&service, &[], Kind::AdminAndPuk);
    let mut used = token(&service, &card);
    let escrow = RecoveryKey {
        x: base16ct::lower::decode_vec(
            "261efbd3550cf068ef013ed7366ba32f5d6fe557b4b2abce8ade58cba168a55e",
        )
        .unwrap()
        .try_into()
        .unwrap(),
        y: base16ct::lower::decode_vec(
            "1788a0b29a56a6abec4084c0c96bd3dcbca6b507f35dbea9e985708479d8bdc9",
        )
        .unwrap()
        .try_into()
        .unwrap(),
        certificate: b"a certificate".to_vec(),
    };
    card.keys = vec![
        used.generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
            .unwrap(),
        used.generate(0x82, KeyAlgorithm::Rsa2048, KeyClass::Always)
            .unwrap(),
        used.generate_recoverable(0x83, KeyAlgorithm::P256, KeyClass::Session, &[escrow])
            .unwrap(),
    ];
    used.verify(PinReference::Pin, &pin(b"000000")).unwrap_err();
    let claims = judge(&service, &card).unwrap();
    assert_eq!(claims.level, Level::L1);
    assert!(claims.is_made_in_this_boot);
    drop(used);

    tpm.power_cycle();
    let claims = judge(&service, &card).unwrap();
    assert_eq!(claims.level, Level::L2);
    assert_eq!(claims.keys.len(), 3);
    assert_eq!(claims.keys[2].recovery.len(), 1);
    assert_eq!(claims.pin, Tries { wrong: 1, limit: 5 });
    assert_eq!(claims.puk.unwrap().limit, 10);
    assert_eq!(claims.administrator.unwrap().limit, 10_000);
    // Nothing of that has used up a try or ended anything.
    let mut again = token(&service, &card);
    again.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = card.keys[0].clone();
    judge(&service, &card).unwrap();
    assert!(sign(&mut again, &key), "the verification outlives evidence");
}

#[test]
fn card_of_form_a_gets_an_attestation_key_and_proves_less() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::AdminAndPuk);
    card.tpm.attestation_key = Some(service.make_attestation_key(&card).unwrap());
    for _ in 0..2 {
        let claims = judge(&service, &card).unwrap();
        assert_eq!(claims.level, Level::L1);
        assert!(claims.puk.is_none() && claims.administrator.is_none());
        tpm.power_cycle();
    }
}

/// NV_Write with the sessions that it takes, and with what they are worth.
fn write(service: &Service, handle: u32, session: u32, data: &[u8]) -> u32 {
    let parameters = [&sized(data)[..], &[0, 0]].concat();
    let auth = [Auth::Session(session)];
    send(service, cc::NV_WRITE, &[handle, handle], &auth, &parameters).0
}

#[test]
fn policies_cannot_be_written_again_by_anybody() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make_attested(&service, &[], Kind::Plain);
    let sealed = card.tpm.sealed_policies.clone().unwrap();
    let content = [&[0x00, 0x0B][..], &[7; 32]].concat();
    for with_password in [true, false] {
        let parameters = [&sized(&content)[..], &[0, 0]].concat();
        let session = policy_session(&service);
        policy_command_code(&service, session, cc::NV_WRITE);
        let auth = match with_password {
            true => Auth::Password(&[]),
            false => Auth::Session(session),
        };
        let handles = [sealed.handle, sealed.handle];
        let (code, _) = send(&service, cc::NV_WRITE, &handles, &[auth], &parameters);
        assert_ne!(code, 0);
        flush(&service, session);
        let handles = [OWNER, sealed.handle];
        let auth = [Auth::Password(&[])];
        let (code, _) = send(&service, cc::NV_WRITE, &handles, &auth, &parameters);
        assert_ne!(code, 0, "not even the owner");
    }
    // Under one of the policies, what it is not for.
    let session = policy_session(&service);
    policy_command_code(&service, session, cc::NV_READ);
    assert_ne!(write(&service, sealed.handle, session, &content), 0);
    let pin = card.tpm.indices[0].handle;
    assert_ne!(write(&service, pin, session, &[0; 8]), 0);
    flush(&service, session);
    service.check_card(&card).unwrap();
}

#[test]
fn card_without_its_policies_works_and_cannot_be_managed_any_more() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make_attested(&service, &[], Kind::AdminAndPuk);
    let sealed = card.tpm.sealed_policies.clone().unwrap();
    let mut used = token(&service, &card);
    let key = used
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    let undefine = |handle| {
        let auth = [Auth::Password(&[])];
        send(&service, 0x122, &[OWNER, handle], &auth, &[]).0
    };
    assert_eq!(undefine(sealed.handle), 0);
    // Made again, it is the same index by its handle, and nobody can give it a content.
    let birth = name_of(&card.tpm.birth_public);
    let init = sealed_init_policy(&birth, sealed.made_at_reset);
    let forged = x_public(sealed.handle, X_WRITTEN & 0x0FFF_FFFF, &init);
    let parameters = [&sized(&[])[..], &sized(&forged)].concat();
    let owner = [Auth::Password(&[])];
    for is_made_again in [false, true] {
        if is_made_again {
            let (code, _) = send(&service, 0x12A, &[OWNER], &owner, &parameters);
            assert_eq!(code, 0);
        }
        service.check_card(&card).unwrap();
        assert_eq!(
            service.lost_parts(&card.tpm).unwrap(),
            [IndexRole::Adm, IndexRole::Puk]
        );
        used.verify(PinReference::Pin, &pin(PIN)).unwrap();
        assert!(sign(&mut used, &key));
        let changed = used.change(PinReference::Pin, &pin(PIN), &pin(b"another"));
        let lost =
            matches!(changed, Err(PinError::Token(error)) if error.kind() == TokenErrorKind::Lost);
        assert!(lost);
        let refused = used.verify(PinReference::Pin, &pin(b"000000"));
        assert!(matches!(refused, Err(PinError::Wrong { left: None })));
        let failed = service.evidence(&card, [0; 32], &[]);
        assert!(failed.is_err());
    }
    service.destroy_card(&card.tpm).unwrap();
    assert_eq!(service.defined_indices().unwrap(), [0u32; 0]);
}

#[test]
fn record_that_contradicts_itself_is_damaged() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make_attested(&service, &[], Kind::Admin);
    let other = make_attested(
        &service,
        &card.tpm.handles().collect::<Vec<_>>(),
        Kind::Admin,
    );
    let plain = make(&service, Kind::Admin);
    let changed = |change: &dyn Fn(&mut CardRecord)| {
        let mut record = card.clone();
        change(&mut record);
        assert!(matches!(
            service.check_card(&record),
            Err(CardFault::Damaged(_))
        ));
    };
    let sealed = |record: &mut CardRecord,
                  change: &dyn Fn(&mut cardea_card::record::SealedPolicies)| {
        change(record.tpm.sealed_policies.as_mut().unwrap());
    };
    changed(&|record| sealed(record, &|it| it.made_at_reset += 1));
    changed(&|record| sealed(record, &|it| it.handle += 1));
    changed(&|record| sealed(record, &|it| it.handle = 0x0100_0000));
    changed(&|record| sealed(record, &|it| it.witness.public[20] ^= 1));
    changed(&|record| record.tpm.sealed_policies = None);
    changed(&|record| {
        record
            .tpm
            .sealed_policies
            .clone_from(&other.tpm.sealed_policies)
    });
    changed(&|record| record.tpm.approvals.clone_from(&plain.tpm.approvals));
    changed(&|record| {
        record
            .tpm
            .attestation_key
            .clone_from(&record.tpm.sealed_key.clone())
    });
    // Another limit would have other policies, which the TPM does not have.
    changed(&|record| record.tpm.indices[0].limit += 1);
}

#[test]
fn no_room_for_one_more_index_leaves_nothing_of_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut taken = Vec::new();
    let full = loop {
        let new = NewCard {
            attests: true,
            ..new_card(Kind::Puk)
        };
        let prepared = service.prepare_card(&taken, new).unwrap();
        let before = service.defined_indices().unwrap();
        match service.create_card(prepared, &mut |_| {}) {
            Ok(made) => taken.extend(made.handles()),
            Err(error) => {
                assert_eq!(service.defined_indices().unwrap(), before);
                break error;
            }
        }
    };
    assert!(matches!(full, TpmError::NvFull(_)), "{full}");
    // With whatever part of a card there is room for.
    let mut alone = Vec::new();
    while let Ok(made) = service
        .prepare_card(&[], new_card(Kind::Plain))
        .and_then(|prepared| service.create_card(prepared, &mut |_| {}))
    {
        let before = service.defined_indices().unwrap();
        let new = NewCard {
            attests: true,
            ..new_card(Kind::Puk)
        };
        let prepared = service.prepare_card(&[], new).unwrap();
        assert!(service.create_card(prepared, &mut |_| {}).is_err());
        assert_eq!(service.defined_indices().unwrap(), before);
        alone.push(made);
    }
    assert!(alone.len() < 3, "{}", alone.len());
}
