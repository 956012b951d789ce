//! Slots, tokens and their mechanisms (PKCS#11 3.1 §5.5).

use std::sync::PoisonError;
use std::time::Duration;

use cardea_client::message::{
    CardOverview, CardRequest, CardStatus, CardsRequest, KeyAlgorithm, Reply, Request, Unsettled,
    collect,
};
use cardea_client::slot_number::{give_slot_numbers, number_in};
use cardea_terms::{tame, token_label, token_model};
use cryptoki_sys::*;

use crate::general::{LIBRARY, MANUFACTURER, padded};
use crate::mechanisms::{self, Keys, MECHANISMS};
use crate::module::{Module, lock};
use crate::pool::LIMIT;
use crate::rv::{About, PoolError, Result, Rv};
use crate::state::{State, TokenSlot};

/// Longest PIN, of any card.
const MAX_PIN: CK_ULONG = 127;
/// Shortest PIN of a card without policy.
const MIN_PIN: CK_ULONG = 4;

/// Longest single wait for a change. Between two waits the module notices C_Finalize.
const WAIT: Duration = Duration::from_millis(500);

/// Why there is no list of cards.
enum NoList {
    /// Without a daemon there are no cards.
    NoDaemon,
    /// There are cards or not; nobody can tell.
    Unread,
}

impl From<Unsettled> for NoList {
    fn from(_: Unsettled) -> Self {
        Self::Unread
    }
}

impl Module {
    /// C_GetSlotList.
    pub(crate) fn slot_list(&self, with_token: bool, refresh: bool) -> Result<Vec<CK_SLOT_ID>> {
        let never = self.state().generation == 0;
        if refresh || never {
            self.refresh_slots()?;
        }
        let mut state = self.state();
        if never {
            // Cards that were present from the start are not events.
            state.events.clear();
        }
        let State { slots, order, .. } = &*state;
        let is_listed = |id: &&CK_SLOT_ID| {
            let slot = slots.get(id);
            slot.is_some_and(|slot| slot.present || !with_token)
        };
        Ok(order.iter().filter(is_listed).copied().collect())
    }

    /// C_GetSlotInfo.
    pub(crate) fn slot_info(&self, id: CK_SLOT_ID) -> Result<CK_SLOT_INFO> {
        self.refresh_slots()?;
        let mut state = self.state();
        let slot = state.slot(id)?;
        let present = if slot.present { CKF_TOKEN_PRESENT } else { 0 };
        let description = if slot.present || slot.reason.is_empty() {
            format!("Cardea {}", tame(&slot.name))
        } else {
            format!("Cardea {} ({})", tame(&slot.name), tame(&slot.reason))
        };
        Ok(CK_SLOT_INFO {
            slotDescription: padded(&description),
            manufacturerID: padded(MANUFACTURER),
            flags: CKF_REMOVABLE_DEVICE | CKF_HW_SLOT | present,
            hardwareVersion: LIBRARY,
            firmwareVersion: LIBRARY,
        })
    }

    /// Lists the cards anew. Without a daemon there are none; a list that the daemon cannot give is not an empty one,
    /// and leaves the slots as they were.
    pub(crate) fn refresh_slots(&self) -> Result {
        let listed = collect(|from| {
            let request = Request::Cards(CardsRequest::States { from });
            match self.pool.ask(&request, LIMIT) {
                Ok(Reply::Overview(page)) => Ok(page),
                Err(PoolError::Absent) => Err(NoList::NoDaemon),
                Err(_) | Ok(_) => Err(NoList::Unread),
            }
        });
        match listed {
            Ok((generation, cards)) => self.update_slots(generation, &cards),
            Err(NoList::NoDaemon) => self.no_slots(),
            Err(NoList::Unread) => return Err(Rv(CKR_DEVICE_ERROR)),
        }
        Ok(())
    }

