//! Cards whose counters are objects, on TPMs without PIN indices: what they promise, and what the TPM's lockout and the
//! card's file do to them.

use std::fs;
use std::process::Command;

use cardea_client::message::{
    Authority, CardDetails, CardRequest, CardsRequest, CounterMode, CreateCard, Failure,
    FailureKind, LockoutRoom, NewContent, Page, Reference, Reply, Request, TpmRequest,
};
use cardea_testkit::multiplexer::Profile;
use cardea_testkit::process::{Outcome, run, wait_for};
use cardea_testkit::rig::bin_dir;
use cardea_testkit::terminal::converse;

use crate::{PIN, Place, secret};

const PUK: &[u8] = b"31415926";

impl Place {
    /// With a TPM that plays a part.
    fn playing(profile: &str) -> Self {
        Self::with_part(Profile::named(profile), false)
    }

    pub(crate) fn create_in_object(&self, name: &str) -> Result<Reply, Failure> {
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: None,
            blank: false,
        };
        let order = CreateCard {
            counter_mode: Some(CounterMode::Object),
            ..CreateCard::new(name, content)
        };
        self.ask(&Request::Cards(CardsRequest::Create(Box::new(order))))
    }

    fn details(&self) -> CardDetails {
        match self.ask(&Request::card("card", CardRequest::Show)) {
            Ok(Reply::Card(details)) => *details,
            other => panic!("{other:?}"),
        }
    }

    fn failures(&self) -> u32 {
        match self.ask(&Request::Tpm(TpmRequest::Status)) {
            Ok(Reply::Tpm(status)) => status.lockout_count,
            other => panic!("{other:?}"),
        }
    }

    fn unblock(&self, puk: &[u8], new: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::UnblockPin {
                by: Authority::Puk(secret(puk)),
                new: secret(new),
            },
        ))
    }

    fn change_pin(&self, old: &[u8], new: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::ChangePin {
                old: secret(old),
                new: secret(new),
                reference: Reference::Pin,
            },
        ))
    }

    fn names(&self) -> Vec<String> {
        match self.ask(&Request::Cards(CardsRequest::List { from: None })) {
            Ok(Reply::Cards(Page { entries, .. })) => {
                entries.into_iter().map(|card| card.name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Microsoft's tool.
    fn manager(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new(bin_dir().join("tpmvscmgr"));
        run(command
            .args(words)
            .env("CARDEA_SOCKET", self.daemon.socket()))
    }

    /// Another program's failures.
    fn guess_at_another_object(&self, times: u32) {
        let tool = |program: &str, arguments: &[&str]| self.tpm.tpm2(program, arguments);
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("primary").display().to_string();
        let made = tool("tpm2_createprimary", &["-p", "theirs", "-c", &context]);
        assert!(made.success, "{}", made.text);
        let private = folder.path().join("private").display().to_string();
        let public = folder.path().join("public").display().to_string();
        let guess = ["-C", &context, "-P", "wrong", "-r", &private, "-u", &public];
        for _ in 0..times {
            assert!(!tool("tpm2_create", &guess).success);
            // There is no resource manager: what the tools have loaded takes the daemon's slots.
            assert!(tool("tpm2_flushcontext", &["-t"]).success);
        }
    }

    fn card_file(&self) -> std::path::PathBuf {
        let cards = self.daemon.state().join("cards");
        let files = fs::read_dir(cards).unwrap();
        let mut paths = files.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.extension().is_some_and(|it| it == "card"))
            .unwrap()
    }
}

/// What whoever has to choose object mode is told: how, by each door, and the price.
const OFFER: [&str; 5] = [
    "--counter-mode object",
    "/countermode OBJECT",
    "`counter-mode` over D-Bus",
    "older copy of its file",
    "as fast as the TPM's lockout allows",
];

fn offers(text: &str) {
    for words in OFFER {
        assert!(text.contains(words), "no {words} in {text}");
    }
}

#[test]
fn tpm_without_counters_is_told_and_the_card_is_made_in_objects_on_request_only() {
    let place = Place::playing("slb9665");
    let refused = place.create("card").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Full, "{refused:?}");
    assert!(
        refused.message.contains("no counters for PINs"),
        "{}",
        refused.message
    );
    offers(&refused.message);
    let order = [
        "create",
        "/name",
        "card",
        "/adminkey",
        "random",
        "/pin",
        "default",
    ];
    let refused = place.manager(&order);
    assert!(!refused.success, "{}", refused.text);
    offers(&refused.text);
    assert_eq!(place.names(), [""; 0], "nothing was made silently");
    let made = place.manager(&[&order[..], &["/generate", "/countermode", "OBJECT"]].concat());
    assert!(
        made.success && made.text.contains("Counter Mode = OBJECT"),
        "{}",
        made.text
    );
    assert!(
        made.text.contains("its file, under the TPM's lockout"),
        "{}",
        made.text
    );
    place
        .ask(&Request::card(
            "card",
            CardRequest::Destroy { owner_auth: None },
        ))
        .unwrap();

    place.create_in_object("card").unwrap();
    assert_eq!(place.details().counter_mode, Some(CounterMode::Object));
    let key = place.key();
    place.sign(key).unwrap();
    let told = place.daemon.printed(&["card", "show", "card"]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["the TPM's lockout", "30 of 30 wrong PINs of all such cards"] {
        assert!(told.contains(words), "{told}");
    }
    let json = place.daemon.printed(&["card", "show", "card", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["counter_mode"], "object");
    assert_eq!(json["lockout"]["left"], 30, "{json}");
    let uri = json["uri"].as_str().unwrap();
    assert!(uri.contains("model=TPM%20object%20card"), "{uri}");
}

/// The question is for people at a terminal, comes after the price, and no is the answer of whoever says nothing.
#[test]
fn person_at_a_terminal_is_asked_whether_the_card_shall_be_in_object_mode() {
    let place = Place::playing("slb9665");
    let pin = place.folder.path().join("pin");
    fs::write(&pin, PIN).unwrap();
    let create = |answer: &str| {
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(bin_dir().join("cardea"))
            .args(["card", "create", "--name", "card", "--pin-file"])
            .arg(&pin)
            .env("CARDEA_SOCKET", place.daemon.socket());
        converse(&mut command, &[("in object mode instead", answer)])
    };
    for (answer, code) in [("", Some(10)), ("n", Some(10)), ("y", Some(0))] {
        assert_eq!(place.names(), [""; 0], "before {answer}");
        let asked = create(answer);
        let text = &asked.outcome.text;
        assert_eq!((asked.answers, asked.outcome.code), (1, code), "{text}");
        offers(&text.replace('\n', " "));
        let (price, question) = (text.find("Its keys stay in the TPM"), text.find("[y/N]"));
        assert!(price.is_some() && price < question, "{text}");
    }
    assert_eq!(place.details().counter_mode, Some(CounterMode::Object));
    place.verify(PIN).unwrap();
}

#[test]
fn tpm_without_room_is_told_and_has_room_for_cards_in_object_mode() {
    let place = Place::new();
    assert_eq!(place.failures(), 0, "the TPM is started");
    // Large indices first, small ones into what is left.
    for size in ["2048", "256", "32", "1"] {
        while place
            .tpm
            .tpm2("tpm2_nvdefine", &["-C", "o", "-s", size])
            .success
        {}
    }
    let refused = place.create("card").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Full, "{refused:?}");
    assert!(refused.message.contains("no room"), "{}", refused.message);
    offers(&refused.message);
    place.create_in_object("card").unwrap();
    let key = place.key();
    place.sign(key).unwrap();
}

#[test]
fn pin_is_blocked_by_the_cards_own_count_and_never_by_the_lockout() {
    let mut place = Place::playing("slb9665");
    place.create_in_object("card").unwrap();
    let key = place.key();
    for left in [4, 3] {
        let wrong = place.verify(b"000000").unwrap_err();
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(left))
        );
    }
    // The count is in the file before the TPM is asked.
    place.daemon.kill();
    place.daemon.restart();
    wait_for("the card", || place.details().pin.is_some());
    for left in [2, 1] {
        let wrong = place.verify(b"000000").unwrap_err();
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(left))
        );
    }
    let last = place.verify(b"000000").unwrap_err();
    assert_eq!(
        (last.kind, last.tries_left),
        (FailureKind::Blocked, Some(0))
    );
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Blocked, "{refused:?}");
    assert_eq!(place.failures(), 5, "of 32");

    let wrong = place.unblock(b"00000000", PIN).unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.tries_left),
        (FailureKind::PinWrong, Some(9))
    );
    place.unblock(PUK, b"161803").unwrap();
    assert_eq!(place.verify(PIN).unwrap_err().tries_left, Some(4));
    place.verify(b"161803").unwrap();
    place.change_pin(b"161803", PIN).unwrap();
    place.sign(key).unwrap();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    place.sign(key).unwrap();
}

