//! Whoever checks evidence: no daemon, no TPM.

use std::fs;
use std::path::Path;

use cardea_attest::Bundle;

use crate::support::{Place, Run};

/// The worked example of the design: a card of form S with one key, PIN limit 5, and an administrator.
fn example(name: &str) -> String {
    let data = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../cardea-attest/src/tests/data"
    );
    Path::new(data).join(name).display().to_string()
}

const NONCE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

/// Its certificates are valid then.
const THEN: [&str; 2] = ["--at", "2026-12-01T00:00:00Z"];

fn verify(place: &Place, file: &str, more: &[&str]) -> Run {
    place.run(&[&["attest", "verify", file][..], &THEN, more].concat())
}

#[test]
fn evidence_is_accepted_with_its_authority_nonce_and_rules() {
    let place = Place::without_daemon();
    let (file, authority) = (example("sealed.evidence"), example("authority.der"));
    let trust = ["--trust", &authority];
    let asked = [
        "--nonce",
        NONCE,
        "--policy",
        "pin-limit=5,level=2,generated",
    ];
    let run = verify(&place, &file, &[&trust[..], &asked].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(
        run.out
            .starts_with("accepted, level 2\n\nThe private key was made in a TPM"),
        "{run:?}"
    );
    assert!(run.out.contains("At most 5 wrong PINs in a row"), "{run:?}");
    assert!(run.out.contains("-----BEGIN PUBLIC KEY-----"), "{run:?}");
    assert!(!run.out.contains("No nonce"), "{run:?}");

    let json = verify(&place, &file, &[&trust[..], &["--json"]].concat()).json();
    assert_eq!(json["accepted"], true);
    assert_eq!(json["level"], 2);
    assert_eq!(json["fresh"], false);
    assert_eq!(json["ak_issuer"], "CN=Cardea prototype attestation CA");
    assert_eq!(json["tpm"]["model"], "swtpm");
    assert_eq!(json["pin"], serde_json::json!({ "limit": 5, "wrong": 0 }));
    assert_eq!(json["unblock"], serde_json::json!(["administrator"]));
    assert_eq!(json["keys"][0]["origin"], "generated");
    assert!(
        json["keys"][0]["spki"]
            .as_str()
            .unwrap()
            .contains("PUBLIC KEY")
    );

    // Old evidence says so, and a pinned attestation key needs no authority.
    let name = "000b5a015d9ec9e96dedaeab41bd3e6dc6687a74ee99d0cd209d9f88761e53dd42b7";
    let mut bundle = Bundle::decode(&fs::read(&file).unwrap()).unwrap();
    bundle.certificates.clear();
    bundle.note = Some("Ada's\n\u{1b}[1mcard".to_owned());
    let bare = place.path("bare.evidence");
    fs::write(&bare, bundle.encode()).unwrap();
    let pinned = verify(
        &place,
        &bare.display().to_string(),
        &["--attestation-key", name],
    );
    assert_eq!(pinned.code, 0, "{pinned:?}");
    assert!(pinned.out.contains("No nonce was asked for"), "{pinned:?}");
    assert!(
        pinned.out.contains("the TPM that the verifier has pinned"),
        "{pinned:?}"
    );
    let note = "it is not proven: Ada's";
    assert!(pinned.out.contains(note), "{pinned:?}");
    assert!(!pinned.out.contains('\u{1b}'), "{pinned:?}");
}

#[test]
fn what_is_not_shown_is_refused_with_its_code() {
    let place = Place::without_daemon();
    let (file, authority) = (example("sealed.evidence"), example("authority.der"));
    let trust = ["--trust", &authority];
    let cut = place.path("cut.evidence");
    fs::write(&cut, &fs::read(&file).unwrap()[..2000]).unwrap();
    let long = place.path("long.evidence");
    fs::write(&long, vec![0; 16 << 20]).unwrap();
    let name = "000b".to_owned() + &"00".repeat(32);
    let none: [&str; 0] = [];
    for (file, more, code) in [
        (Path::new(&file), &["--nonce", "00"][..], "nonce"),
        (Path::new(&file), &["--policy", "pin-limit=4"], "pin-limit"),
        (Path::new(&file), &["--policy", "always"], "key-class"),
        (
            Path::new(&file),
            &["--policy", "no-administrator"],
            "administrator",
        ),
        (&cut, &none, "bundle-form"),
        (&long, &none, "bundle-size"),
        (Path::new(&authority), &none, "bundle-form"),
    ] {
        let run = verify(
            &place,
            &file.display().to_string(),
            &[&trust[..], more].concat(),
        );
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{code}");
        assert!(run.err.contains(&format!("refused ({code}): ")), "{run:?}");
        let run = verify(
            &place,
            &file.display().to_string(),
            &[&trust[..], more, &["--json"]].concat(),
        );
        assert_eq!(run.code, 1);
        assert_eq!(
            (&run.json()["accepted"], &run.json()["code"]),
            (&false.into(), &code.into())
        );
    }
    let unknown = verify(&place, &file, &["--attestation-key", &name]);
    assert!(unknown.err.contains("refused (ak-chain)"), "{unknown:?}");
    let late = place.run(
        &[
            &["attest", "verify", &file][..],
            &trust,
            &["--at", "2028-01-01T00:00:00Z"],
        ]
        .concat(),
    );
    assert!(late.err.contains("refused (ak-chain)"), "{late:?}");
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_anything_is_read() {
    let place = Place::without_daemon();
    let (file, authority) = (example("sealed.evidence"), example("authority.der"));
    for (more, says) in [
        (&[][..], "--trust"),
        (
            &["--trust", &authority, "--nonce", "0"][..],
            "this is not hexadecimal",
        ),
        (
            &["--trust", &authority, "--policy", "level=3"][..],
            "there is no rule level=3",
        ),
        (
            &["--attestation-key", "000b"][..],
            "these are not 68 hexadecimal digits",
        ),
        (
            &["--trust", "/nonexistent"][..],
            "/nonexistent cannot be read",
        ),
    ] {
        let run = verify(&place, &file, more);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(says), "{run:?}");
    }
    // A file without a certificate vouches for nothing.
    let run = verify(&place, &file, &["--trust", &file]);
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
}
