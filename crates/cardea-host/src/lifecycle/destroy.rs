//! Destroying a card, and removing the file of one that cannot be used.

use std::sync::{Arc, MutexGuard};

use cardea_card::record::{CardId, CardRecord};
use cardea_client::message::{CardState, Failure, FailureKind, SecretBytes};
use cardea_store::{Intent, IntentKind};
use cardea_terms::Step;
use cardea_tpm::TpmError;

use crate::failure::{self, fail, of_store};
use crate::fault;
use crate::host::Host;
use crate::host::admission::check;
use crate::host::drive::Drive;
use crate::host::hosted::{Body, HostedCard, Indices, Place, Refused, View};
use crate::host::permission::Caller;
use crate::lifecycle::drive;
use crate::lifecycle::intents::{indices, known_indices, named};
use crate::lifecycle::owner::Owner;
use crate::sync::lock;

/// Destroys a card, or removes the file of one that cannot be used.
pub(crate) fn destroy(
    host: &Host,
    caller: Caller,
    card: &Arc<HostedCard>,
    owner_auth: Option<&SecretBytes>,
    progress: &mut dyn FnMut(Step),
) -> Result<(), Failure> {
    let mut guard = host.provision(progress);
    progress(Step::WaitForCard);
    loop {
        let card = host.current(card);
        if let Some(body) = card.try_body() {
            return destroy_at_rest(host, caller, (&card, body), owner_auth, progress);
        }
        // A card can be at work for as long as its TPM makes a key, or whoever holds its drive likes. Others want the
        // provisioning lock meanwhile.
        drop(guard);
        let body = card.body();
        // Against the order of locks, so it is not waited for.
        match host.try_provision() {
            Some(free) if Arc::ptr_eq(&card, &host.current(&card)) => {
                let _guard = free;
                return destroy_at_rest(host, caller, (&card, body), owner_auth, progress);
            }
            _ => drop(body),
        }
        guard = host.provision(&mut |_| {});
    }
}

