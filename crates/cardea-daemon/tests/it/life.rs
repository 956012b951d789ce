//! Start, stop, restart, two daemons, the service manager, a TPM that goes and comes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cardea_client::message::{
    CardRequest, CardState, CardsRequest, FailureKind, Reference, Reply, Request, TpmRequest,
};
use cardea_daemon::Daemon;
use rustix::process::Signal;

use crate::support::{
    LIMIT, PIN, Place, Process, administered, creation, destruction, secret, until,
};

#[test]
fn card_is_made_used_and_destroyed_without_a_trace_in_the_tpm() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    let card = client.create("work");
    assert_eq!(card.summary.state, CardState::Ready);
    assert_eq!(card.summary.slot, Some(0));
    assert_eq!(
        card.summary.reader.as_deref(),
        Some("Cardea Virtual Smart Card 00 00")
    );
    assert_eq!(card.summary.instance_id, "ROOT\\SMARTCARDREADER\\0000");
    assert_eq!(card.pin.unwrap().left, Some(5));
    assert!(card.puk.is_none() && !card.administrator && card.warnings.is_empty());
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
    client.done(&destruction("work"));
    assert!(client.list().is_empty());
    assert_eq!(client.slots().1, [0; 4]);
    daemon.stop();
    assert!(place.tpm.indices().is_empty());
}

#[test]
fn card_with_puk_and_admin_key_has_all_three_indices() {
    let place = Place::new();
    let daemon = place.start();
    let order = administered("full", Some(b"87654321"));
    let card = match place
        .client()
        .call(&Request::Cards(CardsRequest::Create(Box::new(order))))
    {
        Reply::Card(card) => *card,
        other => panic!("{other:?}"),
    };
    assert!(card.administrator);
    assert_eq!(card.puk.unwrap().left, Some(10));
    daemon.stop();
    assert_eq!(place.tpm.indices().len(), 3);
}

#[test]
fn restart_brings_every_card_back_into_its_slot() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    let before: Vec<_> = ["a", "b", "c"]
        .map(|name| client.create(name).summary)
        .into();
    daemon.stop();
    let _daemon = place.start();
    assert_eq!(place.client().list(), before);
}

#[test]
fn second_daemon_on_the_same_state_folder_is_refused() {
    let place = Place::new();
    let _daemon = place.start();
    let mut config = place.config();
    config.socket = place.path("other.sock");
    let error = Daemon::start(config).unwrap_err();
    assert!(error.to_string().contains("state folder"), "{error}");
    place.client().list();
}

#[test]
fn second_daemon_on_the_same_socket_is_refused_and_the_first_serves_on() {
    let place = Place::new();
    let _daemon = place.start();
    let mut config = place.config();
    config.state_dir = place.path("other");
    let error = Daemon::start(config).unwrap_err();
    assert!(error.to_string().contains("socket"), "{error}");
    place.client().list();
}

#[test]
fn stale_socket_is_replaced_and_another_file_is_not() {
    let place = Place::new();
    drop(UnixListener::bind(place.socket()).unwrap());
    let daemon = place.start();
    let mode = fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    daemon.stop();
    assert!(!place.socket().exists());
    fs::write(place.socket(), "data").unwrap();
    assert!(Daemon::start(place.config()).is_err());
    assert_eq!(fs::read(place.socket()).unwrap(), b"data");
}

#[test]
fn program_ends_cleanly_on_sigterm_and_sigint() {
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = place.spawn(None);
        process.signal(signal);
        assert!(process.wait().success());
        assert!(!place.socket().exists());
    }
}

#[test]
fn service_manager_hears_ready_watchdog_and_stopping() {
    let place = Place::new();
    let path = place.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cardea-daemon"))
        .arg("--state-dir")
        .arg(place.state_dir())
        .arg("--socket")
        .arg(place.socket())
        .arg("--tpm")
        .arg(place.tpm.address().to_string())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let receive = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert!(receive().starts_with("READY=1"));
    assert_eq!(receive(), "WATCHDOG=1");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let mut last = receive();
    while last == "WATCHDOG=1" {
        last = receive();
    }
    assert_eq!(last, "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn program_without_a_tpm_says_how_to_use_the_simulator() {
    if std::path::Path::new("/dev/tpmrm0").exists() {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_cardea-daemon"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--tpm simulator:DIR"), "{text}");
}

/// What package scripts ask before the card files go: without a TPM, without a daemon, and nothing is changed.
#[test]
fn program_names_what_remains_in_the_tpm() {
    let mut place = Place::new();
    let ask = |place: &Place| {
        let output = Command::new(env!("CARGO_BIN_EXE_cardea-daemon"))
            .arg("--remains")
            .arg("--state-dir")
            .arg(place.state_dir())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = ask(&place);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text, "no card, so nothing of Cardea is in the TPM\n");
    assert!(!place.state_dir().exists(), "looking makes nothing");

    let daemon = place.start();
    let card = place.client().create("work").summary;
    daemon.stop();
    place.tpm.kill();
    let (code, text) = ask(&place);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains(&format!("cardea card destroy {}", card.card_id)),
        "{text}"
    );
    assert!(text.contains("NV index 0x01C2"), "{text}");
}

#[test]
fn daemon_starts_without_its_tpm_and_the_card_comes_back_with_it() {
    let mut place = Place::new();
    let daemon = place.start();
    let card = place.client().create("work").summary;
    daemon.stop();
    place.tpm.kill();

    let _daemon = place.start();
    let mut client = place.client();
    let away = client.list();
    assert_eq!(away[0].state, CardState::TpmAway, "{away:?}");
    assert_eq!(away[0].slot, None);
    assert_eq!(client.kind(&creation("other")), FailureKind::NoTpm);
    assert_eq!(
        client.kind(&Request::Tpm(TpmRequest::Status)),
        FailureKind::NoTpm
    );
    assert_eq!(client.kind(&destruction("work")), FailureKind::NoTpm);

    place.tpm.restart();
    until("the card is back", || client.list() == [card.clone()]);
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
}

