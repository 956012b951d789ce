//! What the service believes of a TPM that somebody else can speak for: sessions are proven, what was compared or
//! changed is not repeated, storage root keys and counters are looked at again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cardea_card::record::{CardRecord, IndexRecord, IndexRole};
use cardea_card::token::{
    AdminAuthority as _, KeyAlgorithm, KeyClass, KeyStore, PinError, PinReference,
    PrivateOperation, TokenErrorKind, Unblocker,
};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::policy::{ApprovalId, SrkForm, name_of, role_ref, srk_head};
use cardea_tpm::{CardFault, Service};

use crate::proxy::{Hook, Proxy, code_of, honest, refusal};
use crate::raw::{
    Auth, create_primary, evict, flush, policy_authorize, policy_command_code, policy_digest,
    policy_secret, policy_session, send, sized,
};
use crate::support::{Kind, PIN, PUK, Swtpm, make, pin, token};

const SIGN: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[1; 32] };
const NEW_PIN: &[u8] = b"654321";

const NV_WRITE: u32 = 0x137;
const NV_CHANGE_AUTH: u32 = 0x13B;
const POLICY_SECRET: u32 = 0x151;
const START_AUTH_SESSION: u32 = 0x176;
const POLICY_SIGNED: u32 = 0x160;

fn start() -> (Swtpm, Proxy, Service) {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let service = proxy.service();
    (tpm, proxy, service)
}

/// Has every new session answered with the handle and the nonce of another one, and counts commands of a kind.
fn swapping(other: u32, watched: u32, seen: &Arc<AtomicUsize>) -> Hook {
    let seen = Arc::clone(seen);
    Box::new(move |command, tpm| {
        if code_of(command) == watched {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        let mut response = tpm(command);
        if code_of(command) == START_AUTH_SESSION && response[6..10] == [0; 4] {
            response[10..14].copy_from_slice(&other.to_be_bytes());
            response[16..].fill(0x5A);
        }
        Some(response)
    })
}

#[test]
fn session_of_somebody_else_is_never_armed_nor_signed_for() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Puk);
    drop(service);
    let service = proxy.service();
    let mut token = token(&service, &card);
    let theirs = policy_session(&service);
    let secrets = Arc::new(AtomicUsize::new(0));
    proxy.behave(swapping(theirs, POLICY_SECRET, &secrets));
    assert!(token.verify(PinReference::Pin, &pin(PIN)).is_err());
    assert!(token.verify(PinReference::Puk, &pin(PUK)).is_err());
    let changed = token.change(PinReference::Pin, &pin(PIN), &pin(NEW_PIN));
    assert!(changed.is_err());
    assert_eq!(secrets.load(Ordering::Relaxed), 0);
    let signatures = Arc::new(AtomicUsize::new(0));
    proxy.behave(swapping(theirs, POLICY_SIGNED, &signatures));
    let made = service
        .prepare_card(&[], crate::support::new_card(Kind::Plain))
        .and_then(|prepared| service.create_card(prepared, &mut |_| {}));
    assert!(made.is_err());
    assert_eq!(signatures.load(Ordering::Relaxed), 0);
    proxy.behave(honest());
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
}

#[test]
fn handle_swapped_under_a_proven_session_is_refused_by_the_tpm() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let theirs = policy_session(&service);
    // Whoever is on the way keeps the daemon's handle from it, and puts the right one into each command but the
    // one that counts.
    let ours = Arc::new(Mutex::new(0u32));
    let known = Arc::clone(&ours);
    proxy.behave(Box::new(move |command, tpm| {
        let mut command = command.to_vec();
        let real = *known.lock().unwrap();
        if real != 0 && code_of(&command) != POLICY_SECRET {
            for at in 10..command.len().saturating_sub(3) {
                if command[at..at + 4] == theirs.to_be_bytes() {
                    command[at..at + 4].copy_from_slice(&real.to_be_bytes());
                }
            }
        }
        let policy = code_of(&command) == START_AUTH_SESSION
            && command.windows(3).any(|kind| kind == [1, 0, 6]);
        let mut response = tpm(&command);
        if policy && response[6..10] == [0; 4] {
            *known.lock().unwrap() = u32::from_be_bytes(response[10..14].try_into().unwrap());
            response[10..14].copy_from_slice(&theirs.to_be_bytes());
        }
        Some(response)
    }));
    let refused = token.verify(PinReference::Pin, &pin(PIN));
    assert!(matches!(refused, Err(PinError::Token(_))), "{refused:?}");
    assert_ne!(*ours.lock().unwrap(), 0, "the swap took place");
    proxy.behave(honest());
    assert_eq!(policy_digest(&service, theirs), [0; 32]);
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
}

