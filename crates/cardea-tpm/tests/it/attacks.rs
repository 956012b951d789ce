//! What the design's attackers try, as far as it is the TPM's side.

use cardea_card::token::PinAuthority as _;
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyStore, PinReference};
use cardea_tpm::CardFault;

use crate::support::{Kind, PIN, Swtpm, make, pin, token};

#[test]
fn record_that_borrows_another_cards_index_does_not_fit_itself() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let (victim, mut forged) = (make(&service, Kind::Plain), make(&service, Kind::Plain));
    forged.tpm.indices[0].handle = victim.tpm.indices[0].handle;
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    forged.tpm.indices[0]
        .name
        .clone_from(&victim.tpm.indices[0].name);
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    forged.tpm.indices[0].handle = 0x01C0_0002;
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    assert_eq!(
        token(&service, &victim)
            .status(PinReference::Pin)
            .unwrap()
            .left,
        5
    );
}

#[test]
fn index_made_again_under_the_same_policy_is_not_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    service.destroy_card(&card.tpm).unwrap();
    // Root defines the identical index with a PIN of its own; it cannot make it WRITTEN.
    let public = cardea_tpm::policy::nv_public(
        card.tpm.indices[0].handle,
        cardea_tpm::policy::NV_DEFINED,
        &cardea_tpm::policy::index_policy(
            &cardea_tpm::policy::name_of(&card.tpm.birth_public),
            card.tpm.indices[0].role,
        ),
    );
    let define = |public: &[u8]| {
        let mut command = vec![0x80, 0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x2A, 0x40, 0, 0, 1];
        command.extend_from_slice(&[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0]);
        command.extend_from_slice(&[0, 4]);
        command.extend_from_slice(b"root");
        command.extend_from_slice(&(public.len() as u16).to_be_bytes());
        command.extend_from_slice(public);
        let length = (command.len() as u32).to_be_bytes();
        command[2..6].copy_from_slice(&length);
        let (response, _) = service.raw(command).unwrap();
        u32::from_be_bytes(response[6..10].try_into().unwrap())
    };
    let mut written = public.clone();
    written[6..10].copy_from_slice(&cardea_tpm::policy::NV_WRITTEN.to_be_bytes());
    assert_eq!(
        define(&written),
        0x2C2,
        "an index cannot be defined as already written"
    );
    assert_eq!(define(&public), 0);
    assert!(matches!(service.check_card(&card), Err(CardFault::Lost(_))));
}

#[test]
fn key_with_other_attributes_is_no_key_of_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Plain);
    let mut own = token(&service, &card);
    own.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = own
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    let mut open = key.clone();
    open.object.public[7] |= 0x40; // userWithAuth: an empty password would sign
    assert!(own.describe(&open).is_err());
    card.keys.push(open);
    assert!(matches!(
        service.check_card(&card),
        Err(CardFault::Damaged(_))
    ));
    card.keys[0] = key;
    service.check_card(&card).unwrap();

    let other = make(&service, Kind::Plain);
    assert!(token(&service, &other).describe(&card.keys[0]).is_err());
}
