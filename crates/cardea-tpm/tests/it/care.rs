//! Hierarchy authorisations, the lockout, and indices by name.

use std::sync::{Arc, Mutex};

use cardea_tpm::{
    CardFault, Hierarchy, HierarchyAuth, HierarchyPolicy, LockoutParameters, ResponseCode, Service,
    TpmError,
};

use crate::proxy::Proxy;
use crate::raw;
use crate::support::{Kind, Swtpm, make, new_card};

const OWNER: &[u8] = b"the owner's authorisation value";
const LOCKOUT: &[u8] = b"the lockout's own value 01234567";
const OTHER: &[u8] = b"another value of the lockout's";

fn auth(value: &[u8]) -> HierarchyAuth {
    HierarchyAuth::new(value).unwrap()
}

/// Sets an authorisation, and the hierarchy has no policy afterwards.
fn set(service: &Service, hierarchy: Hierarchy, old: &HierarchyAuth, new: &HierarchyAuth) {
    let done = service.set_hierarchy_auth(hierarchy, old, new);
    assert!(matches!(done, Ok(HierarchyPolicy::Emptied)), "{done:?}");
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

/// Everything that goes through the proxy.
fn listen(proxy: &Proxy) -> Arc<Mutex<Vec<u8>>> {
    let bus: Arc<Mutex<Vec<u8>>> = Arc::default();
    let record = Arc::clone(&bus);
    proxy.behave(Box::new(move |command, tpm| {
        let response = tpm(command);
        let mut record = record.lock().unwrap();
        record.extend_from_slice(command);
        record.extend_from_slice(&response);
        Some(response)
    }));
    bus
}

fn heard(bus: &Mutex<Vec<u8>>, value: &[u8]) -> bool {
    bus.lock()
        .unwrap()
        .windows(value.len())
        .any(|window| window == value)
}

#[test]
fn owner_authorisation_is_needed_to_make_and_unmake_cards_and_never_seen() {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let bus = listen(&proxy);
    let service = proxy.service();
    // Before there is any storage root key: the value travels all the same.
    let none = auth(b"");
    set(&service, Hierarchy::Owner, &none, &auth(OWNER));
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
    set(&service, Hierarchy::Owner, &auth(OWNER), &none);
    make(&service, Kind::Plain);
    assert!(!heard(&bus, OWNER));
    // The listener does hear what goes in clear.
    assert!(heard(&bus, &card.indices[0].name));
}

#[test]
fn lockout_is_set_up_and_reset_by_its_authorisation_which_is_never_seen() {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let bus = listen(&proxy);
    let service = proxy.service();
    let none = auth(b"");
    let parameters = LockoutParameters {
        max_tries: 7,
        recovery: 11,
        lockout_recovery: 0,
    };
    service.set_lockout_parameters(&none, parameters).unwrap();
    set(&service, Hierarchy::Lockout, &none, &auth(LOCKOUT));
    let status = service.status().unwrap();
    assert!(status.lockout_auth_set);
    assert_eq!((status.lockout_max, status.lockout_recovery), (7, 11));
    service.reset_lockout(&auth(LOCKOUT)).unwrap();
    set(&service, Hierarchy::Lockout, &auth(LOCKOUT), &auth(OTHER));
    service
        .set_lockout_parameters(&auth(OTHER), parameters)
        .unwrap();
    set(&service, Hierarchy::Lockout, &auth(OTHER), &auth(LOCKOUT));
    assert!(!heard(&bus, LOCKOUT) && !heard(&bus, OTHER));
    assert!(refused(
        &service.reset_lockout(&auth(b"wrong")).unwrap_err()
    ));
    // A wrong one shuts the authorisation itself; with no time for that, until the TPM starts anew.
    let shut = service.reset_lockout(&auth(LOCKOUT)).unwrap_err();
    assert_eq!(shut.code(), Some(ResponseCode::LOCKOUT), "{shut}");
}

#[test]
fn authorisation_that_can_only_be_wrong_is_not_tried() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let (none, lockout) = (auth(b""), auth(LOCKOUT));
    let parameters = LockoutParameters {
        max_tries: 7,
        recovery: 11,
        lockout_recovery: 0,
    };
    // One try would shut the lockout's authorisation until the TPM starts anew.
    service.set_lockout_parameters(&none, parameters).unwrap();
    let all = |given: &HierarchyAuth| {
        [
            service.reset_lockout(given),
            service.set_lockout_parameters(given, parameters),
            service
                .set_hierarchy_auth(Hierarchy::Lockout, given, &lockout)
                .map(drop),
        ]
    };
    for refused in all(&lockout) {
        assert!(
            matches!(refused, Err(TpmError::AuthNotSet(Hierarchy::Lockout))),
            "{refused:?}"
        );
    }
    service.reset_lockout(&none).unwrap();
    set(&service, Hierarchy::Lockout, &none, &lockout);
    for refused in all(&none) {
        assert!(
            matches!(refused, Err(TpmError::AuthMissing(Hierarchy::Lockout))),
            "{refused:?}"
        );
    }
    service.reset_lockout(&lockout).unwrap();
    assert!(!service.is_set(Hierarchy::Owner).unwrap());
    let refused = service
        .set_hierarchy_auth(Hierarchy::Owner, &auth(OWNER), &auth(OWNER))
        .unwrap_err();
    assert!(
        matches!(refused, TpmError::AuthNotSet(Hierarchy::Owner)),
        "{refused}"
    );
}

