//! Keys: generated, imported, listed, exported, deleted.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::lines::{data, fixture, json, openssl, place, run, says, tries};
use crate::support::{Run, redact};

#[test]
fn keys_are_generated_listed_exported_and_deleted() {
    let place = place();
    let generate = "key generate work --pin-file @pin --algorithm";
    assert_eq!(
        data(
            &place,
            &format!("{generate} rsa-2048 --label mail --sign-only")
        ),
        "81\n"
    );
    let key = json(
        &place,
        &format!("{generate} p-256 --label ssh --pin-every-time --json"),
    );
    assert_eq!(key["reference"], "9E");
    assert_eq!(key["pin"], "always");
    assert!(key["certificate"].is_null() && key["container"].is_null());
    let said = says(&place, &format!("{generate} rsa-2048 --label mail"), 0);
    assert!(said.contains("key 82 \"mail\" generated"), "{said}");

    let card = json(&place, "card show work --json");
    assert_snapshot!("list_text", redact(&data(&place, "key list work"), &card));
    let list = json(&place, "key list work --json");
    let pem = list[0]["public_key"].as_str().unwrap();
    assert_eq!(list[0]["id"], "00");
    assert_eq!(list[0]["container"], 0);
    assert_eq!(list[0]["label"], "mail");
    let mut shown = list.clone();
    for key in shown.as_array_mut().unwrap() {
        key["public_key"] = "[PEM]".into();
    }
    let shown = serde_json::to_string_pretty(&shown).unwrap();
    assert_snapshot!("list_json", redact(&shown, &card));

    // By reference in either case, and by a label that is one key's.
    assert_eq!(data(&place, "key export-public work 81"), pem);
    place.file("public", pem);
    assert!(
        openssl(&[
            "pkey",
            "-pubin",
            "-noout",
            "-text",
            "-in",
            place.path("public").to_str().unwrap()
        ])
        .contains("2048")
    );
    let line = data(&place, "key export-public work ssh --format ssh");
    assert!(
        line.starts_with("ecdsa-sha2-nistp256 ") && line.ends_with(" ssh\n"),
        "{line}"
    );
    assert_eq!(
        data(&place, "key export-public work 9e --format ssh --out @line"),
        ""
    );
    assert_eq!(fs::read_to_string(place.path("line")).unwrap(), line);
    let said = says(&place, "key export-public work mail", 8);
    assert!(said.contains("reference"), "{said}");
    says(&place, "key export-public work 83", 7);
    says(&place, "key export-public work 81 --out /nonexistent/x", 1);

    // Deleting asks.
    says(&place, "key delete work 81 --pin-file @pin", 2);
    says(&place, "key delete work 85 --yes --pin-file @pin", 7);
    says(&place, "key delete work 81 --yes --pin-file @wrong", 4);
    assert_eq!(
        json(&place, "key list work --json")
            .as_array()
            .unwrap()
            .len(),
        3
    );
    says(&place, "key delete work 81 --yes --pin-file @pin", 0);
    says(&place, "key delete work mail --yes --pin-file @pin", 0);
    says(&place, "key delete work ssh --yes --pin-file @pin", 0);
    let run = run(&place, "key list work");
    assert_eq!((run.out.as_str(), run.notes().as_str()), ("", "no keys\n"));
}

#[test]
fn key_without_an_algorithm_suits_every_program() {
    let place = place();
    let key = json(&place, "key generate work --pin-file @pin --json");
    assert_eq!(key["algorithm"], "rsa-2048");
}

#[test]
fn wrong_pin_makes_no_key_and_costs_one_try() {
    let place = place();
    place.file("blank", "");
    says(&place, "key generate nothing --algorithm p-256", 7);
    for line in [
        "key generate work --algorithm rsa-1024",
        "key generate work --algorithm p-256 --sign-only --pin-file @pin",
        "key generate work --algorithm p-256 --pin-file @blank",
        "key generate work --algorithm p-256 --pin-file @pin --pin-fd 0",
    ] {
        says(&place, line, 2);
    }
    let long = "x".repeat(128);
    says(
        &place,
        &format!("key generate work --algorithm p-256 --label {long} --pin-file @pin"),
        2,
    );
    assert_eq!(tries(&place), 5);
    let wrong = "key generate work --algorithm p-256 --pin-file @wrong";
    let said = says(&place, wrong, 4);
    assert!(said.contains("4 tries left"), "{said}");
    assert_eq!(tries(&place), 4);
    for _ in 0..3 {
        says(&place, wrong, 4);
    }
    says(&place, wrong, 5);
    says(
        &place,
        "key generate work --algorithm p-256 --pin-file @pin",
        5,
    );
    assert_eq!(
        json(&place, "key list work --json"),
        Value::Array(Vec::new())
    );
}

