//! Every code is reached by a lie, and each lie passes where its check is left out: the check is what stops it.

use cardea_terms::KeyClass;

use super::maker::{
    About, CardKey, Expected, Kind, Maker, NOW, SoftKey, distinguished_name, target,
};
use crate::policy::name_of;
use crate::{BadFirmware, Code, Level, Refusal, Revoked, qualified_name};

/// A lie, or evidence that is true and not enough.
pub(super) struct Lie {
    code: Code,
    what: &'static str,
    pub(super) maker: Maker,
    pub(super) expected: Expected,
    /// Checks that are left out with the code's own, where one lie breaks several.
    also: &'static [Code],
}

fn lie(code: Code, what: &'static str, change: impl FnOnce(&mut Maker, &mut Expected)) -> Lie {
    lie_with(code, what, &[], change)
}

fn lie_with(
    code: Code,
    what: &'static str,
    also: &'static [Code],
    change: impl FnOnce(&mut Maker, &mut Expected),
) -> Lie {
    let (mut maker, mut expected) = (Maker::default(), Expected::default());
    change(&mut maker, &mut expected);
    Lie {
        code,
        what,
        maker,
        expected,
        also,
    }
}

/// The six lies that every statement can be.
fn lies_of_statement(about: About, codes: [Code; 6]) -> Vec<Lie> {
    let [signature, magic, kind, nonce, form, hierarchy] = codes;
    vec![
        lie(signature, "another key signed", |maker, _| {
            maker.tweak = Some((about, |draft| draft.signer = SoftKey(99)));
        }),
        lie(
            magic,
            "signed by TPM2_Sign, not by a statement",
            |maker, _| {
                maker.tweak = Some((about, |draft| draft.magic = 0x0054_4347));
            },
        ),
        lie(kind, "a quote", |maker, _| {
            maker.tweak = Some((about, |draft| draft.kind = 0x8018));
        }),
        lie(nonce, "an older statement", |maker, _| {
            maker.tweak = Some((about, |draft| draft.extra_data = vec![1; 32]));
        }),
        lie(form, "bytes behind it", |maker, _| {
            maker.tweak = Some((about, |draft| draft.junk = vec![0]));
        }),
        lie(hierarchy, "the signer is a primary key", |maker, _| {
            maker.tweak = Some((about, |draft| {
                let name = draft.qualified_signer.clone().try_into().unwrap();
                draft.qualified_signer = qualified_name(None, &name).to_vec();
            }));
        }),
    ]
}

fn lies_of_all_statements() -> Vec<Lie> {
    use Code::*;
    [
        (
            About::Witness,
            [
                WitnessSignature,
                WitnessMagic,
                WitnessType,
                WitnessNonce,
                WitnessForm,
                WitnessHierarchy,
            ],
        ),
        (
            About::Sealed,
            [
                SealedSignature,
                SealedMagic,
                SealedType,
                SealedNonce,
                SealedForm,
                SealedHierarchy,
            ],
        ),
        (
            About::Pin,
            [
                PinSignature,
                PinMagic,
                PinType,
                PinNonce,
                PinForm,
                PinHierarchy,
            ],
        ),
        (
            About::Adm,
            [
                AdmSignature,
                AdmMagic,
                AdmType,
                AdmNonce,
                AdmForm,
                AdmHierarchy,
            ],
        ),
        (
            About::Puk,
            [
                PukSignature,
                PukMagic,
                PukType,
                PukNonce,
                PukForm,
                PukHierarchy,
            ],
        ),
        (
            About::Key(1),
            [
                KeySignature,
                KeyMagic,
                KeyType,
                KeyNonce,
                KeyForm,
                KeyHierarchy,
            ],
        ),
        (
            About::Creation(2),
            [
                CreationSignature,
                CreationMagic,
                CreationType,
                CreationNonce,
                CreationForm,
                CreationHierarchy,
            ],
        ),
    ]
    .into_iter()
    .flat_map(|(about, codes)| lies_of_statement(about, codes))
    .collect()
}

