//! The authority against a TPM in software that lies where it is asked to.

use cardea_pki::{Extension, KeyUsage, PathCertificate, PathError, PrivateKey};

use super::Random;
use super::credential::{activate, endorsement_public};
use super::maker::{AK, CA, Draft, Maker, NOW, SRK, SoftKey, WITNESS, YEAR, certificate, tpm_name};
use crate::authority::{CHALLENGE_SECONDS, Decision, IssueError, Policy, Signer, Term};
use crate::bundle::{Bundle, Form};
use crate::endorsement::NameDigest;
use crate::exchange::{
    Answer, Challenge, OfferedKey, Request, RequestForm, TpmDescription, answer_data,
};
use crate::policy::{self, Name, name_of};
use crate::verify::Checks;
use crate::{
    AttestationTrust, Authority, BadFirmware, Code, EkOrigin, EkTrust, EndorsementKey, Nonce,
    Refusal, Requirements, Verifier, qualified_name,
};

const MAKER: SoftKey = SoftKey(70);
const EK: SoftKey = SoftKey(71);
const STATE_KEY: [u8; 32] = [0x5C; 32];

fn ek_public(key: &SoftKey) -> Vec<u8> {
    endorsement_public(&key.pki(), 0x0003_00B2, NameDigest::Sha256)
}

fn ek_certificate(until: i64) -> Vec<u8> {
    certificate(
        ("Maker", &MAKER),
        "",
        &EK.pki().to_spki_der(),
        (NOW - YEAR, until),
        &[
            Extension::basic_constraints(false, None),
            Extension::key_usage(&[KeyUsage::KeyAgreement]),
            Extension::extended_key_usages(&["2.23.133.8.1"]).unwrap(),
            tpm_name(),
        ],
    )
}

/// A card, its TPM and an authority. The default is honest.
struct Exchange {
    request: Request,
    /// The key that opens the challenge.
    opens: SoftKey,
    trusts_maker: bool,
    pins: Vec<[u8; 32]>,
    on_first_use: bool,
    bad_firmware: Vec<BadFirmware>,
    other_state_key: bool,
    answered_at: i64,
    is_used: bool,
    has_witness: bool,
    tweak_key: fn(&mut Draft),
    tweak_witness: fn(&mut Draft),
    tweak_answer: fn(&mut Answer),
}

impl Default for Exchange {
    fn default() -> Self {
        let maker = Maker::default();
        Self {
            request: Request {
                attestation_key: maker.attestation_key(),
                endorsement_keys: vec![OfferedKey {
                    public: ek_public(&EK),
                    certificates: vec![ek_certificate(NOW + YEAR)],
                }],
                storage_root_key: maker.storage_root_key(),
                tpm: TpmDescription {
                    manufacturer: [0, 0, 0x10, 0x14],
                    model: "swtpm".to_owned(),
                    firmware: 0x2019_1023_0016_3636,
                    revision: 164,
                },
                form: RequestForm::Sealed {
                    made_at_reset: 7,
                    witness: witness_public(7),
                },
                name: Some("Alice".to_owned()),
            },
            opens: EK,
            trusts_maker: true,
            pins: Vec::new(),
            on_first_use: false,
            bad_firmware: Vec::new(),
            other_state_key: false,
            answered_at: NOW + 30,
            is_used: false,
            has_witness: true,
            tweak_key: |_| (),
            tweak_witness: |_| (),
            tweak_answer: |_| (),
        }
    }
}

fn witness_public(made_at_reset: u32) -> Vec<u8> {
    Maker::public_of(&WITNESS, 0x0005_0432, &policy::witness(made_at_reset))
}

impl Exchange {
    fn run(&self) -> Result<Decision, Refusal> {
        self.run_without(&[])
    }