    /// Every token is removed, and the next list is a new one.
    fn no_slots(&self) {
        self.update_slots(0, &[]);
    }

    /// Brings the slots in line with the daemon's overview of its cards.
    fn update_slots(&self, generation: u64, cards: &[CardOverview]) {
        let mut state = self.state();
        self.add_slots(&mut state, cards);
        let State {
            slots,
            sessions,
            events,
            ..
        } = &mut *state;
        for (id, slot) in slots.iter_mut() {
            let card = cards.iter().find(|card| card.card_id == slot.card);
            let usable = card.is_some_and(CardOverview::is_usable);
            slot.reason = card.map_or_else(|| "removed".to_owned(), reason);
            if let Some(card) = card {
                slot.name.clone_from(&card.name);
            }
            if slot.present && !usable {
                slot.clear();
                sessions.retain(|_, session| session.slot != *id);
            }
            if slot.present != usable {
                slot.present = usable;
                events.push(*id);
            }
        }
        state.generation = generation;
    }

    /// Adds empty slots for the cards that have none.
    fn add_slots(&self, state: &mut State, cards: &[CardOverview]) {
        let mut numbers = lock(self.numbers);
        give_slot_numbers(&mut numbers, cards);
        for card in cards {
            let Some(number) = number_in(&numbers, &card.card_id) else {
                continue;
            };
            let id = CK_SLOT_ID::from(number);
            let new = || TokenSlot::empty(card.card_id.clone());
            state.slots.entry(id).or_insert_with(new);
            if !state.order.contains(&id) {
                state.order.push(id);
            }
        }
    }

