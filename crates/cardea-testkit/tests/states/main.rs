//! What people are told when the TPM is in one of its states: locked out, started anew, resumed, cleared, owned by
//! somebody, full. A lockout of the TPM is never shown as a blocked PIN.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows to be tests"
)]

mod counters;
mod examined;
mod flawed;
mod gap;
mod gone;
mod hierarchies;
mod managed;
mod objects;
mod raised;
mod slots;
mod unknown;
mod wear;

use std::path::Path;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardState, CardsRequest, CreateCard, Failure, FailureKind, Hierarchy, KeyClass,
    NewContent, NewKey, Operation, Page, PowerAction, Reference, Reply, Request, SecretBytes,
    SlotRequest, TpmRequest,
};
use cardea_testkit::multiplexer::{Fault, Multiplexer, Part, PowerEvent, Profile, Trigger};
use cardea_testkit::process::PATIENCE;
use cardea_testkit::rig::Daemon;
use cardea_testkit::swtpm::Swtpm;

const PIN: &[u8] = b"271828";
const POLICY_SECRET: u32 = 0x151;
const HIERARCHY_CHANGE_AUTH: u32 = 0x129;

/// Daemon and TPM with a multiplexer between them.
struct Place {
    daemon: Daemon,
    tpm: Multiplexer,
    chip: Swtpm,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with_tpm(|_| {})
    }

    /// With a TPM that is set up before the daemon starts.
    fn with_tpm(set_up: impl FnOnce(&Multiplexer)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chip = Swtpm::start(&folder.path().join("tpm"));
        let tpm = Multiplexer::start(&folder.path().join("mux"), &chip);
        set_up(&tpm);
        let daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "");
        Self {
            daemon,
            tpm,
            chip,
            folder,
        }
    }

    /// With a TPM that plays a part, behind Linux' resource manager or not.
    fn with_part(profile: Profile, managed: bool) -> Self {
        Self::with_tpm(|tpm| {
            tpm.play(Part::new(profile));
            if managed {
                tpm.manage_resources();
            }
        })
    }

    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let mut client = Client::connect(&self.daemon.socket()).unwrap();
        let limit = Duration::from_secs(60);
        match client.call_with_progress(request, limit, &mut |_| {}) {
            Ok(Reply::Failed(failure)) => Err(failure),
            Ok(reply) => Ok(reply),
            Err(error) => panic!("{error}"),
        }
    }

    fn create(&self, name: &str) -> Result<Reply, Failure> {
        let order = CreateCard::new(name, NewContent::with_pin(secret(PIN)));
        self.ask(&Request::Cards(CardsRequest::Create(Box::new(order))))
    }

    fn verify(&self, pin: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::VerifyPin {
                value: secret(pin),
                reference: Reference::Pin,
            },
        ))
    }

    fn key(&self) -> u8 {
        self.key_of("card")
    }

    fn key_of(&self, card: &str) -> u8 {
        match self.ask(&new_key(card)) {
            Ok(Reply::Key(key)) => key.reference,
            other => panic!("{other:?}"),
        }
    }

    fn sign(&self, reference: u8) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::UseKey {
                pin: Some(secret(PIN)),
                reference,
                operation: Operation::SignEcdsa {
                    digest: vec![1; 32],
                },
            },
        ))
    }

    fn state(&self) -> (CardState, String) {
        match self.ask(&Request::Cards(CardsRequest::List { from: None })) {
            Ok(Reply::Cards(Page { entries: cards, .. })) => {
                (cards[0].state, cards[0].reason.clone())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A connection of the reader's to a slot.
struct Reader(Client, u8);

impl Reader {
    fn power_up(place: &Place, slot: u8) -> Self {
        Self::connect(&place.daemon.socket(), slot)
    }

    fn connect(socket: &Path, slot: u8) -> Self {
        let mut client = Client::connect(socket).unwrap();
        let action = PowerAction::Up;
        let up = Request::slot(slot, SlotRequest::Power { action });
        client.call(&up, PATIENCE).unwrap();
        Self(client, slot)
    }

    fn send(&mut self, apdu: &[u8]) -> [u8; 2] {
        let request = Request::slot(self.1, SlotRequest::Transmit { apdu: secret(apdu) });
        match self.0.call(&request, PATIENCE).unwrap() {
            Reply::Response(response) => *response.expose().last_chunk().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn sign(&mut self, key: u8) -> [u8; 2] {
        let choose = [0, 0x22, 0x41, 0xB6, 6, 0x80, 1, 0x1C, 0x84, 1, key];
        let chosen = self.send(&choose);
        if chosen != [0x90, 0x00] {
            return chosen;
        }
        self.send(&[&[0, 0x2A, 0x9E, 0x9A, 32][..], &[1; 32], &[0]].concat())
    }
}

/// Four bytes of a command or response.
fn number_at(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(message[at..at + 4].try_into().unwrap())
}

fn new_key(card: &str) -> Request {
    let request = CardRequest::GenerateKey {
        pin: Some(secret(PIN)),
        key: NewKey {
            label: None,
            class: KeyClass::Session,
            sign_only: true,
            id: None,
        },
        algorithm: cardea_terms::KeyAlgorithm::P256,
    };
    Request::card(card, request)
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

/// An object with a value of its own is guessed at until the TPM locks.
fn lock_out(place: &Place) {
    let tool = |program: &str, arguments: &[&str]| place.tpm.tpm2(program, arguments);
    let set = tool(
        "tpm2_dictionarylockout",
        &[
            "--setup-parameters",
            "--max-tries=1",
            "--recovery-time=1000",
            "--lockout-recovery-time=1000",
        ],
    );
    assert!(set.success, "{}", set.text);
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("primary").display().to_string();
    let made = tool("tpm2_createprimary", &["-p", "right", "-c", &context]);
    assert!(made.success, "{}", made.text);
    let private = folder.path().join("private").display().to_string();
    let public = folder.path().join("public").display().to_string();
    for _ in 0..2 {
        let guess = tool(
            "tpm2_create",
            &["-C", &context, "-P", "wrong", "-r", &private, "-u", &public],
        );
        assert!(!guess.success);
    }
    // There is no resource manager: what the tools have loaded takes the daemon's slots.
    assert!(tool("tpm2_flushcontext", &["-t"]).success);
}

#[test]
fn a_lockout_of_the_tpm_leaves_cards_alone_and_is_never_a_blocked_pin() {
    let place = Place::new();
    place.create("card").unwrap();
    let key = place.key();
    lock_out(&place);
    let Ok(Reply::Tpm(status)) = place.ask(&Request::Tpm(TpmRequest::Status)) else {
        panic!("no status")
    };
    assert!(status.in_lockout, "{status:?}");
    // Wrong PINs are counted, right ones accepted, keys used.
    let wrong = place.verify(b"000000").unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.tries_left),
        (FailureKind::PinWrong, Some(4))
    );
    place.verify(PIN).unwrap();
    place.sign(key).unwrap();
    // A TPM that would refuse all the same.
    place.tpm.inject(
        Trigger::command(POLICY_SECRET),
        Fault::Replace(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x21]),
    );
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Lockout);
    assert!(
        refused.message.contains("in lockout") && refused.message.contains("cardea tpm status"),
        "{}",
        refused.message
    );
    assert_eq!(place.state().0, CardState::Ready);
    // The card edge: conditions of use, not 6983.
    place.tpm.inject(
        Trigger::command(POLICY_SECRET),
        Fault::Replace(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x21]),
    );
    assert_eq!(over_the_reader(&place, &[verify_apdu()]), [[0x69, 0x85]]);
    // The administrator is told how long it lasts, and ends it.
    let told = place.daemon.cardea(&["tpm", "status"]);
    assert!(
        told.text.contains("locked for at most") && told.text.contains("tpm reset-lockout"),
        "{}",
        told.text
    );
    let ended = place.daemon.cardea(&["tpm", "reset-lockout"]);
    assert!(ended.success, "{}", ended.text);
    let Ok(Reply::Tpm(status)) = place.ask(&Request::Tpm(TpmRequest::Status)) else {
        panic!("no status")
    };
    assert!(!status.in_lockout, "{status:?}");
}

fn verify_apdu() -> Vec<u8> {
    [&[0, 0x20, 0, 0x80, 6], PIN].concat()
}

/// Status words of commands on a connection of the reader's.
fn over_the_reader(place: &Place, commands: &[Vec<u8>]) -> Vec<[u8; 2]> {
    let mut client = Client::connect(&place.daemon.socket()).unwrap();
    let limit = Duration::from_secs(60);
    let up = Request::slot(
        0,
        SlotRequest::Power {
            action: PowerAction::Up,
        },
    );
    client.call(&up, limit).unwrap();
    commands
        .iter()
        .map(|command| {
            let request = Request::slot(
                0,
                SlotRequest::Transmit {
                    apdu: secret(command),
                },
            );
            match client.call(&request, limit).unwrap() {
                Reply::Response(response) => *response.expose().last_chunk().unwrap(),
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

#[test]
fn a_tpm_that_starts_anew_or_resumes_asks_for_the_pin_again_and_no_more() {
    let place = Place::new();
    place.create("card").unwrap();
    let key = place.key();
    let choose = vec![0, 0x22, 0x41, 0xB6, 6, 0x80, 1, 0x1C, 0x84, 1, key];
    let sign = [&[0, 0x2A, 0x9E, 0x9A, 32][..], &[1; 32], &[0]].concat();
    for event in [
        PowerEvent::Cut,
        PowerEvent::Reset,
        PowerEvent::Restart,
        PowerEvent::Resume,
    ] {
        let mut client = Client::connect(&place.daemon.socket()).unwrap();
        let limit = Duration::from_secs(60);
        let up = Request::slot(
            0,
            SlotRequest::Power {
                action: PowerAction::Up,
            },
        );
        client.call(&up, limit).unwrap();
        let mut send = |apdu: &[u8]| -> [u8; 2] {
            let request = Request::slot(0, SlotRequest::Transmit { apdu: secret(apdu) });
            match client.call(&request, limit).unwrap() {
                Reply::Response(response) => *response.expose().last_chunk().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(send(&verify_apdu()), [0x90, 0x00]);
        assert_eq!(send(&choose), [0x90, 0x00]);
        assert_eq!(send(&sign), [0x90, 0x00], "{event:?}");
        place.tpm.power(event);
        assert_eq!(send(&sign), [0x69, 0x82], "{event:?}");
        assert_eq!(send(&verify_apdu()), [0x90, 0x00], "{event:?}");
        assert_eq!(send(&choose), [0x90, 0x00]);
        assert_eq!(send(&sign), [0x90, 0x00], "{event:?}");
        place.sign(key).unwrap();
        assert_eq!(place.state().0, CardState::Ready, "{event:?}");
    }
}

#[test]
fn a_cleared_tpm_is_told_and_the_card_can_only_be_removed() {
    let mut place = Place::new();
    place.create("card").unwrap();
    let key = place.key();
    let cleared = place.tpm.tpm2("tpm2_clear", &["-c", "p"]);
    assert!(cleared.success, "{}", cleared.text);
    let refused = place.sign(key).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Lost, "{refused:?}");
    place.daemon.restart();
    let (state, reason) = place.state();
    assert!(
        matches!(state, CardState::Foreign | CardState::Lost),
        "{state:?}"
    );
    assert!(
        reason.contains("cleared") || reason.contains("another TPM"),
        "{reason}"
    );
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Lost, "{refused:?}");
    let told = place.daemon.cardea(&["card", "show", "card"]);
    assert!(told.text.contains("the TPM was cleared"), "{}", told.text);
    place
        .ask(&Request::card(
            "card",
            CardRequest::Destroy { owner_auth: None },
        ))
        .unwrap();
    place.create("card").unwrap();
}

#[test]
fn an_owner_authorisation_is_asked_for_by_name() {
    let place = Place::new();
    place.create("card").unwrap();
    place
        .ask(&Request::Tpm(TpmRequest::SetHierarchyAuth {
            hierarchy: Hierarchy::Owner,
            old: secret(b""),
            new: secret(b"owner"),
        }))
        .unwrap();
    let refused = place.create("second").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Denied);
    assert!(
        refused.message.contains("owner authorisation")
            && refused.message.contains("--owner-auth-file"),
        "{}",
        refused.message
    );
    // Daily use does not need it.
    place.verify(PIN).unwrap();
    let destroy = |owner_auth: Option<&[u8]>| {
        Request::card(
            "card",
            CardRequest::Destroy {
                owner_auth: owner_auth.map(secret),
            },
        )
    };
    for wrong in [None, Some(&b"wrong"[..])] {
        let refused = place.ask(&destroy(wrong)).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Denied, "{refused:?}");
    }
    assert_eq!(place.state().0, CardState::Ready);
    place.verify(PIN).unwrap();
    place.ask(&destroy(Some(b"owner"))).unwrap();
    let Ok(Reply::Indices(Page { entries: left, .. })) =
        place.ask(&Request::Tpm(TpmRequest::ListIndices { from: None }))
    else {
        panic!("no list")
    };
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_full_tpm_is_told_and_nothing_is_left_of_the_card() {
    let place = Place::new();
    place.create("card").unwrap();
    // Large indices first, small ones into what is left.
    for size in ["2048", "256", "32", "1"] {
        while place
            .tpm
            .tpm2("tpm2_nvdefine", &["-C", "o", "-s", size])
            .success
        {}
    }
    let refused = place.create("second").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Full, "{refused:?}");
    for way in ["no room", "cardea card destroy", "cardea tpm indices"] {
        assert!(refused.message.contains(way), "{}", refused.message);
    }
    let Ok(Reply::Indices(Page { entries: left, .. })) =
        place.ask(&Request::Tpm(TpmRequest::ListIndices { from: None }))
    else {
        panic!("no list")
    };
    assert_eq!(left.len(), 1, "{left:?}");
    place.verify(PIN).unwrap();
    // An index that nobody claims is removed by its name; that of a card is not.
    let remove = |handle| {
        Request::Tpm(TpmRequest::RemoveIndex {
            handle,
            owner_auth: None,
        })
    };
    let refused = place.ask(&remove(left[0].handle)).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Denied);
    let unknown = place.ask(&remove(0x01C2_F000)).unwrap_err();
    assert_eq!(unknown.kind, FailureKind::NotFound);
}

/// Where a power cut can meet `tpm provision`: the random values are in the file whatever the TPM has, and the
/// work goes on from there.
#[test]
fn provisioning_cut_off_at_any_moment_loses_no_value() {
    let owner_set = |place: &Place| match place.ask(&Request::Tpm(TpmRequest::Status)) {
        Ok(Reply::Tpm(status)) => (status.lockout_auth_set, status.owner_auth_set),
        other => panic!("{other:?}"),
    };
    // The lockout's comes first.
    for (skip, fault, set) in [
        (0, Fault::DropBefore, (false, false)),
        (0, Fault::DropAfter, (true, false)),
        (1, Fault::DropBefore, (true, false)),
        (1, Fault::DropAfter, (true, true)),
    ] {
        let place = Place::new();
        let folder = tempfile::tempdir().unwrap();
        let safe = folder.path().join("safe").display().to_string();
        let trigger = Trigger::command(HIERARCHY_CHANGE_AUTH).after(skip);
        place.tpm.inject(trigger, fault);
        let cut = place
            .daemon
            .cardea(&["tpm", "provision", "--yes", "--out", &safe]);
        assert!(
            !cut.success && cut.text.contains("to continue with the values in"),
            "{}",
            cut.text
        );
        let content = std::fs::read_to_string(&safe).unwrap();
        assert_eq!(content.lines().count(), 2);
        assert_eq!(owner_set(&place), set);
        let (lockout, owner) = set;
        for (word, set) in [("lockout", lockout), ("owner", owner)] {
            let option = format!("--{word}-auth-file");
            let only = ["tpm", "provision", "--yes", "--only", word];
            if !set {
                let on = place
                    .daemon
                    .cardea(&[&only[..], &[&option, &safe]].concat());
                assert!(on.success, "{}", on.text);
            }
            // Whatever was set is what the file says.
            let old = format!("--old-{word}-auth-file");
            let again = [&only[..], &[&option, &safe, &old, &safe]].concat();
            let again = place.daemon.cardea(&again);
            assert!(again.success, "{}", again.text);
        }
        assert_eq!(owner_set(&place), (true, true));
    }
}
