//! Recoverable keys: the policies, what they do under the PIN, and targets that are not theirs.

use cardea_card::record::KeyRecord;
use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyOrigin, KeyStore, PinReference, PrivateOperation, RecoveryKey,
    TokenErrorKind,
};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::policy::{
    is_recovery_target, key_policy, name_of, recoverable_template, recovery_branches,
    recovery_target,
};

use crate::support::{Kind, PIN, Swtpm, make, pin, token};

/// The point of the scalar 41…60, and one of another key.
const ESCROW: [&str; 2] = [
    "261efbd3550cf068ef013ed7366ba32f5d6fe557b4b2abce8ade58cba168a55e",
    "1788a0b29a56a6abec4084c0c96bd3dcbca6b507f35dbea9e985708479d8bdc9",
];
const OTHER: [&str; 2] = [
    "ecb6a2f86c7825ee71d022c29b9f8aa35971520ec3f9739855635765ead1bd14",
    "adad028bfba628ed75b72e3cbeb1ef192e60f52b3e2021497df3afb3006550df",
];

fn hex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text).unwrap()
}

fn recovery_key([x, y]: [&str; 2]) -> RecoveryKey {
    RecoveryKey {
        x: hex(x).try_into().unwrap(),
        y: hex(y).try_into().unwrap(),
        certificate: b"a certificate".to_vec(),
    }
}

/// Values that a TPM has confirmed: PolicyGetDigest on both branches, ReadPublic for the Names.
#[test]
fn policies_and_templates_are_those_that_a_tpm_computes() {
    let RecoveryKey { x, y, .. } = recovery_key(ESCROW);
    let target = recovery_target(&x, &y);
    let head = "0023000b00030040000000060080004300100003001000";
    assert!(base16ct::lower::encode_string(&target).starts_with(head));
    assert_eq!(target.len(), 90);
    assert!(is_recovery_target(&target));
    assert!(!is_recovery_target(&target[..89]));
    let name = name_of(&target);
    assert_eq!(
        name[..],
        hex("000be0f94826b35b8c7f1b91370f53369f3de315639c2f7ab6f84c40c7e742546024")
    );
    let pin = hex("000bece048336af67581d69f764c22a718993ee8139d57e69b2b487d24b04134aec2");
    let policy = key_policy(&pin, KeyClass::Session);
    let branches = recovery_branches(&policy, &[name]);
    assert_eq!(
        branches[1][..],
        hex("9167c7835903adefdf1cf77f150020a00e186676d7eaf4d7a38ff7e8599fa6d6")
    );
    assert_eq!(
        recoverable_template(KeyAlgorithm::P256, &branches),
        hex(
            "0023000b00060420002013d0c4f802c54321aece7155a9256583e4cd73d301f61b25f3e051f96942ad51001000100003001000000000"
        )
    );
    assert_eq!(
        recoverable_template(KeyAlgorithm::Rsa2048, &branches),
        hex(
            "0001000b00060420002013d0c4f802c54321aece7155a9256583e4cd73d301f61b25f3e051f96942ad51001000100800000000000000"
        )
    );
}

#[test]
fn recoverable_keys_work_under_the_pin_beside_ordinary_ones() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let keys = [recovery_key(ESCROW), recovery_key(OTHER)];
    let p256 = KeyAlgorithm::P256;
    let one = token
        .generate_recoverable(0x81, p256, KeyClass::Session, &keys[..1])
        .unwrap();
    let two = token
        .generate_recoverable(0x82, p256, KeyClass::Session, &keys)
        .unwrap();
    let always = token
        .generate_recoverable(0x83, p256, KeyClass::Always, &keys)
        .unwrap();
    let ordinary = token.generate(0x84, p256, KeyClass::Session).unwrap();
    let sign = PrivateOperation::SignEcdsa { digest: &[7; 32] };
    let refused = token.operate(&one, sign).unwrap_err();
    assert_eq!(refused.kind(), TokenErrorKind::NotAuthenticated);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    for key in [&one, &ordinary, &two, &two, &ordinary, &one] {
        token.operate(key, sign).unwrap();
    }
    token.operate(&always, sign).unwrap();
    let again = token.operate(&always, sign).unwrap_err();
    assert_eq!(again.kind(), TokenErrorKind::NotAuthenticated);
    for (key, count) in [(&one, 1), (&two, 2), (&always, 2)] {
        let info = token.describe(key).unwrap();
        assert!(info.is_recoverable);
        assert_eq!(info.origin, KeyOrigin::Generated);
        let targets = key.recovery.as_ref().unwrap();
        assert_eq!(targets.len(), count);
        assert!(
            targets
                .iter()
                .all(|it| it.private.len() == 108 && it.seed.len() == 68)
        );
        assert!(!key.creation_data.as_ref().unwrap().is_empty());
    }
    assert!(!token.describe(&ordinary).unwrap().is_recoverable);
}

/// The record's list only explains the policy.
#[test]
fn key_with_other_targets_than_its_own_is_not_one_of_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let keys = [recovery_key(ESCROW), recovery_key(OTHER)];
    let p256 = KeyAlgorithm::P256;
    let class = KeyClass::Session;
    let key = token
        .generate_recoverable(0x81, p256, class, &keys[..1])
        .unwrap();
    let both = token
        .generate_recoverable(0x82, p256, class, &keys)
        .unwrap();
    let ordinary = token.generate(0x83, p256, class).unwrap();
    let refused = |key: &KeyRecord| token.describe(key).is_err();
    let with = |key: &KeyRecord, change: fn(&mut Vec<_>)| {
        let mut changed = key.clone();
        change(changed.recovery.get_or_insert_default());
        changed
    };
    assert!(refused(&with(&both, |targets| targets.reverse())));
    assert!(refused(&with(&both, |targets| targets.truncate(1))));
    assert!(refused(&with(&both, |targets| targets.clear())));
    assert!(refused(&with(&ordinary, |targets| targets.clear())));
    let mut exchanged = key.clone();
    exchanged.recovery = both.recovery.clone();
    assert!(refused(&exchanged));
    let mut hidden = key.clone();
    hidden.recovery = None;
    assert!(refused(&hidden));
    let mut claimed = ordinary;
    claimed.recovery = key.recovery.clone();
    assert!(refused(&claimed));
    for wrong in [
        &[][..],
        &[keys[0].clone(), keys[0].clone()],
        &vec![keys[0].clone(); 8][..],
    ] {
        let error = token.generate_recoverable(0x84, p256, class, wrong);
        assert_eq!(error.unwrap_err().kind(), TokenErrorKind::BadData);
    }
}
