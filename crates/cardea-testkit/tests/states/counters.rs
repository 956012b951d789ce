//! A TPM that does not count wrong PINs, and one of which that is not known.

mod owner;

use cardea_client::message::{
    CardState, CardsRequest, CounterCheck, CreateCard, FailureKind, Hierarchy, NewContent, Reply,
    Request, TpmRequest, TpmStatus,
};
use cardea_testkit::multiplexer::{Fault, PowerEvent, Trigger};
use cardea_testkit::process::wait_for;

use crate::{PIN, POLICY_SECRET, Place, secret};

/// TPM_RC_LOCKOUT in place of TPM_RC_BAD_AUTH.
const NOT_COUNTED: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x21];

impl Place {
    pub(crate) fn status(&self) -> TpmStatus {
        match self.ask(&Request::Tpm(TpmRequest::Status)) {
            Ok(Reply::Tpm(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// The next test of the TPM's counters finds that the first wrong PIN is not told as one.
    fn stop_counting(&self) {
        let fault = Fault::Replace(NOT_COUNTED.to_vec());
        self.tpm
            .inject(Trigger::command(POLICY_SECRET).after(1), fault);
    }

    fn create_by(
        &self,
        name: &str,
        owner: &[u8],
    ) -> Result<Reply, cardea_client::message::Failure> {
        self.ask(&Request::Cards(CardsRequest::Create(Box::new(
            CreateCard {
                owner_auth: Some(secret(owner)),
                ..CreateCard::new(name, NewContent::with_pin(secret(PIN)))
            },
        ))))
    }

    fn set_owner(&self, old: &[u8], new: &[u8]) {
        self.ask(&Request::Tpm(TpmRequest::SetHierarchyAuth {
            hierarchy: Hierarchy::Owner,
            old: secret(old),
            new: secret(new),
        }))
        .unwrap();
    }

    /// What was found out about the TPM is not there at the next start.
    fn forget_examination(&self) {
        std::fs::remove_file(self.examination()).unwrap();
    }

    pub(crate) fn examination(&self) -> std::path::PathBuf {
        self.daemon.state().join("tpm-examination")
    }

    pub(crate) fn audited(&self, event: &str) -> usize {
        let audit = self.daemon.printed(&["audit", "--json"]);
        audit.matches(&format!("\"{event}\"")).count()
    }
}

#[test]
fn card_of_a_tpm_that_does_not_count_is_not_used_until_it_does() {
    let mut place = Place::new();
    assert_eq!(place.status().counters, CounterCheck::Unknown);
    place.create("card").unwrap();
    assert_eq!(place.status().counters, CounterCheck::Good);
    place.daemon.restart();
    wait_for("a TPM that counts", || place.state().0 == CardState::Ready);
    assert_eq!(place.status().counters, CounterCheck::Good);

    place.daemon.kill();
    place.forget_examination();
    place.stop_counting();
    place.daemon.restart();
    wait_for("the trial", || place.state().0 == CardState::UnsafeTpm);
    assert!(
        !place.examination().exists(),
        "it may be somebody on the way"
    );
    let (_, reason) = place.state();
    assert!(
        reason.contains("guessed without limit") && reason.contains("firmware is updated"),
        "{reason}"
    );
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::UnsafeTpm, "{refused:?}");
    assert_eq!(
        place.create("second").unwrap_err().kind,
        FailureKind::UnsafeTpm
    );
    for arguments in [
        &["card", "list"][..],
        &["card", "show", "card"],
        &["tpm", "status"],
        &["doctor"],
    ] {
        let told = place.daemon.cardea(arguments).text;
        assert!(
            told.contains("guessed without limit"),
            "{arguments:?}: {told}"
        );
    }
    let listed = place.daemon.printed(&["card", "list", "--json"]);
    assert!(listed.contains("\"unsafe-tpm\""), "{listed}");
    let findings = place.daemon.cardea(&["doctor", "--json"]).text;
    assert!(findings.contains("\"card-unsafe\"") && findings.contains("\"tpm-unsafe\""));
    assert!(!findings.contains("destroy"), "{findings}");
    assert_eq!(place.audited("tpm-unsafe"), 1);

    // With new firmware the TPM has started anew.
    place.tpm.power(PowerEvent::Reset);
    wait_for("the trial again", || place.state().0 == CardState::Ready);
    place.verify(PIN).unwrap();
    assert_eq!(place.status().counters, CounterCheck::Good);
    assert_eq!(place.audited("tpm-unsafe"), 1);
}

#[test]
fn trial_that_takes_the_owners_authorisation_is_outstanding_until_somebody_gives_it() {
    let mut place = Place::new();
    place.create("card").unwrap();
    place.set_owner(b"", b"owner");
    place.forget_examination();
    place.daemon.restart();
    // The card is used all the same.
    wait_for("the card", || place.verify(PIN).is_ok());
    let status = place.status();
    assert_eq!(status.counters, CounterCheck::Outstanding);
    for arguments in [&["tpm", "status"][..], &["doctor"]] {
        let told = place.daemon.cardea(arguments).text;
        for way in ["owner-auth", "--owner-auth-file", "cardea card create"] {
            assert!(told.contains(way), "{way} in {told}");
        }
    }
    assert!(place.daemon.log().contains("test of the TPM's counters"));
    place.create_by("second", b"owner").unwrap();
    let status = place.status();
    assert_eq!(
        (status.counters, status.counters_reason.as_str()),
        (CounterCheck::Good, "")
    );
}

#[test]
fn card_in_use_is_put_out_of_it_when_the_trial_that_was_outstanding_fails() {
    let mut place = Place::new();
    place.create("card").unwrap();
    place.set_owner(b"", b"owner");
    place.forget_examination();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    place.stop_counting();
    let refused = place.create_by("second", b"owner").unwrap_err();
    assert_eq!(refused.kind, FailureKind::UnsafeTpm, "{refused:?}");
    wait_for("the card in use", || {
        place.state().0 == CardState::UnsafeTpm
    });
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::UnsafeTpm);
    assert_eq!(
        (place.audited("tpm-unsafe"), place.audited("card-lost")),
        (1, 0)
    );
}
