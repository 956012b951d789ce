//! Care of the TPM: authorisations, lockout, indices.

use std::os::unix::fs::PermissionsExt;

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

    let reset = place.run(&["tpm", "reset-lockout", "--lockout-auth-file", &safe]);
    assert_eq!(reset.code, 0, "{}", reset.err);
    let refused = place.run(&["tpm", "reset-lockout", "--lockout-auth-file", &wrong]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(refused.err.contains("refuses it"), "{}", refused.err);

    // Given values in place of the random ones, and parameters of the lockout.
    let own = place.file("own", "hex:00112233");
    let changed = place.run(&[
        "tpm",
        "provision",
        "--only",
        "owner",
        "--yes",
        "--owner-auth-file",
        &own,
        "--old-owner-auth-file",
        &safe,
    ]);
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
    assert!(text.contains("shuts it for 3600 s"), "{text}");
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
fn authorisations_are_the_administrators_business() {
    let place = Place::new();
    for words in [&["tpm", "indices"][..], &["tpm", "reset-lockout"]] {
        if let Some(refused) = place.run_as_other(words) {
            assert_eq!(refused.code, 6, "{}", refused.err);
        }
    }
}
