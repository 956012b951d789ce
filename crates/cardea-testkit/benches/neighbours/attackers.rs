//! Users who harm others as far as the daemon lets them. None of them has a right beyond a card of his own.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use cardea_card::gids;
use cardea_card::record::{CardId, IndexRecord, IndexRole};
use cardea_client::Client;
use cardea_client::drive::Attachment;
use cardea_client::message::{
    CardOverview, CardRequest, CardState, CardsRequest, CreateCard, KeyClass, NewContent, NewKey,
    RedirectionRequest, Reply, Request, SecretBytes,
};
use cardea_store::format::{HostKey, encode};
use cardea_terms::KeyAlgorithm;
use cardea_testkit::bus::{BusClient, Dictionary, ROOT, option, secret_option};
use cardea_testkit::rig::PIN;
use cardea_testkit::software::card_record;
use zbus::as_variant;

/// Name of the attacker's own card.
pub(crate) const LABEL: &str = "attacker";

/// Their names, and what they do.
pub(crate) const ATTACKERS: &[(&str, &str)] = &[
    (
        "idle",
        "nothing but two busy threads of the attackers' priority (what the machine itself costs)",
    ),
    ("busy", "nothing but two busy threads of ordinary priority"),
    (
        "lists",
        "960 foreign card files offered, and lists without a pause",
    ),
    ("seats", "300 connections, replaced without a pause"),
    (
        "descriptors",
        "D-Bus calls with 15 descriptors each, 16 at once",
    ),
    (
        "audit",
        "four floods of the audit: offers of invented cards, denied requests of new processes",
    ),
    ("generation", "RSA-3072 keys generated without a pause"),
    ("connections", "connections made and closed without a pause"),
    ("bodies", "D-Bus calls with 8 MiB of options, 2 at once"),
];

/// What an attacker says when the attack has begun.
pub(crate) const AT_WORK: &str = "at work";

/// A list takes no longer than this.
const LIMIT: Duration = Duration::from_secs(60);

/// Folders of foreign cards, and how many are in each.
const FOLDERS: u8 = 60;
const CARDS: u8 = 16;

/// As root: the files that an attacker brings along.
pub(crate) fn prepare(name: &str, files: &Path, uid: u32) {
    if name != "lists" || files.exists() {
        return;
    }
    std::fs::create_dir(files).unwrap();
    // Of another installation, so that its files are not this one's.
    let key = HostKey::new([9; 32]);
    let object = [&[0, 0x0B][..], &[7; 32]].concat();
    for folder in 0..FOLDERS {
        let place = files.join(folder.to_string());
        std::fs::create_dir(&place).unwrap();
        for card in 0..CARDS {
            let mut record = card_record(gids::blank_card(), 6, None);
            let mut id = [0xF0; 16];
            (id[0], id[1]) = (folder, card);
            record.id = CardId::new(id);
            record.owner = uid;
            record.tpm.srk.name.clone_from(&object);
            record.tpm.indices = vec![IndexRecord {
                role: IndexRole::Pin,
                handle: 0x01C2_0000,
                name: object.clone(),
                limit: 5,
            }];
            let target = place.join(format!("{}.card", record.id));
            std::fs::write(&target, encode(&key, &record).unwrap()).unwrap();
            chown(&target, Some(uid), Some(uid)).unwrap();
        }
        chown(&place, Some(uid), Some(uid)).unwrap();
    }
}

/// As the attacker, until it is killed.
pub(crate) fn attack(arguments: &[String]) {
    let [name, socket, bus, files] = arguments else {
        panic!("{arguments:?}")
    };
    let place = Place {
        socket: socket.into(),
        bus: bus.clone(),
        files: files.into(),
    };
    match name.as_str() {
        "busy" | "idle" => at_once(2, || {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
        }),
        "lists" => lists(&place),
        "seats" => seats(&place),
        "descriptors" => {
            let client = || BusClient::connect(&place.bus, crate::ATTACKER);
            at_once_with(16, client, |client| {
                let mut options: Dictionary = [option("admin-key", "random")].into();
                for number in 0..15 {
                    options.extend([secret_option(&format!("secret-{number}-fd"), b"x")]);
                }
                drop(client.call(ROOT, "Manager.CreateCard", &("card", options)));
            });
        }
        "audit" => audit(&place),
        "generation" => at_once(1, || {
            let mut client = Client::new(&place.socket);
            let mut ask = |request: &Request| {
                client.call_with_progress(request, Duration::from_secs(120), &mut |_| {})
            };
            match ask(&large_key()) {
                Ok(Reply::Key(key)) => drop(ask(&no_key(key.reference))),
                other => panic!("{other:?}"),
            }
        }),
        "connections" => at_once(2, || drop(UnixStream::connect(&place.socket).unwrap())),
        "bodies" => {
            let client = || BusClient::connect(&place.bus, crate::ATTACKER);
            let value = vec![7_u8; 8 << 20];
            at_once_with(2, client, |client| {
                // As it is: in a dictionary of values each byte would be one of them.
                let options = HashMap::from([("admin-kcv", as_variant::Serialize(&value))]);
                drop(client.call(ROOT, "Manager.CreateCard", &("card", options)));
            });
        }
        other => panic!("{other}"),
    }
}