fn lies_of_bundles() -> Vec<Lie> {
    vec![
        lie(Code::BundleSize, "a long note", |maker, _| {
            maker.note = Some("x".repeat(crate::MAX_BUNDLE));
        }),
        lie(Code::BundleForm, "a byte behind it", |maker, _| {
            maker.mangle = Some(|bytes| bytes.push(0));
        }),
        lie(Code::BundleForm, "a number that is too long", |maker, _| {
            maker.mangle = Some(|bytes| {
                // The key 0 of the outer map, in two bytes.
                bytes.splice(1..2, [0x18, 0x00]);
            });
        }),
        lie(Code::BundleVersion, "a version to come", |maker, _| {
            maker.mangle = Some(|bytes| {
                let end = 3 + "cardea-evidence-1".len();
                assert_eq!(bytes[end - 1], b'1');
                bytes[end - 1] = b'2';
            });
        }),
        lie(Code::Nonce, "an older bundle", |_, expected| {
            expected.nonce = Some(vec![5; 32]);
        }),
        lie(Code::AkTemplate, "the key is not restricted", |maker, _| {
            maker.ak_attributes = 0x0004_0472;
        }),
        lie(Code::AkUnknown, "no certificate", |maker, _| {
            maker.has_certificate = false;
        }),
        lie(Code::AkCertKey, "another key's certificate", |maker, _| {
            maker.certificate_key = SoftKey(50);
        }),
        lie(
            Code::AkChain,
            "another authority of the same name",
            |maker, _| {
                maker.certificate_signer = SoftKey(51);
            },
        ),
        lie(Code::AkChain, "the certificate is too old", |maker, _| {
            maker.certificate_until = NOW - 1;
        }),
        lie(
            Code::AkChain,
            "the certificate is revoked",
            |_, expected| {
                expected.revoked = vec![Revoked {
                    issuer: distinguished_name("Test CA"),
                    serial: vec![7],
                }];
            },
        ),
        lie(
            Code::AkEku,
            "a certificate for an endorsement key",
            |maker, _| {
                maker.certificate_ekus = vec!["2.23.133.8.1"];
            },
        ),
        lie(Code::AkEku, "a certificate for servers too", |maker, _| {
            maker.certificate_ekus.push("1.3.6.1.5.5.7.3.1");
        }),
        lie(
            Code::SrkTemplate,
            "the parent can be duplicated",
            |maker, _| {
                maker.srk_attributes &= !0x12;
            },
        ),
        lie(Code::SrkTemplate, "the parent signs", |maker, _| {
            maker.srk_attributes |= 1 << 18;
        }),
        lie(
            Code::BirthTemplate,
            "another kind of birth key",
            |maker, _| {
                maker.birth_attributes = 0x0004_0440;
            },
        ),
    ]
}

