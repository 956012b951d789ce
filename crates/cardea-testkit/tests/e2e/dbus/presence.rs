//! A card is in its reader while its owner has an active session, where logind knows sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cardea_testkit::bus::{BusClient, Dictionary, option};
use cardea_testkit::process::wait_for;
use zbus::names::WellKnownName;

use super::Bench;
use super::bench::OWNER;

const LOGIND: &str = "org.freedesktop.login1";

/// Somebody who answers as logind does: users and their states.
struct Logind {
    users: Arc<Mutex<HashMap<u32, &'static str>>>,
    connection: zbus::Connection,
}

impl Logind {
    fn start(bench: &Bench) -> Self {
        let mut client = bench.client(0);
        let name = WellKnownName::try_from(LOGIND).unwrap();
        zruntime::block_on(client.connection.request_name(name)).unwrap();
        let users: Arc<Mutex<HashMap<u32, &'static str>>> = Arc::default();
        let (known, connection) = (Arc::clone(&users), client.connection.clone());
        std::thread::spawn(move || {
            loop {
                let call = client.next("a call of logind's", |message| {
                    message.message_type() == zbus::message::Type::MethodCall
                });
                answer(&client, &call, &known.lock().unwrap());
            }
        });
        Self { users, connection }
    }

    fn set(&self, uid: u32, state: Option<&'static str>) {
        let mut users = self.users.lock().unwrap();
        match state {
            Some(state) => drop(users.insert(uid, state)),
            None => drop(users.remove(&uid)),
        }
        drop(users);
        let body = (uid, path(uid));
        let signal = self.connection.emit_signal(
            None::<&str>,
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
            "UserNew",
            &body,
        );
        zruntime::block_on(signal).unwrap();
    }
}

fn path(uid: u32) -> zbus::ObjectPath<'static> {
    let path = format!("/org/freedesktop/login1/user/_{uid}");
    zbus::ObjectPath::try_from(path).unwrap()
}

fn answer(client: &BusClient, call: &zbus::Message, users: &HashMap<u32, &'static str>) {
    let header = call.header();
    match header.member().map(|member| member.as_str()) {
        Some("ListUsers") => {
            let list: Vec<_> = users.keys().map(|uid| (*uid, "user", path(*uid))).collect();
            zruntime::block_on(client.connection.reply(&header, &list)).unwrap();
        }
        Some("Get") => {
            let asked = header.path().unwrap().to_string();
            let user = users.iter().find(|(uid, _)| path(**uid).as_str() == asked);
            let (_, state) = user.unwrap();
            let value = zbus::Variant::from(*state);
            zruntime::block_on(client.connection.reply(&header, &value)).unwrap();
        }
        _ => {}
    }
}

#[test]
fn card_is_in_its_reader_while_its_owner_is_active() {
    let bench = Bench::new();
    let bound = bench.card("bound", Dictionary::new());
    let always = bench.card("always", [option("owner", 0_u32)].into());
    let root = bench.client(0);
    let set = bench
        .daemon
        .cardea(&["card", "set", "bound", "--reader", "owner-session"]);
    assert!(set.success, "{}", set.text);
    // Nobody knows sessions here.
    assert_ne!(root.text(&bound, "Card", "ReaderName"), "");

    let logind = Logind::start(&bench);
    let expect = |what: &str, here: bool| {
        wait_for(what, || {
            root.text(&bound, "Card", "ReaderName").is_empty() != here
        });
        assert_ne!(
            root.text(&always, "Card", "ReaderName"),
            "",
            "{what}: the other one stays"
        );
    };
    logind.set(4711, Some("active"));
    expect("nobody of the owner's is here", false);
    logind.set(OWNER, Some("active"));
    expect("the owner is here", true);
    logind.set(OWNER, Some("online"));
    expect("the owner has switched to another session", false);
    logind.set(OWNER, Some("active"));
    expect("the owner is back", true);
    logind.set(OWNER, None);
    expect("the owner has left", false);
    // Through the other doors it is there all the time.
    let owner = bench.client(OWNER);
    assert_eq!(owner.text(&bound, "Card", "Status"), "ready");
    let set = bench
        .daemon
        .cardea(&["card", "set", "bound", "--reader", "always"]);
    assert!(set.success, "{}", set.text);
    expect("always", true);
}
