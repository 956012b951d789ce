//! Endorsement keys and their certificates: all that makers do, and all that is refused.

use std::convert::Infallible;
use std::sync::OnceLock;

use cardea_pki::{CertificateDraft, Extension, KeyUsage, PathError, PublicKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts;

use super::Random;
use super::credential::endorsement_public;
use super::maker::{NOW, SoftKey, YEAR, authority, certificate, distinguished_name, tpm_name};
use crate::endorsement::NameDigest;
use crate::{Code, EkTrust, EkVoucher, EndorsementKey, Revoked, certificates_in_nv};

const EK_EKU: &str = "2.23.133.8.1";

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        self.fill(target);
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// An RSA key, which takes a while to make.
pub(super) fn rsa_key() -> &'static rsa::PrivateKey {
    static KEY: OnceLock<rsa::PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| rsa::PrivateKey::new(&mut Random(5), 2048).unwrap())
}

fn key(public: &PublicKey) -> EndorsementKey {
    let public = endorsement_public(public, 0x0003_00B2, NameDigest::Sha256);
    EndorsementKey::parse(&public).unwrap()
}

fn extensions(usage: KeyUsage) -> Vec<Extension> {
    vec![
        Extension::basic_constraints(false, None),
        Extension::key_usage(&[usage]),
        Extension::extended_key_usages(&[EK_EKU]).unwrap(),
        tpm_name(),
        // tPMSpecification, critical with some makers.
        Extension::new("2.5.29.9", true, &[0x30, 0x00]).unwrap(),
    ]
}

const MAKER: SoftKey = SoftKey(70);
const EK: SoftKey = SoftKey(71);
/// Made by swtpm: the certificates do not end.
const NEVER: i64 = 253_402_300_799;

fn ek_certificate(change: impl FnOnce(&mut Vec<Extension>)) -> Vec<u8> {
    let mut extensions = extensions(KeyUsage::KeyAgreement);
    change(&mut extensions);
    let spki = EK.pki().to_spki_der();
    let validity = (NOW - YEAR, NEVER);
    certificate(("Maker", &MAKER), "unknown", &spki, validity, &extensions)
}

fn check(
    trust: &EkTrust<'_>,
    certificates: &[Vec<u8>],
) -> Result<EkVoucher, (Code, Option<PathError>)> {
    trust
        .check(&key(&EK.pki()), certificates, NOW)
        .map_err(|refusal| (refusal.code, refusal.path))
}

#[test]
fn maker_certificate_is_followed_to_its_root() {
    let root = authority("Root", &SoftKey(72));
    let maker = certificate(
        ("Root", &SoftKey(72)),
        "Maker",
        &MAKER.pki().to_spki_der(),
        (NOW - YEAR, NOW + YEAR),
        &[
            Extension::basic_constraints(true, Some(0)),
            Extension::key_usage(&[KeyUsage::KeyCertSign]),
        ],
    );
    let certificates = [ek_certificate(|_| ()), maker.clone()];
    let roots = [root];
    let trust = EkTrust {
        roots: &roots,
        ..EkTrust::default()
    };
    let EkVoucher::Certificate { root, tpm } = check(&trust, &certificates).unwrap() else {
        panic!("not by its certificate")
    };
    assert_eq!(root, "CN=Root");
    assert_eq!(tpm.unwrap().version, "id:20191023");
    // The certificate between may come from the authority's operator.
    let own = &certificates[..1];
    assert_eq!(
        check(&trust, own),
        Err((Code::EkChain, Some(PathError::UnknownIssuer)))
    );
    let intermediates = [cardea_pki::PathCertificate::parse(&maker).unwrap()];
    let trust = EkTrust {
        intermediates: &intermediates,
        ..trust
    };
    assert!(check(&trust, own).is_ok());
}

#[test]
fn rsa_key_is_compared_by_its_numbers_whatever_its_algorithm_is_called() {
    let n = rsa_key().n_bytes();
    let public = PublicKey::from_rsa(&n, &[1, 0, 1]).unwrap();
    let plain = public.to_spki_der();
    // rsaEncryption 1.2.840.113549.1.1.1; RSAES-OAEP is the seventh of the same row.
    let oaep = {
        let mut spki = plain.clone();
        let row = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
        let at = spki.windows(8).position(|window| window == row).unwrap();
        spki[at + 8] = 7;
        spki
    };
    let roots = [authority("Maker", &MAKER)];
    let trust = EkTrust {
        roots: &roots,
        ..EkTrust::default()
    };
    let key = key(&public);
    for spki in [plain, oaep] {
        let validity = (NOW - YEAR, NOW + YEAR);
        let extensions = extensions(KeyUsage::KeyEncipherment);
        let own = certificate(("Maker", &MAKER), "", &spki, validity, &extensions);
        assert!(trust.check(&key, &[own], NOW).is_ok());
    }
}