#[test]
fn storage_root_key_that_was_evicted_is_made_again_by_the_owner_alone() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    set(&service, Hierarchy::Owner, &auth(b""), &auth(OWNER));
    // With the card in use its own storage root key carries the authorisation.
    let owner = service.with_owner(Some(auth(OWNER)));
    service.check_card(&card).unwrap();
    let count = service.command_count();
    let before = count.get();
    assert!(owner.undefine_index(NOBODYS).is_ok_and(|there| !there));
    assert_eq!(
        count.get() - before,
        3,
        "a session, the look, the session's end; no other key is made"
    );
    owner.destroy_card(&create(&owner).unwrap()).unwrap();
    let wrong = service.with_owner(Some(auth(b"wrong")));
    assert!(create(&wrong).unwrap_err().refuses_owner());
    drop((service, owner, wrong));

    evict_srk(&tpm);
    let service = tpm.service();
    let refused = service.check_card(&card).unwrap_err();
    assert!(
        matches!(&refused, CardFault::Tpm(error) if error.refuses_owner()),
        "{refused:?}"
    );
    let owner = service.with_owner(Some(auth(OWNER)));
    owner.check_card(&card).unwrap();
    service.check_card(&card).unwrap();
}

/// In the range of cards and no card's.
const NOBODYS: u32 = 0x01C2_F000;

/// TPM2_EvictControl of the storage root key, as other software would, with the owner's password.
fn evict_srk(tpm: &Swtpm) {
    let mut command = vec![0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x20];
    command.extend([0x40, 0, 0, 1, 0x81, 0, 0, 1]);
    let length = u8::try_from(OWNER.len()).unwrap();
    command.extend([0, 0, 0, 9 + length, 0x40, 0, 0, 9, 0, 0, 1, 0, length]);
    command.extend(OWNER);
    command.extend([0x81, 0, 0, 1]);
    let size = u32::try_from(command.len()).unwrap();
    command[2..6].copy_from_slice(&size.to_be_bytes());
    let (response, _) = tpm.service().raw(command).unwrap();
    assert_eq!(response[6..10], [0; 4], "{response:02X?}");
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
    assert_eq!(status.nv_indices, 3);
    assert_eq!(status.card_indices, service.defined_indices().unwrap());
    assert_eq!(status.card_indices.len(), 3);
    assert_eq!((status.transient_slots, status.session_slots), (3, 3));
    assert!(!status.endorsement_auth_set);
}

const ENDORSEMENT: u32 = 0x4000_000B;
/// Codes of commands (TPM 2.0 Part 2 §6.5.2).
const HIERARCHY_CHANGE_AUTH: u32 = 0x129;
const SET_PRIMARY_POLICY: u32 = 0x12E;
const LOCK_RESET: u32 = 0x139;
const GET_CAPABILITY: u32 = 0x17A;

/// A session whose policy everybody meets: commands come from locality 0.
fn met_by_everybody(service: &Service) -> u32 {
    const POLICY_LOCALITY: u32 = 0x16F;
    let session = raw::policy_session(service);
    let (code, _) = raw::send(service, POLICY_LOCALITY, &[session], &[], &[1]);
    assert_eq!(code, 0, "PolicyLocality");
    session
}

/// TPM2_SetPrimaryPolicy of that policy, with the hierarchy's empty authorisation.
fn open_by_policy(service: &Service, hierarchy: u32) {
    let session = met_by_everybody(service);
    let digest = raw::policy_digest(service, session);
    raw::flush(service, session);
    let parameters = [&raw::sized(&digest)[..], &[0, 0x0B]].concat();
    let empty = [raw::Auth::Password(&[])];
    let (code, _) = raw::send(
        service,
        SET_PRIMARY_POLICY,
        &[hierarchy],
        &empty,
        &parameters,
    );
    assert_eq!(code, 0, "SetPrimaryPolicy of 0x{hierarchy:08X}");
}