/// Executes the first command of a kind and answers it with an error; counts how many there are.
fn executed_but_refused(at: u32, code: u32, seen: &Arc<AtomicUsize>) -> Hook {
    let seen = Arc::clone(seen);
    Box::new(move |command, tpm| {
        let response = tpm(command);
        if code_of(command) == at && seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return Some(refusal(code));
        }
        Some(response)
    })
}

const RETRYABLE: [u32; 11] = [
    0x100, 0x902, 0x903, 0x904, 0x905, 0x908, 0x90A, 0x910, 0x918, 0x920, 0x922,
];

#[test]
fn wrong_pin_costs_one_try_whatever_error_is_put_in_place_of_the_answer() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    for code in RETRYABLE {
        let asked = Arc::new(AtomicUsize::new(0));
        proxy.behave(executed_but_refused(POLICY_SECRET, code, &asked));
        let refused = token.verify(PinReference::Pin, &pin(b"000000"));
        assert!(matches!(refused, Err(PinError::Token(_))), "0x{code:X}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "0x{code:X}");
        proxy.behave(honest());
        assert_eq!(token.status(PinReference::Pin).unwrap().left, 4);
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    }
}

#[test]
fn wrong_puk_costs_one_try_whatever_error_is_put_in_place_of_the_answer() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Puk);
    let mut token = token(&service, &card);
    for code in RETRYABLE {
        let asked = Arc::new(AtomicUsize::new(0));
        proxy.behave(executed_but_refused(POLICY_SECRET, code, &asked));
        let refused = token.verify(PinReference::Puk, &pin(b"00000000"));
        assert!(matches!(refused, Err(PinError::Token(_))), "0x{code:X}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "0x{code:X}");
        proxy.behave(honest());
        assert_eq!(token.status(PinReference::Puk).unwrap().left, 9);
        token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    }
}

#[test]
fn change_whose_answer_is_an_error_is_reported_as_unknown() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Puk);
    let mut token = token(&service, &card);
    let (mut old, mut new) = (pin(PIN), pin(NEW_PIN));
    for code in [0x903, 0x922, 0x910, 0x9A2, 0x12F, 0x99D, 0x921] {
        let asked = Arc::new(AtomicUsize::new(0));
        proxy.behave(executed_but_refused(NV_CHANGE_AUTH, code, &asked));
        let changed = token.change(PinReference::Pin, &old, &new);
        assert!(
            matches!(&changed, Err(PinError::Token(error))
                if error.kind() == TokenErrorKind::ChangeUnknown),
            "0x{code:X}: {changed:?}"
        );
        proxy.behave(honest());
        token.verify(PinReference::Pin, &new).unwrap();
        std::mem::swap(&mut old, &mut new);
    }
    token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    proxy.behave(executed_but_refused(NV_CHANGE_AUTH, 0x99D, &asked));
    let set = token.unblock(Unblocker::Puk, &new);
    assert_eq!(set.unwrap_err().kind(), TokenErrorKind::ChangeUnknown);
    proxy.behave(honest());
    token.verify(PinReference::Pin, &new).unwrap();
}

