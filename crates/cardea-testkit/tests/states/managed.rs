//! Behind a resource manager: what reaches the TPM for what people do, swapping included, and what becomes of the
//! connections that keys have there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardState, CardSummary, CardsRequest, CreateCard, NewContent, Page, Reference,
    Reply, Request,
};
use cardea_testkit::multiplexer::{Fault, Multiplexer, Passage, PowerEvent, Trigger};

use cardea_testkit::process::{PATIENCE, wait_for};
use cardea_testkit::rig::Daemon;

use crate::gap::{Program, sessions};
use crate::{PIN, Place, Reader, new_key, number_at, secret, verify_apdu};

const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_RANDOM: u32 = 0x17B;
const LOAD: u32 = 0x157;
const NV_READ: u32 = 0x14E;
const POLICY_RESTART: u32 = 0x180;
const POLICY_SECRET: u32 = 0x151;
const POLICY_TICKET: u32 = 0x172;
const SIGN: u32 = 0x15D;
const START_AUTH_SESSION: u32 = 0x176;

const OK: [u8; 2] = [0x90, 0x00];
const NOT_VERIFIED: [u8; 2] = [0x69, 0x82];

/// VERIFY with the reference that ends all verifications of a connection.
const SIGN_OUT: [u8; 4] = [0, 0x20, 0, 0x82];

/// Longer than the daemon waits before it does what is due.
const QUIET: Duration = Duration::from_millis(60);

/// Commands that the TPM executes: for which connection, and their codes.
#[derive(Default)]
struct Log {
    commands: Vec<(u64, u32)>,
    /// Connections that read a counter, which happens at any time, for whoever looks at the card.
    readers: BTreeSet<u64>,
}

/// Who listens to them.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<Log>>);

impl Bus {
    fn listen(tpm: &Multiplexer) -> Self {
        let bus = Self::default();
        let log = Arc::clone(&bus.0);
        tpm.interpose(
            move |client: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
                let code = number_at(command, 6);
                let mut log = log.lock().unwrap();
                log.commands.push((client, code));
                if code == NV_READ {
                    log.readers.insert(client);
                }
                drop(log);
                tpm.transact(command)
            },
        );
        bus
    }

    /// What was begun before is over, as far as that shows: nothing is done for long.
    fn settle(&self) {
        let count = || self.0.lock().unwrap().commands.len();
        loop {
            let before = count();
            std::thread::sleep(10 * QUIET);
            if count() == before {
                return;
            }
        }
    }

    /// A card's command takes these, with those that follow when nobody waits.
    fn expect(&self, expected: &[u32], about: &str, work: impl FnOnce() -> [u8; 2]) {
        self.forget();
        assert_eq!(work(), OK, "{about}");
        self.wait_until(|codes| codes == expected);
        // Whatever comes too much.
        std::thread::sleep(QUIET);
        self.wait_until(|codes| codes == expected);
        assert_eq!(self.codes(), expected, "{about}");
    }

    /// What was done since the last time takes so many at most.
    fn at_most(&self, bound: usize, about: &str) {
        std::thread::sleep(5 * QUIET);
        self.wait_until(|codes| codes.len() <= bound);
        let codes = self.codes();
        assert!(codes.len() <= bound, "{about}: {} {codes:x?}", codes.len());
        self.forget();
    }

    /// A read that is on its way is known as one when it is over.
    fn wait_until(&self, is_so: impl Fn(&[u32]) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.codes()) && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Of all connections that read no counter.
    fn codes(&self) -> Vec<u32> {
        let log = self.0.lock().unwrap();
        let commands = log.commands.iter();
        let commands = commands.filter(|(client, _)| !log.readers.contains(client));
        commands.map(|(_, code)| *code).collect()
    }

    fn forget(&self) {
        self.0.lock().unwrap().commands.clear();
    }
}

/// A command with what the resource manager does around it, for a connection with so many objects and sessions.
fn swapped(code: u32, objects: usize, sessions: usize) -> Vec<u32> {
    let mut all = vec![CONTEXT_LOAD; objects + sessions];
    all.push(code);
    for _ in 0..objects {
        all.extend([CONTEXT_SAVE, FLUSH_CONTEXT]);
    }
    all.extend(vec![CONTEXT_SAVE; sessions]);
    all
}

