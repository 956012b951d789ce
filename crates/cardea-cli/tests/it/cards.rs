//! What the commands print, and what the cards are afterwards.

use insta::assert_snapshot;

use crate::support::{OTHER_USER, Place, redact};

#[test]
fn created_card_is_shown_and_listed_as_text() {
    let place = Place::new();
    let card = place.create("work", &[]);
    let show = place.run(&["card", "show", "work"]);
    assert_eq!(show.code, 0, "{show:?}");
    assert_snapshot!("show_text", redact(&show.out, &card));
    let list = place.run(&["card", "list"]);
    assert_snapshot!("list_text", redact(&list.out, &card));
    assert_eq!(list.notes(), "");
}

/// Also what a list leaves out is there.
#[test]
fn wide_list_and_card_have_everything() {
    let place = Place::new();
    let name = "a name that is longer than a list has room for, in 80 columns of a terminal";
    let card = place.create(name, &[]);
    let list = place.run(&["card", "list"]);
    assert!(!list.out.contains(name), "{list:?}");
    assert!(
        list.out.lines().all(|line| line.chars().count() <= 80),
        "{list:?}"
    );
    let wide = place.run(&["card", "list", "--wide"]);
    for part in [
        name,
        card["instance_id"].as_str().unwrap(),
        "Virtual Smart Card 00 00",
    ] {
        assert!(wide.out.contains(part), "{part}: {wide:?}");
    }
    let uri = card["uri"].as_str().unwrap();
    assert!(
        place
            .run(&["card", "show", name, "--wide"])
            .out
            .contains(uri)
    );
    assert!(!place.run(&["card", "show", name]).out.contains(uri));
}

#[test]
fn times_are_local() {
    let place = Place::new();
    place.create("work", &[]);
    let shown = |zone: &str| {
        let mut command = place.command(&["card", "show", "work"]);
        let run = crate::support::Run::of(command.env("TZ", zone).output().unwrap());
        let line = run.out.lines().find(|line| line.starts_with("created:"));
        line.unwrap().to_owned()
    };
    assert!(shown("UTC").ends_with(" UTC"));
    assert!(shown("<+0545>-5:45").ends_with(" +0545"));
    assert!(shown("no/such/zone").ends_with(" UTC"));
}

#[test]
fn created_card_is_shown_and_listed_as_json() {
    let place = Place::new();
    let card = place.create("work", &[]);
    assert_snapshot!(
        "create_json",
        redact(&serde_json::to_string_pretty(&card).unwrap(), &card)
    );
    let show = place.run(&["card", "show", "--json", card["card_id"].as_str().unwrap()]);
    assert_eq!(show.json(), card);
    let list = place.run(&["card", "list", "--json"]);
    assert_snapshot!("list_json", redact(&list.out, &card));
}

#[test]
fn creation_says_what_the_choice_of_keys_means() {
    let place = Place::new();
    let puk = place.file("puk", "87654321");
    let key = place.file("key", "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123\n");
    let pin = place.path("pin");
    let file = format!("file:{key}");
    let mut notes = String::new();
    for (number, more) in [
        vec![],
        vec!["--puk-file", &puk],
        vec!["--admin-key", "default"],
        vec!["--admin-key", &file],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("card {number}");
        let mut arguments = vec!["card", "create", "--name", &name];
        arguments.extend(["--pin-file", pin.to_str().unwrap()]);
        arguments.extend(more);
        let run = place.run(&arguments);
        assert_eq!(run.code, 0, "{run:?}");
        let options = more.join(" ").replace(place.path("").to_str().unwrap(), "");
        notes.push_str(&format!("[{options}]\n{}", run.notes()));
    }
    assert_snapshot!("creation_notes", notes);
    assert_eq!(
        place.run(&["card", "show", "--json", "card 1"]).json()["puk"]["left"],
        10
    );
    for (name, administrator) in [("card 0", false), ("card 2", true), ("card 3", true)] {
        let card = place.run(&["card", "show", "--json", name]).json();
        assert_eq!(card["administrator"], administrator, "{name}");
    }
}

