//! What was found out about the TPM: kept over restarts, found out again where it may not hold, and never guessed.

use std::fs;

use cardea_client::message::{CounterCheck, CounterMode, TpmRequest};
use cardea_testkit::multiplexer::{Fault, Part, Profile, Trigger};
use cardea_testkit::process::wait_for;

use crate::{PIN, Place};

const NV_DEFINE_SPACE: u32 = 0x12A;

impl Place {
    /// Starts the daemon anew, and returns how many indices it has defined to test the TPM.
    fn restarted(&mut self) -> usize {
        self.daemon.kill();
        self.tpm.forget_exchanges();
        self.daemon.restart();
        wait_for("the card", || self.verify(PIN).is_ok());
        let exchanges = self.tpm.exchanges();
        let defined = exchanges.iter().filter(|one| one.code() == NV_DEFINE_SPACE);
        defined.count()
    }

    fn indices(&self) -> usize {
        let listed = self.daemon.printed(&["tpm", "indices", "--json"]);
        listed.matches("\"handle\"").count()
    }
}

fn refusal(code: u32) -> Fault {
    Fault::Replace([&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat())
}

#[test]
fn tpm_is_examined_once_and_again_with_other_firmware() {
    let mut place = Place::new();
    place.create("card").unwrap();
    assert_eq!(place.audited("tpm-examined"), 1);
    let kept = fs::read(place.examination()).unwrap();
    for _ in 0..2 {
        assert_eq!(place.restarted(), 0, "it is known");
        assert_eq!(place.status().counters, CounterCheck::Good);
    }
    assert_eq!(fs::read(place.examination()).unwrap(), kept);
    assert_eq!(place.audited("tpm-examined"), 1);

    let updated = Profile {
        firmware: Some("2026.11.30.1".into()),
        ..Profile::named("swtpm")
    };
    place.tpm.play(Part::new(updated));
    assert_eq!(place.restarted(), 1, "another firmware");
    assert_ne!(fs::read(place.examination()).unwrap(), kept);
    assert_eq!(place.audited("tpm-examined"), 2);
    assert_eq!(place.audited("2026.11.30.1"), 1, "it is recorded");
    assert_eq!(place.restarted(), 0);
    assert_eq!(place.indices(), 1, "the card's");
}

#[test]
fn what_is_not_authentic_is_as_if_it_were_not_there() {
    let mut place = Place::new();
    place.create("card").unwrap();
    let path = place.examination();
    let kept = fs::read(&path).unwrap();
    let mut changed = kept.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for content in [&changed[..], &kept[..20], b"", &[0; 100_000]] {
        fs::write(&path, content).unwrap();
        assert_eq!(place.restarted(), 1, "{} bytes", content.len());
        assert_eq!(place.status().counters, CounterCheck::Good);
        assert_eq!(place.restarted(), 0, "it was written anew");
    }
    // Nobody can write it.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(place.restarted(), 1);
        assert_eq!(place.status().counters, CounterCheck::Good);
    }
    assert!(place.daemon.log().contains("not kept"));
}

#[test]
fn nothing_is_guessed_while_the_tpm_is_full_or_locked_out() {
    let mut place = Place::new();
    place.create("card").unwrap();
    for (code, word) in [(0x921, "lockout"), (0x14B, "room")] {
        fs::remove_file(place.examination()).unwrap();
        place
            .tpm
            .inject(Trigger::command(NV_DEFINE_SPACE), refusal(code));
        assert_eq!(place.restarted(), 1);
        let status = place.status();
        assert_eq!(status.counters, CounterCheck::Outstanding, "{word}");
        assert!(status.counters_reason.contains(word), "{status:?}");
        assert!(!place.examination().exists(), "{word}");
        assert_eq!(place.indices(), 1, "{word}");
        assert_eq!(place.restarted(), 1, "tried again");
        assert_eq!(place.status().counters, CounterCheck::Good);
    }
}

#[test]
fn tpm_that_denies_its_counters_is_tried_again_when_a_card_is_made() {
    let place = Place::new();
    place
        .tpm
        .inject(Trigger::command(NV_DEFINE_SPACE), refusal(0x2C2));
    drop(place.ask(&cardea_client::message::Request::Tpm(TpmRequest::TryRoom)));
    assert_eq!(place.status().counters, CounterCheck::Absent);
    let taken = place.status().cards.unwrap();
    assert_eq!(taken.mode, Some(CounterMode::Object));
    assert!(taken.reason.contains("0x2C2"), "{taken:?}");
    place.create("card").unwrap();
    let status = place.status();
    assert_eq!(status.counters, CounterCheck::Good);
    let taken = status.cards.unwrap();
    assert_eq!(
        (taken.mode, taken.reason.as_str()),
        (Some(CounterMode::Nv), "")
    );
    assert_eq!(place.audited("tpm-examined"), 2);
}
