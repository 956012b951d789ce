//! Each fault, produced one at a time, is found and has its command.

mod remote_cards;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use cardea_client::message::MARK;
use serde_json::Value;

use crate::support::Place;

const BUS_POLICY: &str = "/usr/share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf";
const ACTIONS: &str = "/usr/share/polkit-1/actions/org.cardea.virtualsmartcard.policy";

/// A machine on which nothing is wrong, below a folder.
pub(crate) fn machine(place: &Place) -> String {
    let root = place.path("root");
    let socket = place.path("socket");
    let handler = "/usr/lib/pcsc/drivers/serial/libifdcardea.so";
    let module = "/usr/lib/x86_64-linux-gnu/pkcs11/libcardea_pkcs11.so";
    // What a linker leaves of a program's texts.
    let library = format!("\u{7f}ELF other text{MARK}more text");
    let entry = format!(
        "FRIENDLYNAME \"Cardea Virtual Smart Card\"\nDEVICENAME   {}:4\nLIBPATH      {handler}\n",
        socket.display()
    );
    for (path, content) in [
        ("/etc/reader.conf.d/cardea", entry.as_str()),
        (handler, &library),
        (module, &library),
        (BUS_POLICY, ""),
        (ACTIONS, ""),
        (
            "/usr/share/p11-kit/modules/cardea.module",
            &format!("module: {module}\n"),
        ),
        ("/run/pcscd/pcscd.comm", ""),
        ("/dev/tpmrm0", ""),
    ] {
        write(&root, path, content);
    }
    root.to_str().unwrap().to_owned()
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Programs that change something. What only shows more is not a command that mends.
const MENDS: [&str; 8] = [
    "cardea pin unblock",
    "cardea reader-conf >",
    "cardea tpm provision",
    "chmod ",
    "mv ",
    "printf ",
    "sed -i ",
    "systemctl ",
];

/// Names of what is not fine, with their commands; the exit code.
fn look(place: &Place, root: &str) -> (i32, Vec<(String, String)>) {
    let run = place.run(&["doctor", "--json", "--root", root]);
    let findings = run.json();
    let not_fine = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["weight"] != "fine")
        .map(|finding| {
            let command = finding["command"].as_str().unwrap_or_default();
            assert!(
                command.is_empty() || MENDS.iter().any(|mends| command.starts_with(mends)),
                "{finding}"
            );
            (
                finding["name"].as_str().unwrap().to_owned(),
                command.to_owned(),
            )
        })
        .collect();
    (run.code, not_fine)
}

/// That this is found, by its name, and what mends it.
fn finds(place: &Place, root: &str, name: &str, command: &str) {
    let (code, found) = look(place, root);
    let finding = found.iter().find(|(known, _)| known == name);
    let (_, own) = finding.unwrap_or_else(|| panic!("{name} in {found:?}"));
    assert!(own.contains(command), "{name}: {own}");
    assert!(code == 0 || code == 1, "{code}");
}