fn lies_of_indices() -> Vec<Lie> {
    const ORDINARY: u32 = 0x2006_0006;
    vec![
        lie(
            Code::WitnessTemplate,
            "a witness of an earlier reset",
            |maker, _| {
                maker.witness_reset = 6;
            },
        ),
        lie(
            Code::WitnessName,
            "the witness is a primary key",
            |maker, _| {
                maker.tweak = Some((About::Witness, |draft| {
                    let name = draft.name.clone().try_into().unwrap();
                    draft.content = qualified_name(None, &name).to_vec();
                }));
            },
        ),
        lie(Code::WitnessName, "another key is certified", |maker, _| {
            maker.tweak = Some((About::Witness, |draft| draft.name[5] ^= 1));
        }),
        lie(
            Code::SealedHandle,
            "X is a counter of the TPM's maker",
            |maker, _| {
                maker.sealed_handle = 0x01C0_0003;
            },
        ),
        lie(Code::SealedPublic, "the owner can write X", |maker, _| {
            maker.sealed_attributes |= 0x2;
        }),
        lie(
            Code::SealedName,
            "another index is certified",
            |maker, _| {
                maker.tweak = Some((About::Sealed, |draft| draft.name[5] ^= 1));
            },
        ),
        lie(Code::SealedRange, "a part of X", |maker, _| {
            maker.tweak = Some((About::Sealed, |draft| draft.offset = Some(2)));
        }),
        lie(
            Code::PinPublic,
            "the PIN's index counts nothing",
            |maker, _| {
                maker.counter_attributes[0] = ORDINARY;
            },
        ),
        lie(
            Code::PinPublic,
            "the PIN's index loses its count",
            |maker, _| {
                maker.counter_attributes[0] |= 0x0400_0000;
            },
        ),
        lie(Code::PinName, "another index is certified", |maker, _| {
            maker.tweak = Some((About::Pin, |draft| draft.name[5] ^= 1));
        }),
        lie(Code::PinRange, "a part of the index", |maker, _| {
            maker.tweak = Some((About::Pin, |draft| draft.offset = Some(4)));
        }),
        lie(
            Code::AdmPublic,
            "the administrator's index counts nothing",
            |maker, _| {
                maker.counter_attributes[1] = ORDINARY;
            },
        ),
        lie(Code::AdmName, "another index is certified", |maker, _| {
            maker.tweak = Some((About::Adm, |draft| draft.name[5] ^= 1));
        }),
        lie(Code::AdmRange, "a part of the index", |maker, _| {
            maker.tweak = Some((About::Adm, |draft| draft.offset = Some(4)));
        }),
        lie(
            Code::PukPublic,
            "the PUK's index counts nothing",
            |maker, _| {
                maker.counter_attributes[2] = ORDINARY;
            },
        ),
        lie(Code::PukName, "another index is certified", |maker, _| {
            maker.tweak = Some((About::Puk, |draft| draft.name[5] ^= 1));
        }),
        lie(Code::PukRange, "a part of the index", |maker, _| {
            maker.tweak = Some((About::Puk, |draft| draft.offset = Some(4)));
        }),
        lie(
            Code::SealedContent,
            "an administrator that is not shown",
            |maker, _| {
                maker.hides_adm = true;
            },
        ),
        lie(
            Code::SealedContent,
            "unblocking raises the limit",
            |maker, _| {
                maker.other_unblock_limit = Some(4_000_000_000);
            },
        ),
        lie(Code::SealedContent, "another branch", |maker, _| {
            maker.tweak = Some((About::Sealed, |draft| draft.content[9] ^= 1));
        }),
    ]
}