    fn with_policy<T>(&self, state_key: [u8; 32], run: impl FnOnce(&Policy<'_>) -> T) -> T {
        let roots = match self.trusts_maker {
            true => vec![super::maker::authority("Maker", &MAKER)],
            false => Vec::new(),
        };
        run(&Policy {
            trust: EkTrust {
                roots: &roots,
                pins: &self.pins,
                on_first_use: self.on_first_use,
                ..EkTrust::default()
            },
            bad_firmware: &self.bad_firmware,
            state_key: &state_key,
            challenge_seconds: CHALLENGE_SECONDS,
        })
    }

    fn run_without(&self, skipped: &[Code]) -> Result<Decision, Refusal> {
        let checks = Checks { skipped };
        let mut random = Random(40);
        let mut fill = |buffer: &mut [u8]| random.fill(buffer);
        // What travels is bytes.
        let request = Request::decode(&self.request.encode())?;
        let made = self.with_policy(STATE_KEY, |policy| {
            policy.challenge_with(&request, NOW, &mut fill, &checks)
        })?;
        let challenge = Challenge::decode(&made.challenge.encode())?;
        let answer = Answer::decode(&self.answer(&challenge).encode())?;
        let mut state_key = STATE_KEY;
        state_key[0] ^= u8::from(self.other_state_key);
        self.with_policy(state_key, |policy| {
            policy.decide_with(&answer, self.answered_at, &|_| self.is_used, &checks)
        })
    }

    fn answer(&self, challenge: &Challenge) -> Answer {
        let name = name_of(&self.request.attestation_key);
        let opened = activate(&self.opens, &name, &challenge.blob, &challenge.seed);
        let secret = opened.unwrap_or_else(|| vec![0; 32]);
        let root = qualified_name(None, &name_of(&self.request.storage_root_key));
        let qualified = qualified_name(Some(&root), &name);
        let about = |name: Name| Draft {
            signer: AK,
            magic: 0xFF54_4347,
            kind: 0x8017,
            qualified_signer: qualified.to_vec(),
            extra_data: answer_data(&secret).to_vec(),
            name: name.to_vec(),
            offset: None,
            content: qualified_name(Some(&root), &name).to_vec(),
            junk: Vec::new(),
        };
        let mut of_key = about(name);
        (self.tweak_key)(&mut of_key);
        let witness = match &self.request.form {
            RequestForm::Sealed { witness, .. } if self.has_witness => {
                let mut draft = about(name_of(witness));
                (self.tweak_witness)(&mut draft);
                Some(draft.statement())
            }
            _ => None,
        };
        let mut answer = Answer {
            secret,
            state: challenge.state.clone(),
            attestation_key: of_key.statement(),
            witness,
        };
        (self.tweak_answer)(&mut answer);
        answer
    }
}

#[test]
fn honest_card_of_each_form_is_certified() {
    let decision = Exchange::default().run().unwrap();
    assert_eq!(decision.key, AK.pki());
    assert_eq!(decision.tpm.origin, EkOrigin::Certificate);
    assert_eq!(decision.tpm.root.as_deref(), Some("CN=Maker"));
    assert_eq!(decision.tpm.identity.model, "swtpm");
    assert_eq!(decision.card.as_deref(), Some("Alice"));
    let pin = EndorsementKey::parse(&ek_public(&EK)).unwrap().pin();
    assert_eq!(decision.tpm.pin, pin);

    let mut approved = Exchange::default();
    approved.request.form = RequestForm::Approved;
    approved.request.name = None;
    assert_eq!(approved.run().unwrap().form, RequestForm::Approved);
}

#[test]
fn tpm_without_certificate_is_known_by_its_pin_or_at_first_use_and_names_itself() {
    let mut exchange = Exchange::default();
    exchange.request.endorsement_keys[0].certificates.clear();
    assert_eq!(exchange.run().unwrap_err().code, Code::EkUnknown);
    exchange.on_first_use = true;
    let decision = exchange.run().unwrap();
    assert_eq!(decision.tpm.origin, EkOrigin::FirstUse);
    assert_eq!(decision.tpm.root, None);
    assert_eq!(decision.tpm.identity.manufacturer, "id:00001014");
    assert_eq!(decision.tpm.identity.version, "id:20191023");
    exchange.pins = vec![decision.tpm.pin];
    assert_eq!(exchange.run().unwrap().tpm.origin, EkOrigin::Pin);
    exchange.request.tpm.model.clear();
    assert_eq!(exchange.run().unwrap().tpm.identity.model, "unknown");
}

#[test]
fn certificate_is_preferred_to_a_pin_and_a_key_of_no_use_is_passed_over() {
    let mut exchange = Exchange::default();
    let pinned = SoftKey(72);
    let pin = EndorsementKey::parse(&ek_public(&pinned)).unwrap().pin();
    let offered = |public| OfferedKey {
        public,
        certificates: Vec::new(),
    };
    exchange.pins = vec![pin];
    let keys = &mut exchange.request.endorsement_keys;
    keys.insert(0, offered(vec![0; 9]));
    keys.insert(1, offered(ek_public(&pinned)));
    assert_eq!(exchange.run().unwrap().tpm.origin, EkOrigin::Certificate);
    exchange.request.endorsement_keys.pop();
    exchange.opens = pinned;
    assert_eq!(exchange.run().unwrap().tpm.origin, EkOrigin::Pin);
    // If none is accepted, the first says why.
    exchange.request.endorsement_keys.pop();
    assert_eq!(exchange.run().unwrap_err().code, Code::EkForm);
}

/// A lie, its code, and what else does not hold because of it.
type Lie = (Code, fn(&mut Exchange), &'static [Code]);

fn lies() -> Vec<Lie> {
    vec![
        // An attestation key that signs whatever it is given.
        (
            Code::AkTemplate,
            |exchange| {
                let unrestricted = Maker::public_of(&AK, 0x0004_0472, &[]);
                exchange.request.attestation_key = unrestricted;
            },
            &[],
        ),
        (
            Code::SrkTemplate,
            |exchange| {
                let maker = Maker {
                    srk_attributes: 0x0003_0470,
                    ..Maker::default()
                };
                exchange.request.storage_root_key = maker.storage_root_key();
            },
            &[],
        ),
        (
            Code::EkFirmware,
            |exchange| {
                exchange.bad_firmware = vec![BadFirmware {
                    manufacturer: "id:00001014".to_owned(),
                    model: Some("swtpm".to_owned()),
                    version: Some("id:20191023".to_owned()),
                }];
            },
            &[],
        ),
        // An attestation key in software, or in another TPM than the endorsement key.
        (Code::Secret, |exchange| exchange.opens = SoftKey(73), &[]),
        (
            Code::ChallengeExpired,
            |exchange| exchange.answered_at = NOW + CHALLENGE_SECONDS + 1,
            &[],
        ),
        (
            Code::ChallengeExpired,
            |exchange| exchange.answered_at = NOW - 1,
            &[],
        ),
        (Code::AnswerUsed, |exchange| exchange.is_used = true, &[]),
        (
            Code::AkSignature,
            |exchange| exchange.tweak_key = |draft| draft.signer = SoftKey(74),
            &[],
        ),
        (
            Code::AkMagic,
            |exchange| exchange.tweak_key = |draft| draft.magic = 0,
            &[],
        ),
        (
            Code::AkType,
            |exchange| exchange.tweak_key = |draft| draft.kind = 0x801A,
            &[],
        ),
        (
            Code::AkNonce,
            |exchange| exchange.tweak_key = |draft| draft.extra_data = vec![0; 32],
            &[],
        ),
        (
            Code::AkForm,
            |exchange| exchange.tweak_key = |draft| draft.junk = vec![0],
            &[],
        ),
        // A primary key of the endorsement hierarchy, which survives TPM2_Clear.
        (
            Code::AkHierarchy,
            |exchange| {
                exchange.tweak_key = |draft| {
                    let other = 0x4000_000B_u32.to_be_bytes();
                    draft.qualified_signer =
                        [&[0, 11][..], &policy::hash(&[&other, &draft.name])].concat();
                };
            },
            &[],
        ),
        (
            Code::AkName,
            |exchange| exchange.tweak_key = |draft| draft.name[5] ^= 1,
            &[],
        ),
        (
            Code::AkName,
            |exchange| exchange.tweak_key = |draft| draft.content[5] ^= 1,
            &[],
        ),
        (
            Code::WitnessMissing,
            |exchange| exchange.has_witness = false,
            &[],
        ),
        (
            Code::WitnessMissing,
            |exchange| {
                exchange.request.form = RequestForm::Approved;
                exchange.tweak_answer =
                    |answer| answer.witness = Some(answer.attestation_key.clone());
            },
            &[],
        ),
        (
            Code::WitnessSignature,
            |exchange| exchange.tweak_witness = |draft| draft.signer = WITNESS,
            &[],
        ),
        (
            Code::WitnessMagic,
            |exchange| exchange.tweak_witness = |draft| draft.magic = 0,
            &[],
        ),
        (
            Code::WitnessType,
            |exchange| exchange.tweak_witness = |draft| draft.kind = 0x801A,
            &[],
        ),
        (
            Code::WitnessNonce,
            |exchange| exchange.tweak_witness = |draft| draft.extra_data = vec![0; 32],
            &[],
        ),
        (
            Code::WitnessForm,
            |exchange| exchange.tweak_witness = |draft| draft.junk = vec![0],
            &[],
        ),
        (
            Code::WitnessHierarchy,
            |exchange| exchange.tweak_witness = |draft| draft.qualified_signer[9] ^= 1,
            &[],
        ),
        // A witness of an earlier reset, under which the gate could still be open.
        (
            Code::WitnessTemplate,
            |exchange| {
                exchange.request.form = RequestForm::Sealed {
                    made_at_reset: 7,
                    witness: witness_public(6),
                };
            },
            &[],
        ),
        (
            Code::WitnessName,
            |exchange| exchange.tweak_witness = |draft| draft.content[9] ^= 1,
            &[],
        ),
    ]
}

#[test]
fn every_lie_is_refused_with_its_code_and_passes_where_that_check_is_left_out() {
    for (number, (code, lie, also)) in lies().into_iter().enumerate() {
        let mut exchange = Exchange::default();
        lie(&mut exchange);
        let refusal = exchange.run().unwrap_err();
        assert_eq!(refusal.code, code, "{number}: {refusal}");
        let skipped = [&[code], also].concat();
        let passed = exchange.run_without(&skipped);
        assert!(passed.is_ok(), "{number} {code}: {passed:?}");
    }
}

#[test]
fn every_code_of_an_answer_has_a_lie() {
    let lies = lies();
    let of_answers = Code::ALL
        .iter()
        .filter(|code| (1301..1400).contains(&code.number()) && **code != Code::StateForeign);
    for code in of_answers {
        assert!(lies.iter().any(|(found, ..)| found == code), "{code}");
    }
}

#[test]
fn endorsement_key_that_is_foreign_or_whose_chain_is_expired_is_refused() {
    let refused = |change: fn(&mut Exchange)| {
        let mut exchange = Exchange::default();
        change(&mut exchange);
        let refusal = exchange.run().unwrap_err();
        (refusal.code, refusal.path)
    };
    assert_eq!(
        refused(|exchange| exchange.trusts_maker = false),
        (Code::EkChain, Some(PathError::UnknownIssuer))
    );
    assert_eq!(
        refused(|exchange| {
            let old = ek_certificate(NOW - 1);
            exchange.request.endorsement_keys[0].certificates = vec![old];
        }),
        (Code::EkChain, Some(PathError::Expired))
    );
    assert_eq!(
        refused(|exchange| {
            // Somebody else's certificate.
            exchange.request.endorsement_keys[0].public = ek_public(&SoftKey(72));
        }),
        (Code::EkCertKey, None)
    );
    assert_eq!(
        refused(|exchange| {
            let signing = endorsement_public(&EK.pki(), 0x0004_00B2, NameDigest::Sha256);
            exchange.request.endorsement_keys[0].public = signing;
        }),
        (Code::EkAttributes, None)
    );
}

#[test]
fn state_of_another_authority_or_changed_is_refused() {
    let exchange = Exchange {
        other_state_key: true,
        ..Exchange::default()
    };
    assert_eq!(exchange.run().unwrap_err().code, Code::StateForeign);
    let tweaks: [fn(&mut Answer); 4] = [
        |answer| answer.state[40] ^= 1,
        |answer| *answer.state.last_mut().unwrap() ^= 1,
        |answer| answer.state.truncate(31),
        |answer| answer.state.push(0),
    ];
    for tweak_answer in tweaks {
        let exchange = Exchange {
            tweak_answer,
            ..Exchange::default()
        };
        assert_eq!(exchange.run().unwrap_err().code, Code::StateForeign);
    }
}

#[test]
fn firmware_that_the_tpm_or_its_certificate_names_is_excluded() {
    let listed = |version: &str| Exchange {
        bad_firmware: vec![BadFirmware {
            manufacturer: "id:00001014".to_owned(),
            model: None,
            version: Some(version.to_owned()),
        }],
        ..Exchange::default()
    };
    // Updated since its certificate was made.
    let mut updated = listed("id:20200101");
    assert!(updated.run().is_ok());
    updated.request.tpm.firmware = 0x2020_0101_0000_0000;
    assert_eq!(updated.run().unwrap_err().code, Code::EkFirmware);
    let mut by_certificate = listed("id:20191023");
    by_certificate.request.tpm.firmware = 0;
    assert_eq!(by_certificate.run().unwrap_err().code, Code::EkFirmware);
}

/// An authority with a key on P-256.
fn signer(until: i64) -> Signer {
    let key = cardea_pki::EcPrivateKey::new(cardea_pki::Curve::P256, &[CA.0; 32]).unwrap();
    let name = "CN=Test authority,O=Example".parse().unwrap();
    let term = Term {
        serial: &[1],
        now: NOW - YEAR,
        seconds: until - (NOW - YEAR),
    };
    let own = Signer::self_signed(&key, &name, &term).unwrap();
    let own = PathCertificate::parse(&own).unwrap();
    Signer::new(PrivateKey::Ec(key), vec![own]).unwrap()
}

fn term() -> Term<'static> {
    Term {
        serial: &[0x7F, 2, 3],
        now: NOW,
        seconds: 3 * YEAR,
    }
}

#[test]
fn certificate_that_is_issued_lets_the_card_s_evidence_be_accepted() {
    let signer = signer(NOW + YEAR);
    for origin in [EkOrigin::Certificate, EkOrigin::Pin, EkOrigin::FirstUse] {
        let mut decision = Exchange::default().run().unwrap();
        decision.tpm.origin = origin;
        let issued = signer.issue(&decision, &term()).unwrap();
        assert_eq!(issued.certificates.len(), 1);
        let own = PathCertificate::parse(&issued.certificates[0]).unwrap();
        assert!(own.subject().is_empty());
        // Never longer than its issuer.
        assert_eq!(own.not_after(), NOW + YEAR);
        assert_eq!(own.not_before(), NOW - 3600);

        let bundle = Bundle {
            certificates: issued.certificates,
            ..Maker::default().bundle()
        };
        assert!(matches!(bundle.form, Form::Sealed { .. }));
        let authorities = [signer.chain()[0].clone()];
        let verifier = Verifier {
            trust: AttestationTrust {
                authorities: &authorities,
                ek_policies: EkOrigin::POLICIES,
                ..AttestationTrust::default()
            },
            nonce: Nonce::Any,
            now: NOW + 60,
            requirements: Requirements::default(),
        };
        let claims = verifier.verify(&bundle.encode()).unwrap();
        let Authority::Certificate { issuer, tpm, ek } = claims.authority else {
            panic!("it has a certificate")
        };
        assert_eq!(issuer, "CN=Test authority,O=Example");
        assert_eq!(tpm.unwrap().version, "id:20191023");
        assert_eq!(ek, Some(origin));
    }
}

#[test]
fn authority_whose_time_is_over_or_whose_certificate_does_not_fit_does_not_issue() {
    let decision = Exchange::default().run().unwrap();
    let old = signer(NOW - 1);
    assert_eq!(old.issue(&decision, &term()), Err(IssueError::NotValid));
    let key = |number| {
        let key = cardea_pki::EcPrivateKey::new(cardea_pki::Curve::P256, &[number; 32]);
        PrivateKey::Ec(key.unwrap())
    };
    let own = signer(NOW + YEAR).chain().to_vec();
    let refused = |result: Result<Signer, IssueError>| result.map(|_| ()).unwrap_err();
    assert_eq!(
        refused(Signer::new(key(SRK.0), own)),
        IssueError::CertificateKey
    );
    let leaf = certificate(
        ("Test", &CA),
        "Test",
        &CA.pki().to_spki_der(),
        (NOW - YEAR, NOW + YEAR),
        &[Extension::basic_constraints(false, None)],
    );
    let for_servers = certificate(
        ("Test", &CA),
        "Test",
        &CA.pki().to_spki_der(),
        (NOW - YEAR, NOW + YEAR),
        &[
            Extension::basic_constraints(true, None),
            Extension::extended_key_usages(&["1.3.6.1.5.5.7.3.1"]).unwrap(),
        ],
    );
    for unfit in [leaf, for_servers] {
        let unfit = PathCertificate::parse(&unfit).unwrap();
        assert_eq!(
            refused(Signer::new(key(CA.0), vec![unfit])),
            IssueError::NotAnAuthority
        );
    }
}

#[test]
fn authorities_with_every_kind_of_key_issue_certificates_that_verify() {
    let decision = Exchange::default().run().unwrap();
    let curve = cardea_pki::EcPrivateKey::new(cardea_pki::Curve::P384, &[9; 48]).unwrap();
    let name = "CN=Large".parse().unwrap();
    let own = Signer::self_signed(&curve, &name, &term()).unwrap();
    let own = PathCertificate::parse(&own).unwrap();
    check_issue(
        Signer::new(PrivateKey::Ec(curve), vec![own]).unwrap(),
        &decision,
    );

    let file = include_bytes!("../../../cardea-pki/tests/data/rsa2048.pkcs8.der");
    let key = PrivateKey::parse(file, None).unwrap();
    // An RSA authority below another: its certificate goes along.
    let spki = key.public_key().to_spki_der();
    let below = certificate(
        ("Root", &CA),
        "Between",
        &spki,
        (NOW - YEAR, NOW + 5 * YEAR),
        &[
            Extension::basic_constraints(true, Some(0)),
            Extension::key_usage(&[KeyUsage::KeyCertSign]),
        ],
    );
    let below = PathCertificate::parse(&below).unwrap();
    let signer = Signer::new(key, vec![below]).unwrap();
    let issued = signer.issue(&decision, &term()).unwrap();
    assert_eq!(issued.certificates.len(), 2);
    check_issue(signer, &decision);
}

fn check_issue(signer: Signer, decision: &Decision) {
    let issued = signer.issue(decision, &term()).unwrap();
    let own = PathCertificate::parse(&issued.certificates[0]).unwrap();
    let rules = cardea_pki::PathRules {
        anchors: &signer.chain()[..1],
        intermediates: &[],
        now: NOW,
        purpose: "2.23.133.8.3",
        is_revoked: &|_| false,
    };
    assert_eq!(rules.validate(&own).unwrap().len(), 1);
}