#[test]
fn faults_of_files_are_found_one_at_a_time() {
    let place = Place::new();
    let root = machine(&place);
    // A software TPM has no authorisations.
    assert_eq!(
        look(&place, &root),
        (
            0,
            vec![
                (
                    "tpm-open".into(),
                    "cardea tpm provision --out NEW-FILE".into()
                ),
                // The tests have no bus.
                ("polkit-away".into(), "systemctl start polkit".into()),
            ]
        )
    );
    let folder = Path::new(&root);
    let restored = |path: &str, change: &dyn Fn(&Path), name: &str, command: &str| {
        let file = folder.join(path.trim_start_matches('/'));
        let before = fs::read(&file).ok();
        change(&file);
        finds(&place, &root, name, command);
        match before {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let put = |content: &'static str| {
        move |path: &Path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    };
    let renew = "cardea reader-conf > /etc/reader.conf.d/cardea";
    restored(
        "/etc/reader.conf.d/cardea",
        &remove,
        "reader-missing",
        renew,
    );
    // As a removal of the package leaves it. pcscd passes over it.
    let hide = |path: &Path| fs::rename(path, path.with_file_name(".cardea")).unwrap();
    restored("/etc/reader.conf.d/cardea", &hide, "reader-missing", renew);
    restored(
        "/usr/lib/pcsc/drivers/serial/libifdcardea.so",
        &remove,
        "reader-library",
        "",
    );
    let elsewhere = put("DEVICENAME /s:4\nLIBPATH /old/libifdcardea.so\n");
    restored(
        "/etc/reader.conf.d/cardea",
        &elsewhere,
        "reader-library",
        renew,
    );
    let other =
        put("DEVICENAME /run/other.sock:4\nLIBPATH /usr/lib/pcsc/drivers/serial/libifdcardea.so\n");
    restored("/etc/reader.conf.d/cardea", &other, "reader-socket", renew);
    let handler = "/usr/lib/pcsc/drivers/serial/libifdcardea.so";
    let older = put("text cardea-socket-version=0;text");
    restored(handler, &older, "reader-version", "");
    restored(handler, &put("none"), "reader-version", "");
    restored(BUS_POLICY, &remove, "bus-policy", "");
    restored(ACTIONS, &remove, "polkit-actions", "");
    let fewer = |path: &Path| {
        let text = fs::read_to_string(path).unwrap().replace(":4", ":2");
        fs::write(path, text).unwrap();
    };
    restored("/etc/reader.conf.d/cardea", &fewer, "reader-slots", renew);
    restored(
        "/run/pcscd/pcscd.comm",
        &remove,
        "pcscd-down",
        "pcscd.socket",
    );
    restored(
        "/usr/share/p11-kit/modules/cardea.module",
        &remove,
        "module-missing",
        "",
    );
    let module = "/usr/lib/x86_64-linux-gnu/pkcs11/libcardea_pkcs11.so";
    restored(module, &remove, "module-path", "");
    restored(module, &older, "module-version", "");
    let opensc = put("module: opensc-pkcs11.so\n");
    restored(
        "/usr/share/p11-kit/modules/opensc-pkcs11.module",
        &opensc,
        "module-twice",
        "ignored_readers",
    );
    assert_eq!(look(&place, &root).0, 0, "all is as before");
}

#[test]
fn second_registration_of_the_module_is_found() {
    let place = Place::new();
    let root = machine(&place);
    let other = "/etc/pkcs11/modules/mine.module";
    write(
        Path::new(&root),
        other,
        "module: /opt/libcardea_pkcs11.so\n",
    );
    finds(
        &place,
        &root,
        "module-registered-twice",
        &format!("mv {other} {other}.disabled"),
    );
    // A file of the same name stands for the other one.
    fs::remove_file(Path::new(&root).join(&other[1..])).unwrap();
    write(
        Path::new(&root),
        "/etc/pkcs11/modules/cardea.module",
        "module: libcardea_pkcs11.so\n",
    );
    let (_, found) = look(&place, &root);
    assert!(
        !found.iter().any(|(name, _)| name.starts_with("module-")),
        "{found:?}"
    );
}

#[test]
fn opensc_that_leaves_our_reader_alone_is_fine() {
    let place = Place::new();
    let root = machine(&place);
    let folder = Path::new(&root);
    write(
        folder,
        "/usr/share/p11-kit/modules/opensc-pkcs11.module",
        "module: opensc-pkcs11.so\n",
    );
    finds(&place, &root, "module-twice", "opensc.conf");
    // The command that it says, below the same root.
    let (_, found) = look(&place, &root);
    let (_, command) = found
        .iter()
        .find(|(name, _)| name == "module-twice")
        .unwrap();
    fs::create_dir_all(folder.join("etc/opensc")).unwrap();
    let command = command.replace("/etc/", &format!("{root}/etc/"));
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success()
    );
    let (_, found) = look(&place, &root);
    assert!(
        !found.iter().any(|(name, _)| name == "module-twice"),
        "{found:?}"
    );
}

#[test]
fn service_whose_login_ends_after_a_time_is_found() {
    let place = Place::new();
    let root = machine(&place);
    let is_found = || {
        let (_, found) = look(&place, &root);
        found
            .iter()
            .any(|(name, _)| name == "service-session-limit")
    };
    let card = place.create("default", &["--owner", "33"]);
    assert_eq!(card["session_limit"], 315_360_000);
    place.create("root", &["--session-limit", "8h"]);
    assert!(!is_found());
    place.create("limited", &["--owner", "33", "--session-limit", "8h"]);
    assert!(is_found());
}

