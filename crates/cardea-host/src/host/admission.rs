//! Whether a card may be used: it is compared with its TPM, opened, and looked at again when something is wrong
//! (docs/formats/card-file.md; each check names what it protects).

use std::sync::Arc;

use cardea_card::Card;
use cardea_card::record::{CardRecord, CounterMode};
use cardea_card::token::{CardStore, TokenErrorKind};
use cardea_client::message::CardState;
use cardea_tpm::{CardFault, Chip, TpmError};

use crate::failure::resetting_tpm;
use crate::host::Host;
use crate::host::audit::{Actor, Door, Kind};
use crate::host::counters::Verdict;
use crate::host::credential::{credential, for_keeper};
use crate::host::drive::DriveStore;
use crate::host::hosted::{Body, HostedCard, Indices, Refused, View};
use crate::host::partial::Partial;
use crate::system::{BootClock, SystemRng};

/// Compares a card that waits with its TPM and takes it into use; false when the TPM could not say.
pub(crate) fn check(host: &Host, card: &Arc<HostedCard>, chip: &Arc<dyn Chip>) -> bool {
    compare(host, card, &mut card.body(), chip)
}

/// Like [`check`], when somebody asks for the card, so that one whose TPM is back is available at once.
pub(crate) fn ask_again(host: &Host, card: &Arc<HostedCard>, body: &mut Body) {
    let state = card.view().state;
    // Those that wait for an absent TPM are the keeper's, who tries often enough.
    let hopeful = matches!(
        state,
        CardState::Foreign | CardState::Lost | CardState::SwitchedOff | CardState::UnsafeTpm
    );
    let waits = match body {
        Body::Refused(refused) => refused.again,
        Body::Waiting(_) => true,
        _ => false,
    };
    if !hopeful || !waits || !card.may_ask() {
        return;
    }
    if let Ok(chip) = host.tpm.chip() {
        compare(host, card, body, &chip);
        if matches!(body, Body::Live(_)) {
            // It has a place in the reader again.
            host.wake_keeper();
        }
    }
}

/// Like [`check`], for whoever has locked the card.
pub(crate) fn compare(
    host: &Host,
    card: &Arc<HostedCard>,
    body: &mut Body,
    chip: &Arc<dyn Chip>,
) -> bool {
    let mut record = match body {
        Body::Waiting(record)
        | Body::Refused(Refused {
            record: Some(record),
            again: true,
            ..
        }) => record.clone(),
        _ => return true,
    };
    let examined = |chip: &Arc<dyn Chip>| {
        // Its counters are not read before it is known that this changes nothing.
        chip.check_presence(&record)?;
        chip.lost_parts(&record.tpm)
    };
    let examined = match examined(chip) {
        // The storage root key is gone, and only the owner makes it again.
        Err(CardFault::Tpm(error)) if error.refuses_owner() => examined(&for_keeper(chip)),
        examined => examined,
    };
    let examined = match examined {
        Err(fault) => Err(fault),
        // Its wrong PINs are counted in the lockout, which every TPM has.
        Ok(gone) if record.tpm.mode == CounterMode::Object => Ok(Ok(gone)),
        Ok(gone) => {
            count_as_found(host, card, &mut record, chip).map(|usable| usable.map(|()| gone))
        }
    };
    let fault = match examined {
        Ok(Err(view)) => {
            if card.view() != view {
                tracing::warn!(card = %card.selector(), reason = view.reason, "card not used");
            }
            *body = Body::Waiting(record);
            card.set_view(view);
            return true;
        }
        Ok(Ok(gone)) => match open(host, card, &record, chip) {
            Ok(live) => {
                *body = Body::Live(Box::new(live));
                card.set_view(View::ready());
                card.gone().set(&gone);
                tracing::info!(card = %card.selector(), name = card.name(), "card ready");
                if !gone.is_empty() {
                    tracing::warn!(card = %card.selector(), ?gone, "indices of the card were deleted or replaced");
                }
                return true;
            }
            Err(reason) => View::new(CardState::Unreadable, reason),
        },
        Err(CardFault::SwitchedOff) => {
            if card.view().state != CardState::SwitchedOff {
                tracing::warn!(card = %card.selector(), reason = crate::failure::SWITCHED_OFF, "card waits");
            }
            *body = Body::Waiting(record);
            card.set_view(View::switched_off());
            return true;
        }
        Err(CardFault::Tpm(error)) if error.refuses_owner() => {
            let reason = "the TPM's storage root key was removed, and its owner authorisation is needed to create it again: keep it as the daemon's service credential `owner-auth`";
            if card.view().reason != reason {
                tracing::warn!(card = %card.selector(), reason, "card not checked");
            }
            *body = Body::Waiting(record);
            card.set_view(View::new(CardState::TpmAway, reason));
            return true;
        }
        Err(CardFault::Tpm(error)) => {
            let reason = crate::failure::chain(&error);
            tracing::debug!(card = %card.selector(), error = reason, "card not checked");
            let text = format!("the TPM cannot be reached: {reason}");
            *body = Body::Waiting(record);
            card.set_view(View::new(CardState::TpmAway, text));
            return false;
        }
        Err(fault) => view_of_fault(&fault),
    };
    if card.view() != fault {
        tracing::warn!(card = %card.selector(), name = card.name(), reason = fault.reason, "card refused");
    }
    *body = refused(record, &fault);
    card.set_view(fault);
    true
}

