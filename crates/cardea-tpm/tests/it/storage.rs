//! Storage root keys: other software's, moved, made again; a TPM of our own.

use std::path::Path;

use cardea_card::token::{KeyAlgorithm, KeyClass, KeyStore, PinReference, PrivateOperation};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::policy::{SrkForm, srk_head, srk_template};
use cardea_tpm::{CardFault, CardToken, Service};

use crate::raw::{Auth, LOCKOUT, OWNER, create_primary, evict, flush, send, sized};
use crate::support::{Kind, PIN, Swtpm, make, new_card, pin, token};

const SIGN: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[1; 32] };

fn signs(token: &mut CardToken) {
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    token.operate(&key, SIGN).unwrap();
}

/// Makes a storage key of other software persistent.
fn place(service: &Service, auth: &[u8], template: &[u8], handle: u32) {
    let key = create_primary(service, auth, template);
    evict(service, key, handle);
    flush(service, key);
}

/// A P-256 storage root key that an empty template does not make.
fn unusual() -> Vec<u8> {
    let mut template = srk_head(SrkForm::Ecc);
    template.extend_from_slice(&sized(&[7; 32]));
    template.extend_from_slice(&sized(&[8; 32]));
    template
}

#[test]
fn rsa_storage_root_key_of_other_software_is_used() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut zeros = srk_head(SrkForm::Rsa);
    zeros.extend_from_slice(&sized(&[0; 256]));
    place(&service, &[], &zeros, 0x8100_0001);
    let card = make(&service, Kind::Admin);
    assert_eq!(card.tpm.srk.handle, 0x8100_0001);
    assert_eq!(
        card.tpm.srk.template, zeros,
        "what makes it again is found out"
    );
    signs(&mut token(&service, &card));
}

#[test]
fn unsuitable_storage_key_is_left_alone() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    // One with a password, one that other programs' failures lock out.
    place(
        &service,
        b"secret",
        &srk_template(SrkForm::Ecc),
        0x8100_0001,
    );
    let mut locked_out = srk_template(SrkForm::Ecc);
    locked_out[6] &= !0x04; // noDA
    place(&service, &[], &locked_out, 0x8100_0002);
    let card = make(&service, Kind::Plain);
    assert_eq!(card.tpm.srk.handle, 0x8100_0003);
    signs(&mut token(&service, &card));
}

#[test]
fn storage_root_key_that_was_replaced_is_made_again() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let first = make(&service, Kind::Plain);
    assert_eq!(first.tpm.srk.handle, 0x8100_0001);
    evict(&service, 0x8100_0001, 0x8100_0001);
    place(&service, &[], &unusual(), 0x8100_0001);

    // Another service, as after a restart, that knows of no card yet: nobody knows how the new key was made, and
    // new cards hang from the one that a known template makes.
    drop(service);
    let service = tpm.service();
    let second = make(&service, Kind::Plain);
    assert_eq!(first.tpm.srk.name, second.tpm.srk.name);
    assert_eq!(second.tpm.srk.handle, 0x8100_0002);
    assert!(!second.tpm.srk.template.is_empty());
    let (mut one, mut two) = (token(&service, &first), token(&service, &second));
    for _ in 0..2 {
        signs(&mut one);
        signs(&mut two);
    }
    let (code, response) = send(
        &service,
        0x17A,
        &[],
        &[],
        &[0, 0, 0, 1, 0x81, 0, 0, 0, 0, 0, 0, 9],
    );
    assert_eq!((code, &response[5..9]), (0, &[0, 0, 0, 2][..]));
}

#[test]
fn cleared_tpm_is_foreign_to_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    signs(&mut token);
    let (code, _) = send(&service, 0x126, &[LOCKOUT], &[Auth::Password(&[])], &[]);
    assert_eq!(code, 0, "Clear");
    drop(service);
    drop(token);
    let service = tpm.service();
    assert!(matches!(service.check_card(&card), Err(CardFault::Foreign)));
    assert!(matches!(service.check_card(&card), Err(CardFault::Foreign)));
    let error = service
        .token(&card)
        .unwrap()
        .verify(PinReference::Pin, &pin(PIN));
    assert!(error.is_err());
}

#[test]
fn owner_authorisation_is_not_needed_in_daily_use() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let change = [Auth::Password(&[])];
    assert_eq!(
        send(&service, 0x129, &[OWNER], &change, &sized(b"owner")).0,
        0
    );
    drop(service);
    let service = tpm.service();
    assert!(service.status().unwrap().owner_auth_set);
    signs(&mut token(&service, &card));
    let error = service.prepare_card(&[], new_card(Kind::Plain)).map(drop);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("of 0x40000001"), "{text}");
}