#[test]
fn policy_tries_and_limits_are_set_and_shown() {
    let place = Place::new();
    let options = [
        "--pin-policy",
        "min=6,max=8,digits=required,other=disallowed",
        "--pin-tries",
        "3",
        "--puk-tries",
        "7",
        "--session-limit",
        "90m",
        "--idle-limit",
        "10m",
        "--puk-file",
        &place.file("puk", "87654321"),
    ];
    let card = place.create("strict", &options);
    let show = place.run(&["card", "show", "strict"]);
    assert_snapshot!("strict_text", redact(&show.out, &card));
    assert_snapshot!(
        "strict_json",
        redact(&serde_json::to_string_pretty(&card).unwrap(), &card)
    );
    // The policy binds later PINs too, before a try is spent.
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    for (new, part) in [
        ("12345", "5 bytes"),
        ("123456789", "6 to 8"),
        ("abcdef", "a digit"),
        ("12345ä", "non-ASCII"),
    ] {
        let new = place.file("new", new);
        let arguments = [
            "pin",
            "change",
            "strict",
            "--pin-file",
            pin,
            "--new-pin-file",
            &new,
        ];
        let run = place.run(&arguments);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(part), "{run:?}");
    }
    let card = place.run(&["card", "show", "strict", "--json"]).json();
    assert_eq!(card["pin"]["left"], 3);
}

#[test]
fn pin_against_the_policy_makes_no_card() {
    let place = Place::new();
    let pin = place.path("pin");
    let create = |options: &[&str]| {
        let mut arguments = vec!["card", "create", "--name", "x"];
        arguments.extend(["--pin-file", pin.to_str().unwrap()]);
        arguments.extend(options);
        place.run(&arguments)
    };
    for (policy, part) in [
        ("min=7", "6 bytes; it must have 7 to 127"),
        ("lower=required", "must have a lowercase letter"),
        ("digits=disallowed", "must not have digits"),
        ("min=9,max=8", "larger than max"),
        ("min=2", "from 4 to 127"),
        ("digit=required", "`digit` is unknown"),
        ("digits=yes", "not `yes`"),
        ("12345", "keyword=value"),
    ] {
        let run = create(&["--pin-policy", policy]);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(part), "{run:?}");
    }
    for options in [
        &["--pin-tries", "0"][..],
        &["--pin-tries", "256"],
        &["--puk-tries", "x"],
        &["--session-limit", "8"],
        &["--session-limit", "0s"],
        &["--session-limit", "4000d"],
        &["--idle-limit", "-1s"],
        &["--with-puk"],
        &["--puk-file", &place.file("puk", "1234567")],
    ] {
        let run = create(options);
        assert_eq!(run.code, 2, "{options:?} {run:?}");
    }
    assert_eq!(place.run(&["card", "list", "--json"]).out.trim(), "[]");
}

#[test]
fn card_in_initialisation_state_asks_for_nothing_and_says_so() {
    let place = Place::new();
    for options in [&[][..], &["--with-puk"]] {
        let mut arguments = vec!["card", "create", "--name", "fresh", "--uninitialised"];
        arguments.extend(options);
        let run = place.run(&arguments);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.err.contains("has to be personalised"), "{run:?}");
        assert!(run.out.contains("in initialisation state"), "{run:?}");
        let card = place.run(&["card", "show", "fresh", "--json"]).json();
        assert_eq!(card["uninitialised"], true);
        assert_eq!(card["puk"].is_null(), options.is_empty(), "{card}");
        assert_eq!(place.run(&["card", "destroy", "fresh", "--yes"]).code, 0);
    }
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    for options in [
        &["--pin-file", pin][..],
        &["--puk-file", pin],
        &["--puk"],
        &["--admin-key", "default"],
        &["--blank"],
    ] {
        let mut arguments = vec!["card", "create", "--name", "x", "--uninitialised"];
        arguments.extend(options);
        let run = place.run(&arguments);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains("cannot be used with"), "{run:?}");
    }
}

#[test]
fn long_secrets_warn_about_opensc() {
    let place = Place::new();
    let long = place.file("long", "1234567890123456");
    let run = place.run(&["card", "create", "--name", "x", "--pin-file", &long]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("OpenSC cannot enter"), "{run:?}");
}

#[test]
fn blank_card_is_created() {
    let place = Place::new();
    let card = place.create("blank", &["--blank", "--admin-key", "default"]);
    assert_eq!(card["state"], "ready");
}

#[test]
fn card_beyond_the_slots_warns() {
    let place = Place::with(|config| config.slots = 1);
    place.create("first", &[]);
    let second = place.create("second", &[]);
    assert!(second["reader"].is_null());
    assert!(
        second["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no reader")
    );
    let show = place.run(&["card", "show", "second"]);
    assert!(show.out.contains("no reader"), "{show:?}");
}