#[test]
fn keys_are_imported_with_their_certificates() {
    let place = place();
    let import = |file: &str, options: &str| {
        says(
            &place,
            &format!("key import work %{file} --pin-file @pin{options}"),
            0,
        )
    };
    let mut said = import("modern.p12", " --passphrase-file @sesame");
    said += &import("p256.sec1.pem", " --label signing --pin-every-time");
    said += &import("p384.scrypt-default.pem", " --passphrase-file @sesame");
    said += &import("rsa3072.pkcs1.der", " --sign-only --label big");
    assert_snapshot!("import", said);
    let list = json(&place, "key list work --json");
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 4, "{list:?}");
    assert!(
        list.iter().all(|key| key["origin"] == "imported"),
        "{list:?}"
    );
    let rsa = &list[0];
    assert_eq!(rsa["label"], "Ada's key – ключ");
    assert_eq!(
        rsa["public_key"].as_str().unwrap(),
        fs::read_to_string(fixture("rsa2048.spki.pem")).unwrap()
    );
    assert!(
        rsa["certificate"]["subject"]
            .as_str()
            .unwrap()
            .contains("CN="),
        "{rsa}"
    );
    let show = data(&place, "card show work");
    assert!(show.contains("81 rsa-2048, imported"), "{show}");
    // The same key again, in another file.
    let again = says(
        &place,
        "key import work %rsa2048.pkcs8.pem --pin-file @pin",
        2,
    );
    assert!(again.contains("already has this key: 81"), "{again}");
    // An imported key signs what it should.
    let exported = data(&place, "cert export work 81");
    assert_eq!(
        exported,
        fs::read_to_string(fixture("rsa2048.cert.pem")).unwrap()
    );
    data(
        &place,
        "csr create work --key signing --subject CN=x --pin-file @pin --out @csr",
    );
    let csr = place.path("csr");
    openssl(&["req", "-verify", "-noout", "-in", csr.to_str().unwrap()]);
}

#[test]
fn files_without_a_key_cost_no_try() {
    let place = place();
    place.file("other", "open");
    place.file("text", "not a key");
    let import = |rest: &str, code| says(&place, &format!("key import work {rest}"), code);
    // Before the PIN is asked for, which would fail here.
    let mut said = import("%modern.p12 --passphrase-file @other", 4);
    said += &import("%p256.aes256.der --passphrase-file @other", 4);
    said += &import("%refused.rsa1024.pkcs8.pem", 2);
    said += &import("%refused-rsa4096.p12 --passphrase-file @sesame", 2);
    said += &import("%two-keys.p12 --passphrase-file @sesame", 2);
    said += &import("%certificates-only.p12 --passphrase-file @sesame", 2);
    said += &import("%rsa2048.cert.pem", 2);
    said += &import("@text", 2).replace(place.path("").to_str().unwrap(), "");
    said += &import("/nonexistent", 2);
    said += &import("%p256.pkcs8.pem --sign-only", 2);
    assert_snapshot!("import_refused", said);
    import("%p256.pkcs8.pem --pin-file @wrong", 4);
    assert_eq!(tries(&place), 4);
    assert_eq!(
        json(&place, "key list work --json"),
        Value::Array(Vec::new())
    );
}

#[test]
fn closed_pipe_is_not_reported() {
    let place = place();
    data(
        &place,
        "key generate work --pin-file @pin --algorithm p-256 --label k",
    );
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    says(
        &place,
        "cert self-sign work --key k --subject CN=x --pin-file @pin",
        0,
    );
    for arguments in [
        &["key", "list", "work", "--json"][..],
        &["key", "list", "work"],
        &["key", "export-public", "work", "k"],
        &["cert", "list", "work"],
        &["cert", "export", "work", "k", "--format", "der"],
        &[
            "csr",
            "create",
            "work",
            "--key",
            "k",
            "--subject",
            "CN=x",
            "--pin-file",
            pin,
        ],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(arguments).stdout(writer).output().unwrap();
        let run = Run::of(output);
        assert_eq!((run.code, run.notes().as_str()), (1, ""), "{arguments:?}");
    }
}

#[test]
fn others_see_and_use_no_keys_of_a_card_that_is_not_theirs() {
    let place = place();
    data(
        &place,
        "key generate work --pin-file @pin --algorithm p-256 --label k",
    );
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    for arguments in [
        &["key", "list", "work"][..],
        &[
            "key",
            "generate",
            "work",
            "--algorithm",
            "p-256",
            "--pin-file",
            pin,
        ],
        &["key", "delete", "work", "k", "--yes", "--pin-file", pin],
        &["cert", "list", "work"],
        &[
            "csr",
            "create",
            "work",
            "--key",
            "k",
            "--subject",
            "CN=x",
            "--pin-file",
            pin,
        ],
        &["pin", "verify", "work", "--pin-file", pin],
        &["admin", "challenge", "work"],
    ] {
        let Some(run) = place.run_as_other(arguments) else {
            return;
        };
        // As if it were not there.
        assert_eq!(run.code, 7, "{arguments:?} {run:?}");
    }
}
