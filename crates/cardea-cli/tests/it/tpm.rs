//! Care of the TPM: authorisations, lockout, indices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cardea_attest::{EkTrust, EkVoucher, EndorsementKey};
use cardea_pki::{Certificate, PathCertificate};
use cardea_testkit::swtpm::deliver;

use crate::support::Place;

#[test]
fn provisioned_authorisations_are_in_the_file_before_they_are_in_the_tpm_and_work_from_it() {
    let place = Place::new();
    place.create("before", &[]);
    let safe = place.path("safe").display().to_string();
    // Random values need a place to go to; nothing was set.
    let refused = place.run(&["tpm", "provision", "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("--out"), "{}", refused.err);
    let status = place.run(&["tpm", "status", "--json"]).json();
    assert_eq!(status["owner_auth_set"], false);

    let done = place.run(&["tpm", "provision", "--yes", "--out", &safe]);
    assert_eq!(done.code, 0, "{}", done.err);
    let mode = std::fs::metadata(&safe).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = place.run(&["tpm", "status", "--json"]).json();
    assert_eq!(status["owner_auth_set"], true);
    assert_eq!(status["lockout_auth_set"], true);
    // Never over another file.
    let again = place.run(&["tpm", "provision", "--yes", "--out", &safe]);
    assert_eq!(again.code, 2, "{}", again.err);

    let pin = place.file("pin", "271828");
    let create = ["card", "create", "--name", "after", "--pin-file", &pin];
    let refused = place.run(&create);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(refused.err.contains("--owner-auth-file"), "{}", refused.err);
    let wrong = place.file("wrong", "guess");
    let refused = place.run(&[&create[..], &["--owner-auth-file", &wrong]].concat());
    assert_eq!(refused.code, 6, "{}", refused.err);
    let made = place.run(&[&create[..], &["--owner-auth-file", &safe]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let destroy = ["card", "destroy", "before", "--yes"];
    assert_eq!(place.run(&destroy).code, 6);
    let gone = place.run(&[&destroy[..], &["--owner-auth-file", &safe]].concat());
    assert_eq!(gone.code, 0, "{}", gone.err);

    // What can only be wrong is not tried: the right one is still taken.
    let missing = place.run(&["tpm", "reset-lockout"]);
    assert_eq!(missing.code, 6, "{}", missing.err);
    assert!(
        missing.err.contains("--lockout-auth-file"),
        "{}",
        missing.err
    );
    let reset = place.run(&["tpm", "reset-lockout", "--lockout-auth-file", &safe]);
    assert_eq!(reset.code, 0, "{}", reset.err);
    let refused = place.run(&["tpm", "reset-lockout", "--lockout-auth-file", &wrong]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(
        refused.err.contains("refuses even the correct one"),
        "{}",
        refused.err
    );

    // Given values in place of the random ones; the present one is asked for by name, before there is a file.
    let own = place.file("own", "hex:00112233");
    let new = place.path("new").display().to_string();
    let provision = ["tpm", "provision", "--only", "owner", "--yes"];
    let provision = |further: &[&str]| place.run(&[&provision[..], further].concat());
    let refused = provision(&["--out", &new]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("--old-owner-auth-file"),
        "{}",
        refused.err
    );
    assert!(!place.path("new").exists());
    // A wrong one: the file is there, the TPM as it was, and both are told.
    let refused = provision(&["--out", &new, "--old-owner-auth-file", &wrong]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(
        refused.err.contains("set so far: nothing") && refused.err.contains(&new),
        "{}",
        refused.err
    );
    let changed = provision(&["--owner-auth-file", &own, "--old-owner-auth-file", &safe]);
    assert_eq!(changed.code, 0, "{}", changed.err);
    let gone = place.run(&[
        "card",
        "destroy",
        "after",
        "--yes",
        "--owner-auth-file",
        &own,
    ]);
    assert_eq!(gone.code, 0, "{}", gone.err);
}

#[test]
fn files_of_authorisations_are_read_for_what_they_are() {
    let place = Place::new();
    let pin = place.file("pin", "271828");
    for (content, says) in [
        ("lockout-auth hex:0011\n", "another authorisation"),
        ("hex:0g", "hexadecimal"),
        ("", "0 bytes"),
        ("0123456789abcdef0123456789abcdef0", "33 bytes"),
    ] {
        let file = place.file("auth", content);
        let create = ["card", "create", "--name", "card", "--pin-file", &pin];
        let refused = place.run(&[&create[..], &["--owner-auth-file", &file]].concat());
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(says), "{content:?}: {}", refused.err);
    }
    // There is none: what was given is not tried.
    let file = place.file("auth", "hex:0011");
    let reset = place.run(&["tpm", "reset-lockout", "--lockout-auth-file", &file]);
    assert_eq!(reset.code, 2, "{}", reset.err);
    assert!(
        reset.err.contains("no lockout authorisation"),
        "{}",
        reset.err
    );
    assert_eq!(place.run(&["tpm", "reset-lockout"]).code, 0);
}

#[test]
fn lockout_parameters_are_set_and_shown() {
    let place = Place::new();
    let safe = place.path("safe").display().to_string();
    let done = place.run(&[
        "tpm",
        "provision",
        "--yes",
        "--only",
        "lockout",
        "--out",
        &safe,
        "--max-tries",
        "9",
        "--recovery-time",
        "10m",
        "--lockout-recovery-time",
        "1h",
    ]);
    assert_eq!(done.code, 0, "{}", done.err);
    let lockout = &place.run(&["tpm", "status", "--json"]).json()["lockout"];
    assert_eq!(
        (&lockout["max"], &lockout["recovery_seconds"]),
        (&9.into(), &600.into())
    );
    assert_eq!(lockout["auth_recovery_seconds"], 3600);
    let text = place.run(&["tpm", "status"]).out;
    assert!(text.contains("one forgotten every 600 s"), "{text}");
    assert!(text.contains("disables it for 3600 s"), "{text}");
    // One alone: the others stay, and so does the authorisation.
    let own = place.file("own", "hex:00112233");
    let changed = place.run(&[
        "tpm",
        "provision",
        "--yes",
        "--only",
        "lockout",
        "--old-lockout-auth-file",
        &safe,
        "--lockout-auth-file",
        &safe,
        "--lockout-recovery",
        "2h",
    ]);
    assert_eq!(changed.code, 0, "{}", changed.err);
    let lockout = &place.run(&["tpm", "status", "--json"]).json()["lockout"];
    assert_eq!(lockout["max"], 9);
    assert_eq!(lockout["auth_recovery_seconds"], 7200);
    let wrong = place.run(&[
        "tpm",
        "provision",
        "--yes",
        "--only",
        "owner",
        "--owner-auth-file",
        &own,
        "--max-tries",
        "3",
    ]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(
        wrong.err.contains("--old-lockout-auth-file"),
        "{}",
        wrong.err
    );
}

#[test]
fn indices_are_listed_with_their_cards_and_only_unknown_ones_removed() {
    let place = Place::new();
    place.create("work", &["--admin-key", "default"]);
    let listed = place.run(&["tpm", "indices", "--json"]).json();
    let listed = listed.as_array().unwrap();
    let roles: Vec<_> = listed.iter().map(|index| &index["role"]).collect();
    assert_eq!(roles, ["pin", "adm"]);
    assert!(listed.iter().all(|index| index["name"] == "work"));
    let text = place.run(&["tpm", "indices"]).out;
    assert!(text.contains("pin of work"), "{text}");
    let status = place.run(&["tpm", "status", "--json"]).json();
    for member in ["nv_indices", "card_indices", "known_indices"] {
        assert_eq!(status[member], 2, "{member}");
    }
    let status = place.run(&["tpm", "status"]).out;
    assert!(
        status.contains("2 of cards known here") && status.contains("this TPM does not report"),
        "{status}"
    );

    let handle = listed[0]["handle"].as_str().unwrap();
    let refused = place.run(&["tpm", "indices", "--remove", handle, "--yes"]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(refused.err.contains("card destroy"), "{}", refused.err);
    let missing = place.run(&["tpm", "indices", "--remove", "0x01C2F000", "--yes"]);
    assert_eq!(missing.code, 7, "{}", missing.err);
    for bad in ["01C20000", "0x1", "0x01C2zzzz"] {
        assert_eq!(place.run(&["tpm", "indices", "--remove", bad]).code, 2);
    }
    // Without a terminal nothing is removed unasked.
    let unasked = place.run(&["tpm", "indices", "--remove", "0x01C2F000"]);
    assert_eq!(unasked.code, 2, "{}", unasked.err);
}

#[test]
fn authorisations_need_an_administrator() {
    let place = Place::new();
    for words in [&["tpm", "indices"][..], &["tpm", "reset-lockout"]] {
        if let Some(refused) = place.run_as_other(words) {
            assert_eq!(refused.code, 6, "{}", refused.err);
        }
    }
}

/// A TPM as its maker delivers it. Returns the authorities' certificates.
fn delivered(place: &Place) -> Vec<PathCertificate> {
    let authorities = deliver(&place.path("tpm"), &place.path("authority"));
    let read = |path: &PathBuf| {
        let certificate = Certificate::parse(&fs::read(path).unwrap()).unwrap();
        PathCertificate::parse(certificate.der()).unwrap()
    };
    authorities.iter().map(read).collect()
}

#[test]
fn endorsement_keys_of_a_delivered_tpm_convince_an_authority_of_its_maker() {
    let mut place = Place::without_daemon();
    let authorities = delivered(&place);
    place.begin();
    let keys = place.run(&["tpm", "ek", "--json"]).json();
    let keys = keys.as_array().unwrap();
    let algorithms: Vec<_> = keys.iter().map(|key| &key["algorithm"]).collect();
    assert_eq!(algorithms, ["RSA-2048", "P-384"]);
    for key in keys {
        assert_eq!(key["tpm"]["manufacturer"], "id:00001014");
        let text = |name: &str| key[name].as_str().unwrap();
        let public = base16ct::mixed::decode_vec(text("public")).unwrap();
        let parsed = EndorsementKey::parse(&public).unwrap();
        assert_eq!(text("pin"), base16ct::upper::encode_string(&parsed.pin()));
        let pem = key["certificates"][0].as_str().unwrap();
        let own = Certificate::parse(pem.as_bytes()).unwrap();
        let trust = EkTrust {
            roots: &authorities[..1],
            intermediates: &authorities[1..],
            ..EkTrust::default()
        };
        let now = own.not_before() + 60;
        let voucher = trust.check(&parsed, &[own.der()], now).unwrap();
        assert!(
            matches!(voucher, EkVoucher::Certificate { tpm: Some(_), .. }),
            "{voucher:?}"
        );
    }
    let shown = place.run(&["tpm", "ek"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    assert!(
        shown.out.starts_with("endorsement key: RSA-2048\n"),
        "{shown:?}"
    );
    assert!(
        shown.out.contains("id:00001014, swtpm, id:20191023"),
        "{shown:?}"
    );
    assert!(shown.out.contains("without end"), "{shown:?}");
    assert_eq!(shown.out.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn tpm_without_certificates_has_a_key_that_can_be_pinned() {
    let place = Place::new();
    let keys = || place.run(&["tpm", "ek", "--json"]).json();
    let first = keys();
    assert_eq!(first[0]["algorithm"], "P-256");
    assert_eq!(first[0]["certificates"], serde_json::json!([]));
    // The same whenever it is made.
    assert_eq!(keys(), first);
    let shown = place.run(&["tpm", "ek"]);
    assert!(shown.err.contains("no certificate"), "{shown:?}");
    if let Some(other) = place.run_as_other(&["tpm", "ek"]) {
        assert_eq!(other.code, 6, "{other:?}");
    }
}