/// A card that the TPM has disowned. One that it may still turn out to have is asked for again.
fn refused(record: Box<CardRecord>, fault: &View) -> Body {
    Body::Refused(Refused {
        // A foreign card's handles may belong to anybody here.
        indices: match fault.state {
            CardState::Foreign => Indices::NotOurs,
            _ => Indices::Own,
        },
        record: Some(record),
        again: matches!(fault.state, CardState::Foreign | CardState::Lost),
    })
}

/// What a fault means for people.
fn view_of_fault(fault: &CardFault) -> View {
    match fault {
        CardFault::CountReset => View::unsafe_tpm(resetting_tpm(&fault.to_string())),
        CardFault::Foreign => View::new(
            CardState::Foreign,
            "made by another TPM, or the TPM was cleared",
        ),
        CardFault::Lost(_) => View::new(CardState::Lost, fault.to_string()),
        CardFault::SwitchedOff => View::switched_off(),
        CardFault::Tpm(_) => View::away(),
        _ => View::new(CardState::Unreadable, fault.to_string()),
    }
}

/// The TPM, with the authorisation that reading the counters of such a card takes now.
fn reader(chip: &Arc<dyn Chip>, mode: CounterMode) -> Arc<dyn Chip> {
    match mode {
        CounterMode::Nv | CounterMode::Object => Arc::clone(chip),
        CounterMode::NvOwner => for_keeper(chip),
    }
}

/// Has a card with counters in NV counted as its TPM allows. The view: it may not be used.
fn count_as_found(
    host: &Host,
    card: &Arc<HostedCard>,
    record: &mut CardRecord,
    chip: &Arc<dyn Chip>,
) -> Result<Result<(), View>, CardFault> {
    match host.counters.examine(host, &for_keeper(chip)) {
        Verdict::Usable => {}
        Verdict::Closed => close(host, card, record),
        Verdict::Unsafe(reason) => return Ok(Err(View::unsafe_tpm(reason))),
        Verdict::Away(error) => return Err(CardFault::Tpm(error)),
    }
    match reader(chip, record.tpm.mode).check_card(record) {
        // As something else has found meanwhile.
        Err(CardFault::CountReset) => {
            host.counters.found(host, &TpmError::CountReset);
            Ok(Err(view_of_fault(&CardFault::CountReset)))
        }
        other => other.map(Ok),
    }
}

/// Takes from a card what lets its counters be read, which sets them back on this TPM, and gives its file the counts.
/// The card is used in this form whether its file has it or not: nothing is compared before a count is saved, and
/// then it has all of it.
fn close(host: &Host, card: &Arc<HostedCard>, record: &mut CardRecord) {
    let Some(closed) = cardea_tpm::without_open_approvals(&record.tpm) else {
        return;
    };
    record.tpm = closed;
    card.set_counted_here();
    let saved = card_store(host, card, record).and_then(|mut store| {
        store
            .save(record)
            .map_err(|error| crate::failure::chain(&error))
    });
    match saved {
        Ok(()) => tracing::warn!(
            card = %card.selector(),
            "the TPM sets counts back when they are read; wrong PINs of this card are counted in its file now"
        ),
        Err(error) => tracing::warn!(
            card = %card.selector(),
            error,
            "the card file still allows its counters to be read"
        ),
    }
}