fn lies_of_keys() -> Vec<Lie> {
    let recoverable = |maker: &mut Maker, change: fn(&mut CardKey)| change(&mut maker.keys[2]);
    vec![
        lie(Code::KeyAttributes, "the key needs no PIN", |maker, _| {
            maker.keys[0].attributes |= 0x40;
        }),
        lie(Code::KeyAttributes, "half fixed", |maker, _| {
            maker.keys[0].attributes = 0x0006_0422;
        }),
        lie(
            Code::KeyScheme,
            "the key signs in one way only",
            |maker, _| {
                maker.keys[0].has_scheme = true;
            },
        ),
        lie_with(
            Code::CreationMissing,
            "a software key with the template of recoverable ones",
            &[Code::KeyTarget],
            |maker, _| {
                recoverable(maker, |key| {
                    key.has_creation = false;
                    key.targets.clear();
                });
            },
        ),
        lie(
            Code::KeyTarget,
            "the target is a parent that others can use",
            |maker, _| {
                recoverable(maker, |key| key.targets[0][7] = 0x72);
                maker.keys[2].targets.sort_by_key(|target| name_of(target));
            },
        ),
        lie(Code::KeyTarget, "targets out of order", |maker, _| {
            recoverable(maker, |key| key.targets.reverse());
        }),
        lie(
            Code::KeyTarget,
            "a key that cannot be recovered has a target",
            |maker, _| {
                recoverable(maker, |key| key.attributes = 0x0006_0432);
            },
        ),
        lie(
            Code::KeyTarget,
            "a recoverable key shows no target",
            |maker, _| {
                recoverable(maker, |key| key.targets.clear());
            },
        ),
        lie(Code::KeyPolicy, "another card's PIN", |maker, _| {
            maker.keys[0].other_pin = Some(name_of(b"another index"));
        }),
        lie(Code::KeyPolicy, "a target that is not shown", |maker, _| {
            maker.change = Some(|bundle| {
                let creation = bundle.keys[2].creation.as_mut().unwrap();
                creation.targets.pop();
            });
        }),
        lie(Code::KeyName, "another key is certified", |maker, _| {
            maker.tweak = Some((About::Key(0), |draft| draft.name[5] ^= 1));
        }),
        lie(
            Code::KeyHierarchy,
            "the key is a primary key",
            |maker, _| {
                maker.tweak = Some((About::Key(0), |draft| {
                    let name = draft.name.clone().try_into().unwrap();
                    draft.content = qualified_name(None, &name).to_vec();
                }));
            },
        ),
        lie(Code::CreationName, "another key's creation", |maker, _| {
            maker.tweak = Some((About::Creation(2), |draft| draft.name[5] ^= 1));
        }),
        lie(Code::CreationHash, "other creation data", |maker, _| {
            maker.change = Some(|bundle| {
                let data = &mut bundle.keys[2].creation.as_mut().unwrap().data;
                *data.last_mut().unwrap() ^= 1;
            });
        }),
        lie(
            Code::CreationParent,
            "made below a key that can be duplicated",
            |maker, _| {
                maker.keys[2].other_parent = Some(name_of(b"another parent"));
            },
        ),
    ]
}

fn not_enough() -> Vec<Lie> {
    vec![
        lie(Code::PinLimit, "four billion tries", |maker, expected| {
            maker.limit = 4_000_000_000;
            expected.requirements.pin_limit = Some(10);
        }),
        lie(Code::Level, "the boot of creation", |maker, expected| {
            maker.has_witness = false;
            expected.requirements.level = Some(Level::L2);
        }),
        lie(
            Code::Level,
            "form A shows no administrator",
            |maker, expected| {
                *maker = Maker::approved();
                expected.requirements.no_administrator = true;
            },
        ),
        lie(Code::NoAdministrator, "an administrator", |_, expected| {
            expected.requirements.no_administrator = true;
        }),
        lie(Code::Authority, "another authority", |_, expected| {
            expected.requirements.authorities = Some(vec![[1; 32]]);
        }),
        lie(Code::Firmware, "firmware with a flaw", |_, expected| {
            expected.requirements.bad_firmware = vec![BadFirmware {
                manufacturer: "id:00001014".to_owned(),
                model: Some("swtpm".to_owned()),
                version: None,
            }];
        }),
        lie(
            Code::Firmware,
            "a TPM that is not known",
            |maker, expected| {
                maker.has_certificate = false;
                expected.pins = vec![name_of(&maker.attestation_key())];
                expected.requirements.bad_firmware = vec![BadFirmware {
                    manufacturer: "id:53544D20".to_owned(),
                    model: None,
                    version: None,
                }];
            },
        ),
        lie(Code::KeyOrigin, "an imported key", |_, expected| {
            expected.requirements.generated_only = true;
        }),
        lie(Code::KeyClass, "a PIN for the session", |_, expected| {
            expected.requirements.always_only = true;
        }),
        lie(
            Code::KeyRecovery,
            "a stranger can recover a key",
            |_, expected| {
                expected.requirements.recovery = Some(vec![name_of(&target(40))]);
            },
        ),
    ]
}

pub(super) fn all() -> Vec<Lie> {
    let mut all = lies_of_bundles();
    all.extend(lies_of_all_statements());
    all.extend(lies_of_indices());
    all.extend(lies_of_keys());
    all.extend(not_enough());
    all
}