/// A signature, and afterwards the ticket for the next one.
fn signature() -> Vec<u32> {
    [swapped(SIGN, 1, 1), swapped(POLICY_TICKET, 1, 1)].concat()
}

/// What comes before the first one with a key: the session made and proven, the ticket, the key loaded.
fn first_use() -> Vec<u32> {
    [
        vec![START_AUTH_SESSION, CONTEXT_SAVE],
        swapped(GET_RANDOM, 0, 1),
        swapped(POLICY_TICKET, 0, 1),
        vec![
            CONTEXT_LOAD,
            LOAD,
            CONTEXT_SAVE,
            FLUSH_CONTEXT,
            CONTEXT_SAVE,
        ],
    ]
    .concat()
}

/// A card with so many keys, behind a resource manager.
fn with_keys(keys: usize) -> (Place, Vec<u8>) {
    let place = Place::with_tpm(Multiplexer::manage_resources);
    place.create("card").unwrap();
    let keys = (0..keys).map(|_| place.key()).collect();
    (place, keys)
}

#[test]
fn signatures_and_pins_cost_what_the_plan_says() {
    let (place, keys) = with_keys(5);
    let bus = Bus::listen(&place.tpm);
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), OK);
    bus.settle();
    // Nobody knows yet which key it is for. The two sessions are the channel and the one that is asked.
    let verification = swapped(POLICY_SECRET, 0, 2);
    bus.expect(&verification, "first", || reader.send(&verify_apdu()));
    for key in &keys {
        let expected = [first_use(), signature()].concat();
        bus.expect(&expected, &format!("first of {key}"), || reader.sign(*key));
    }
    // One key, and several in turn.
    for key in [4, 4, 0, 1, 2, 3, 4, 0].map(|at: usize| keys[at]) {
        bus.expect(&signature(), &format!("{key}"), || reader.sign(key));
    }
    bus.expect(&verification, "again", || reader.send(&verify_apdu()));
}

#[test]
fn key_stays_loaded_for_the_next_verification_and_its_session_is_not_armed() {
    let (place, keys) = with_keys(1);
    let bus = Bus::listen(&place.tpm);
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(keys[0]), OK);
    bus.settle();
    let restarted = swapped(POLICY_RESTART, 1, 1);
    bus.expect(&restarted, "sign-out", || reader.send(&SIGN_OUT));
    let verification = swapped(POLICY_SECRET, 0, 2);
    let armed = swapped(POLICY_TICKET, 1, 1);
    let expected = [verification, armed].concat();
    bus.expect(&expected, "next", || reader.send(&verify_apdu()));
    bus.expect(&signature(), "used", || reader.sign(keys[0]));
}

#[test]
fn cards_in_turn_cost_no_more_than_one() {
    let (place, keys) = with_keys(1);
    let bus = Bus::listen(&place.tpm);
    let mut readers = vec![(Reader::power_up(&place, 0), keys[0])];
    for slot in 1..4 {
        let name = format!("card {slot}");
        place.create(&name).unwrap();
        let key = place.key_of(&name);
        readers.push((Reader::power_up(&place, slot), key));
    }
    for (reader, key) in &mut readers {
        assert_eq!(reader.send(&verify_apdu()), OK);
        assert_eq!(reader.sign(*key), OK);
    }
    bus.settle();
    for round in 0..2 {
        for (reader, key) in &mut readers {
            bus.expect(&signature(), &format!("{round}"), || reader.sign(*key));
        }
    }
}

#[test]
fn more_keys_than_connections_take_turns() {
    let (place, keys) = with_keys(12);
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), OK);
    for key in keys.iter().chain(&keys) {
        assert_eq!(reader.sign(*key), OK, "key {key}");
    }
    let active = sessions(&place);
    assert!(
        active <= 11,
        "eight keys and three of the service's own: {active}"
    );
}

