//! Requests for certificates that prove where their key is: a worked example, and what is refused.

use cardea_pki::{
    AttestationAttribute, CertificateRequest, Name, PathCertificate, PrivateKey, RequestBuilder,
    TpmCertify,
};

use super::maker::{AK, CA, Draft, Expected, Kind, Maker, NOW, SoftKey, authority};
use crate::csr::{
    EVIDENCE, attestation_attribute, attestation_of_request, evidence_of_request, qualifying_data,
};
use crate::policy::name_of;
use crate::{AttestationTrust, Authority, Code, Statement};

/// Made with a software TPM (libtpms 0.9.2) and OpenSSL, and read by the latter: see the README.
const WORKED: &[u8] = include_bytes!("data/attested.csr");
const WORKED_AUTHORITY: &[u8] = include_bytes!("data/authority.der");
/// 2026-12-01.
const WORKED_TIME: i64 = 1_796_083_200;

#[test]
fn worked_request_is_read_whole_and_its_statement_verifies() {
    let request = CertificateRequest::parse(WORKED).unwrap();
    assert_eq!(request.subject().to_string(), "CN=Ada");
    let attribute = request.attestation().unwrap().unwrap();
    assert_eq!(attribute.certificates.len(), 2);
    assert_eq!(attribute.certificates[1], WORKED_AUTHORITY);
    let [(kind, statement)] = &attribute.statements[..] else {
        panic!("one statement")
    };
    assert_eq!(kind, TpmCertify::KIND);
    let certified = TpmCertify::parse(statement).unwrap();
    assert_eq!(certified.to_der(), *statement);
    // Written again it is what it was.
    let written = attribute.to_der().unwrap();
    let mut windows = WORKED.windows(written.len());
    assert!(windows.any(|window| window == written));

    let authorities = [PathCertificate::parse(WORKED_AUTHORITY).unwrap()];
    let trust = AttestationTrust {
        authorities: &authorities,
        ..AttestationTrust::default()
    };
    let nonce: Vec<u8> = (0..32).collect();
    let check = |nonce, now| attestation_of_request(&request, &trust, nonce, now);
    let attested = check(Some(&nonce[..]), WORKED_TIME).unwrap();
    assert!(attested.is_fixed && attested.needs_policy);
    assert_eq!(attested.evidence, None);
    let Authority::Certificate { issuer, .. } = attested.authority else {
        panic!("it has a certificate")
    };
    assert_eq!(issuer, "CN=Cardea prototype attestation CA");
    let code = |nonce, now| check(nonce, now).unwrap_err().code;
    assert_eq!(code(Some(&nonce[1..]), WORKED_TIME), Code::KeyNonce);
    assert_eq!(code(None, WORKED_TIME), Code::KeyNonce);
    assert_eq!(code(Some(&nonce[..]), 2_000_000_000), Code::AkChain);
}

/// A card's first key, with which it asks for a certificate.
struct Asking {
    maker: Maker,
    nonce: Option<Vec<u8>>,
    /// Changes the statement before it is signed.
    tweak: fn(&mut Draft),
    has_evidence: bool,
    /// Changes the attribute.
    change: fn(&mut AttestationAttribute),
    /// Another key signs the request.
    key: SoftKey,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            maker: Maker::default(),
            nonce: None,
            tweak: |_| (),
            has_evidence: true,
            change: |_| (),
            key: SoftKey(77),
        }
    }
}

impl Asking {
    fn request(&self) -> CertificateRequest {
        let bundle = self.maker.bundle();
        assert!(matches!(self.maker.keys[0].kind, Kind::P256));
        let public = bundle.keys[0].public.clone();
        let spki = SoftKey(77).pki().to_spki_der();
        let mut draft = Draft {
            signer: AK,
            magic: 0xFF54_4347,
            kind: 0x8017,
            qualified_signer: vec![0; 34],
            extra_data: qualifying_data(self.nonce.as_deref(), &spki),
            name: name_of(&public).to_vec(),
            offset: None,
            content: vec![0; 34],
            junk: Vec::new(),
        };
        (self.tweak)(&mut draft);
        let evidence = bundle.encode();
        let evidence = self.has_evidence.then_some(&evidence[..]);
        let made =
            attestation_attribute(&public, &draft.statement(), &bundle.certificates, evidence);
        let mut attribute = AttestationAttribute::parse(&made.unwrap()).unwrap();
        (self.change)(&mut attribute);
        self.signed(Some(attribute.to_der().unwrap()))
    }

    fn signed(&self, attribute: Option<Vec<u8>>) -> CertificateRequest {
        let subject: Name = "CN=Ada".parse().unwrap();
        let mut builder = RequestBuilder::new(subject, self.key.pki())
            .extended_key_usage("clientAuth".parse().unwrap());
        if let Some(attribute) = attribute {
            builder = builder.attestation(attribute);
        }
        let unsigned = builder.build().unwrap();
        let signature = self.key.sign(unsigned.bytes()).to_bytes();
        let signed = unsigned.finish(&signature).unwrap();
        let from_pem = CertificateRequest::parse(signed.to_pem().as_bytes()).unwrap();
        assert_eq!(CertificateRequest::parse(signed.der()).unwrap(), from_pem);
        from_pem
    }

