//! Hierarchy authorisations, the lockout, and indices by name.

use std::sync::{Arc, Mutex};

use cardea_tpm::{Hierarchy, HierarchyAuth, LockoutParameters, ResponseCode, Service, TpmError};

use crate::proxy::Proxy;
use crate::support::{Kind, Swtpm, make, new_card};

const OWNER: &[u8] = b"the owner's authorisation value";
const LOCKOUT: &[u8] = b"the lockout's own value 01234567";

fn auth(value: &[u8]) -> HierarchyAuth {
    HierarchyAuth::new(value).unwrap()
}

fn refused(error: &TpmError) -> bool {
    matches!(
        error.code(),
        Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL)
    )
}

fn create(service: &Service) -> Result<cardea_card::record::TpmRecord, TpmError> {
    let prepared = service.prepare_card(&[], new_card(Kind::AdminAndPuk))?;
    service.create_card(prepared, &mut |_| {})
}

#[test]
fn owner_authorisation_is_needed_to_make_and_unmake_cards_and_never_seen() {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let bus: Arc<Mutex<Vec<u8>>> = Arc::default();
    let record = Arc::clone(&bus);
    proxy.behave(Box::new(move |command, tpm| {
        let response = tpm(command);
        let mut record = record.lock().unwrap();
        record.extend_from_slice(command);
        record.extend_from_slice(&response);
        Some(response)
    }));
    let service = proxy.service();
    // Before there is any storage root key: the value travels all the same.
    let none = auth(b"");
    service
        .set_hierarchy_auth(Hierarchy::Owner, &none, &auth(OWNER))
        .unwrap();
    assert!(service.status().unwrap().owner_auth_set);
    assert!(refused(&create(&service).unwrap_err()));
    let wrong = service.with_owner(Some(auth(b"wrong")));
    assert!(refused(&create(&wrong).unwrap_err()));
    let owner = service.with_owner(Some(auth(OWNER)));
    let card = create(&owner).unwrap();
    assert_eq!(service.indices().unwrap().len(), 3);
    assert!(refused(&service.destroy_card(&card).unwrap_err()));
    assert_eq!(service.indices().unwrap().len(), 3);
    owner.destroy_card(&card).unwrap();
    assert!(service.indices().unwrap().is_empty());
    // And back to none.
    service
        .set_hierarchy_auth(Hierarchy::Owner, &auth(OWNER), &none)
        .unwrap();
    make(&service, Kind::Plain);
    let bus = bus.lock().unwrap();
    assert!(!bus.windows(OWNER.len()).any(|window| window == OWNER));
}

#[test]
fn lockout_is_set_up_and_reset_by_its_authorisation() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let none = auth(b"");
    let parameters = LockoutParameters {
        max_tries: 7,
        recovery: 11,
        lockout_recovery: 0,
    };
    service.set_lockout_parameters(&none, parameters).unwrap();
    service
        .set_hierarchy_auth(Hierarchy::Lockout, &none, &auth(LOCKOUT))
        .unwrap();
    let status = service.status().unwrap();
    assert!(status.lockout_auth_set);
    assert_eq!((status.lockout_max, status.lockout_recovery), (7, 11));
    service.reset_lockout(&auth(LOCKOUT)).unwrap();
    assert!(refused(
        &service.reset_lockout(&auth(b"wrong")).unwrap_err()
    ));
    // A wrong one shuts the authorisation itself; with no time for that, until the TPM starts anew.
    let shut = service.reset_lockout(&auth(LOCKOUT)).unwrap_err();
    assert_eq!(shut.code(), Some(ResponseCode::LOCKOUT), "{shut}");
}

#[test]
fn an_index_is_removed_by_name_and_no_other() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let (one, other) = (make(&service, Kind::Plain), make(&service, Kind::Plain));
    let handle = one.tpm.indices[0].handle;
    let listed = service.indices().unwrap();
    assert!(
        listed
            .iter()
            .all(|index| index.written && index.policy.is_some())
    );
    assert!(service.undefine_index(handle).unwrap());
    assert!(!service.undefine_index(handle).unwrap());
    assert!(service.undefine_index(0x01C0_0002).is_err());
    assert!(service.check_card(&one).is_err());
    service.check_card(&other).unwrap();
}

#[test]
fn status_counts_indices_and_slots() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    make(&service, Kind::AdminAndPuk);
    let status = service.status().unwrap();
    assert_eq!((status.nv_indices, status.card_indices), (3, 3));
    assert_eq!((status.transient_slots, status.session_slots), (3, 3));
    assert!(!status.endorsement_auth_set);
}
