//! Evidence of a card, and what a TPM keeps about its endorsement key.

use cardea_attest::{
    AttestationTrust, Bundle, EndorsementKey, Name, Nonce, Requirements, Verifier,
    certificates_in_nv, name_of_public,
};
use cardea_pki::PathCertificate;

use crate::Target;

/// A bundle; a certificate, or the content of an index with certificates; the public area of an endorsement key.
pub const TARGET: Target = Target {
    name: "evidence",
    run,
    seeds,
    words: &[
        b"\x71cardea-evidence-1",
        b"\xFF\x54\x43\x47\x80\x14",
        b"\xFF\x54\x43\x47\x80\x17",
        b"\xFF\x54\x43\x47\x80\x1A",
        b"\x00\x18\x00\x0B\x00\x20",
        b"\x00\x22\x00\x0B",
        b"\x00\x23\x00\x0B\x00\x05\x04\x72",
        b"\x00\x01\x00\x0B\x00\x03\x00\xB2",
        b"\x01\xC2\x00\x00\x00\x0B",
        b"\x5A\x00\x10\x00\x00",
        b"\x9F\xFF",
    ],
};

/// A card of form S with a key, from a software TPM, and who vouches for it.
const SEALED: &[u8] = include_bytes!("../../crates/cardea-attest/src/tests/data/sealed.evidence");
const AUTHORITY: &[u8] = include_bytes!("../../crates/cardea-attest/src/tests/data/authority.der");

/// 2026-12-01: its certificate is valid then.
const NOW: i64 = 1_796_083_200;

fn run(input: &[u8]) {
    bundle(input);
    if let Ok(certificates) = certificates_in_nv(input) {
        assert!(
            !certificates.is_empty(),
            "an index with certificates has one"
        );
    }
    if let Ok(certificate) = PathCertificate::parse(input) {
        assert_eq!(certificate.der(), input, "nothing lies behind it");
    }
    drop(EndorsementKey::parse(input));
}

fn bundle(input: &[u8]) {
    let decoded = Bundle::decode(input);
    if let Ok(bundle) = &decoded {
        assert!(bundle.encode() == input, "there is one encoding");
    }
    // Whatever the attestation key is, so that what lies behind it is reached.
    let pins: Vec<Name> = decoded
        .iter()
        .filter_map(|bundle| name_of_public(&bundle.attestation_key))
        .collect();
    let authorities = [PathCertificate::parse(AUTHORITY).expect("a certificate")];
    let verifier = Verifier {
        trust: AttestationTrust {
            authorities: &authorities,
            pins: &pins,
            ..AttestationTrust::default()
        },
        nonce: Nonce::Any,
        now: NOW,
        requirements: Requirements::default(),
    };
    if let Ok(claims) = verifier.verify(input) {
        assert!(decoded.is_ok(), "what is accepted can be read");
        assert!(!claims.to_string().is_empty());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut bare = Bundle::decode(SEALED).expect("a bundle");
    let public = bare.attestation_key.clone();
    bare.certificates.clear();
    let with_note = Bundle {
        note: Some("Ada".to_owned()),
        ..bare.clone()
    };
    // An index is filled up behind its certificates.
    let padded = [AUTHORITY, &[0xFF; 64]].concat();
    vec![
        SEALED.to_vec(),
        bare.encode(),
        with_note.encode(),
        AUTHORITY.to_vec(),
        padded,
        public,
    ]
}