#[test]
fn cards_stay_away_from_the_lockout_and_say_how_long() {
    let place = Place::playing("pluton");
    place.create_in_object("card").unwrap();
    let room = LockoutRoom {
        left: 1,
        limit: 1,
        wait: None,
    };
    assert_eq!(place.details().lockout, Some(room));
    let few = "after 1 of them cards in object mode have to wait";
    let warned = |details: CardDetails| details.warnings.iter().any(|text| text.contains(few));
    assert!(warned(place.details()));
    let wrong = place.verify(b"000000").unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.tries_left),
        (FailureKind::PinWrong, Some(4))
    );
    for pin in [PIN, b"000000"] {
        let refused = place.verify(pin).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Lockout, "{refused:?}");
        for word in ["at most 1000 s", "near its lockout", "was not compared"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
    }
    assert_eq!(place.failures(), 1);
    let near = LockoutRoom {
        left: 0,
        limit: 1,
        wait: Some(1000),
    };
    assert_eq!(place.details().lockout, Some(near));
    let told = place.daemon.printed(&["card", "show", "card"]);
    assert!(told.contains("have to wait for at most 1000 s"), "{told}");
    assert_eq!(
        place.details().pin.and_then(|tries| tries.left),
        Some(4),
        "nothing was compared"
    );
    assert!(place.daemon.cardea(&["tpm", "reset-lockout"]).success);
    place.verify(PIN).unwrap();
    // As the warning says.
    let auth = place.folder.path().join("values").display().to_string();
    let more = [
        "tpm",
        "provision",
        "--yes",
        "--only",
        "lockout",
        "--max-tries",
    ];
    let more = [&more[..], &["32", "--out", &auth]].concat();
    let more = place.daemon.cardea(&more);
    assert!(more.success, "{}", more.text);
    assert!(!warned(place.details()), "{}", more.text);
}

