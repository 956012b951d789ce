//! The service comes and goes: with the daemon, the bus, the agent.

use cardea_testkit::bus::{Dictionary, ROOT, SERVICE};
use cardea_testkit::process::wait_for;

use super::Bench;
use super::bench::{NEW_PIN, OWNER, PIN};
use super::pinentry::{Terminal, agent};

#[test]
fn daemon_ends_cleanly_with_calls_open() {
    let mut bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let hanging = super::agent::Agent::new(&bench, OWNER, |_, _| true);
    let client = bench.client(OWNER);
    let asking = std::thread::spawn(move || {
        let options = Dictionary::new();
        client.get::<bool, _>(&card, "Provisioning.RequestPinChange", &options)
    });
    hanging.asked.recv().unwrap();
    bench.daemon.stop();
    let refused = asking.join().unwrap().unwrap_err();
    assert!(!refused.0.is_empty(), "{refused:?}");
    let root = bench.client(0);
    assert!(!root.has_owner(SERVICE));
    bench.daemon.restart();
    bench.await_service();
}

#[test]
fn agent_comes_back_to_a_daemon_and_a_bus_that_restart() {
    let mut bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let terminal = Terminal::new();
    let agent = agent(&bench, OWNER, &terminal);
    let mut pins = [PIN, NEW_PIN];
    for round in 0..3 {
        match round {
            0 => {}
            1 => bench.daemon.restart(),
            _ => bench.bus.restart(),
        }
        bench.await_service();
        wait_for("the agent registers", || {
            agent.log().matches("registered").count() > round
        });
        let owner = bench.client(OWNER);
        let path = card.clone();
        let done = std::thread::spawn(move || {
            let options = Dictionary::new();
            owner.get::<bool, _>(&path, "Provisioning.RequestPinChange", &options)
        });
        terminal.expect("asks for the PIN");
        terminal.enter(pins[0]);
        super::pinentry::type_new(&terminal, pins[1]);
        assert_eq!(done.join().unwrap(), Ok(true));
        pins.reverse();
    }
}

#[test]
fn killed_agent_is_no_agent_and_the_next_one_is_asked() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let terminal = Terminal::new();
    let mut first = agent(&bench, OWNER, &terminal);
    let owner = bench.client(OWNER);
    let path = card.clone();
    let done = std::thread::spawn(move || {
        let options = Dictionary::new();
        owner.get::<bool, _>(&path, "Provisioning.RequestPinChange", &options)
    });
    terminal.expect("asks for the PIN");
    first.kill();
    assert_eq!(done.join().unwrap().unwrap_err().0, "NoAgent");
    let next = super::agent::Agent::typing(&bench, OWNER, &[("pin", PIN), ("new-pin", NEW_PIN)]);
    let owner = bench.client(OWNER);
    let changed = owner.get::<bool, _>(&card, "Provisioning.RequestPinChange", &Dictionary::new());
    assert_eq!(changed, Ok(true));
    next.done();
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
    let gone = owner.call(
        ROOT,
        "Manager.UnregisterAgent",
        &zbus::ObjectPath::try_from("/none").unwrap(),
    );
    assert_eq!(gone.unwrap_err().0, "NotFound");
}