#[test]
fn card_works_on_after_the_tpm_was_killed_and_restarted() {
    let mut place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
    place.tpm.kill();
    until("the TPM is missed", || {
        client.list()[0].state == CardState::TpmAway
    });
    place.tpm.restart();
    until("the card is back", || {
        client.list()[0].state == CardState::Ready
    });
    until("the PIN is accepted", || client.verify(0, PIN) == 0x9000);
}

#[test]
fn cards_beyond_the_slots_have_no_reader_until_one_is_free() {
    let place = Place::new();
    let mut config = place.config();
    config.slots = 1;
    let _daemon = Daemon::start(config).unwrap();
    let mut client = place.client();
    assert!(client.create("first").warnings.is_empty());
    let second = client.create("second");
    assert_eq!(second.summary.slot, None);
    assert_eq!(second.summary.reader, None);
    assert!(second.warnings[0].contains("no reader"), "{second:?}");
    client.done(&destruction("first"));
    assert_eq!(client.show("second").summary.slot, Some(0));
}

#[test]
fn pin_is_changed_with_the_old_one_only_and_wrong_ones_cost_tries() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    let change = |old: &[u8], new: &[u8]| {
        Request::card(
            "work",
            CardRequest::ChangePin {
                old: secret(old),
                new: secret(new),
                reference: Reference::Pin,
            },
        )
    };
    client.done(&change(PIN, b"654321"));
    let wrong = client.failure(&change(PIN, b"1111"));
    assert_eq!(wrong.kind, FailureKind::PinWrong);
    assert_eq!(wrong.tries_left, Some(4));
    assert_eq!(client.kind(&change(b"654321", b"123")), FailureKind::Rule);
    assert_eq!(client.show("work").pin.unwrap().left, Some(4));
    client.power(0);
    assert_eq!(client.verify(0, b"654321"), 0x9000);
    for _ in 0..4 {
        assert_eq!(client.kind(&change(PIN, b"1111")), FailureKind::PinWrong);
    }
    assert_eq!(client.kind(&change(PIN, b"1111")), FailureKind::Blocked);
    assert_eq!(
        client.kind(&change(b"654321", b"1111")),
        FailureKind::Blocked
    );
    assert_eq!(client.list()[0].state, CardState::Blocked);
}

#[test]
fn slow_creation_does_not_hold_up_requests_without_tpm_work() {
    let place = Place::new();
    let _daemon = place.start();
    let mut maker = place.client();
    let mut other = place.client();
    let order = administered("slow", None);
    maker.send(&Request::Cards(CardsRequest::Create(Box::new(order))));
    // As soon as the first step is announced, the creation is under way.
    assert!(matches!(
        minicbor::decode(&maker.frame().unwrap()).unwrap(),
        Reply::Progress(_)
    ));
    let start = Instant::now();
    other.slots();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(maker.reply().unwrap(), Reply::Card(_)));
}

#[test]
fn log_at_its_loudest_has_no_pin_and_names_every_apdu() {
    let place = Place::new();
    let config = place.path("cardea.toml");
    fs::write(
        &config,
        format!(
            "log = 'trace'\nstate_dir = '{}'\nsocket = '{}'\ntpm = '{}'\n",
            place.state_dir().display(),
            place.socket().display(),
            place.tpm.address()
        ),
    )
    .unwrap();
    let log = place.path("log");
    let child = Command::new(env!("CARGO_BIN_EXE_cardea-daemon"))
        .arg("--config")
        .arg(&config)
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    until("the daemon serves", || {
        UnixStream::connect(place.socket()).is_ok()
    });
    let mut client = place.client();
    client.create("work");
    client.power(0);
    assert_eq!(client.verify(0, b"314159"), 0x63C4);
    assert_eq!(client.verify(0, PIN), 0x9000);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("ins_p1_p2=[20, 00, 80]"), "{log}");
    for pin in [PIN, b"314159"] {
        let hex: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{pin:?}");
        let text = String::from_utf8(pin.to_vec()).unwrap();
        for form in [hex, list.trim_matches(['[', ']']).to_owned(), text] {
            assert!(!log.to_lowercase().contains(&form), "{form} in {log}");
        }
    }
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.path("log");
    let file = fs::File::create(&path).unwrap();
    let metadata = file.metadata().unwrap();
    let mut process = place.spawn_with(|command| {
        command.env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        );
        command.stderr(file);
    });
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains("serving") && log.contains("stopped"), "{log}");
    for line in log.lines() {
        let rest = ["<3>", "<4>", "<6>"]
            .iter()
            .find_map(|level| line.strip_prefix(level));
        let rest = rest.unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(rest.trim_start().starts_with("cardea_"), "{line}");
    }
}

#[test]
fn program_leaves_no_core_dumps_locks_its_memory_and_raises_its_limit() {
    let place = Place::new();
    let process = place.spawn_with(|command| {
        // The usual soft limit.
        let limit = rustix::process::Rlimit {
            current: Some(1024),
            ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        command.stderr(Stdio::null());
    });
    let read = |name| fs::read_to_string(format!("/proc/{}/{name}", process.0.id())).unwrap();
    let limits = read("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let values: Vec<_> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"]);
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let values: Vec<_> = files.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(values[0], values[1], "soft and hard");
    if rustix::process::geteuid().is_root() {
        let status = read("status");
        let locked = status
            .lines()
            .find(|line| line.starts_with("VmLck:"))
            .unwrap();
        assert!(!locked.contains(" 0 kB"), "{locked}");
    }
}