struct Place {
    socket: PathBuf,
    bus: String,
    files: PathBuf,
}

/// Tells the benchmark that the attack has begun: what it needs is there, and the first request has gone through.
fn at_work() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| println!("{AT_WORK}"));
}

fn at_once(threads: usize, act: impl Fn() + Sync) {
    at_once_with(threads, || (), |()| act());
}

/// The same again and again in so many threads; whatever a call panics about, it goes on with a new client.
fn at_once_with<C>(threads: usize, client: impl Fn() -> C + Sync, act: impl Fn(&C) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let work = std::panic::AssertUnwindSafe(|| {
                        let client = client();
                        loop {
                            act(&client);
                            at_work();
                        }
                    });
                    drop(std::panic::catch_unwind(work));
                }
            });
        }
    });
}

fn lists(place: &Place) {
    let mut held = Vec::new();
    let mut refusals = Vec::new();
    for folder in 0..FOLDERS {
        // Those that are refused are tried, too.
        match Attachment::new(&place.socket, &place.files.join(folder.to_string())) {
            Ok(attached) => held.push(attached),
            Err(refused) => refusals.push(refused.to_string()),
        }
    }
    assert!(held.len() >= 2, "{} folders: {refusals:?}", held.len());
    let list = Request::Cards(CardsRequest::List { from: None });
    at_once_with(
        2,
        || RefCell::new(Client::new(&place.socket)),
        |client| drop(client.borrow_mut().call(&list, LIMIT).unwrap()),
    );
    drop(held);
}

fn seats(place: &Place) {
    let mut taken = VecDeque::new();
    loop {
        taken.extend(UnixStream::connect(&place.socket));
        if taken.len() > 300 {
            taken.pop_front();
            at_work();
        }
    }
}

fn audit(place: &Place) {
    let own = std::env::current_exe().unwrap();
    std::thread::scope(|scope| {
        for flood in 0..2_u8 {
            scope.spawn(move || offers(place, flood));
            scope.spawn(|| {
                loop {
                    let denied = Command::new(&own)
                        .arg("--denied")
                        .arg(&place.socket)
                        .stderr(Stdio::null())
                        .status();
                    drop(denied);
                }
            });
        }
    });
}

/// Cards that nobody has, others each time.
fn offers(place: &Place, flood: u8) {
    for number in 0_u64.. {
        let mut client = Client::new(&place.socket);
        let begin = RedirectionRequest::Begin {
            from: "elsewhere".into(),
            reader: false,
        };
        let cards = (0..16_u8).map(|card| CardOverview {
            card_id: format!("{flood:02x}{card:02x}{number:028x}"),
            name: format!("invented {card}"),
            state: CardState::Ready,
            reason: String::new(),
            uninitialised: false,
        });
        let offer = RedirectionRequest::Offer {
            cards: cards.collect(),
        };
        let mut call = |request, limit| client.call(&Request::Redirection(request), limit);
        if let Ok(Reply::Redirected { .. }) = call(begin, Duration::from_millis(100)) {
            // Nothing is answered to an offer that is accepted.
            drop(call(offer, Duration::from_millis(1)));
            at_work();
        }
    }
}

/// A process that asks for what it must not have.
pub(crate) fn be_denied(socket: &Path) {
    let content = NewContent::with_pin(SecretBytes::new(PIN.into()));
    let order = Box::new(CreateCard::new("card", content));
    let request = Request::Cards(CardsRequest::Create(order));
    drop(Client::new(socket).call(&request, Duration::from_secs(10)));
}

pub(crate) fn large_key() -> Request {
    Request::card(
        LABEL,
        CardRequest::GenerateKey {
            pin: Some(SecretBytes::new(PIN.into())),
            key: NewKey {
                label: Some("large".into()),
                class: KeyClass::Session,
                sign_only: false,
                id: None,
            },
            algorithm: KeyAlgorithm::Rsa3072,
        },
    )
}

pub(crate) fn no_key(reference: u8) -> Request {
    Request::card(
        LABEL,
        CardRequest::DeleteKey {
            pin: Some(SecretBytes::new(PIN.into())),
            reference,
        },
    )
}
