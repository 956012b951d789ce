//! Root puts a storage key of its own in the place of the storage root key, or switches the hierarchy off.

use cardea_card::record::CardRecord;
use cardea_tpm::CardFault;
use cardea_tpm::policy::{SrkForm, name_of, srk_head};

use crate::bench::{Bench, Kind, Outcome, succeeds_if};
use crate::raw::{Auth, Entity, OWNER, Reader, cc, sized};

const SRK: u32 = 0x8100_0001;

/// A key below the storage root key, whose private half could be known, is put at its handle. What a new card tells
/// that key, its maker reads.
pub(crate) fn planted_root() -> Outcome {
    let mut bench = Bench::new();
    let first = bench.record(Kind::Plain);
    let planted = plant(&bench);
    for knows_a_card in [false, true] {
        bench.restart();
        if knows_a_card {
            bench.service.check_card(&first).unwrap();
        }
        let number = if knows_a_card { 3 } else { 2 };
        let new: CardRecord = bench.numbered(Kind::Plain, number);
        succeeds_if!(
            new.tpm.srk.name == planted,
            "a new card is salted to root's key"
        );
        assert_eq!(new.tpm.srk.name, first.tpm.srk.name);
    }
    Ok(())
}

/// The planted key's Name.
fn plant(bench: &Bench) -> Vec<u8> {
    let template = [&srk_head(SrkForm::Ecc)[..], &[0; 4]].concat();
    let parameters = [&sized(&[0; 4])[..], &sized(&template), &[0; 6]].concat();
    let made = bench.send(
        cc::CREATE,
        &[Entity::plain(SRK)],
        &[Auth::Password(&[])],
        &parameters,
    );
    assert_eq!(made.code, 0);
    let mut answer = Reader(&made.body[4..]);
    let (private, public) = (answer.sized(), answer.sized());
    let loaded = bench.load(private, public).unwrap();
    bench.persist(&Entity::plain(SRK));
    bench.persist(&loaded);
    bench.flush(loaded.handle);
    name_of(public).to_vec()
}

impl Bench {
    /// TPM2_EvictControl at the storage root key's handle: removes what is there, or puts an object there.
    fn persist(&self, object: &Entity) {
        let owner = [Entity::plain(OWNER), object.clone()];
        let answer = self.send(
            cc::EVICT_CONTROL,
            &owner,
            &[Auth::Password(&[])],
            &SRK.to_be_bytes(),
        );
        assert_eq!(answer.code, 0, "EvictControl");
    }
}

/// The owner hierarchy is switched off until the TPM restarts, and the card's holder is to believe that the card is
/// lost and destroy it.
pub(crate) fn hierarchy_switched_off() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Puk);
    let parameters = [&OWNER.to_be_bytes()[..], &[0]].concat();
    let off = bench.send(
        cc::HIERARCHY_CONTROL,
        &[Entity::plain(OWNER)],
        &[Auth::Password(&[])],
        &parameters,
    );
    assert_eq!(off.code, 0, "root switches the hierarchy off");
    let checked = bench.service.check_card(&record);
    succeeds_if!(
        matches!(checked, Err(CardFault::Lost(_) | CardFault::Foreign)),
        "a card that the next restart heals is called lost"
    );
    assert!(
        matches!(checked, Err(CardFault::SwitchedOff)),
        "{checked:?}"
    );
    bench
        .mux
        .power(cardea_testkit::multiplexer::PowerEvent::Reset);
    bench.service.check_card(&record).unwrap();
    Ok(())
}