#[test]
fn missing_daemon_and_tpm_are_found() {
    let place = Place::without_daemon();
    let root = machine(&place);
    finds(&place, &root, "daemon-down", "systemctl restart cardea");
    fs::remove_file(Path::new(&root).join("dev/tpmrm0")).unwrap();
    let (code, found) = look(&place, &root);
    assert_eq!(code, 1);
    assert!(
        found.iter().any(|(name, _)| name == "tpm-absent"),
        "{found:?}"
    );
}

#[test]
fn daemon_of_another_version_is_found() {
    let place = Place::without_daemon();
    let root = machine(&place);
    let listener = UnixListener::bind(place.path("socket")).unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        // Magic, and version 99.
        let hello = [
            0xA2, 0x00, 0x66, b'c', b'a', b'r', b'd', b'e', b'a', 0x01, 0x18, 99,
        ];
        let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &hello].concat()).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    finds(&place, &root, "daemon-version", "systemctl restart cardea");
    other.join().unwrap();
}

#[test]
fn states_of_cards_are_shown() {
    let mut place = Place::new();
    let root = machine(&place);
    let card = place.create("work", &["--admin-key", "default"]);
    let wrong = place.file("wrong", "999999");
    for _ in 0..5 {
        place.run(&["pin", "verify", "work", "--pin-file", &wrong]);
    }
    finds(
        &place,
        &root,
        "card-blocked",
        &format!("cardea pin unblock {}", card["card_id"].as_str().unwrap()),
    );
    for number in 0..4 {
        place.create(&format!("more {number}"), &[]);
    }
    finds(&place, &root, "slots-full", "slots = 5");
    place.exchange_tpm();
    // Destroying is not a command that mends anything: the text says what comes first.
    let findings = place.run(&["doctor", "--json", "--root", &root]).json();
    let foreign: Vec<&Value> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["name"] == "card-foreign")
        .collect();
    assert_eq!(foreign.len(), 5, "{findings}");
    for finding in foreign {
        let text = finding["text"].as_str().unwrap();
        assert!(finding["command"].is_null(), "{finding}");
        assert!(
            text.contains("full power cycle") && text.contains("cannot be undone"),
            "{text}"
        );
    }
}

#[test]
fn user_of_pcscd_that_is_configured_or_usual_is_fine() {
    let place = Place::new();
    let root = machine(&place);
    let folder = Path::new(&root);
    let is_found = |status: &str, configuration: &str| {
        write(folder, "/proc/7/status", status);
        write(folder, "/etc/cardea/cardea.toml", configuration);
        let (_, found) = look(&place, &root);
        found.iter().any(|(name, _)| name == "pcscd-user")
    };
    let bin = "Name:\tpcscd\nUid:\t0\t2\t2\t2\n";
    assert!(is_found(bin, "slots = 4\n"));
    finds(&place, &root, "pcscd-user", "pcscd_user = \"bin\"");
    assert!(is_found(bin, "pcscd_user = \"daemon\"\n"));
    assert!(!is_found(bin, "pcscd_user = \"bin\"\n"));
    assert!(!is_found(bin, "pcscd_uid = 2\n"));
    assert!(!is_found("Name:\tpcscd\nUid:\t0\t0\t0\t0\n", ""));
    assert!(!is_found("Name:\tsshd\nUid:\t2\t2\t2\t2\n", ""));
}

#[test]
fn marks_are_ascii_where_the_locale_is() {
    let place = Place::new();
    let root = machine(&place);
    for (locale, mark) in [("C", "+ the daemon"), ("C.UTF-8", "✓ the daemon")] {
        let mut command = place.command(&["doctor", "--root", &root]);
        let run = crate::support::Run::of(command.env("LC_ALL", locale).output().unwrap());
        assert!(run.out.starts_with(mark), "{locale}: {}", run.out);
    }
}

#[test]
fn people_read_it_in_lines() {
    let place = Place::new();
    let root = machine(&place);
    let run = place.run(&["doctor", "--root", &root]);
    let text = run.out.replace(&root, "");
    insta::assert_snapshot!("doctor_text", text);
    let json: Value = place.run(&["doctor", "--json", "--root", &root]).json();
    for finding in json.as_array().unwrap() {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["command", "name", "text", "weight"]);
    }
}
