//! Evidence that is true: what is read out of it, and the words.

use cardea_pki::PathCertificate;
use cardea_terms::{KeyClass, Origin};

use super::hex;
use super::maker::{CardKey, Expected, Kind, Maker};
use crate::policy::name_of;
use crate::{
    AttestationTrust, Authority, Bundle, Code, EkOrigin, Form, Level, Nonce, Requirements, Role,
    Tries, Verifier,
};

const SEALED: &[u8] = include_bytes!("data/sealed.evidence");
const AUTHORITY: &[u8] = include_bytes!("data/authority.der");
/// 2026-12-01.
const DECEMBER: i64 = 1_796_083_200;

#[test]
fn evidence_of_a_tpm_is_accepted_at_level_2() {
    let nonce: Vec<u8> = (0..32).collect();
    let verifier = Verifier {
        trust: AttestationTrust {
            authorities: &[PathCertificate::parse(AUTHORITY).unwrap()],
            ..AttestationTrust::default()
        },
        nonce: Nonce::Exactly(&nonce),
        now: DECEMBER,
        requirements: Requirements {
            pin_limit: Some(5),
            level: Some(Level::L2),
            generated_only: true,
            ..Requirements::default()
        },
    };
    let claims = verifier.verify(SEALED).unwrap();
    assert_eq!(claims.level, Level::L2);
    assert!(claims.is_fresh && !claims.is_made_in_this_boot);
    assert_eq!(claims.pin, Tries { limit: 5, wrong: 0 });
    let administrator = claims.administrator.unwrap();
    assert_eq!((administrator.limit, claims.puk), (10_000, None));
    assert_eq!(claims.unblocking(), Some(&[Role::Adm][..]));
    let [key] = &claims.keys[..] else {
        panic!("{:?}", claims.keys)
    };
    assert_eq!(key.name[..3], hex("000b2e"));
    assert_eq!(
        (key.origin, key.class),
        (Origin::Generated, KeyClass::Session)
    );
    let Authority::Certificate { issuer, tpm, ek } = &claims.authority else {
        panic!("{:?}", claims.authority)
    };
    assert_eq!(issuer, "CN=Cardea prototype attestation CA");
    assert_eq!(tpm.as_ref().unwrap().model, "swtpm");
    assert_eq!(*ek, None);
    assert_eq!(Bundle::decode(SEALED).unwrap().encode(), SEALED);

    let late = Verifier {
        now: DECEMBER + 2 * 31_536_000,
        ..verifier
    };
    let refusal = late.verify(SEALED).unwrap_err();
    assert_eq!(refusal.code, Code::AkChain);
    assert_eq!(
        refusal.to_string(),
        "the certificate of the attestation key is not valid: a certificate is no longer valid"
    );
}

#[test]
fn every_kind_of_card_is_accepted_and_its_levels_and_ways_of_unblocking_are_named() {
    for (has_adm, has_puk, unblocking, words) in [
        (
            false,
            false,
            &[][..],
            "can be unblocked by nobody. The PIN's owner alone can change it",
        ),
        (
            true,
            false,
            &[Role::Adm],
            "by the administrator (10000 tries), and by nothing else",
        ),
        (
            false,
            true,
            &[Role::Puk],
            "by the PUK (10 tries), and by nothing else",
        ),
        (
            true,
            true,
            &[Role::Puk],
            "by the PUK (10 tries), and by nothing else",
        ),
    ] {
        for has_witness in [true, false] {
            let maker = Maker {
                has_adm,
                has_puk,
                has_witness,
                ..Maker::default()
            };
            let claims = Expected::default().verify(&maker.bytes()).unwrap();
            assert_eq!(claims.administrator.is_some(), has_adm);
            assert_eq!(claims.puk.is_some(), has_puk);
            assert_eq!(claims.is_made_in_this_boot, !has_witness);
            if has_witness {
                assert_eq!(claims.level, Level::L2);
                assert_eq!(claims.unblocking(), Some(unblocking));
                assert!(claims.to_string().contains(words), "{claims}");
            } else {
                assert_eq!((claims.level, claims.unblocking()), (Level::L1, None));
                assert!(claims.to_string().contains("the word of the software"));
            }
        }
    }
}

