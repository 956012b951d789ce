//! Every way to fail has its exit code and says what to do.

use crate::support::Place;

#[test]
fn absent_daemon_exits_3() {
    let place = Place::without_daemon();
    let run = place.run(&["card", "list"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("cardea-daemon"), "{run:?}");
    assert_eq!(run.out, "");
}

#[test]
fn wrong_usage_exits_2() {
    let place = Place::without_daemon();
    let empty = place.file("empty", "");
    let key = place.file("key", "00");
    let key = format!("file:{key}");
    for arguments in [
        &["card"][..],
        &["card", "create"],
        &["card", "create", "--name", "x", "--pin", "123456"],
        &[
            "card",
            "create",
            "--name",
            "x",
            "--pin-file",
            "/nonexistent",
        ],
        &["card", "create", "--name", "x", "--pin-file", &empty],
        &["card", "create", "--name", "x", "--admin-key", "0102"],
        &["card", "create", "--name", "x", "--admin-key", &key],
        &[
            "card",
            "create",
            "--name",
            "x",
            "--owner",
            "no-such-user-here",
        ],
        &["reader-conf", "--slots", "15"],
        &["reader-conf", "--slots", "0"],
        &["reader-conf", "--slots", "1", "--library", "/a b"],
    ] {
        let run = place.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?} {run:?}");
    }
}

#[test]
fn secret_in_an_argument_is_not_repeated() {
    let place = Place::without_daemon();
    let run = place.run(&[
        "card",
        "create",
        "--name",
        "x",
        "--admin-key",
        "A1B2C3D4E5F60718",
    ]);
    assert_eq!(run.code, 2);
    assert!(!run.err.contains("must be A1B2"), "{run:?}");
}

#[test]
fn wrong_pin_exits_4_and_blocked_pin_5() {
    let place = Place::new();
    place.create("work", &[]);
    let wrong = place.file("wrong", "999999");
    let change = || {
        place.run(&[
            "pin",
            "change",
            "work",
            "--pin-file",
            &wrong,
            "--new-pin-file",
            &wrong,
        ])
    };
    let first = change();
    assert_eq!(first.code, 4);
    assert!(first.err.contains("4 tries left"), "{first:?}");
    for _ in 0..3 {
        assert_eq!(change().code, 4);
    }
    assert_eq!(change().code, 5);
    let blocked = change();
    assert_eq!(blocked.code, 5);
    assert!(blocked.err.contains("unblock"), "{blocked:?}");
    let show = place.run(&["card", "show", "work"]);
    assert!(show.out.contains("blocked (limit 5)"), "{show:?}");
    assert_eq!(
        place.run(&["card", "list", "--json"]).json()[0]["state"],
        "blocked"
    );
}

#[test]
fn unknown_card_exits_7_and_ambiguous_name_8() {
    let place = Place::new();
    place.create("same", &[]);
    place.create("same", &[]);
    assert_eq!(place.run(&["card", "show", "nothing"]).code, 7);
    let run = place.run(&["card", "show", "same"]);
    assert_eq!(run.code, 8);
    let id = place.run(&["card", "list", "--json"]).json()[0]["card_id"].clone();
    let id = id.as_str().unwrap();
    assert!(run.err.contains(id), "{run:?}");
    assert_eq!(place.run(&["card", "show", id]).code, 0);
    let instance = r"ROOT\SMARTCARDREADER\0001";
    assert_eq!(place.run(&["card", "show", instance]).code, 0);
}

/// None of these reads a secret first: the files are not there.
const USES: &[&[&str]] = &[
    &["pin", "verify", "work", "--pin-file", "/nonexistent"],
    &["pin", "change", "work", "--pin-file", "/nonexistent"],
    &["pin", "unblock", "work", "--puk-file", "/nonexistent"],
    &["puk", "verify", "work", "--puk-file", "/nonexistent"],
    &["admin", "challenge", "work"],
    &["key", "list", "work"],
    &["key", "import", "work", "/nonexistent"],
    &["cert", "list", "work"],
    &["cert", "import", "work", "/nonexistent"],
    &["csr", "create", "work", "--key", "81", "--subject", "CN=x"],
];

#[test]
fn card_of_another_tpm_exits_9_before_any_prompt() {
    let mut place = Place::new();
    place.create("work", &["--admin-key", "default"]);
    place.exchange_tpm();
    assert_eq!(
        place.run(&["card", "show", "work", "--json"]).json()["state"],
        "foreign"
    );
    for arguments in USES {
        let run = place.run(arguments);
        assert_eq!(run.code, 9, "{arguments:?} {run:?}");
        assert!(run.err.contains("cannot be used"), "{run:?}");
    }
}

#[test]
fn uninitialised_card_exits_2_before_any_prompt() {
    let place = Place::new();
    let create = ["card", "create", "--name", "work", "--uninitialised"];
    assert_eq!(place.run(&create).code, 0);
    for arguments in USES {
        let run = place.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?} {run:?}");
        assert!(run.err.contains("personalise it first"), "{run:?}");
    }
}

#[test]
fn values_refused_by_the_daemon_exit_2() {
    let place = Place::new();
    let short = place.file("short", "123");
    let run = place.run(&["card", "create", "--name", "x", "--pin-file", &short]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("4 to 127"), "{run:?}");
    let pin = place.path("pin");
    let long = "x".repeat(128);
    let run = place.run(&[
        "card",
        "create",
        "--name",
        &long,
        "--pin-file",
        pin.to_str().unwrap(),
    ]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn output_to_a_closed_pipe_fails_silently() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place
        .command(&["tpm", "status"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
