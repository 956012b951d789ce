//! The keeper thread: what waits for the TPM is finished and checked as soon as it answers, and what is too old ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_card::token::TokenErrorKind;
use cardea_client::message::CardState;

use crate::host::Host;
use crate::host::admission::{compare, recheck};
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
    let mut is_at_rest = true;
    let waits = |card: &Arc<HostedCard>| {
        // A card at work can be so for as long as its TPM makes a key, or whoever holds its drive likes. Others want
        // the provisioning lock meanwhile, so it is looked at in the next pass.
        let Some(body) = card.try_body() else {
            is_at_rest = false;
            return false;
        };
        match *body {
            Body::Live(_) => card.is_doubted(),
            Body::Refused(ref refused) => rare && refused.again,
            Body::Waiting(_) => true,
            Body::Away | Body::Elsewhere | Body::Gone => false,
        }
    };
    let waiting: Vec<_> = host.cards().into_iter().filter(waits).collect();
    let mut settled = is_at_rest;
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
                    let Some(mut body) = card.try_body() else {
                        settled = false;
                        continue;
                    };
                    if card.take_doubt() {
                        recheck(host, &card, &mut body, TokenErrorKind::Lost);
                    }
                    settled &= compare(host, &card, &mut body, &chip);
                }
            }
            Err(error) => {
                let reason = crate::failure::chain(&error);
                tracing::debug!(error = reason, "TPM away");
                for card in waiting {
                    let text = format!("the TPM cannot be reached: {reason}");
                    let body = card.try_body();
                    if body.is_some_and(|body| matches!(*body, Body::Waiting(_))) {
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
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;

    use cardea_tpm::Address;

    use super::*;
    use crate::host::always_away::AlwaysAway;
    use crate::host::hosted::Place;
    use crate::lifecycle::load::tests::{host_with, stored};

    fn host_without_tpm(folder: &Path) -> Host {
        let address = Address::Simulator(None);
        let connect = Box::new(move || Ok(Arc::new(AlwaysAway(address.clone())) as Arc<_>));
        host_with(folder, connect)
    }

    /// A card that waits for the TPM.
    fn add_waiting(host: &Host, id: u8) -> Arc<HostedCard> {
        let handle = 0x01C2_0000 + u32::from(id);
        let record = stored(id, 1, handle, true).content.unwrap();
        let place = Place {
            id: Some(record.id),
            path: host.store.path(record.id),
            instance: None,
        };
        let body = Body::Waiting(Box::new(record.clone()));
        let card = Arc::new(HostedCard::new(place, &record, body, View::ready()));
        host.add(Arc::clone(&card));
        card
    }

    #[test]
    fn card_at_work_keeps_the_provisioning_lock_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let host = host_without_tpm(folder.path());
        let (at_work, other) = (add_waiting(&host, 1), add_waiting(&host, 2));
        let (sender, receiver) = mpsc::channel();
        let body = at_work.body();
        thread::scope(|threads| {
            threads.spawn(|| sender.send(settle(&host, false)));
            let settled = receiver.recv_timeout(Duration::from_secs(30));
            drop(body);
            assert_eq!(settled, Ok(false), "it is to be looked at again");
        });
        assert_eq!(other.view().state, CardState::TpmAway);
    }

    #[test]
    fn card_waits_for_a_chip_of_another_kind_that_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let host = host_without_tpm(folder.path());
        let card = add_waiting(&host, 1);
        assert!(!settle(&host, false), "it is to be tried again");
        assert!(matches!(*card.body(), Body::Waiting(_)));
        assert_eq!(card.view().state, CardState::TpmAway);
        assert_eq!(host.slots.slot_of(&card), None);
    }
}
