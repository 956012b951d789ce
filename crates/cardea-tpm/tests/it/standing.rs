//! What of a card is there: all of it, all but its administrator or PUK, nothing, or nothing until the TPM restarts.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_tpm::{CardFault, Service};

use crate::raw;
use crate::support::{Kind, Swtpm, make};

const PLATFORM: u32 = 0x4000_000C;
const HIERARCHY_CONTROL: u32 = 0x121;
const NV_DEFINE_SPACE: u32 = 0x12A;

/// TPM2_HierarchyControl: switches the owner hierarchy off until the TPM restarts.
fn switch_off(service: &Service) {
    let parameters = [&raw::OWNER.to_be_bytes()[..], &[0]].concat();
    let empty = [raw::Auth::Password(&[])];
    let (code, _) = raw::send(service, HIERARCHY_CONTROL, &[PLATFORM], &empty, &parameters);
    assert_eq!(code, 0, "HierarchyControl");
}

fn handle_of(card: &CardRecord, role: IndexRole) -> u32 {
    let mut indices = card.tpm.indices.iter();
    indices.find(|index| index.role == role).unwrap().handle
}

fn delete(service: &Service, card: &CardRecord, role: IndexRole) {
    assert!(service.undefine_index(handle_of(card, role)).unwrap());
}

/// Another index in the place of a card's.
fn replace(service: &Service, card: &CardRecord, role: IndexRole) {
    delete(service, card, role);
    // An ordinary index of 8 bytes: SHA-256, owner and its own value read and write.
    let public = [
        &handle_of(card, role).to_be_bytes()[..],
        &[0, 0x0B, 0, 0x06, 0, 0x06, 0, 0, 0, 8],
    ]
    .concat();
    let parameters = [&raw::sized(b"own")[..], &raw::sized(&public)].concat();
    let empty = [raw::Auth::Password(&[])];
    let (code, _) = raw::send(service, NV_DEFINE_SPACE, &[raw::OWNER], &empty, &parameters);
    assert_eq!(code, 0, "NV_DefineSpace");
}

#[test]
fn switched_off_hierarchy_loses_no_card() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::AdminAndPuk);
    service.check_card(&card).unwrap();
    assert!(service.is_owner_on().unwrap());
    switch_off(&service);
    assert!(!service.is_owner_on().unwrap());
    assert!(!service.status().unwrap().owner_enabled);
    for again in 0..2 {
        let fault = service.check_card(&card).unwrap_err();
        assert!(
            matches!(fault, CardFault::SwitchedOff),
            "{again}: {fault:?}"
        );
        let fault = service.lost_parts(&card.tpm).unwrap_err();
        assert!(
            matches!(fault, CardFault::SwitchedOff),
            "{again}: {fault:?}"
        );
    }
    drop(service);
    // By a service that has never seen the card.
    let service = tpm.service();
    let fault = service.check_card(&card).unwrap_err();
    assert!(matches!(fault, CardFault::SwitchedOff), "{fault:?}");
    tpm.power_cycle();
    service.check_card(&card).unwrap();
    assert!(service.lost_parts(&card.tpm).unwrap().is_empty());
}

#[test]
fn card_without_its_administrator_or_its_puk_is_a_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    for role in [IndexRole::Adm, IndexRole::Puk] {
        for gone in [delete, replace] {
            let card = make(&service, Kind::AdminAndPuk);
            assert!(service.lost_parts(&card.tpm).unwrap().is_empty());
            gone(&service, &card, role);
            service.check_card(&card).unwrap();
            assert_eq!(service.lost_parts(&card.tpm).unwrap(), [role]);
        }
    }
}

#[test]
fn card_without_its_pin_is_none() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    for (gone, what) in [
        (
            delete as fn(&Service, &CardRecord, IndexRole),
            "was deleted",
        ),
        (replace, "is another one"),
    ] {
        let card = make(&service, Kind::AdminAndPuk);
        gone(&service, &card, IndexRole::Pin);
        match service.check_card(&card) {
            Err(CardFault::Lost(text)) => assert!(text.contains(what), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_counter_with_another_limit_than_the_recorded_one_is_damage() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::AdminAndPuk);
    for number in 0..card.tpm.indices.len() {
        let mut other = card.clone();
        other.tpm.indices[number].limit += 1;
        let fault = service.check_card(&other).unwrap_err();
        assert!(
            matches!(fault, CardFault::Damaged(_)),
            "{number}: {fault:?}"
        );
    }
    service.check_card(&card).unwrap();
}
