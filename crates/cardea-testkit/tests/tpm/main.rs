//! The card suite, transcripts of real clients included, over a TPM: the software token must stay true.

use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::{suite, tpm_card};
use cardea_tpm::Service;

#[test]
fn every_case_holds_over_a_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    suite::run_all(&mut |kind| tpm_card::open(&service, tpm_card::record_of_kind(&service, kind)));
}