#[test]
fn every_lie_about_an_endorsement_key_has_its_code() {
    let roots = [authority("Maker", &MAKER)];
    let trust = EkTrust {
        roots: &roots,
        ..EkTrust::default()
    };
    let good = ek_certificate(|_| ());
    assert!(check(&trust, std::slice::from_ref(&good)).is_ok());

    assert_eq!(check(&trust, &[]), Err((Code::EkUnknown, None)));
    let other = certificate(
        ("Maker", &MAKER),
        "",
        &SoftKey(90).pki().to_spki_der(),
        (NOW - YEAR, NEVER),
        &extensions(KeyUsage::KeyAgreement),
    );
    assert_eq!(check(&trust, &[other]), Err((Code::EkCertKey, None)));
    let for_attestation = ek_certificate(|extensions| {
        extensions[2] = Extension::extended_key_usages(&["2.23.133.8.3"]).unwrap();
    });
    assert_eq!(check(&trust, &[for_attestation]), Err((Code::EkEku, None)));
    let for_signing = ek_certificate(|extensions| {
        extensions[1] = Extension::key_usage(&[KeyUsage::DigitalSignature]);
    });
    assert_eq!(check(&trust, &[for_signing]), Err((Code::EkUsage, None)));
    let unknown = ek_certificate(|extensions| {
        extensions.push(Extension::new("1.2.3.4", true, &[0x05, 0x00]).unwrap());
    });
    assert_eq!(
        check(&trust, &[unknown]),
        Err((
            Code::EkChain,
            Some(PathError::CriticalExtension("1.2.3.4".to_owned()))
        ))
    );
    let junk = [&good[..], &[0]].concat();
    assert_eq!(
        check(&trust, &[junk]),
        Err((Code::EkChain, Some(PathError::Junk)))
    );
    // A certificate behind it that cannot be read is not overlooked.
    assert_eq!(
        check(&trust, &[good.clone(), vec![0x30, 0x01]]),
        Err((Code::EkChain, Some(PathError::Encoding)))
    );
    let forged = certificate(
        ("Maker", &SoftKey(91)),
        "",
        &EK.pki().to_spki_der(),
        (NOW - YEAR, NEVER),
        &extensions(KeyUsage::KeyAgreement),
    );
    assert_eq!(
        check(&trust, &[forged]),
        Err((Code::EkChain, Some(PathError::Signature)))
    );
    let result = trust.check(&key(&EK.pki()), &[good], NOW + 2 * YEAR);
    assert_eq!(
        result.map_err(|refusal| refusal.path),
        Err(Some(PathError::Expired))
    );
}

#[test]
fn pins_and_the_first_use_are_choices_of_the_authority() {
    let key = key(&EK.pki());
    let pins = [key.pin()];
    let pinned = EkTrust {
        pins: &pins,
        ..EkTrust::default()
    };
    assert_eq!(check(&pinned, &[]), Ok(EkVoucher::Pin));
    // Its certificate need not lead anywhere.
    let certificates = [ek_certificate(|_| ())];
    assert_eq!(check(&pinned, &certificates), Ok(EkVoucher::Pin));
    let revoked = [Revoked {
        issuer: distinguished_name("Maker"),
        serial: vec![7],
    }];
    let pinned = EkTrust {
        revoked: &revoked,
        ..pinned
    };
    assert_eq!(
        check(&pinned, &certificates),
        Err((Code::EkChain, Some(PathError::Revoked)))
    );

    let first_use = EkTrust {
        on_first_use: true,
        ..EkTrust::default()
    };
    assert_eq!(check(&first_use, &[]), Ok(EkVoucher::FirstUse));
    assert_eq!(
        check(&first_use, &certificates),
        Err((Code::EkChain, Some(PathError::UnknownIssuer)))
    );
}

#[test]
fn certificates_are_cut_out_of_an_index() {
    let first = ek_certificate(|_| ());
    let second = authority("Maker", &MAKER).der().to_vec();
    let index = |parts: &[&[u8]]| {
        certificates_in_nv(&parts.concat()).map_err(|refusal| (refusal.code, refusal.path))
    };
    assert_eq!(index(&[&first]), Ok(vec![first.clone()]));
    for filler in [0x00, 0xFF] {
        let both = Ok(vec![first.clone(), second.clone()]);
        assert_eq!(index(&[&first, &second, &[filler; 100]]), both);
    }
    let refused = Err((Code::EkNv, None));
    assert_eq!(index(&[]), refused);
    assert_eq!(index(&[&[0xFF; 64]]), refused);
    assert_eq!(index(&[&first, b"http"]), refused);
    assert_eq!(index(&[&first[..first.len() - 1]]), refused);
    assert_eq!(
        index(&[&[0x30, 0x02, 0x05, 0x00]]),
        Err((Code::EkNv, Some(PathError::Encoding)))
    );
    // gzip, which some makers use.
    assert_eq!(index(&[&[0x1F, 0x8B, 0x08]]), refused);
}

#[test]
fn drafts_with_an_impossible_validity_are_refused() {
    let draft = CertificateDraft {
        serial: &[1],
        issuer: &distinguished_name("Maker"),
        subject: &distinguished_name(""),
        not_before: NOW,
        not_after: NOW - 1,
        spki: &EK.pki().to_spki_der(),
        extensions: &[],
    };
    let algorithm = cardea_pki::SignatureAlgorithm::EcdsaSha256;
    assert!(draft.to_be_signed(algorithm).is_err());
}
