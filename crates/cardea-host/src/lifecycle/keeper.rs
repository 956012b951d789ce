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
    let mut passes = Passes {
        retry: FIRST_RETRY,
        are_leftovers_gone: false,
    };
    let mut round = Instant::now();
    loop {
        let rare = round.elapsed() >= EXPIRY_INTERVAL;
        if rare {
            round = Instant::now();
        }
        if !host.keeper.wait_for_work(passes.next(host, rare)) {
            host.store.settle();
            return;
        }
        host.expire();
        host.audit.catch_up();
    }
}

/// What one pass leaves to the next.
struct Passes {
    /// How long it is to the next one where something still waits for the TPM.
    retry: Duration,
    are_leftovers_gone: bool,
}

impl Passes {
    /// Makes a pass and returns how long it is to the next one.
    fn next(&mut self, host: &Host, rare: bool) -> Duration {
        let settled = settle(host, rare) & host.store.settle();
        // In the usual rounds: nobody waits for this, and a daemon that ends at once does not ask the TPM.
        if rare && !self.are_leftovers_gone {
            self.are_leftovers_gone = remove_leftovers(host);
        }
        if settled {
            self.retry = FIRST_RETRY;
            return EXPIRY_INTERVAL;
        }
        let limit = self.retry;
        self.retry = LAST_RETRY.min(limit * 2);
        limit
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
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use cardea_tpm::policy::NV_DEFINED;
    use cardea_tpm::{Address, Service, TpmError};
    use sha2::{Digest, Sha256};

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
    fn card_out_of_use_that_somebody_looks_at_is_in_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let host = host_without_tpm(folder.path());
        let card = add_waiting(&host, 1);
        let looked_at = card.body();
        host.seat_cards();
        assert_eq!(host.slots.slot_of(&card), Some(0), "it may be a live one");
        card.set_view(View::new(CardState::Unreadable, "damaged"));
        host.seat_cards();
        assert_eq!(host.slots.slot_of(&card), None);
        drop(looked_at);
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
    struct EndOnDrop(Child);

    impl Drop for EndOnDrop {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    /// What a test of the TPM that was interrupted leaves: NV_DefineSpace (TPM 2.0 Part 3, 31.3) with the policy of an
    /// index that only shows that there is room.
    fn leave_index(socket: &Path, handle: u32) {
        let policy = {
            let mut extended = vec![0; 32];
            // PolicyCommandCode(NV_Write)
            extended.extend(
                [0x016C_u32, 0x0137]
                    .iter()
                    .flat_map(|code| code.to_be_bytes()),
            );
            Sha256::digest(extended)
        };
        let mut public = handle.to_be_bytes().to_vec();
        public.extend([0x00, 0x0B]);
        public.extend(NV_DEFINED.to_be_bytes());
        public.extend([0, 32]);
        public.extend(policy);
        public.extend([0, 8]);
        let mut body = 0x012A_u32.to_be_bytes().to_vec();
        // The owner, with an empty password.
        body.extend(0x4000_0001_u32.to_be_bytes());
        body.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        body.extend([0, 0]);
        body.extend(u16::try_from(public.len()).unwrap().to_be_bytes());
        body.extend(public);
        let mut command = vec![0x80, 0x02];
        command.extend(u32::try_from(body.len() + 6).unwrap().to_be_bytes());
        command.extend(body);
        let mut tpm = UnixStream::connect(socket).unwrap();
        for command in [&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0][..], &command] {
            tpm.write_all(command).unwrap();
            let mut response = [0; 128];
            let length = tpm.read(&mut response).unwrap();
            assert_eq!(response[6..10], [0; 4], "{:02x?}", &response[..length]);
        }
    }

    #[test]
    fn what_a_test_of_the_tpm_has_left_is_removed_in_the_first_rare_pass_with_the_tpm() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tpm.sock");
        let swtpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init"])
            .arg("--tpmstate")
            .arg(format!("dir={}", folder.path().display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .spawn()
            .unwrap();
        let _swtpm = EndOnDrop(swtpm);
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        leave_index(&socket, 0x01C2_0FFF);
        let attempts = AtomicUsize::new(0);
        let connect = Box::new(move || {
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(TpmError::Stopped);
            }
            let service = Service::start(&Address::SwtpmUnix(socket.clone()))?;
            Ok(Arc::new(service) as Arc<_>)
        });
        let host = host_with(&folder.path().join("state"), connect);
        let mut passes = Passes {
            retry: FIRST_RETRY,
            are_leftovers_gone: false,
        };
        // The TPM is away, and then nobody asks it outside of rare passes.
        let mut pass = |rare| {
            assert_eq!(passes.next(&host, rare), EXPIRY_INTERVAL);
            passes.are_leftovers_gone
        };
        assert!(!pass(true) && !pass(false));
        assert_eq!(host.tpm.chip().unwrap().indices().unwrap().len(), 1);
        assert!(!pass(false) && pass(true));
        assert_eq!(host.tpm.chip().unwrap().indices().unwrap(), []);
    }
}