#[test]
fn whoever_has_signed_out_needs_the_pin() {
    let (place, keys) = with_keys(2);
    let mut reader = Reader::power_up(&place, 0);
    for key in &keys {
        assert_eq!(reader.send(&verify_apdu()), OK);
        assert_eq!(reader.sign(*key), OK);
        assert_eq!(reader.send(&SIGN_OUT), OK);
        assert_eq!(reader.sign(*key), NOT_VERIFIED);
    }
    // A wrong PIN is no verification, and one that follows a right one does not end that.
    let wrong = [&[0, 0x20, 0, 0x80, 6][..], b"000000"].concat();
    assert_eq!(reader.send(&wrong), [0x63, 0xC4]);
    assert_eq!(reader.sign(keys[0]), NOT_VERIFIED);
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(keys[0]), OK);
}

#[test]
fn session_armed_by_an_old_ticket_goes_on_under_a_newer_one() {
    let place = Place::with_tpm(Multiplexer::manage_resources);
    let order = CreateCard {
        session_limit: Some(2),
        ..CreateCard::new("card", NewContent::with_pin(secret(PIN)))
    };
    place
        .ask(&Request::Cards(CardsRequest::Create(Box::new(order))))
        .unwrap();
    let key = place.key();
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(key), OK);
    std::thread::sleep(Duration::from_millis(2500));
    // The old one is over. Its session was armed with it when the first signature was made.
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(key), OK);
    std::thread::sleep(Duration::from_millis(4500));
    assert_eq!(reader.sign(key), NOT_VERIFIED);
}

#[test]
fn power_that_was_away_ends_verifications_and_nothing_else() {
    let (place, keys) = with_keys(2);
    for event in [PowerEvent::Reset, PowerEvent::Cut, PowerEvent::Restart] {
        let mut reader = Reader::power_up(&place, 0);
        assert_eq!(reader.send(&verify_apdu()), OK);
        for key in &keys {
            assert_eq!(reader.sign(*key), OK);
        }
        place.tpm.power(event);
        assert_eq!(reader.sign(keys[0]), NOT_VERIFIED, "{event:?}");
        assert_eq!(reader.send(&verify_apdu()), OK, "{event:?}");
        for key in &keys {
            assert_eq!(reader.sign(*key), OK, "{event:?}");
        }
    }
}

#[test]
fn connection_that_fails_is_begun_anew() {
    let (place, keys) = with_keys(1);
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(keys[0]), OK);
    let answer = |code: u16| {
        let [high, low] = code.to_be_bytes();
        Fault::Replace(vec![0x80, 1, 0, 0, 0, 10, 0, 0, high, low])
    };
    // Out of memory, asked to send it again, a key that is no longer loaded, a self-test.
    for code in [0x902, 0x922, 0x90A] {
        place.tpm.inject(Trigger::command(SIGN), answer(code));
        assert_eq!(reader.sign(keys[0]), OK, "{code:x}");
    }
    // In an idle moment, and then twice in a row, which is told and loses nothing.
    place
        .tpm
        .inject(Trigger::command(POLICY_TICKET), answer(0x902));
    assert_eq!(reader.sign(keys[0]), OK);
    assert_eq!(reader.sign(keys[0]), OK);
    for code in [START_AUTH_SESSION, LOAD] {
        place.tpm.inject(Trigger::command(SIGN), answer(0x902));
        place.tpm.inject(Trigger::command(code), answer(0x902));
        assert_eq!(reader.sign(keys[0]), [0x64, 0x00], "{code:x}");
        assert_eq!(reader.sign(keys[0]), OK, "{code:x}");
    }
    place.tpm.inject(Trigger::command(SIGN), Fault::DropBefore);
    assert_ne!(reader.sign(keys[0]), OK);
    assert_eq!(reader.send(&verify_apdu()), OK);
    assert_eq!(reader.sign(keys[0]), OK);
}

#[test]
fn deleted_key_leaves_nothing() {
    let (place, keys) = with_keys(2);
    for key in &keys {
        place.sign(*key).unwrap();
    }
    let before = sessions(&place);
    let request = CardRequest::DeleteKey {
        pin: Some(secret(PIN)),
        reference: keys[0],
    };
    let deleted = place.ask(&Request::card("card", request));
    assert!(matches!(deleted, Ok(Reply::Done)), "{deleted:?}");
    wait_for("its session ends", || sessions(&place) < before);
    place.sign(keys[1]).unwrap();
}

