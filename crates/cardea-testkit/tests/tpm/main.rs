//! The card suite, transcripts of real clients included, over a TPM: the software token must stay true.

use cardea_card::gids::{blank_card, created_card};
use cardea_card::record::CardId;
use cardea_testkit::software::CARD_ID;
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::transcript::{CardKind, PIN, PUK};
use cardea_testkit::{suite, tpm_card};
use cardea_tpm::Service;

#[test]
fn every_case_holds_over_a_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    suite::run_all(&mut |kind| {
        let gids = match kind {
            CardKind::Blank => blank_card(),
            CardKind::Created | CardKind::WithPuk => created_card(CardId::new(CARD_ID)),
        };
        let puk = (kind == CardKind::WithPuk).then_some(PUK);
        tpm_card::open(
            &service,
            tpm_card::new_record(&service, gids, PIN, puk, None),
        )
    });
}