#[test]
fn every_lie_is_refused_with_its_code_and_passes_where_that_check_is_left_out() {
    for lie in all() {
        let bytes = lie.maker.bytes();
        let found = lie.expected.verify(&bytes).unwrap_err();
        assert_eq!(found.code, lie.code, "{}: {found}", lie.what);
        let skipped: Vec<_> = lie.also.iter().copied().chain([lie.code]).collect();
        let passed = lie.expected.verify_without(&bytes, &skipped);
        assert!(passed.is_ok(), "{}: {passed:?}", lie.what);
    }
}

#[test]
fn every_code_of_the_verifier_has_a_lie() {
    let lies = all();
    for code in Code::ALL.iter().filter(|code| code.number() < 1100) {
        assert!(lies.iter().any(|lie| lie.code == *code), "{code}");
    }
}

#[test]
fn of_several_lies_the_first_in_the_order_of_the_checks_is_reported() {
    let mut maker = Maker {
        ak_attributes: 0x0004_0472,
        srk_attributes: 0,
        witness_reset: 6,
        ..Maker::default()
    };
    maker.keys[0].attributes = 0;
    let mut expected = Expected {
        nonce: Some(vec![1]),
        ..Expected::default()
    };
    let code =
        |maker: &Maker, expected: &Expected| expected.verify(&maker.bytes()).unwrap_err().code;
    assert_eq!(code(&maker, &expected), Code::Nonce);
    expected.nonce = None;
    assert_eq!(code(&maker, &expected), Code::AkTemplate);
    maker.ak_attributes = Maker::default().ak_attributes;
    assert_eq!(code(&maker, &expected), Code::SrkTemplate);
    maker.srk_attributes = Maker::default().srk_attributes;
    assert_eq!(code(&maker, &expected), Code::WitnessTemplate);
    maker.witness_reset = 7;
    let refusal = expected.verify(&maker.bytes()).unwrap_err();
    assert_eq!((refusal.code, refusal.key), (Code::KeyAttributes, Some(0)));
    assert!(refusal.to_string().ends_with("(key 1)"), "{refusal}");
}

#[test]
fn signature_over_text_that_is_not_a_statement_is_refused_before_anything_of_it_is_read() {
    // A restricted key signs what TPM2_Hash has looked at, unless it begins with the magic.
    let maker = Maker {
        tweak: Some((About::Pin, |draft| {
            draft.magic = 0;
            draft.kind = 0;
            draft.extra_data.clear();
            draft.qualified_signer.clear();
        })),
        ..Maker::default()
    };
    let refusal = Expected::default().verify(&maker.bytes());
    assert_eq!(refusal.map_err(|found| found.code), Err(Code::PinMagic));
}

#[test]
fn index_of_another_card_in_the_bundle_is_refused() {
    let other = Maker {
        made_at_reset: 8,
        witness_reset: 8,
        ..Maker::default()
    };
    let mut bundle = Maker::default().bundle();
    bundle.indices[1] = other.bundle().indices[1].clone();
    let refusal: Refusal = Expected::default().verify(&bundle.encode()).unwrap_err();
    // The other card has another witness key, here with the same point; a verifier that believed it would find another
    // policy.
    assert_eq!(refusal.code, Code::PinHierarchy);
    let skipped = [Code::PinHierarchy];
    let refusal = Expected::default().verify_without(&bundle.encode(), &skipped);
    assert_eq!(refusal.map_err(|found| found.code), Err(Code::PinPublic));
}

#[test]
fn card_of_form_a_with_another_policy_is_refused() {
    let mut maker = Maker::approved();
    maker
        .keys
        .push(CardKey::new(Kind::P256, 0x0006_0432, KeyClass::Always));
    assert!(Expected::default().verify(&maker.bytes()).is_ok());
    let mut bundle = maker.bundle();
    bundle.birth_key = {
        let (x, y) = SoftKey(60).point();
        crate::policy::signing_public(0x0004_0040, &[], &x, &y)
    };
    let refusal = Expected::default().verify(&bundle.encode());
    assert_eq!(refusal.map_err(|found| found.code), Err(Code::PinPublic));
}