/// Where a card's file is.
fn card_store(
    host: &Host,
    card: &HostedCard,
    record: &CardRecord,
) -> Result<Box<dyn CardStore>, String> {
    match card.drive() {
        Some(drive) => Ok(Box::new(DriveStore(drive))),
        None if card.known().is_some() => Err(View::drive_away().reason),
        None => Ok(Box::new(host.store.card(record.id))),
    }
}

/// The card over its token and its file.
pub(crate) fn open(
    host: &Host,
    card: &HostedCard,
    record: &CardRecord,
    chip: &Arc<dyn Chip>,
) -> Result<Card, String> {
    let reader = match record.tpm.mode {
        CounterMode::Nv | CounterMode::Object => Arc::clone(chip),
        // It asks each time whether reading takes the authorisation.
        CounterMode::NvOwner => chip.with_owner(credential()),
    };
    let token = reader
        .token(record)
        .map_err(|fault| crate::failure::chain(&fault))?;
    let gone = Arc::clone(card.gone());
    let token = Partial::new(token, chip.clone(), &record.tpm, gone);
    let store = card_store(host, card, record)?;
    Card::open(
        record.clone(),
        Box::new(token),
        store,
        Box::new(BootClock),
        Box::new(SystemRng),
    )
    .map_err(|error| crate::failure::chain(&error))
}

/// Whether what a token says of a live card calls for a look at the card as a whole.
pub(crate) fn calls_for_recheck(kind: TokenErrorKind) -> bool {
    matches!(
        kind,
        TokenErrorKind::Damaged | TokenErrorKind::Lost | TokenErrorKind::Unsafe
    )
}

/// A live card said that something in the TPM is not as it should be: finds out what, and takes it out of use unless
/// it was nothing.
pub(crate) fn recheck(host: &Host, card: &Arc<HostedCard>, body: &mut Body, said: TokenErrorKind) {
    let Body::Live(live) = &*body else {
        return;
    };
    let Ok(chip) = host.tpm.chip() else {
        return;
    };
    let record = Box::new(live.record().clone());
    if said == TokenErrorKind::Unsafe {
        host.counters.found(host, &TpmError::CountReset);
    }
    let examined = reader(&chip, record.tpm.mode)
        .check_card(&record)
        .and_then(|()| chip.lost_parts(&record.tpm));
    if matches!(examined, Err(CardFault::CountReset)) {
        host.counters.found(host, &TpmError::CountReset);
    }
    let is_open = cardea_tpm::without_open_approvals(&record.tpm).is_some();
    let unsafe_reason = match is_open && host.counters.are_reset() {
        // It comes back without what is open.
        true => Some(resetting_tpm(&TpmError::CountReset.to_string())),
        false => host.counters.unsafe_reason(record.tpm.mode),
    };
    let view = match (unsafe_reason, examined) {
        (Some(reason), _) => View::unsafe_tpm(reason),
        (None, Ok(gone)) => {
            card.gone().set(&gone);
            return;
        }
        (None, Err(CardFault::Tpm(_))) => return,
        (None, Err(fault)) => view_of_fault(&fault),
    };
    tracing::warn!(card = %card.selector(), reason = view.reason, "card out of use");
    let lost = !matches!(view.state, CardState::SwitchedOff | CardState::UnsafeTpm);
    *body = match lost {
        true => refused(record, &view),
        // Nothing is lost: the same card is back when the TPM has restarted, with other firmware.
        false => Body::Waiting(record),
    };
    card.set_view(view);
    host.slots.remove(card);
    if lost {
        let audit = &host.audit;
        audit.event(Some(card), &Actor::daemon(), Door::Daemon, Kind::CardLost);
    }
    host.wake_keeper();
}