/// Wrong PINs until the daemon calls the PIN blocked; a wait is ended by the administrator, who is not asked for
/// anything else.
fn block_over(profile: &str, waits: u32) {
    let place = Place::playing(profile);
    place.create_in_object("card").unwrap();
    let (mut left, mut waited) = (5, 0);
    while left > 0 {
        let wrong = place.verify(b"000000").unwrap_err();
        match wrong.kind {
            FailureKind::Lockout => {
                waited += 1;
                assert_eq!(place.details().pin.and_then(|tries| tries.left), Some(left));
                assert!(place.daemon.cardea(&["tpm", "reset-lockout"]).success);
            }
            FailureKind::Blocked | FailureKind::PinWrong => {
                left -= 1;
                assert_eq!(wrong.tries_left, Some(left), "{profile}: {wrong:?}");
            }
            _ => panic!("{profile}: {wrong:?}"),
        }
        let Ok(Reply::Tpm(status)) = place.ask(&Request::Tpm(TpmRequest::Status)) else {
            panic!("no status")
        };
        assert!(!status.in_lockout, "{profile}: {status:?}");
    }
    assert_eq!(waited, waits, "{profile}");
    let blocked = place.verify(PIN).unwrap_err();
    assert_eq!(blocked.kind, FailureKind::Blocked, "{profile}: {blocked:?}");
    assert!(place.daemon.cardea(&["tpm", "reset-lockout"]).success);
    place.unblock(PUK, PIN).unwrap();
    place.verify(PIN).unwrap();
}

#[test]
fn five_wrong_pins_block_whatever_number_locks_the_tpm() {
    // Three failures lock it, ten, thirty-two.
    block_over("amd-6", 4);
    block_over("npct65x", 0);
    block_over("ptt-303", 0);
}

#[test]
fn failures_of_other_programs_keep_the_card_waiting_and_spend_none_of_its_tries() {
    let place = Place::playing("npct65x");
    place.create_in_object("card").unwrap();
    let wrong = place.verify(b"000000").unwrap_err();
    assert_eq!(wrong.tries_left, Some(4));
    place.verify(PIN).unwrap();
    assert_eq!(place.failures(), 1, "a correct PIN does not lower it");
    place.guess_at_another_object(6);
    assert_eq!(place.details().lockout.map(|room| room.left), Some(1));
    place.verify(PIN).unwrap();
    place.guess_at_another_object(1);
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Lockout, "{refused:?}");
    assert!(
        refused.message.contains("at most 7200 s"),
        "{}",
        refused.message
    );
    assert_eq!(place.failures(), 8, "two are left to them");
    assert_eq!(place.details().pin.and_then(|tries| tries.left), Some(5));
    place.guess_at_another_object(1);
    let room = place.details().lockout.unwrap();
    assert_eq!(room.wait, Some(14400), "two failures have to go");
}

/// What object mode cannot promise, and says.
#[test]
fn older_file_brings_the_older_pin_back() {
    let mut place = Place::playing("slb9665");
    place.create_in_object("card").unwrap();
    let path = place.card_file();
    let older = fs::read(&path).unwrap();
    place.change_pin(PIN, b"161803").unwrap();
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::PinWrong);
    place.daemon.kill();
    fs::write(&path, older).unwrap();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
}

#[test]
fn destroyed_card_leaves_nothing_and_ten_have_room() {
    let place = Place::playing("ptt-303");
    for number in 0..10 {
        place.create_in_object(&format!("card {number}")).unwrap();
    }
    for number in 0..10 {
        let destroy = CardRequest::Destroy { owner_auth: None };
        place
            .ask(&Request::card(format!("card {number}"), destroy))
            .unwrap();
    }
    let files = fs::read_dir(place.daemon.state().join("cards")).unwrap();
    assert_eq!(files.count(), 0);
}