#[test]
fn birth_key_that_has_signed_serves_no_second_attempt() {
    let (_tpm, proxy, service) = start();
    for code in [0x903, 0x910, 0x922, 0x100, 0x904] {
        let births = Arc::new(Mutex::new(Vec::new()));
        let (heard, writes) = (Arc::clone(&births), AtomicUsize::new(0));
        proxy.behave(Box::new(move |command, tpm| {
            if code_of(command) == 0x167 {
                heard.lock().unwrap().push(command[12..].to_vec());
            }
            // The probe writes its index as the owner.
            let first = code_of(command) == NV_WRITE
                && command[10] == 0x01
                && writes.fetch_add(1, Ordering::Relaxed) == 0;
            Some(if first && code != 0x922 {
                refusal(code)
            } else {
                tpm(command)
            })
        }));
        let made = service
            .prepare_card(&[], crate::support::new_card(Kind::Plain))
            .and_then(|prepared| service.create_card(prepared, &mut |_| {}));
        assert_eq!(made.is_ok(), code == 0x922, "0x{code:X}");
        proxy.behave(honest());
        assert_eq!(births.lock().unwrap().len(), 1, "0x{code:X}");
    }
}

#[test]
fn puk_and_administrator_are_proven_without_a_ticket() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::AdminAndPuk);
    let mut token = token(&service, &card);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answers);
    proxy.behave(Box::new(move |command, tpm| {
        let response = tpm(command);
        if code_of(command) == POLICY_SECRET {
            heard.lock().unwrap().push(response.clone());
        }
        Some(response)
    }));
    token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    token.unblock(Unblocker::Puk, &pin(NEW_PIN)).unwrap();
    let again = token.unblock(Unblocker::Puk, &pin(PIN)).unwrap_err();
    assert_eq!(again.kind(), TokenErrorKind::NotAuthenticated);
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 2);
    for answer in &*answers {
        // An empty timeout, and a null ticket: TPM_ST_AUTH_SECRET, TPM_RH_NULL, no digest.
        assert_eq!(answer[6..10], [0; 4]);
        assert_eq!(answer[14..16], [0, 0]);
        assert_eq!(answer[16..24], [0x80, 0x23, 0x40, 0, 0, 7, 0, 0]);
    }
}

#[test]
fn value_is_not_taken_for_right_where_it_would_approve_nothing() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Puk);
    card.tpm.approvals.retain(|approval| approval.id != "P4");
    let mut half = token(&service, &card);
    half.verify(PinReference::Puk, &pin(PUK)).unwrap();
    let refused = half.unblock(Unblocker::Puk, &pin(NEW_PIN)).unwrap_err();
    assert_eq!(refused.kind(), TokenErrorKind::NotConfigured);
    half.verify(PinReference::Pin, &pin(PIN)).unwrap();
    card.tpm.approvals.retain(|approval| approval.id != "P5");
    let mut none = token(&service, &card);
    for typed in [PUK, b"00000000"] {
        let refused = none.verify(PinReference::Puk, &pin(typed));
        assert!(matches!(refused, Err(PinError::Token(_))), "{refused:?}");
    }
}

#[test]
fn proof_that_was_ended_leaves_no_session_behind() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Puk);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let saved = |service: &Service| handles(service, 0x0300_0000);
    let before = saved(&service);
    token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    assert_eq!(saved(&service).len(), before.len() + 2);
    token.end_administration();
    assert_eq!(saved(&service), before);
    let refused = token.unblock(Unblocker::Puk, &pin(NEW_PIN)).unwrap_err();
    assert_eq!(refused.kind(), TokenErrorKind::NotAuthenticated);
    token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    drop(token);
    service.status().unwrap();
    assert!(saved(&service).is_empty(), "{:x?}", saved(&service));
}

/// Handles from this one on.
fn handles(service: &Service, first: u32) -> Vec<u32> {
    let parameters = [1, first, 64].map(u32::to_be_bytes).concat();
    let (code, answer) = send(service, 0x17A, &[], &[], &parameters);
    assert_eq!(code, 0);
    answer[9..]
        .chunks_exact(4)
        .map(|handle| u32::from_be_bytes(handle.try_into().unwrap()))
        .collect()
}

fn pin_index(card: &CardRecord) -> &IndexRecord {
    let mut indices = card.tpm.indices.iter();
    indices.find(|index| index.role == IndexRole::Pin).unwrap()
}

