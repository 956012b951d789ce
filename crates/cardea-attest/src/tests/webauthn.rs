//! The attestation object for ACME's challenge, with vectors.

use cardea_pki::{Curve, PublicKey};

use super::hex;
use crate::Statement;
use crate::webauthn::{
    SignatureForm, attestation_object, challenge_payload, key_authorization, qualifying_data,
    thumbprint,
};

#[test]
fn thumbprints_and_key_authorizations_are_those_of_the_standards() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let decode = |text: &str| Base64UrlUnpadded::decode_vec(text).unwrap();
    // RFC 7638, section 3.1.
    let n = decode(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    );
    let rsa = PublicKey::from_rsa(&n, &[1, 0, 1]).unwrap();
    let text = Base64UrlUnpadded::encode_string(&thumbprint(&rsa));
    assert_eq!(text, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // The key of RFC 7517, appendix A.1, hashed with other programs.
    let (x, y) = (
        decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"),
        decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
    );
    let ec = PublicKey::from_ec(Curve::P256, &x, &y).unwrap();
    let text = Base64UrlUnpadded::encode_string(&thumbprint(&ec));
    assert_eq!(text, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
    let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    let authorization = key_authorization(token, &thumbprint(&rsa));
    assert_eq!(
        authorization,
        format!("{token}.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
    );
    assert_eq!(
        qualifying_data(&authorization)[..],
        hex("653471d42925d7eb4cd39a39cda8b34d3034c94cb90067ab78c8123560ba2e5f")
    );
}

#[test]
fn attestation_object_has_its_one_encoding_in_both_forms_of_the_signature() {
    // r begins with a bit that DER must not read as a sign; s is short.
    let (r, s) = ([0x80; 32], [0x01; 31]);
    let mut signature = vec![0, 0x18, 0, 0x0B, 0, 32];
    signature.extend_from_slice(&r);
    signature.extend_from_slice(&[0, 31]);
    signature.extend_from_slice(&s);
    let statement = Statement {
        attest: vec![0xFF, 0x54, 0x43, 0x47],
        signature: signature.clone(),
    };
    let certificates = [vec![0x30, 0x00], vec![0x30, 0x01, 0x00]];
    let object = |form| attestation_object(&[0x00, 0x23], &statement, &certificates, form);
    let expected = |signature: &[u8]| {
        let head = [0x58, u8::try_from(signature.len()).unwrap()];
        [
            b"\xA2\x63fmt\x63tpm\x67attStmt\xA6\x63alg\x26\x63sig",
            &head[..],
            signature,
            b"\x63ver\x632.0\x63x5c\x82\x42\x30\x00\x43\x30\x01\x00",
            b"\x67pubArea\x42\x00\x23\x68certInfo\x44\xFF\x54\x43\x47",
        ]
        .concat()
    };
    assert_eq!(object(SignatureForm::Tpm).unwrap(), expected(&signature));
    assert_eq!(SignatureForm::default(), SignatureForm::Tpm);
    let der = [&[0x30, 68, 0x02, 33, 0][..], &r, &[0x02, 31], &s].concat();
    assert_eq!(object(SignatureForm::Der).unwrap(), expected(&der));
    assert_eq!(challenge_payload(&[0xFB, 0xEF]), "{\"attObj\":\"--8\"}");

    let other = Statement {
        signature: vec![0, 0x14, 0, 0x0B, 0, 0],
        ..statement.clone()
    };
    assert_eq!(
        attestation_object(&[], &other, &[], SignatureForm::Tpm),
        None
    );
}
