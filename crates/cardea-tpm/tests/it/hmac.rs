//! A secret that the TPM alone computes HMACs with.

use cardea_tpm::TpmError;

use crate::support::Swtpm;

/// RFC 4231 §4.3 has a key of 4 bytes; here it is filled up with zeros, which HMAC does too.
const DATA: &[u8] = b"what do ya want for nothing?";
const MAC: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..4].copy_from_slice(b"Jefe");
    secret
}

#[test]
fn tpm_computes_what_the_standard_says() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let key = service.make_hmac_key(&secret()).unwrap();
    for _ in 0..2 {
        let mac = service.hmac(&key, DATA).unwrap();
        let digits: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, MAC);
    }
    assert!(matches!(
        service.hmac(&key, &[0; 1025]),
        Err(TpmError::Unfit(_))
    ));
    // What the file has is of no use with another TPM, nor changed.
    let other = Swtpm::start();
    assert!(other.service().hmac(&key, DATA).is_err());
    let mut changed = key.clone();
    changed.private[40] ^= 1;
    assert!(service.hmac(&changed, DATA).is_err());
    assert!(service.hmac(&key, DATA).is_ok());
}

#[test]
fn room_is_tried_and_nothing_is_left() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    for _ in 0..2 {
        service.room_for_card(&[]).unwrap();
        assert!(service.defined_indices().unwrap().is_empty());
    }
}