#[test]
fn keys_are_described_by_origin_class_and_recovery() {
    let claims = Expected::default()
        .verify(&Maker::default().bytes())
        .unwrap();
    let found: Vec<_> = claims
        .keys
        .iter()
        .map(|key| {
            (
                key.public_key.kind().to_string(),
                key.origin,
                key.class,
                key.recovery.len(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("P-256".to_owned(), Origin::Generated, KeyClass::Session, 0),
            ("RSA-2048".to_owned(), Origin::Imported, KeyClass::Always, 0),
            ("P-384".to_owned(), Origin::Generated, KeyClass::Session, 2),
        ]
    );
    let creation = claims.keys[2].creation.as_ref().unwrap();
    assert_eq!(creation.outside_info, b"made after this");
    assert!(claims.keys[0].creation.is_none());
    let Authority::Certificate { ek, .. } = &claims.authority else {
        panic!("{:?}", claims.authority)
    };
    assert_eq!(*ek, Some(EkOrigin::Certificate));
    let text = claims.to_string();
    for words in [
        "made in a TPM of id:00001014, swtpm, vouched for by CN=Test CA and cannot be taken out",
        "imported into a TPM",
        "copies of it may exist elsewhere. Every use follows the correct PIN for that use.",
        "it can be recovered with each of 2 recovery keys, and in no other way",
        "At most 5 wrong PINs in a row are possible",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn card_of_form_a_is_level_1_and_a_pinned_key_needs_no_certificate() {
    let maker = Maker {
        has_certificate: false,
        nonce: Vec::new(),
        ..Maker::approved()
    };
    let mut expected = Expected {
        nonce: None,
        pins: vec![name_of(&maker.attestation_key())],
        ..Expected::default()
    };
    let claims = expected.verify(&maker.bytes()).unwrap();
    assert_eq!(
        (claims.level, &claims.authority),
        (Level::L1, &Authority::Pinned)
    );
    assert!(!claims.is_fresh && !claims.is_made_in_this_boot);
    assert!(
        claims
            .to_string()
            .contains("the TPM that the verifier has pinned")
    );
    // The nonce that is expected may be the empty one; the evidence is not fresh for that.
    expected.nonce = Some(Vec::new());
    assert!(!expected.verify(&maker.bytes()).unwrap().is_fresh);
}

#[test]
fn bundles_with_any_number_of_keys_come_back_from_their_bytes() {
    for count in [0, 1, 30] {
        let maker = Maker {
            keys: vec![CardKey::new(Kind::P256, 0x0006_0432, KeyClass::Always); count],
            note: Some("Ada's card".to_owned()),
            ..Maker::default()
        };
        let bundle = maker.bundle();
        let bytes = bundle.encode();
        assert_eq!(Bundle::decode(&bytes), Ok(bundle));
        let claims = Expected::default().verify(&bytes).unwrap();
        assert_eq!(claims.keys.len(), count);
        assert_eq!(claims.note.as_deref(), Some("Ada's card"));
    }
    let mut crowd = Maker::default().bundle();
    crowd.keys = vec![crowd.keys[0].clone(); 31];
    let refusal = Bundle::decode(&crowd.encode()).unwrap_err();
    assert_eq!(refusal.code, Code::BundleForm);
}

#[test]
fn indices_that_no_card_has_are_refused() {
    let good = Maker::default().bundle();
    let change = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        Bundle::decode(&bundle.encode()).map_err(|refusal| refusal.code)
    };
    assert!(change(&|_| ()).is_ok());
    let refused = Err(Code::BundleForm);
    assert_eq!(change(&|bundle| bundle.indices.swap(0, 1)), refused);
    assert_eq!(change(&|bundle| bundle.indices.swap(2, 3)), refused);
    assert_eq!(change(&|bundle| drop(bundle.indices.remove(0))), refused);
    assert_eq!(change(&|bundle| drop(bundle.indices.remove(1))), refused);
    assert_eq!(change(&|bundle| bundle.indices.clear()), refused);
    assert_eq!(
        change(&|bundle| bundle.indices[3] = bundle.indices[2].clone()),
        refused
    );
    assert_eq!(change(&|bundle| bundle.form = Form::Approved), refused);
    assert_eq!(change(&|bundle| bundle.nonce = vec![0; 65]), refused);
    assert!(change(&|bundle| bundle.nonce = vec![0; 64]).is_ok());
}