    /// C_WaitForSlotEvent: a slot whose card was inserted, was removed, or became usable or unusable.
    pub(crate) fn wait_for_event(&self, block: bool) -> Result<CK_SLOT_ID> {
        self.ensure_listed()?;
        self.refresh_slots()?;
        let mut client = self.pool.separate();
        loop {
            let generation = {
                let mut state = self.state();
                if state.ended {
                    return Err(Rv(CKR_CRYPTOKI_NOT_INITIALIZED));
                }
                if !state.events.is_empty() {
                    return Ok(state.events.remove(0));
                }
                state.generation
            };
            if !block {
                return Err(Rv(CKR_NO_EVENT));
            }
            let request = Request::Cards(CardsRequest::WaitStates {
                generation,
                timeout_ms: u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX),
            });
            match client.call(&request, 20 * WAIT) {
                Ok(Reply::Overview(page)) if page.more => self.refresh_slots()?,
                Ok(Reply::Overview(page)) => self.update_slots(page.generation, &page.entries),
                other => {
                    // Without a daemon there are no cards; it may be started again. A daemon that cannot tell has them
                    // still.
                    if other.is_err_and(|error| PoolError::from(&error) == PoolError::Absent) {
                        self.no_slots();
                    }
                    let state = self.state();
                    let waited = self.ending.wait_timeout(state, WAIT);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    /// The state of the card's PINs.
    pub(crate) fn status(&self, id: CK_SLOT_ID) -> Result<CardStatus> {
        let card = self.card(id)?;
        match self.ask(&Request::card(card, CardRequest::Status), About::Token)? {
            Reply::Status(status) => Ok(*status),
            _ => Err(Rv(CKR_DEVICE_ERROR)),
        }
    }

    /// C_GetTokenInfo.
    pub(crate) fn token_info(&self, id: CK_SLOT_ID) -> Result<CK_TOKEN_INFO> {
        self.ensure_listed()?;
        self.known_token(id)?;
        let status = self.status(id)?;
        let mut flags = CKF_RNG | CKF_LOGIN_REQUIRED | CKF_TOKEN_INITIALIZED;
        if !status.overview.uninitialised {
            flags |= CKF_USER_PIN_INITIALIZED;
        }
        if status.pin_pad {
            flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
        }
        if let Some(tries) = status.pin {
            flags |= match tries.left {
                Some(0) => CKF_USER_PIN_LOCKED,
                Some(1) => CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW,
                Some(left) if left < tries.limit => CKF_USER_PIN_COUNT_LOW,
                _ => 0,
            };
        }
        if let Some(tries) = status.puk {
            flags |= match tries.left {
                Some(0) => CKF_SO_PIN_LOCKED,
                Some(1) => CKF_SO_PIN_FINAL_TRY | CKF_SO_PIN_COUNT_LOW,
                Some(left) if left < tries.limit => CKF_SO_PIN_COUNT_LOW,
                _ => 0,
            };
        }
        let (min, max) = pin_lengths(status.pin_policy.as_ref());
        let state = self.state();
        let count = |read_write: bool| {
            let sessions = state.sessions.values();
            let of_slot = sessions.filter(|session| session.slot == id);
            let counted = of_slot.filter(|session| !read_write || session.read_write);
            CK_ULONG::try_from(counted.count()).unwrap_or(CK_ULONG::MAX)
        };
        // The first 16 of the 32 digits of the card id.
        let serial = status.overview.card_id.get(..16).unwrap_or_default();
        Ok(CK_TOKEN_INFO {
            label: padded(&token_label(&status.overview.name)),
            manufacturerID: padded(MANUFACTURER),
            model: padded(token_model(status.counter_mode)),
            serialNumber: padded(serial),
            flags,
            ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
            ulSessionCount: count(false),
            ulMaxRwSessionCount: CK_EFFECTIVELY_INFINITE,
            ulRwSessionCount: count(true),
            ulMaxPinLen: max,
            ulMinPinLen: min,
            ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
            hardwareVersion: LIBRARY,
            firmwareVersion: LIBRARY,
            utcTime: [b'0'; 16],
        })
    }

    /// Asks the daemon whether the token is present.
    pub(crate) fn require_token(&self, id: CK_SLOT_ID) -> Result {
        self.refresh_slots()?;
        self.known_token(id)
    }

    /// Lists the slots if that was never done: a program that remembers a slot's number may skip C_GetSlotList.
    fn ensure_listed(&self) -> Result {
        if self.state().generation == 0 {
            self.slot_list(false, true)?;
        }
        Ok(())
    }

    /// The token was present when the slots were last listed.
    fn known_token(&self, id: CK_SLOT_ID) -> Result {
        if self.state().slot(id)?.present {
            Ok(())
        } else {
            Err(Rv(CKR_TOKEN_NOT_PRESENT))
        }
    }

    /// C_GetMechanismList.
    pub(crate) fn mechanisms(&self, id: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>> {
        self.ensure_listed()?;
        self.known_token(id)?;
        Ok(MECHANISMS.iter().map(|row| row.kind).collect())
    }

    /// C_GetMechanismInfo.
    pub(crate) fn mechanism_info(
        &self,
        id: CK_SLOT_ID,
        mechanism: CK_MECHANISM_TYPE,
    ) -> Result<CK_MECHANISM_INFO> {
        self.ensure_listed()?;
        self.known_token(id)?;
        let row = mechanisms::find(mechanism).ok_or(Rv(CKR_MECHANISM_INVALID))?;
        let (shortest, longest) = match row.keys {
            Keys::None => (0, 0),
            Keys::Ec | Keys::Rsa => row.keys.sizes(&self.algorithms(id)?),
        };
        Ok(CK_MECHANISM_INFO {
            ulMinKeySize: shortest,
            ulMaxKeySize: longest,
            flags: row.flags,
        })
    }
}

impl Module {
    /// Algorithms of keys that the card's TPM makes and takes; all, where the daemon does not know.
    pub(crate) fn algorithms(&self, id: CK_SLOT_ID) -> Result<Vec<KeyAlgorithm>> {
        if let Some(known) = &self.state().slot(id)?.algorithms {
            return Ok(known.clone());
        }
        let Some(asked) = self.status(id)?.algorithms else {
            return Ok(KeyAlgorithm::ALL.to_vec());
        };
        self.state().slot(id)?.algorithms = Some(asked.clone());
        Ok(asked)
    }

    /// Refuses a key that the card's TPM has not, before anything is made.
    pub(crate) fn require_algorithm(&self, id: CK_SLOT_ID, algorithm: KeyAlgorithm) -> Result {
        if self.algorithms(id)?.contains(&algorithm) {
            return Ok(());
        }
        Err(Rv(match algorithm {
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => CKR_CURVE_NOT_SUPPORTED,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => CKR_KEY_SIZE_RANGE,
        }))
    }
}

/// Why a card is not usable, for the description of its slot.
fn reason(card: &CardOverview) -> String {
    if card.uninitialised {
        "waiting for personalisation".to_owned()
    } else {
        card.reason.clone()
    }
}

/// Shortest and longest PIN: the second and third field of the policy (MS-TPMVSC: PIN policy).
pub(crate) fn pin_lengths(policy: Option<&[u8; 32]>) -> (CK_ULONG, CK_ULONG) {
    let Some(policy) = policy else {
        return (MIN_PIN, MAX_PIN);
    };
    let field = |at: usize| {
        let bytes = policy.get(at..at + 4)?;
        Some(CK_ULONG::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    (field(4).unwrap_or(MIN_PIN), field(8).unwrap_or(MAX_PIN))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use cardea_client::message::{Failure, FailureKind, Page};

    use super::*;
    use crate::fake_daemon::FakeDaemon;

    fn card() -> CardOverview {
        CardOverview {
            card_id: "11".repeat(16),
            name: "work".to_owned(),
            state: cardea_client::message::CardState::Ready,
            reason: String::new(),
            uninitialised: false,
        }
    }

    #[test]
    fn list_that_the_daemon_cannot_give_is_not_an_empty_one() {
        let daemon = FakeDaemon::new();
        let module = daemon.module();
        let list = || module.slot_list(true, true);
        assert_eq!(
            list(),
            Ok(Vec::new()),
            "without a daemon there are no cards"
        );

        let full = Arc::new(AtomicBool::new(false));
        let is_full = Arc::clone(&full);
        daemon.serve(move |_| {
            Some(match is_full.load(Ordering::Relaxed) {
                true => Reply::Failed(Failure {
                    kind: FailureKind::Failed,
                    message: "the message is too long".to_owned(),
                    tries_left: None,
                }),
                false => Reply::Overview(Page::cut(1, None, |_| [card()].into_iter())),
            })
        });
        let slots = list().unwrap();
        assert_eq!(slots.len(), 1);
        full.store(true, Ordering::Relaxed);
        assert_eq!(list(), Err(Rv(CKR_DEVICE_ERROR)));
        assert_eq!(module.require_token(slots[0]), Err(Rv(CKR_DEVICE_ERROR)));
        full.store(false, Ordering::Relaxed);
        assert_eq!(module.require_token(slots[0]), Ok(()), "nothing was lost");
    }

    #[test]
    fn names_of_cards_and_reasons_are_tamed() {
        let daemon = FakeDaemon::new();
        let module = daemon.module();
        daemon.serve(|_| {
            let page = Page::cut(1, None, |_| {
                [CardOverview {
                    name: "a\u{202E}b".to_owned(),
                    state: cardea_client::message::CardState::Lost,
                    reason: "c\u{2028}d".to_owned(),
                    ..card()
                }]
                .into_iter()
            });
            Some(Reply::Overview(page))
        });
        let slots = module.slot_list(false, true).unwrap();
        let shown = module.slot_info(slots[0]).unwrap().slotDescription;
        let shown = String::from_utf8(shown.to_vec()).unwrap();
        assert_eq!(shown.trim_end(), "Cardea a\u{FFFD}b (c\u{FFFD}d)");
    }
}