/// A command of a hierarchy by that policy, and the TPM's code.
fn by_policy(service: &Service, command: u32, hierarchy: u32, parameters: &[u8]) -> u32 {
    let session = met_by_everybody(service);
    let auth = [raw::Auth::Session(session)];
    let (code, _) = raw::send(service, command, &[hierarchy], &auth, parameters);
    raw::flush(service, session);
    code
}

#[test]
fn policy_from_before_opens_nothing_after_the_authorisation_is_set() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let none = auth(b"");
    assert_eq!(service.status().unwrap().hierarchy_policies, Some(vec![]));
    for hierarchy in [raw::OWNER, raw::LOCKOUT, ENDORSEMENT] {
        open_by_policy(&service, hierarchy);
    }
    let set_ones = service.status().unwrap().hierarchy_policies;
    assert_eq!(set_ones, Some(vec![raw::OWNER, raw::LOCKOUT, ENDORSEMENT]));
    assert_eq!(by_policy(&service, LOCK_RESET, raw::LOCKOUT, &[]), 0);
    for hierarchy in [raw::OWNER, raw::LOCKOUT, ENDORSEMENT] {
        let changed = by_policy(&service, HIERARCHY_CHANGE_AUTH, hierarchy, &[0, 0]);
        assert_eq!(changed, 0, "0x{hierarchy:08X} before");
    }

    set(&service, Hierarchy::Owner, &none, &auth(OWNER));
    set(&service, Hierarchy::Lockout, &none, &auth(LOCKOUT));
    service.empty_policy(Hierarchy::Endorsement, &none).unwrap();

    assert_eq!(service.status().unwrap().hierarchy_policies, Some(vec![]));
    assert_ne!(by_policy(&service, LOCK_RESET, raw::LOCKOUT, &[]), 0);
    for hierarchy in [raw::OWNER, raw::LOCKOUT, ENDORSEMENT] {
        let refused = by_policy(&service, HIERARCHY_CHANGE_AUTH, hierarchy, &[0, 0]);
        assert_ne!(refused, 0, "0x{hierarchy:08X} after");
    }
    // The values are what opens them.
    service.reset_lockout(&auth(LOCKOUT)).unwrap();
    set(&service, Hierarchy::Owner, &auth(OWNER), &none);
}

#[test]
fn policy_that_cannot_be_emptied_is_told_and_the_value_is_set() {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let service = proxy.service();
    open_by_policy(&service, raw::OWNER);
    // TPM_RC_POLICY: any refusal of that command.
    proxy.behave(Box::new(|command, tpm| {
        if command[6..10] == SET_PRIMARY_POLICY.to_be_bytes() {
            return Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0x01, 0x26]);
        }
        Some(tpm(command))
    }));
    let done = service.set_hierarchy_auth(Hierarchy::Owner, &auth(b""), &auth(OWNER));
    assert!(
        matches!(&done, Ok(HierarchyPolicy::Left(error)) if error.code().is_some()),
        "{done:?}"
    );
    let status = service.status().unwrap();
    assert!(status.owner_auth_set);
    assert_eq!(status.hierarchy_policies, Some(vec![raw::OWNER]));
    proxy.behave(Box::new(|command, tpm| Some(tpm(command))));
    set(&service, Hierarchy::Owner, &auth(OWNER), &auth(OTHER));
    assert_eq!(service.status().unwrap().hierarchy_policies, Some(vec![]));
}

#[test]
fn endorsement_that_somebody_else_has_is_left_alone() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let none = auth(b"");
    set(&service, Hierarchy::Endorsement, &none, &auth(OTHER));
    let refused = service.empty_policy(Hierarchy::Endorsement, &none);
    assert!(
        matches!(refused, Err(TpmError::AuthMissing(Hierarchy::Endorsement))),
        "{refused:?}"
    );
    service
        .empty_policy(Hierarchy::Endorsement, &auth(OTHER))
        .unwrap();
}

#[test]
fn tpm_that_does_not_tell_its_policies_is_not_taken_for_one_without() {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let service = proxy.service();
    // As TPMs before revision 1.38 answer to the capability 9: TPM_RC_VALUE of the first parameter.
    proxy.behave(Box::new(|command, tpm| {
        if command[6..10] == GET_CAPABILITY.to_be_bytes() && command[10..14] == [0, 0, 0, 9] {
            return Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0x01, 0xC4]);
        }
        Some(tpm(command))
    }));
    assert_eq!(service.status().unwrap().hierarchy_policies, None);
    proxy.behave(Box::new(|command, tpm| Some(tpm(command))));
    assert_eq!(service.status().unwrap().hierarchy_policies, Some(vec![]));
}