#[test]
fn tpm_reached_over_tcp() {
    let tpm = Swtpm::start();
    // Our own listener in front, so that the port is surely ours.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("swtpm:tcp={}", listener.local_addr().unwrap());
    let socket = tpm.socket();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let upstream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut { upstream }, &mut { client })
    });
    let service = Service::start(&address.parse().unwrap()).unwrap();
    let card = make(&service, Kind::Plain);
    signs(&mut token(&service, &card));
}

/// Process ids of the `swtpm` on this state folder.
fn children(dir: &Path) -> Vec<i32> {
    let wanted = format!("dir={},", dir.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let command = std::fs::read(process.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&command)
                .contains(&wanted)
                .then_some(pid)
        })
        .collect()
}

#[test]
fn own_software_tpm_is_kept_running_and_ends_with_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let state = std::fs::canonicalize(dir.path()).unwrap().join("tpm");
    let address: cardea_tpm::Address = format!("simulator:{}", state.display()).parse().unwrap();
    let card = {
        let service = Service::start(&address).unwrap();
        let card = make(&service, Kind::Plain);
        let mut token = token(&service, &card);
        signs(&mut token);
        let [child] = children(&state)[..] else {
            panic!("one child")
        };
        let child = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        // A request finds a new child on the same state; one that meets the old one's end fails.
        let old = child.as_raw_nonzero().get();
        while children(&state).contains(&old) || service.status().is_err() {
            std::thread::yield_now();
        }
        assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
        signs(&mut token);
        card
    };
    assert_eq!(children(&state), [0i32; 0]);
    let service = Service::start(&address).unwrap();
    signs(&mut token(&service, &card));
}

/// A child of a daemon that was killed before it connected.
fn orphan(state: &Path) -> std::process::Child {
    let socket = state.join("swtpm.sock");
    let orphan = std::process::Command::new("swtpm")
        .args([
            "socket",
            "--tpm2",
            "--terminate",
            "--flags",
            "not-need-init",
        ])
        .arg("--tpmstate")
        .arg(format!("dir={},mode=0600", state.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .spawn()
        .unwrap();
    // It must listen, not only have its name; but a connection would be its last one.
    let listens =
        |line: &str| line.ends_with(&*socket.to_string_lossy()) && line.contains(" 00010000 ");
    until(|| {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        sockets.lines().any(listens)
    });
    orphan
}

fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn child_that_a_killed_daemon_left_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let state = std::fs::canonicalize(dir.path()).unwrap();
    let mut orphan = orphan(&state);
    let send = |signal| {
        let pid = rustix::process::Pid::from_child(&orphan);
        rustix::process::kill_process(pid, signal).unwrap();
    };
    send(rustix::process::Signal::STOP);
    let address = format!("simulator:{}", state.display()).parse().unwrap();
    let service = Service::start(&address).unwrap();
    std::thread::scope(|threads| {
        let status = threads.spawn(|| service.status().map(drop));
        // It ends while others are there already.
        until(|| children(&state).len() > 1);
        send(rustix::process::Signal::CONT);
        status.join().unwrap().unwrap();
    });
    orphan.wait().unwrap();
}

#[test]
fn child_that_ends_late_takes_no_socket_away() {
    let dir = tempfile::tempdir().unwrap();
    let state = std::fs::canonicalize(dir.path()).unwrap();
    let name = state.join("swtpm.sock");
    // A child that is about to end unlinks its name when another one has it.
    let late = std::os::unix::net::UnixListener::bind(&name).unwrap();
    let address = format!("simulator:{}", state.display()).parse().unwrap();
    let service = Service::start(&address).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            drop(late.accept().unwrap());
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                drop(std::fs::remove_file(&name));
            }
        });
        let status = service.status().map(drop);
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        status.unwrap();
    });
    let names = std::fs::read_dir(&state).unwrap().flatten();
    let sockets = names.filter(|entry| entry.path().extension().is_some_and(|end| end == "sock"));
    assert_eq!(sockets.count(), 1, "its own");
}

#[test]
fn temporary_software_tpms_do_not_meet_and_leave_nothing() {
    let services = [(); 2].map(|()| Service::start(&"simulator".parse().unwrap()).unwrap());
    let cards = services
        .each_ref()
        .map(|service| make(service, Kind::Plain));
    assert!(matches!(
        services[0].check_card(&cards[1]),
        Err(CardFault::Foreign)
    ));
    let folders = || {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        entries
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("cardea-simulator-")
            })
            .count()
    };
    let before = folders();
    drop(services);
    assert!(folders() < before);
}