/// Names how many signatures a run makes, where it is not a thousand.
const SIGNATURES: &str = "CARDEA_SIGNATURES";

/// A second daemon with a card of its own, a program with a session, and tpm2-tools: everybody's sessions and objects are
/// swapped around everybody's commands.
#[test]
fn signatures_go_on_beside_other_clients_of_the_manager() {
    let (place, keys) = with_keys(3);
    let other = Daemon::start(&place.folder.path().join("other"), &place.tpm.address(), "");
    let made = made_by(&other);
    let count = std::env::var(SIGNATURES).map_or(1000, |count| count.parse().unwrap());
    let is_over = AtomicBool::new(false);
    let (place, other, is_over) = (&place, &other, &is_over);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut reader = Reader::connect(&other.socket(), 0);
            assert_eq!(reader.send(&verify_apdu()), OK);
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(reader.sign(made), OK, "the other daemon");
            }
        });
        scope.spawn(move || {
            let mut program = Program::start(&place.tpm);
            while !is_over.load(Ordering::SeqCst) {
                program.be_saved();
                let asked = place.tpm.tpm2("tpm2_getrandom", &["8"]);
                assert!(asked.success, "{}", asked.text);
            }
        });
        let mut reader = Reader::power_up(place, 0);
        assert_eq!(reader.send(&verify_apdu()), OK);
        let failed: Vec<_> = (0..count)
            .map(|number| (number, reader.sign(keys[number % keys.len()])))
            .filter(|(_, status)| *status != OK)
            .collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(failed.is_empty(), "{failed:?}");
    });
}

/// The reference of a key on a new card of another daemon's.
fn made_by(daemon: &Daemon) -> u8 {
    let mut client = Client::connect(&daemon.socket()).unwrap();
    let mut ask = |request: &Request| client.call_with_progress(request, PATIENCE, &mut |_| {});
    let order = CreateCard::new("card", NewContent::with_pin(secret(PIN)));
    ask(&Request::Cards(CardsRequest::Create(Box::new(order)))).unwrap();
    match ask(&new_key("card")) {
        Ok(Reply::Key(key)) => key.reference,
        other => panic!("{other:?}"),
    }
}

fn ready(place: &Place) -> usize {
    match place.ask(&Request::Cards(CardsRequest::List { from: None })) {
        Ok(Reply::Cards(Page { entries: cards, .. })) => {
            let ready = |card: &&CardSummary| card.state == CardState::Ready;
            cards.iter().filter(ready).count()
        }
        other => panic!("{other:?}"),
    }
}

/// Upper bounds, with what is done when nobody waits: an unexpected command is more than one, with what is swapped.
#[test]
fn what_else_people_do_costs_no_more_than_was_counted() {
    let mut place = Place::with_tpm(Multiplexer::manage_resources);
    place.create("card").unwrap();
    let bus = Bus::listen(&place.tpm);
    bus.at_most(usize::MAX, "until now");
    place.create("another").unwrap();
    bus.at_most(105, "creation");
    place.key();
    bus.at_most(24, "first key, PIN included");
    place.key();
    bus.at_most(10, "another key");
    let change = CardRequest::ChangePin {
        old: secret(PIN),
        new: secret(b"314159"),
        reference: Reference::Pin,
    };
    place.ask(&Request::card("card", change)).unwrap();
    bus.at_most(51, "PIN changed");
    place.verify(b"000000").unwrap_err();
    bus.at_most(5, "wrong PIN");
    place.verify(b"314159").unwrap();
    bus.at_most(
        10,
        "the right one, in a channel that has to be proven first",
    );
    let mut made = 2;
    for cards in [2, 10, 30] {
        while made < cards {
            place.create(&format!("card {made}")).unwrap();
            made += 1;
        }
        place.daemon.kill();
        bus.at_most(usize::MAX, "until now");
        place.daemon.restart();
        wait_for("all cards are ready", || ready(&place) == cards);
        bus.at_most(30 + 2 * cards, &format!("start with {cards} cards"));
    }
}
