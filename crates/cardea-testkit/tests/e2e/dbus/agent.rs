//! Agents of tests: some answer, some lie, some hang.

use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cardea_testkit::bus::{BusClient, ROOT, SERVICE, secret};
use zbus::Message;

use super::Bench;

/// Its path.
const PATH: &str = "/org/cardea/TestAgent";

/// An agent at work.
pub(super) struct Agent {
    thread: JoinHandle<()>,
    /// Purposes of what it was asked, in order.
    pub(super) asked: Receiver<String>,
}

impl Agent {
    /// Registered, and doing with each call what `serve` says, until that is false.
    pub(super) fn new(
        bench: &Bench,
        uid: u32,
        mut serve: impl FnMut(&BusClient, &Message) -> bool + Send + 'static,
    ) -> Self {
        let mut client = bench.client(uid);
        let (registered, ready) = channel();
        let (told, asked) = channel();
        let thread = std::thread::spawn(move || {
            let path = zbus::ObjectPath::try_from(PATH).unwrap();
            client.call(ROOT, "Manager.RegisterAgent", &path).unwrap();
            registered.send(()).unwrap();
            loop {
                let call = client.next("a call of the agent", |message| {
                    let header = message.header();
                    let ours = format!("{SERVICE}.Agent");
                    header.interface().is_some_and(|name| name.as_str() == ours)
                });
                let member = call.header().member().unwrap().to_string();
                let purpose = match member.as_str() {
                    "RequestPin" => {
                        let body = call.body();
                        let (_, purpose, _): (
                            zbus::OwnedObjectPath,
                            String,
                            cardea_testkit::bus::Dictionary,
                        ) = body.deserialize().unwrap();
                        purpose
                    }
                    other => other.to_owned(),
                };
                // The test may be over.
                let _ = told.send(purpose);
                if !serve(&client, &call) {
                    return;
                }
            }
        });
        ready.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { thread, asked }
    }

    /// Types these values, each for its purpose, and then leaves.
    pub(super) fn typing(bench: &Bench, uid: u32, typed: &[(&str, &[u8])]) -> Self {
        let mut typed: Vec<(String, Vec<u8>)> = typed
            .iter()
            .map(|(purpose, value)| ((*purpose).to_owned(), value.to_vec()))
            .collect();
        typed.reverse();
        Self::new(bench, uid, move |client, call| {
            let (purpose, value) = typed.pop().unwrap();
            let body = call.body();
            let (_, asked, hints): (
                zbus::OwnedObjectPath,
                String,
                cardea_testkit::bus::Dictionary,
            ) = body.deserialize().unwrap();
            assert_eq!(asked, purpose);
            assert!(
                hints.contains_key("policy") && hints.contains_key("program"),
                "{hints:?}"
            );
            reply(client, call, &secret(&value));
            !typed.is_empty()
        })
    }

    /// Says no once.
    pub(super) fn refusing(bench: &Bench, uid: u32) -> Self {
        Self::new(bench, uid, |client, call| {
            refuse(client, call, &format!("{SERVICE}.Error.Cancelled"));
            false
        })
    }

    /// It was asked everything it was there for.
    pub(super) fn done(self) {
        self.thread.join().unwrap();
    }
}

pub(super) fn reply(client: &BusClient, call: &Message, body: &zbus::OwnedFd) {
    zruntime::block_on(client.connection.reply(&call.header(), body)).unwrap();
}

pub(super) fn refuse(client: &BusClient, call: &Message, name: &str) {
    zruntime::block_on(client.connection.reply_error(&call.header(), name, &"no")).unwrap();
}