#[test]
fn pin_is_changed_by_files_and_by_descriptors() {
    let place = Place::new();
    place.create("work", &[]);
    let old = place.path("pin");
    let new = place.file("new", "654321\n");
    let run = place.run(&[
        "pin",
        "change",
        "work",
        "--pin-file",
        old.to_str().unwrap(),
        "--new-pin-file",
        &new,
    ]);
    assert_eq!(
        (run.code, run.notes().as_str()),
        (0, "PIN of work changed\n")
    );
    // The shell opens the descriptors, as a script would.
    let script = format!(
        "exec {} pin change work --pin-fd 3 --new-pin-fd 4 3<{new} 4<{}",
        place.program().display(),
        old.display()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("CARDEA_SOCKET", place.path("socket"))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn card_is_destroyed_after_a_yes() {
    let place = Place::new();
    place.create("work", &[]);
    let asked = place.run(&["card", "destroy", "work"]);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.err.contains("--yes"));
    let destroyed = place.run(&["card", "destroy", "work", "--yes"]);
    assert_eq!(
        (destroyed.code, destroyed.notes().as_str()),
        (0, "card work destroyed\n")
    );
    let list = place.run(&["card", "list"]);
    assert_eq!(
        (list.out.as_str(), list.notes().as_str()),
        ("", "no cards\n")
    );
}

#[test]
fn card_is_renamed_by_administrators() {
    let place = Place::new();
    let id = place.create("work", &["--owner", "daemon"])["card_id"].clone();
    let run = place.run(&["card", "rename", "work", "home office"]);
    assert_eq!(
        (run.code, run.notes().as_str()),
        (0, "card work is now home office\n")
    );
    let card = place.run(&["card", "show", "--json", "home office"]).json();
    assert_eq!(card["card_id"], id);
    assert!(
        card["uri"]
            .as_str()
            .unwrap()
            .contains("token=home%20office")
    );
    for name in ["", "a:b", " a", "a\nb", &"x".repeat(128)] {
        let run = place.run(&["card", "rename", "home office", name]);
        assert_eq!(run.code, 2, "{run:?}");
    }
    assert_eq!(place.run(&["card", "rename", "work", "other"]).code, 7);
    if let Some(run) = place.run_as_other(&["card", "rename", "home office", "mine"]) {
        assert_eq!(run.code, 6, "{run:?}");
    }
    assert_eq!(place.run(&["card", "show", "home office"]).code, 0);
}

#[test]
fn owner_sees_and_uses_only_own_cards() {
    let place = Place::new();
    place.create("roots", &[]);
    let own = place.create("own", &["--owner", "daemon"]);
    assert_eq!(own["owner"], OTHER_USER);
    let Some(list) = place.run_as_other(&["card", "list", "--json"]) else {
        return;
    };
    let names: Vec<_> = list
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(names, ["own"]);
    let run = |arguments: &[&str]| place.run_as_other(arguments).unwrap();
    assert_eq!(run(&["card", "show", "own"]).code, 0);
    // As if it were not there.
    assert_eq!(run(&["card", "show", "roots"]).code, 7);
    assert_eq!(run(&["card", "destroy", "own", "--yes"]).code, 6);
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    assert_eq!(
        run(&["card", "create", "--name", "x", "--pin-file", pin]).code,
        6
    );
    let new = place.file("new", "654321");
    let change = |card| {
        run(&[
            "pin",
            "change",
            card,
            "--pin-file",
            pin,
            "--new-pin-file",
            &new,
        ])
        .code
    };
    assert_eq!(change("roots"), 7);
    assert_eq!(change("own"), 0);
    assert_eq!(run(&["tpm", "status"]).code, 0);
}

#[test]
fn tpm_status_is_shown() {
    let place = Place::new();
    let status = place.run(&["tpm", "status", "--json"]).json();
    assert_eq!(status["manufacturer"], "IBM");
    assert_eq!(status["lockout"]["count"], 0);
    assert_eq!(status["lockout"]["locked"], false);
    let algorithms = status["algorithms"].as_array().unwrap();
    for algorithm in ["rsa-2048", "p-256"] {
        assert!(
            algorithms.iter().any(|known| known == algorithm),
            "{status}"
        );
    }
    let text = place.run(&["tpm", "status"]).out;
    for label in ["address:", "manufacturer:", "algorithms:", "lockout:"] {
        assert!(text.contains(label), "{text}");
    }
}

#[test]
fn reader_configuration_is_for_the_selected_daemon() {
    let place = Place::with(|config| config.slots = 7);
    let run = place.run(&["reader-conf", "--library", "/lib/ifd.so"]);
    let device = format!("DEVICENAME   {}:7\n", place.path("socket").display());
    assert!(run.out.contains(&device), "{run:?}");
    assert!(run.out.contains("LIBPATH      /lib/ifd.so\n"), "{run:?}");
    // With the number given, no daemon is needed.
    let run = place.run(&["--socket", "/nowhere/s", "reader-conf", "--slots", "2"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("DEVICENAME   /nowhere/s:2\n"), "{run:?}");
}
