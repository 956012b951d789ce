//! TPMs that lack something: persistent slots, of which the storage root key alone takes one, tickets for PINs, a lockout
//! that somebody has set up.

use cardea_client::message::{CardRequest, Reply, Request, TpmRequest};
use cardea_testkit::multiplexer::Profile;
use cardea_testkit::process::wait_for;

use crate::{Place, number_at};

/// A part with so many slots.
fn place(name: &str, persistent: usize, managed: bool) -> Place {
    let mut profile = Profile::named(name);
    if let Some(limits) = &mut profile.limits {
        limits.persistent = persistent;
    }
    Place::with_part(profile, managed)
}

fn persistent(place: &Place) -> u32 {
    // GetCapability of handles from 0x81000000 on.
    let ask = [
        &[0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A][..],
        &[0, 0, 0, 1, 0x81, 0, 0, 0, 0, 0, 0, 64],
    ];
    number_at(&place.tpm.transact(&ask.concat()).unwrap(), 15)
}

#[test]
fn card_works_where_no_persistent_slot_is_left() {
    for (name, in_objects) in [("pluton", false), ("ptt-303", true)] {
        for managed in [false, true] {
            let mut place = place(name, 0, managed);
            let create = |place: &Place, card: &str| match in_objects {
                true => place.create_in_object(card).unwrap(),
                false => place.create(card).unwrap(),
            };
            create(&place, "card");
            let key = place.key();
            place.sign(key).unwrap();
            place.daemon.restart();
            wait_for("the card", || place.sign(key).is_ok());
            create(&place, "another");
            place.sign(key).unwrap();
            assert_eq!(persistent(&place), 0, "{name}");
            let destroy = CardRequest::Destroy { owner_auth: None };
            place.ask(&Request::card("another", destroy)).unwrap();
            place.sign(key).unwrap();
        }
    }
}

#[test]
fn storage_root_key_alone_is_persistent() {
    let place = place("ptt-600", 2, false);
    place.create("card").unwrap();
    place.create("another").unwrap();
    let key = place.key();
    place.key();
    place.sign(key).unwrap();
    assert_eq!(persistent(&place), 1);
}

/// The part also goes into failure mode on PolicySecret in an HMAC session: nothing that is refused may lead there.
#[test]
fn part_without_tickets_is_refused_with_words_and_lives_on() {
    const POLICY_SECRET: u32 = 0x151;
    let place = place("slb9670-7.40", 13, false);
    let random = || place.ask(&Request::Tpm(TpmRequest::Random));
    for refused in [
        place.create("card").unwrap_err(),
        place.create_in_object("card").unwrap_err(),
    ] {
        let names = ["no counters for PINs", "no PolicyTicket, so that each use"];
        let is_told = names.iter().any(|name| refused.message.contains(name));
        assert!(is_told, "{}", refused.message);
    }
    random().unwrap();
    let sent = place.tpm.exchanges();
    assert!(sent.iter().all(|it| it.code() != POLICY_SECRET));
    // The part is as it is said to be.
    let area = [&[0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 10]].concat();
    let handles = [0x40, 0, 0, 1, 3, 0, 0, 0];
    let length = u8::try_from(10 + handles.len() + area.len()).unwrap();
    let header = [0x80, 2, 0, 0, 0, length, 0, 0, 1, 0x51];
    let kills = [&header[..], &handles, &area].concat();
    place.tpm.transact(&kills).unwrap();
    random().unwrap_err();
}

/// Tries, seconds until one is forgotten, seconds for which a wrong authorisation disables itself.
fn lockout(place: &Place) -> [u32; 3] {
    match place.ask(&Request::Tpm(TpmRequest::Status)) {
        Ok(Reply::Tpm(status)) => [
            status.lockout_max,
            status.lockout_recovery,
            status.lockout_auth_recovery,
        ],
        other => panic!("{other:?}"),
    }
}

#[test]
fn provisioning_sets_up_a_lockout_that_nobody_has_and_says_so() {
    let usual = [32, 7200, 86_400];
    for (part, arguments, expected) in [
        ("amd-6", &[][..], usual),
        ("amd-6", &["--keep-lockout"], [3, 1000, 1000]),
        ("amd-6", &["--max-tries", "10"], [10, 1000, 1000]),
        ("npct75x-7.2.3", &[], [10, 7200, 86_400]),
    ] {
        let place = Place::with_part(Profile::named(part), false);
        let folder = tempfile::tempdir().unwrap();
        let safe = folder.path().join("safe").display().to_string();
        let provision = ["tpm", "provision", "--yes", "--out", &safe];
        let done = place.daemon.cardea(&[&provision[..], arguments].concat());
        assert!(done.success, "{}", done.text);
        assert_eq!(lockout(&place), expected, "{part} {arguments:?}");
        let is_told = done.text.contains("nobody has set up the TPM's lockout");
        assert_eq!(is_told, expected == usual, "{}", done.text);
    }
    // The owner's alone.
    let place = Place::with_part(Profile::named("amd-6"), false);
    let folder = tempfile::tempdir().unwrap();
    let safe = folder.path().join("safe").display().to_string();
    let only = [
        "tpm",
        "provision",
        "--yes",
        "--only",
        "owner",
        "--out",
        &safe,
    ];
    let done = place.daemon.cardea(&only);
    assert!(done.success, "{}", done.text);
    assert_eq!(lockout(&place), [3, 1000, 1000]);
}
