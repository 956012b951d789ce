//! The keeper thread: what waits for the TPM is finished and checked as soon as it answers, and what is too old ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_card::token::TokenErrorKind;
use cardea_client::message::CardState;

use crate::host::Host;
use crate::host::admission::{check, recheck};
use crate::host::credential::for_keeper;
use crate::host::hosted::{Body, HostedCard, View};
use crate::lifecycle::drive;
use crate::lifecycle::intents::finish_intents;
use crate::sync::lock;

/// Between two attempts to reach a TPM that is away.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Between two looks at verifications that may be too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// The keeper thread: finishes and checks what needs the TPM, again and again while it is away, and ends
/// old PIN verifications where no command comes that would.
pub fn keep(host: &Host) {
    let mut retry = FIRST_RETRY;
    let mut round = Instant::now();
    let mut are_leftovers_gone = false;
    loop {
        let rare = round.elapsed() >= EXPIRY_INTERVAL;
        if rare {
            round = Instant::now();
        }
        let settled = settle(host, rare) & host.store.settle();
        // In the usual rounds: nobody waits for this, and a daemon that ends at once does not ask the TPM.
        if rare && !are_leftovers_gone {
            are_leftovers_gone = remove_leftovers(host);
        }
        let limit = if settled {
            retry = FIRST_RETRY;
            EXPIRY_INTERVAL
        } else {
            let limit = retry;
            retry = LAST_RETRY.min(retry * 2);
            limit
        };
        if !host.keeper.wait_for_work(limit) {
            host.store.settle();
            return;
        }
        host.expire();
        host.audit.catch_up();
    }
}

/// Removes what a crash in a test of the TPM has left, once after each start, also where there is no card yet. False:
/// the TPM is away, or the owner's authorisation is missing; to be tried again. The handles of unreadable card files
/// are not known, but an index of a card is never taken for one of a test: the policies differ.
fn remove_leftovers(host: &Host) -> bool {
    let _guard = host.provision(&mut |_| {});
    let taken = host.claimed_handles();
    let removed = host
        .tpm
        .chip()
        .and_then(|chip| for_keeper(&chip).remove_leftovers(&taken));
    match removed {
        Ok(removed) => {
            if removed > 0 {
                tracing::info!(removed, "indices of an interrupted test of the TPM removed");
            }
            true
        }
        Err(error) => {
            let error = crate::failure::chain(&error);
            tracing::debug!(
                error,
                "not searched for what an interrupted test of the TPM has left"
            );
            false
        }
    }
}

/// One pass; true when nothing is left that waits for the TPM. In a rare one, cards that the TPM has disowned are
/// compared with it again.
fn settle(host: &Host, rare: bool) -> bool {
    drive::remove_absent(host);
    let _guard = host.provision(&mut |_| {});
    let mut settled = true;
    let waits = |card: &Arc<HostedCard>| {
        let waits = |body: &Body| match body {
            Body::Live(_) => card.is_doubted(),
            Body::Refused(refused) => rare && refused.again,
            Body::Waiting(_) => true,
            Body::Away | Body::Elsewhere | Body::Gone => false,
        };
        // Who holds a drive can keep a card on it at work for some time.
        if card.drive().is_none() {
            return waits(&card.body());
        }
        card.try_body().is_some_and(|body| waits(&body))
    };
    let waiting: Vec<_> = host.cards().into_iter().filter(waits).collect();
    let untried = rare && host.counters.is_outstanding();
    let idle = waiting.is_empty() && lock(&host.intents).is_empty() && !untried;
    if !idle {
        match host.tpm.chip() {
            Ok(chip) => {
                if untried {
                    host.counters.examine(host, &for_keeper(&chip));
                }
                settled &= finish_intents(host, &for_keeper(&chip));
                for card in waiting {
                    if card.take_doubt() {
                        recheck(host, &card, &mut card.body(), TokenErrorKind::Lost);
                    }
                    settled &= check(host, &card, &chip);
                }
            }
            Err(error) => {
                let reason = crate::failure::chain(&error);
                tracing::debug!(error = reason, "TPM away");
                for card in waiting {
                    let text = format!("the TPM cannot be reached: {reason}");
                    if matches!(*card.body(), Body::Waiting(_)) {
                        card.set_view(View::new(CardState::TpmAway, text));
                    }
                }
                settled = false;
            }
        }
    }
    host.seat_cards();
    settled
}

#[cfg(test)]
mod tests {
    use cardea_store::Store;
    use cardea_tpm::Address;

    use super::*;
    use crate::host::always_away::AlwaysAway;
    use crate::host::audit::Audit;
    use crate::host::hosted::Place;
    use crate::host::permission::Roles;
    use crate::lifecycle::load::tests::stored;

    #[test]
    fn card_waits_for_a_chip_of_another_kind_that_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let roles = Roles {
            admin_group: "cardea-admin".into(),
            pcscd_uid: 0,
        };
        let address = Address::Simulator(None);
        let connect = Box::new(move || Ok(Arc::new(AlwaysAway(address.clone())) as Arc<_>));
        let store = Store::open(folder.path()).unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let host = Host::new(roles, store, audit, connect, 1, false, "random".into());
        let record = stored(1, 1, 0x01C2_0000, true).content.unwrap();
        let place = Place {
            id: Some(record.id),
            path: folder.path().join("1.card"),
            instance: None,
        };
        let body = Body::Waiting(Box::new(record.clone()));
        let card = Arc::new(HostedCard::new(place, &record, body, View::ready()));
        host.add(Arc::clone(&card));
        assert!(!settle(&host, false), "it is to be tried again");
        assert!(matches!(*card.body(), Body::Waiting(_)));
        assert_eq!(card.view().state, CardState::TpmAway);
        assert_eq!(host.slots.slot_of(&card), None);
    }
}