#[test]
fn limit_that_is_raised_while_the_service_runs_is_damage() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Puk);
    let mut token = token(&service, &card);
    assert_eq!(token.status(PinReference::Pin).unwrap().limit, 5);
    let puk = card.tpm.indices.iter().find(|i| i.role == IndexRole::Puk);
    let value = cardea_tpm::auth::auth_value(&card.tpm.salt, IndexRole::Puk, PUK);
    let session = policy_session(&service);
    assert_eq!(
        policy_secret(&service, puk.unwrap().handle, &value[..], session, b"puk"),
        0
    );
    policy_command_code(&service, session, NV_WRITE);
    let mut approvals = card.tpm.approvals.iter();
    let p4 = approvals.find(|approval| approval.id == ApprovalId::P4.as_str());
    let p4 = p4.unwrap();
    let birth = name_of(&card.tpm.birth_public);
    let approved = policy_authorize(
        &service,
        session,
        &p4.digest,
        role_ref(p4.role),
        &birth,
        &p4.ticket,
    );
    assert_eq!(approved, 0);
    let handle = pin_index(&card).handle;
    let data = [&sized(&[0, 0, 0, 0, 255, 255, 255, 255])[..], &[0, 0]].concat();
    let (code, _) = send(
        &service,
        NV_WRITE,
        &[handle, handle],
        &[Auth::Session(session)],
        &data,
    );
    assert_eq!(code, 0);
    // Another token has no counter that was just read.
    let mut other = service.token(&card).unwrap();
    let error = other.status(PinReference::Pin).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Damaged, "{error}");
    assert!(matches!(
        service.check_card(&card),
        Err(CardFault::Damaged(_))
    ));
}

#[test]
fn storage_root_key_that_is_evicted_is_found_again() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    evict(&service, 0x8100_0001, 0x8100_0001);
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    token.operate(&key, SIGN).unwrap();
    make(&service, Kind::Plain);
}

#[test]
fn new_card_hangs_from_the_key_that_other_cards_have_recorded() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let first = make(&service, Kind::Plain);
    evict(&service, 0x8100_0001, 0x8100_0001);
    // A key of other software with a known template, at the first handle.
    let mut zeros = srk_head(SrkForm::Ecc);
    zeros.extend_from_slice(&sized(&[0; 32]));
    zeros.extend_from_slice(&sized(&[0; 32]));
    let key = create_primary(&service, &[], &zeros);
    evict(&service, key, 0x8100_0001);
    flush(&service, key);
    drop(service);
    let service = tpm.service();
    service.check_card(&first).unwrap();
    let second = make(&service, Kind::Plain);
    assert_eq!(second.tpm.srk.name, first.tpm.srk.name);
    assert_eq!(second.tpm.srk.handle, 0x8100_0002);
}

#[test]
fn key_below_another_one_is_no_storage_root_key_for_new_cards() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let first = make(&service, Kind::Plain);
    // A storage key below the storage root key, put in its place.
    let template = [&srk_head(SrkForm::Ecc)[..], &[0, 0, 0, 0]].concat();
    let parameters = [
        &sized(&[0, 0, 0, 0])[..],
        &sized(&template),
        &[0, 0],
        &[0; 4],
    ]
    .concat();
    let empty = [Auth::Password(&[])];
    let (code, made) = send(&service, 0x153, &[0x8100_0001], &empty, &parameters);
    assert_eq!(code, 0, "Create");
    let private = 2 + usize::from(u16::from_be_bytes([made[4], made[5]]));
    let public = 2 + usize::from(u16::from_be_bytes([made[4 + private], made[5 + private]]));
    let blob = &made[4..4 + private + public];
    let (code, loaded) = send(&service, 0x157, &[0x8100_0001], &empty, blob);
    assert_eq!(code, 0, "Load");
    let planted = u32::from_be_bytes(loaded[..4].try_into().unwrap());
    evict(&service, 0x8100_0001, 0x8100_0001);
    evict(&service, planted, 0x8100_0001);
    flush(&service, planted);
    drop(service);
    let service = tpm.service();
    let second = make(&service, Kind::Plain);
    assert_eq!(second.tpm.srk.name, first.tpm.srk.name);
    assert_eq!(second.tpm.srk.handle, 0x8100_0002);
}
