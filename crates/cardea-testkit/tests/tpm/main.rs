//! The card suite, transcripts of real clients included, over a TPM: the software token must stay true.

use cardea_card::record::CounterMode;
use cardea_testkit::multiplexer::{Flaw, Multiplexer};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::{suite, tpm_card};
use cardea_tpm::{HierarchyAuth, LockoutParameters, Service};

#[test]
fn every_case_holds_over_a_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    suite::run_all(&mut |kind| tpm_card::open(&service, tpm_card::record_of_kind(&service, kind)));
}

#[test]
fn every_case_succeeds_with_counters_in_objects() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    let nothing = HierarchyAuth::new(&[]).unwrap();
    let usual = LockoutParameters {
        max_tries: 32,
        recovery: 7200,
        lockout_recovery: 86_400,
    };
    service.set_lockout_parameters(&nothing, usual).unwrap();
    suite::run_all(&mut |kind| {
        // Failures of all these cards count together.
        service
            .reset_lockout(&HierarchyAuth::new(&[]).unwrap())
            .unwrap();
        tpm_card::open(&service, tpm_card::record_in_objects(&service, kind))
    });
}

#[test]
fn every_case_succeeds_where_policies_reset_counts() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(folder.path(), &tpm);
    mux.emulate(Some(Flaw::forgetful_counters(Vec::new())));
    let service = Service::start(&mux.address().parse().unwrap()).unwrap();
    suite::run_all(&mut |kind| {
        let record = tpm_card::record_of_kind(&service, kind);
        assert_eq!(record.tpm.mode, CounterMode::NvOwner);
        tpm_card::open(&service, record)
    });
}
