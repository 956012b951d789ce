//! Our own client and the service, with nothing in between but the network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cardea_dcom::tpmvsc::{Attestation, ErrorReport};
use cardea_remote::{Account, Event, Machine, NewCard, RemoteError, Watch};
use cardea_terms::tpmvsc::{DEFAULT_ADMIN_KEY, Hresult, Status};
use zeroize::Zeroizing;

use crate::cards::Target;

fn machine(target: &Target, user: &str, password: &str) -> Machine {
    let account = Account::with_password(&user.parse().unwrap(), password);
    Machine::new("127.0.0.1", target.port.parse().unwrap(), account).unwrap()
}

fn ann(target: &Target) -> Machine {
    machine(target, "FIRM\\ann", "correct horse")
}

fn card(pin: &str) -> NewCard {
    NewCard {
        name: "remote".to_owned(),
        admin_key: Zeroizing::new(DEFAULT_ADMIN_KEY),
        puk: Some(Zeroizing::new(b"87654321".to_vec())),
        pin: Zeroizing::new(pin.into()),
        policy: None,
        attestation: Attestation::None,
        generate: true,
    }
}

/// Somebody who notes what they hear, and wants no more of it from a step on.
fn watch(aborts_at: Option<Status>) -> (Watch, Arc<Mutex<Vec<Event>>>) {
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (noted, abort) = (Arc::clone(&heard), Arc::new(AtomicBool::new(false)));
    let aborted = Arc::clone(&abort);
    let hear = move |event| {
        noted.lock().unwrap().push(event);
        if aborts_at.is_some_and(|step| event == Event::Step(step)) {
            aborted.store(true, Ordering::SeqCst);
        }
    };
    let hear: Arc<dyn Fn(Event) + Send + Sync> = Arc::new(hear);
    let watch = Watch {
        abort,
        hear: Some(hear),
    };
    (watch, heard)
}

#[test]
fn our_client_makes_and_destroys_cards_and_hears_of_every_step() {
    // No account for callbacks is configured: the call brings one along.
    let target = Target::new("");
    let (watching, heard) = watch(None);
    let machine = ann(&target);
    let instance = machine.create(&card("12345678"), &watching).unwrap();
    assert_eq!(target.instances(), [&*instance]);
    let steps = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(steps.first(), Some(&Event::Step(Status::CardInitializing)));
    let last = [
        Status::GenerateRunning,
        Status::ReaderCreating,
        Status::CardCreated,
    ];
    assert!(steps.ends_with(&last.map(Event::Step)), "{steps:?}");
    machine.destroy(&instance, &watching).unwrap();
    assert!(target.instances().is_empty());
    let steps = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(steps.first(), Some(&Event::Step(Status::ReaderDestroying)));
    assert_eq!(steps.last(), Some(&Event::Step(Status::CardDestroyed)));
    let again = machine.destroy(&instance, &watching).unwrap_err();
    assert!(matches!(again, RemoteError::Refused(Hresult::NOT_FOUND)));
}

#[test]
fn policies_and_attestation_take_the_newer_interfaces() {
    let target = Target::new("");
    let silent = Watch {
        abort: Arc::default(),
        hear: None,
    };
    // Digits alone, four at least.
    let mut policy = [0; 32];
    for (at, value) in [
        (0, 1),
        (4, 4),
        (8, 8),
        (12, 2),
        (16, 2),
        (20, 1),
        (24, 2),
        (28, 2),
    ] {
        policy[at] = value;
    }
    let mut short = card("4711");
    let refused = ann(&target).create(&short, &silent).unwrap_err();
    assert!(matches!(refused, RemoteError::Refused(Hresult::PIN_POLICY)));
    short.policy = Some(policy);
    ann(&target).create(&short, &silent).unwrap();
    let mut attested = card("12345678");
    attested.attestation = Attestation::AikOnly;
    let instance = ann(&target).create(&attested, &silent).unwrap();
    let shown = target.show(&instance);
    assert!(!shown["attestation"].is_null(), "{shown}");
    attested.attestation = Attestation::AikAndCertificate;
    let refused = ann(&target).create(&attested, &silent).unwrap_err();
    assert!(matches!(
        refused,
        RemoteError::Refused(Hresult::NO_AUTHORITY)
    ));
}

#[test]
fn order_that_is_aborted_leaves_no_card() {
    let target = Target::new("");
    for step in [
        Status::CardInitializing,
        Status::GenerateRunning,
        Status::CardCreated,
    ] {
        let (watching, heard) = watch(Some(step));
        let aborted = ann(&target).create(&card("12345678"), &watching);
        assert!(matches!(aborted, Err(RemoteError::Aborted)), "{aborted:?}");
        let heard = heard.lock().unwrap();
        let last = heard.iter().rfind(|event| matches!(event, Event::Step(_)));
        assert_eq!(last, Some(&Event::Step(step)));
        assert!(target.instances().is_empty(), "{step:?}");
    }
}

#[test]
fn strangers_and_wrong_passwords_are_refused() {
    let target = Target::new("");
    let (watching, heard) = watch(None);
    for (user, password) in [("ann", "wrong"), ("bob", "correct horse")] {
        let refused = machine(&target, user, password).create(&card("12345678"), &watching);
        assert!(matches!(refused, Err(RemoteError::Denied)), "{refused:?}");
    }
    assert!(heard.lock().unwrap().is_empty() && target.instances().is_empty());
}

#[test]
fn errors_are_heard_before_the_order_fails() {
    let target = Target::new("");
    let (watching, heard) = watch(None);
    let refused = ann(&target)
        .create(&card("1234567"), &watching)
        .unwrap_err();
    assert!(matches!(refused, RemoteError::Refused(Hresult::PIN_POLICY)));
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, [Event::Failed(ErrorReport::PinComplexity)]);
}
