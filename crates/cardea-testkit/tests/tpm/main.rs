//! The card suite, transcripts of real clients included, over a TPM: the software token must stay true.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use cardea_card::record::{CardRecord, CounterMode};
use cardea_testkit::multiplexer::{Flaw, Multiplexer, Profile};
use cardea_testkit::played::Chip;
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::transcript::CardKind;
use cardea_testkit::{suite, tpm_card};
use cardea_tpm::{HierarchyAuth, LockoutParameters, Service};

/// Runs the suite; each card has the room of the one before.
fn run_all(service: &Service, make: impl Fn(CardKind) -> CardRecord) {
    let mut before: Option<CardRecord> = None;
    suite::run_all(&mut |kind| {
        if let Some(record) = before.take() {
            service.destroy_card(&record.tpm).unwrap();
        }
        let record = make(kind);
        before = Some(record.clone());
        tpm_card::open(service, record)
    });
}

#[test]
fn every_case_holds_over_a_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Chip::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    run_all(&service, |kind| tpm_card::record_of_kind(&service, kind));
}

#[test]
fn every_case_succeeds_with_counters_in_objects() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Chip::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    let nothing = HierarchyAuth::new(&[]).unwrap();
    let usual = LockoutParameters {
        max_tries: 32,
        recovery: 7200,
        lockout_recovery: 86_400,
    };
    service.set_lockout_parameters(&nothing, usual).unwrap();
    run_all(&service, |kind| {
        // Failures of all these cards count together.
        service
            .reset_lockout(&HierarchyAuth::new(&[]).unwrap())
            .unwrap();
        tpm_card::record_in_objects(&service, kind)
    });
}

#[test]
fn every_case_succeeds_where_policies_reset_counts() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(folder.path(), &tpm);
    if Profile::of_run().is_none() {
        mux.emulate(Some(Flaw::forgetful_counters(Vec::new())));
    }
    let service = Service::start(&mux.address().parse().unwrap()).unwrap();
    run_all(&service, |kind| {
        let record = tpm_card::record_of_kind(&service, kind);
        assert_eq!(record.tpm.mode, CounterMode::NvOwner);
        record
    });
}