/// Like [`destroy`]. The caller holds the provisioning lock.
fn destroy_at_rest(
    host: &Host,
    caller: Caller,
    (card, mut body): (&Arc<HostedCard>, MutexGuard<'_, Body>),
    owner_auth: Option<&SecretBytes>,
    progress: &mut dyn FnMut(Step),
) -> Result<(), Failure> {
    if matches!(*body, Body::Away) {
        drop(body);
        return free(host, caller, card, owner_auth, progress);
    }
    let state = card.view().state;
    let (record, indices) = match &*body {
        Body::Elsewhere => return Err(card.unusable()),
        Body::Away | Body::Gone => {
            return Err(fail(
                FailureKind::NotFound,
                "the card was already destroyed",
            ));
        }
        Body::Live(live) => (Some(Box::new(live.record().clone())), Indices::Own),
        Body::Refused(Refused {
            record, indices, ..
        }) => (record.clone(), *indices),
        Body::Waiting(record) => (Some(record.clone()), Indices::Own),
    };
    let mut at_hand = None;
    // What is to be finished later when it cannot be finished now.
    let mut begun_intent = None;
    match (record, card.id, indices) {
        (Some(record), Some(id), Indices::Own) => {
            // Before the card is taken out of use.
            let owner = at_hand.insert(Owner::new(host, owner_auth)?);
            // A switched-off hierarchy hides the indices: they would be taken for gone, and the card with them.
            owner.require_on()?;
            let begun = Begun::of(host, id);
            // From here on no connection reaches the card any more.
            let before = std::mem::replace(&mut *body, Body::Gone);
            drop(body);
            host.slots.remove(card);
            drop(before);
            match undefine(host, id, &record, (state, begun, owner), progress) {
                Ok(intent) => begun_intent = Some(intent),
                Err(failure) => {
                    match begun {
                        // The intent stands: it is not a card again while the keeper may end it at any moment.
                        Begun::Earlier => {
                            *card.body() = Body::Refused(Refused {
                                record: Some(record),
                                indices: Indices::Own,
                                again: false,
                            });
                        }
                        Begun::Now => put_back(host, card, record),
                    }
                    return Err(failure);
                }
            }
        }
        _ => {
            match unsettled_creation(host, card)? {
                Some(created) => {
                    let owner = at_hand.insert(Owner::new(host, owner_auth)?);
                    undo_creation(owner, &created, progress)?;
                }
                // Its indices, if there are any, are not known to be its own.
                None => {
                    tracing::warn!(card = %card.selector(), handles = ?card.handles, "only the file is removed");
                }
            }
            let before = std::mem::replace(&mut *body, Body::Gone);
            drop(body);
            progress(Step::RemoveFile);
            if let Err(failure) = remove_file(host, card) {
                *card.body() = before;
                return Err(failure);
            }
        }
    }
    let mut left = None;
    if let Some(intent) = begun_intent {
        progress(Step::RemoveFile);
        if let Err(failure) = remove_file(host, card) {
            left = Some((intent, failure.message));
        }
    }
    end(host, caller, card, at_hand.as_ref(), left);
    Ok(())
}

/// What its creation has defined, of a card whose file does not tell: the intent is still there.
fn unsettled_creation(host: &Host, card: &HostedCard) -> Result<Option<Intent>, Failure> {
    if card.is_guest() {
        return Ok(None);
    }
    let intents = host.store.intents().map_err(|error| of_store(&error))?;
    let is_its =
        |intent: &Intent| Some(intent.card) == card.id && intent.kind == IntentKind::Create;
    Ok(intents.into_iter().find(is_its))
}

/// The intent stays until the file has gone, so this can be repeated.
fn undo_creation(
    owner: &Owner,
    created: &Intent,
    progress: &mut dyn FnMut(Step),
) -> Result<(), Failure> {
    owner.require_on()?;
    progress(Step::DeleteObjects);
    let undone = owner.chip.undo_intent(&indices(created));
    undone.map_err(|error| owner.failure(&error))
}

/// The card is gone, and so are its files, unless something is left with the intent that names it.
fn end(
    host: &Host,
    caller: Caller,
    card: &Arc<HostedCard>,
    owner: Option<&Owner>,
    left: Option<(Intent, String)>,
) {
    match left {
        Some((intent, why)) => finish_later(host, intent, &why),
        None => {
            fault::point("destroy-file");
            // What is kept under the id of a guest is of another card.
            if let Some(id) = card.id.filter(|_| !card.is_guest()) {
                forget_intent(host, id);
            }
        }
    }
    host.forget(card);
    if let Some(owner) = owner {
        owner.finish_pending(host);
    }
    host.seat_cards();
    tracing::info!(card = %card.selector(), name = card.name(), by = caller.uid(), "card destroyed");
}

/// The card is gone with its indices, and nothing can bring it back: what is left of its files is removed as soon as
/// that can be done, by the intent, which is on the disk.
fn finish_later(host: &Host, intent: Intent, why: &str) {
    tracing::warn!(card = %intent.card, error = why, "file of a destroyed card not removed, to be retried");
    let mut intents = lock(&host.intents);
    intents.retain(|known| known.card != intent.card);
    intents.push(intent);
    drop(intents);
    host.wake_keeper();
}

/// Nothing is left to be done.
fn forget_intent(host: &Host, id: CardId) {
    lock(&host.intents).retain(|intent| intent.card != id);
    lock(&host.told).remove(&id);
    let removed = host.store.remove_intent(id);
    if let Err(error) = removed.and_then(|()| host.store.release_instance(id)) {
        // At the next start there is nothing that it names.
        tracing::warn!(card = %id, error = failure::chain(&error), "intent or instance number not removed");
    }
}

fn remove_file(host: &Host, card: &HostedCard) -> Result<(), Failure> {
    match card.drive() {
        Some(drive) => remove_from(host, card, &drive),
        None => host
            .store
            .remove(&card.path)
            .map_err(|error| of_store(&error)),
    }
}

/// Removes the file from its drive. One that can no longer be removed is of no use: its indices are gone.
fn remove_from(host: &Host, card: &HostedCard, drive: &Drive) -> Result<(), Failure> {
    let (Some(id), Some(owner)) = (card.id, card.owner) else {
        return Ok(());
    };
    let removed = drive
        .folder(owner)
        .and_then(|folder| Ok(folder.remove(id)?));
    if card.known().is_none() {
        return removed.map_err(|error| drive::of_drive(&error));
    }
    if let Err(error) = removed {
        tracing::warn!(card = %id, error = failure::chain(&error), "file of a destroyed card left on its drive");
    }
    host.store
        .remove_known(id)
        .map_err(|error| of_store(&error))
}

/// Gives a card up whose drive is not there: its indices are free, and its file, wherever it is, is
/// no longer of use. The caller holds the provisioning lock.
fn free(
    host: &Host,
    caller: Caller,
    card: &Arc<HostedCard>,
    owner_auth: Option<&SecretBytes>,
    progress: &mut dyn FnMut(Step),
) -> Result<(), Failure> {
    let Some(known) = card.known() else {
        return Err(fail(FailureKind::NotFound, "the card no longer exists"));
    };
    let id = known.card;
    let owner = Owner::new(host, owner_auth)?;
    owner.require()?;
    let begun = Begun::of(host, id);
    let intent = Intent {
        card: id,
        kind: IntentKind::Destroy,
        indices: known_indices(known),
    };
    delete_indices(host, &intent, (begun, &owner), progress, || {
        owner.chip.undo_intent(&indices(&intent))
    })?;
    *card.body() = Body::Gone;
    let removed = host.store.remove_known(id);
    let left = removed.err().map(|error| (intent, failure::chain(&error)));
    end(host, caller, card, Some(&owner), left);
    Ok(())
}

/// Whether a destruction was begun before and not finished.
#[derive(Clone, Copy)]
enum Begun {
    Earlier,
    Now,
}

impl Begun {
    fn of(host: &Host, id: CardId) -> Self {
        match lock(&host.intents).iter().any(|intent| intent.card == id) {
            true => Self::Earlier,
            false => Self::Now,
        }
    }
}

/// Intent, then the card's own indices. When it fails, an intent of now is gone and the card can be looked at
/// again.
fn undefine(
    host: &Host,
    id: CardId,
    record: &CardRecord,
    (state, begun, owner): (CardState, Begun, &Owner),
    progress: &mut dyn FnMut(Step),
) -> Result<Intent, Failure> {
    let intent = Intent {
        card: id,
        kind: IntentKind::Destroy,
        indices: named(&record.tpm),
    };
    delete_indices(host, &intent, (begun, owner), progress, || {
        match owner.chip.destroy_card(&record.tpm) {
            // What a cleared TPM says about a lost card is no reason to keep its file; that an authorisation is
            // missing is one, as nothing but the file tells whose the indices are.
            Err(error)
                if state == CardState::Lost
                    && !failure::is_away(&error)
                    && !error.refuses_owner() =>
            {
                tracing::warn!(card = %id, error = failure::chain(&error), "lost card's indices not deleted");
                Ok(())
            }
            other => other,
        }
    })?;
    Ok(intent)
}

/// Intent, then what it names. When it fails, an intent of now is gone.
fn delete_indices(
    host: &Host,
    intent: &Intent,
    (begun, owner): (Begun, &Owner),
    progress: &mut dyn FnMut(Step),
    delete: impl FnOnce() -> Result<(), TpmError>,
) -> Result<(), Failure> {
    host.store
        .write_intent(intent)
        .map_err(|error| of_store(&error))?;
    fault::point("destroy-intent");
    progress(Step::DeleteObjects);
    if let Err(error) = delete() {
        if matches!(begun, Begun::Now)
            && let Err(error) = host.store.remove_intent(intent.card)
        {
            tracing::warn!(card = %intent.card, error = failure::chain(&error), "intent not removed");
        }
        return Err(owner.failure(&error));
    }
    fault::point("destroy-tpm");
    Ok(())
}

/// The card is still there, as far as is known: it is looked at again, now if the TPM answers, else by the keeper.
fn put_back(host: &Host, card: &Arc<HostedCard>, record: Box<CardRecord>) {
    host.forget(card);
    let place = Place {
        id: card.id,
        path: card.path.clone(),
        instance: card.instance,
    };
    let again = match card.known() {
        Some(known) => {
            let again = HostedCard::on_drive(known.clone(), place.path, place.instance);
            if let Some(drive) = card.drive() {
                again.set_drive(Some(drive));
                *again.body() = Body::Waiting(record);
                again.set_view(View::away());
            }
            again
        }
        None => HostedCard::new(place, &record.clone(), Body::Waiting(record), View::away()),
    };
    let again = Arc::new(again);
    host.add(Arc::clone(&again));
    let checked = host.tpm.chip().is_ok_and(|chip| check(host, &again, &chip));
    if checked {
        host.seat_cards();
    } else {
        host.wake_keeper();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::load::tests::{host_with, stored};

    #[test]
    fn destruction_of_a_card_at_work_keeps_the_provisioning_lock_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let host = host_with(folder.path(), Box::new(|| Err(TpmError::Stopped)));
        let record = stored(1, 1, 0x01C2_0000, true).content.unwrap();
        let place = Place {
            id: Some(record.id),
            path: host.store.path(record.id),
            instance: None,
        };
        let body = Body::Waiting(Box::new(record.clone()));
        let card = Arc::new(HostedCard::new(place, &record, body, View::ready()));
        host.add(Arc::clone(&card));
        let root = Caller::for_test(0, true, false);

        let at_work = card.body();
        let ((step, steps), (got, taken)) = (mpsc::channel(), mpsc::channel());
        thread::scope(|threads| {
            let destroying = threads.spawn(|| {
                let mut progress = |now| step.send(now).unwrap();
                destroy(&host, root, &card, None, &mut progress)
            });
            let first = steps.recv_timeout(Duration::from_secs(30));
            threads.spawn(|| {
                drop(host.provision(&mut |_| {}));
                got.send(()).unwrap();
            });
            let taken = taken.recv_timeout(Duration::from_secs(30));
            drop(at_work);
            let failure = destroying.join().unwrap().unwrap_err();
            assert_eq!((first, taken), (Ok(Step::WaitForCard), Ok(())));
            assert_eq!(failure.kind, FailureKind::NoTpm, "{failure:?}");
        });
        assert!(matches!(*card.body(), Body::Waiting(_)), "nothing was done");
    }
}