    fn code(&self) -> Code {
        self.check().unwrap_err().code
    }

    fn check(&self) -> Result<crate::csr::AttestedRequest, crate::Refusal> {
        let authorities = [authority("Test CA", &CA)];
        let trust = AttestationTrust {
            authorities: &authorities,
            ..AttestationTrust::default()
        };
        attestation_of_request(&self.request(), &trust, self.nonce.as_deref(), NOW)
    }
}

#[test]
fn request_carries_the_tcg_s_statement_and_the_card_s_evidence() {
    for nonce in [None, Some(vec![7; 40])] {
        let asking = Asking {
            nonce,
            ..Asking::default()
        };
        let attested = asking.check().unwrap();
        assert!(attested.is_fixed && attested.needs_policy);
        assert_eq!(attested.evidence, Some(asking.maker.bytes()));
        let found = Expected::default().with_verifier(|verifier| {
            let (claims, key) = evidence_of_request(&asking.request(), verifier)?;
            Ok::<_, crate::Refusal>((claims.pin.limit, key))
        });
        assert_eq!(found.unwrap(), (5, 0));
    }
    let bare = Asking {
        has_evidence: false,
        ..Asking::default()
    };
    assert_eq!(bare.check().unwrap().evidence, None);
    let missing = Expected::default()
        .with_verifier(|verifier| evidence_of_request(&bare.request(), verifier).map(|_| ()));
    assert_eq!(missing.unwrap_err().code, Code::RequestMissing);
}

#[test]
fn request_for_another_key_than_the_certified_one_is_refused() {
    let asking = Asking {
        key: SoftKey(80),
        nonce: Some(vec![7; 16]),
        ..Asking::default()
    };
    assert_eq!(asking.code(), Code::RequestKey);
    // Without a nonce, the statement names the key that it was made for.
    let without = Asking {
        key: SoftKey(80),
        ..Asking::default()
    };
    assert_eq!(without.code(), Code::KeyNonce);
    let found = Expected::default()
        .with_verifier(|verifier| evidence_of_request(&asking.request(), verifier).map(|_| ()));
    assert_eq!(found.unwrap_err().code, Code::RequestKey);
}

/// What is changed, and the code that names it.
type Change<T> = (Code, fn(&mut T));

#[test]
fn statement_that_does_not_hold_is_refused_with_its_code() {
    let tweaks: [Change<Draft>; 6] = [
        (Code::KeySignature, |draft| draft.signer = SoftKey(81)),
        (Code::KeyMagic, |draft| draft.magic = 0),
        (Code::KeyType, |draft| draft.kind = 0x8014),
        (Code::KeyNonce, |draft| draft.extra_data[0] ^= 1),
        (Code::KeyForm, |draft| draft.junk = vec![0]),
        (Code::KeyName, |draft| draft.name[9] ^= 1),
    ];
    for (code, tweak) in tweaks {
        let asking = Asking {
            tweak,
            ..Asking::default()
        };
        assert_eq!(asking.code(), code);
    }
    let changes: [Change<AttestationAttribute>; 6] = [
        (Code::AkUnknown, |attribute| attribute.certificates.clear()),
        (Code::AkChain, |attribute| {
            attribute.certificates[0] = vec![0x30, 0]
        }),
        (Code::RequestMissing, |attribute| {
            attribute.statements.remove(0);
        }),
        (Code::RequestForm, |attribute| {
            let twice = attribute.statements[0].clone();
            attribute.statements.push(twice);
        }),
        (Code::RequestForm, |attribute| {
            attribute.statements[1].1 = vec![0x05, 0x00];
            assert_eq!(attribute.statements[1].0, EVIDENCE);
        }),
        (Code::KeyForm, |attribute| {
            let (_, statement) = &mut attribute.statements[0];
            let mut certified = TpmCertify::parse(statement).unwrap();
            certified.public = None;
            *statement = certified.to_der();
        }),
    ];
    for (code, change) in changes {
        let asking = Asking {
            change,
            ..Asking::default()
        };
        assert_eq!(asking.code(), code);
    }
    let bare = Asking::default().signed(None);
    let refusal = attestation_of_request(&bare, &AttestationTrust::default(), None, NOW);
    assert_eq!(refusal.unwrap_err().code, Code::RequestMissing);
}

#[test]
fn damaged_requests_are_refused_without_a_panic() {
    assert!(CertificateRequest::parse(WORKED).is_ok());
    for length in (0..WORKED.len()).step_by(3) {
        assert!(CertificateRequest::parse(&WORKED[..length]).is_err());
    }
    for at in (0..WORKED.len()).step_by(5) {
        let mut bytes = WORKED.to_vec();
        bytes[at] ^= 0x55;
        assert!(CertificateRequest::parse(&bytes).is_err(), "{at}");
    }
    let key = include_bytes!("../../../cardea-pki/tests/data/p256.pkcs8.der");
    assert!(PrivateKey::parse(key, None).is_ok());
    assert!(CertificateRequest::parse(key).is_err());
    let none = Statement {
        attest: Vec::new(),
        signature: Vec::new(),
    };
    let attribute = attestation_attribute(&[], &none, &[], None).unwrap();
    assert!(AttestationAttribute::parse(&attribute[1..]).is_err());
}
