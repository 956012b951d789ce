//! Cards on drives that come and go: who brings a drive, how its folder is reached, and when its cards are there.
//!
//! A drive is there as long as somebody holds it: a connection of a user's program that gives the open folder
//! whenever it is needed (`cardea_client::drive` is the other end). Nothing of a drive stays open between two
//! uses, so that it can be unmounted at any moment; using a key needs nothing of it.
//!
//! What is on the drive is not believed (docs/design/tpm.md section 13): [`admit`] compares it with what is known
//! before the TPM hears of it. Reading and writing a drive is done without the locks that other cards need.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cardea_card::record::{CardId, CardRecord};
use cardea_client::message::{CardDetails, CardState, Failure, FailureKind, Reply};
use cardea_store::{DriveFolder, KnownCard, KnownIndex, KnownPolicies, StoredCard};
use cardea_terms::is_unsafe_to_show;
use cardea_tpm::own_indices;

use crate::failure::{chain, fail, of_drive_store, of_store, of_tpm};
use crate::host::Host;
use crate::host::admission::check;
use crate::host::audit::{Actor, Door, Kind};
use crate::host::describe;
use crate::host::drive::{Drive, DriveError, Reading};
use crate::host::foreign::require_room;
use crate::host::hosted::{Body, HostedCard, Indices, Place, Refused, View};
use crate::host::lease::Lease;
use crate::host::permission::Caller;
use crate::sync::lock;

/// Longest description of a place.
const MAX_PLACE: usize = 255;

/// A connection's drive; it is released with this value.
#[derive(Debug)]
pub(crate) struct Held {
    host: Arc<Host>,
    drive: Arc<Drive>,
    lease: Arc<Lease>,
}

impl Held {
    /// Waits for something to tell.
    pub(crate) fn hold(
        &self,
        folder: Option<OwnedFd>,
        peer: Option<&UnixStream>,
        limit: Duration,
    ) -> Reply {
        Reply::Hold(self.lease.hold(folder, peer, limit))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lease.end();
        lock(&self.drive.leases).retain(|lease| !Arc::ptr_eq(lease, &self.lease));
        remove_absent(&self.host);
    }
}

/// Inserts the cards in a folder that the caller has opened.
pub(crate) fn attach(
    host: &Arc<Host>,
    reading: &Reading,
    (caller, actor): (Caller, &Actor),
    place: &str,
    given: OwnedFd,
) -> Result<(Reply, Held), Failure> {
    let turn = reading.begin(host.accounts().of(caller.uid()))?;
    let folder = open(host, given)?;
    let identity = folder.identity();
    let names = folder.names().map_err(|error| of_drive_store(&error))?;
    let lease = Arc::new(Lease::new(caller).map_err(|error| {
        fail(
            FailureKind::Busy,
            format!("the daemon has no descriptor left: {error}"),
        )
    })?);
    let known = host.cards().iter().find_map(|card| {
        let drive = card.drive()?;
        (drive.identity == identity && !drive.has_failed()).then_some(drive)
    });
    let drive = known.unwrap_or_else(|| Arc::new(Drive::new(host, identity, plain(place))));
    lock(&drive.leases).push(Arc::clone(&lease));
    // From here on whatever happens ends the lease.
    let held = Held {
        host: Arc::clone(host),
        drive: Arc::clone(&drive),
        lease,
    };
    let (mut cards, mut problems) = (Vec::new(), Vec::new());
    for name in &names {
        // One at a time: a file may be large.
        match read(&folder, name).and_then(|stored| match stored {
            Some(stored) => admit(host, caller, stored, &drive).map(Some),
            None => Ok(None),
        }) {
            Ok(Some(card)) => cards.push(card),
            Ok(None) => {}
            Err(problem) => problems.push(Failure {
                message: format!("{}: {}", name.display(), problem.message),
                ..problem
            }),
        }
    }
    drop(folder);
    drop(turn);
    if cards.is_empty() {
        return Err(problems.into_iter().next().unwrap_or_else(|| {
            fail(
                FailureKind::NotFound,
                "there is no card file in this folder; `cardea card create --store` creates one",
            )
        }));
    }
    {
        let _guard = host.provision(&mut |_| {});
        host.seat_cards();
    }
    host.cards_changed();
    for card in &cards {
        tracing::info!(card = %card.selector(), place = drive.place, by = caller.uid(), state = ?card.view().state, "drive attached");
        note(host, card, actor, Door::Socket, Kind::CardAttached);
    }
    let reply = Reply::Drive {
        cards: describe::summaries(host, &cards).collect(),
        problems: problems
            .into_iter()
            .map(|problem| problem.message)
            .collect(),
    };
    Ok((reply, held))
}

/// Of this host's cards only: others could be anything.
fn note(host: &Host, card: &HostedCard, actor: &Actor, door: Door, kind: Kind) {
    if card.known().is_some() {
        host.audit.event(Some(card), actor, door, kind);
    }
}

/// The folder of a card that is going to be made.
pub(crate) fn open_for_new(host: &Host, given: Option<OwnedFd>) -> Result<DriveFolder, Failure> {
    let given = given.ok_or_else(no_folder)?;
    let folder = open(host, given)?;
    if folder.is_read_only() {
        return Err(fail(
            FailureKind::Failed,
            "the drive is mounted read-only; mount it for writing",
        ));
    }
    Ok(folder)
}

pub(crate) fn no_folder() -> Failure {
    fail(
        FailureKind::Invalid,
        "the descriptor of the folder is missing",
    )
}

fn open(host: &Host, given: OwnedFd) -> Result<DriveFolder, Failure> {
    let folder = host.store.drives().open(given);
    folder.map_err(|error| of_drive_store(&error))
}

fn read(folder: &DriveFolder, name: &Path) -> Result<Option<StoredCard>, Failure> {
    folder.card(name).map_err(|error| of_drive_store(&error))
}

/// Takes a card file in, or says why not. Nothing is done to the TPM for a file that is not this host's.
fn admit(
    host: &Host,
    caller: Caller,
    stored: StoredCard,
    drive: &Arc<Drive>,
) -> Result<Arc<HostedCard>, Failure> {
    let record = match stored.content {
        Ok(record) => Box::new(record),
        Err(error) => return Err(fail(FailureKind::Invalid, chain(&error))),
    };
    if stored.previous {
        tracing::warn!(card = %record.id, "card file damaged or gone, the previous one is used");
    }
    if !caller.may_see(Some(record.owner)) {
        let text = "the card belongs to another user; its owner or an administrator may attach it";
        return Err(fail(FailureKind::Denied, text));
    }
    wait_until_left(host, record.id);
    let _guard = host.provision(&mut |_| {});
    // An id that somebody else has is no obstacle for what this host has not written, and not told.
    let is_told = |card: &HostedCard| stored.trusted || caller.may_see(card.owner);
    match host.own_card(record.id).filter(|card| is_told(card)) {
        Some(card) => return_home(host, &card, record, stored.trusted, drive).map(|()| card),
        None if stored.trusted => newly_known(host, record, drive),
        None => stranger(host, caller, &record, drive),
    }
}

/// Waits until a card that returns is no longer at work from before its drive went, and not under the provisioning
/// lock, which others want meanwhile.
fn wait_until_left(host: &Host, card: CardId) {
    remove_absent(host);
    if let Some(card) = host.own_card(card)
        && card.is_leaving()
    {
        drop(card.body());
    }
}

/// A card whose id this host knows.
fn return_home(
    host: &Host,
    card: &Arc<HostedCard>,
    record: Box<CardRecord>,
    trusted: bool,
    drive: &Arc<Drive>,
) -> Result<(), Failure> {
    let refuse = |text: &str| Err(fail(FailureKind::Invalid, text));
    if let Some(present) = card.drive()
        && (present.serves(card.owner) || Arc::ptr_eq(&present, drive))
    {
        return match Arc::ptr_eq(&present, drive) {
            true => Ok(()),
            false => refuse("the card is already attached, from another drive"),
        };
    }
    let Some(known) = card.known() else {
        return refuse("a card with this id already exists on this computer");
    };
    if !trusted {
        return refuse("the card file was changed, or not written by this system");
    }
    if !known.is_of(&record) {
        return refuse("the card file is not the one that this system knows by this id");
    }
    if doomed(host, record.id) {
        return refuse("the card is being destroyed");
    }
    insert(host, card, record, drive);
    Ok(())
}

fn doomed(host: &Host, id: CardId) -> bool {
    lock(&host.intents).iter().any(|intent| intent.card == id)
}

/// Compares a card of this host with the TPM, and takes it into use. The caller holds the provisioning lock.
fn insert(host: &Host, card: &Arc<HostedCard>, record: Box<CardRecord>, drive: &Arc<Drive>) {
    if let Some(known) = card.known()
        && (known.name != record.name || !host.store.has_known(record.id))
        && let Err(error) = host.store.write_known(&self::known(&record))
    {
        // The file on the drive has it all: the next time that it is attached, this is tried again.
        tracing::warn!(card = %card.selector(), error = chain(&error), "card on a drive not recorded");
    }
    card.set_name(&record.name);
    card.set_visibility(record.settings.visibility);
    card.set_uninitialised(record.provisional.is_some());
    *card.body() = Body::Waiting(record);
    card.set_drive(Some(Arc::clone(drive)));
    card.set_view(View::away());
    let checked = host.tpm.chip().is_ok_and(|chip| check(host, card, &chip));
    if !checked {
        host.wake_keeper();
    }
}

/// A file that this host has written and no longer knows.
fn newly_known(
    host: &Host,
    record: Box<CardRecord>,
    drive: &Arc<Drive>,
) -> Result<Arc<HostedCard>, Failure> {
    refuse_claims(host, &record)?;
    let known = known(&record);
    host.store
        .write_known(&known)
        .map_err(|error| of_store(&error))?;
    let card = list_known(host, known);
    insert(host, &card, record, drive);
    Ok(card)
}

/// Lists a card on a drive of this host. The caller holds the provisioning lock.
pub(crate) fn list_known(host: &Host, known: KnownCard) -> Arc<HostedCard> {
    let instance = host.store.instance(known.card).ok();
    let path = host.store.path(known.card);
    let card = Arc::new(HostedCard::on_drive(known, path, instance));
    host.add(Arc::clone(&card));
    card
}

/// What this host keeps of a card on a drive.
pub(crate) fn known(record: &CardRecord) -> KnownCard {
    let own = own_indices(&record.tpm);
    KnownCard {
        card: record.id,
        name: record.name.clone(),
        owner: record.owner,
        created: record.created,
        indices: record
            .tpm
            .indices
            .iter()
            .filter_map(|index| {
                let own = own.iter().find(|own| own.handle == index.handle)?;
                Some(KnownIndex {
                    handle: own.handle,
                    role: index.role,
                    policy: own.policy,
                })
            })
            .collect(),
        sealed: record.tpm.sealed_policies.as_ref().and_then(|sealed| {
            let own = own.iter().find(|own| own.handle == sealed.handle)?;
            Some(KnownPolicies {
                handle: own.handle,
                policy: own.policy,
            })
        }),
    }
}

/// An index belongs to one card, present or not.
fn refuse_claims(host: &Host, record: &CardRecord) -> Result<(), Failure> {
    let others = host.cards();
    let mut others = others.iter().filter(|card| card.id != Some(record.id));
    let claimed = others.any(|card| record.tpm.handles().any(|handle| card.claims(handle)));
    match claimed {
        true => Err(fail(
            FailureKind::Invalid,
            "the card file claims what belongs to another card of this computer",
        )),
        false => Ok(()),
    }
}

/// A file that this host has not written: listed with what it seems to be, and not used. The caller holds the
/// provisioning lock.
fn stranger(
    host: &Host,
    caller: Caller,
    record: &CardRecord,
    drive: &Arc<Drive>,
) -> Result<Arc<HostedCard>, Failure> {
    if let Some(card) = known_guest(host, record, drive)? {
        return Ok(card);
    }
    require_room(host, caller)?;
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    let own = chip
        .has_root(&record.tpm.srk)
        .map_err(|error| of_tpm(&error))?;
    let view = match own {
        true => View::new(CardState::NotTrusted, NOT_WRITTEN_HERE),
        false => View::new(
            CardState::Foreign,
            "made by another TPM, or the TPM was cleared",
        ),
    };
    // Nothing is kept of what it says: a file of this kind costs nobody else anything.
    let place = Place {
        id: Some(record.id),
        path: PathBuf::new(),
        instance: None,
    };
    let refused = Body::Refused(Refused {
        record: None,
        indices: Indices::NotOurs,
        again: false,
    });
    let brought = (Arc::clone(drive), host.accounts().of(caller.uid()));
    let card = HostedCard::stranger(place, record, refused, view, brought);
    let card = Arc::new(card);
    match host.add_guest(&card) {
        true => Ok(card),
        // Redirections do not wait for the provisioning lock.
        false => Err(fail(FailureKind::Invalid, REDIRECTED)),
    }
}

/// A card of the same user with this id that is not this host's either. Those of others are not compared.
fn known_guest(
    host: &Host,
    record: &CardRecord,
    drive: &Arc<Drive>,
) -> Result<Option<Arc<HostedCard>>, Failure> {
    let mut same = host.cards().into_iter().filter(|card| {
        card.is_guest() && card.id == Some(record.id) && card.owner == Some(record.owner)
    });
    let refuse = |text: &str| Err(fail(FailureKind::Invalid, text));
    match same.next() {
        None => Ok(None),
        Some(card) => match card.drive() {
            Some(present) if Arc::ptr_eq(&present, drive) => Ok(Some(card)),
            Some(_) => refuse("the card is already attached, from another drive"),
            None => refuse(REDIRECTED),
        },
    }
}

const REDIRECTED: &str = "a card with this id is redirected to this computer; end that first";

const NOT_WRITTEN_HERE: &str = "made by this computer's TPM, but not written by this system: an administrator can \
     adopt it once with `cardea card adopt`";

/// Removes what is gone: cards that nobody holds, and drives that failed.
pub(crate) fn remove_absent(host: &Host) {
    let absent = |card: &Arc<HostedCard>| {
        let drive = card.drive();
        drive.is_some_and(|drive| !drive.serves(card.owner))
    };
    let gone: Vec<_> = host.cards().into_iter().filter(absent).collect();
    if gone.is_empty() {
        return;
    }
    // At once, whatever else is at work.
    for card in &gone {
        host.slots.remove(card);
    }
    let _guard = host.provision(&mut |_| {});
    for card in gone.iter().filter(|card| absent(card)) {
        let Some(drive) = card.drive() else { continue };
        if drive.has_failed() {
            for lease in &*lock(&drive.leases) {
                lease.end();
            }
        }
        card.set_drive(None);
        // Not waited for: others want the provisioning lock, and a card can be at work for as long as its TPM makes a
        // key.
        card.leave();
        if card.is_leaving() {
            host.wake_keeper();
        }
        host.slots.remove(card);
        if card.known().is_none() {
            host.forget(card);
        }
        tracing::info!(card = %card.selector(), place = drive.place, "drive gone");
        note(
            host,
            card,
            &Actor::daemon(),
            Door::Daemon,
            Kind::CardDetached,
        );
    }
    host.seat_cards();
    host.cards_changed();
}

/// Takes the drive of a card out. Cards on it that are not the caller's business stay.
pub(crate) fn detach(host: &Host, caller: Caller, card: &HostedCard) -> Result<Reply, Failure> {
    let drive = card.drive().ok_or_else(|| {
        let text = match card.known() {
            Some(_) => "the drive with the card is not attached",
            None => "the card is not on a drive",
        };
        fail(FailureKind::NotFound, text)
    })?;
    let mut others = host.cards().into_iter().filter(|other| {
        let same = other
            .drive()
            .is_some_and(|other| Arc::ptr_eq(&other, &drive));
        same && !caller.may_see(other.owner)
    });
    if others.next().is_some() {
        return Err(fail(
            FailureKind::Denied,
            "the drive also has cards of other users; an administrator may detach it",
        ));
    }
    let leases = lock(&drive.leases).clone();
    for lease in leases {
        lease.end();
    }
    remove_absent(host);
    Ok(Reply::Done)
}

/// Makes a card this host's own whose file it has not written.
pub(crate) fn adopt(
    host: &Host,
    caller: Caller,
    actor: &Actor,
    card: &Arc<HostedCard>,
    owner: Option<u32>,
) -> Result<CardDetails, Failure> {
    if owner == Some(u32::MAX) {
        return Err(fail(FailureKind::Invalid, "this is not a user id"));
    }
    let view = card.view();
    let (CardState::NotTrusted, Some(id), Some(drive)) = (view.state, card.id, card.drive()) else {
        let text = match (view.state, card.drive()) {
            (CardState::Foreign, _) => {
                "the card was made by another TPM; it only works on the computer that made it"
            }
            (CardState::NotTrusted, None) => "only a card on an attached drive can be adopted",
            _ => "this system has written the card's file itself; it need not be adopted",
        };
        return Err(fail(FailureKind::Invalid, text));
    };
    let folder = drive
        .folder(card.owner.unwrap_or(u32::MAX))
        .map_err(|error| of_drive(&error))?;
    let _guard = host.provision(&mut |_| {});
    // Read again: what was listed may have been exchanged since.
    let name = format!("{id}.card");
    let stored = read(&folder, Path::new(&name))?.ok_or_else(|| of_drive(&DriveError::Gone))?;
    let mut record = stored
        .content
        .map_err(|error| fail(FailureKind::Invalid, chain(&error)))?;
    if host.own_card(id).is_some() {
        let text = "a card with this id already exists on this computer";
        return Err(fail(FailureKind::Invalid, text));
    }
    refuse_claims(host, &record)?;
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    let own = chip
        .has_root(&record.tpm.srk)
        .map_err(|error| of_tpm(&error))?;
    if !own || Some(record.owner) != card.owner {
        return Err(fail(
            FailureKind::Invalid,
            "the card file was replaced meanwhile; check it again",
        ));
    }
    record.owner = owner.unwrap_or(record.owner);
    folder
        .adopt(&record)
        .map_err(|error| of_drive_store(&error))?;
    drop(folder);
    // The file has changed its host, whatever happens from here on: it is this host's also where it cannot be recorded.
    host.forget(card);
    let own = list_known(host, known(&record));
    insert(host, &own, Box::new(record), &drive);
    host.seat_cards();
    host.cards_changed();
    tracing::warn!(card = %own.selector(), name = own.name(), owner = own.owner, by = caller.uid(), "card adopted");
    host.audit
        .event(Some(&own), actor, Door::Socket, Kind::CardAdopted);
    Ok(describe::details(host, &own))
}

/// In the words of the socket.
pub(crate) fn of_drive(error: &DriveError) -> Failure {
    match error {
        DriveError::Gone => fail(FailureKind::NotFound, error.to_string()),
        DriveError::Store(error) => of_drive_store(error),
    }
}

/// Without what would disturb a terminal.
fn plain(place: &str) -> String {
    let mut plain = String::new();
    for letter in place.chars() {
        let letter = if is_unsafe_to_show(letter) {
            '?'
        } else {
            letter
        };
        if plain.len() + letter.len_utf8() > MAX_PLACE {
            break;
        }
        plain.push(letter);
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::{OnceLock, mpsc};
    use std::thread;

    use cardea_tpm::{Address, Service, TpmError};

    use super::*;
    use crate::host::accounts::Accounts;
    use crate::lifecycle::load::tests::{host_with, stored};

    #[test]
    fn card_that_was_redirected_meanwhile_is_not_listed_twice() {
        let folder = tempfile::tempdir().unwrap();
        let record = stored(1, 1, 0x01C2_0000, false).content.unwrap();
        let guest = |host: &Arc<Host>| {
            let drive = Arc::new(Drive::new(host, (0, 0), String::new()));
            let place = Place {
                id: Some(record.id),
                path: PathBuf::new(),
                instance: None,
            };
            let brought = (drive, record.owner);
            HostedCard::stranger(place, &record, Body::Elsewhere, View::away(), brought)
        };
        let cell: Arc<OnceLock<(Arc<Host>, Arc<HostedCard>)>> = Arc::default();
        let inner = Arc::clone(&cell);
        // The TPM is asked whether the card is its own; meanwhile another connection brings one.
        let connect = Box::new(move || {
            let (host, guest) = inner.get().unwrap();
            assert!(host.add_guest(guest));
            let service = Service::start(&Address::Simulator(None))?;
            Ok(Arc::new(service) as Arc<_>)
        });
        let host = Arc::new(host_with(folder.path(), connect));
        let other = Arc::new(guest(&host));
        assert!(cell.set((Arc::clone(&host), other)).is_ok());
        let drive = Arc::new(Drive::new(&host, (1, 1), String::new()));
        let caller = Caller::for_test(record.owner, false, false);
        let _guard = host.provision(&mut |_| {});
        let failure = stranger(&host, caller, &record, &drive).unwrap_err();
        assert_eq!(failure.message, REDIRECTED);
        assert_eq!(host.cards().len(), 1);
    }

    #[test]
    fn card_at_work_on_a_drive_that_has_gone_keeps_the_provisioning_lock_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let connect = Box::new(|| Err(TpmError::Stopped));
        let host = Arc::new(host_with(folder.path(), connect));
        let record = stored(1, 1, 0x01C2_0000, true).content.unwrap();
        let guard = host.provision(&mut |_| {});
        let card = list_known(&host, known(&record));
        let drive = Arc::new(Drive::new(&host, (1, 1), String::new()));
        card.set_drive(Some(Arc::clone(&drive)));
        *card.body() = Body::Waiting(Box::new(record.clone()));
        card.set_view(View::ready());
        drop(guard);

        let at_work = card.body();
        let (sender, receiver) = mpsc::channel();
        thread::scope(|threads| {
            threads.spawn(|| {
                remove_absent(&host);
                drop(host.provision(&mut |_| {}));
                sender.send(()).unwrap();
            });
            let done = receiver.recv_timeout(Duration::from_secs(30));
            // Its work says how it is, and ends.
            assert_eq!(card.view(), View::drive_away());
            card.set_view(View::ready());
            assert!(matches!(*at_work, Body::Waiting(_)));
            drop(at_work);
            assert_eq!(done, Ok(()));
        });
        assert!(
            matches!(*card.body(), Body::Away),
            "for whoever has it next"
        );
        assert_eq!(card.view(), View::drive_away());
        assert!(card.drive().is_none() && !card.is_leaving());

        // It returns once; what it was at work on before does not end it again.
        let lease = Lease::new(Caller::for_test(record.owner, false, false)).unwrap();
        lock(&drive.leases).push(Arc::new(lease));
        let guard = host.provision(&mut |_| {});
        insert(&host, &card, Box::new(record), &drive);
        drop(guard);
        remove_absent(&host);
        assert!(matches!(*card.body(), Body::Waiting(_)));
    }

    #[test]
    fn subordinate_ids_do_not_have_several_drives_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = folder.path().join("subuid");
        std::fs::write(&ranges, "1000:100000:65536\n").unwrap();
        let accounts = Accounts::new(ranges);
        accounts.refresh();
        let connect = Box::new(|| {
            let service = Service::start(&Address::Simulator(None))?;
            Ok(Arc::new(service) as Arc<_>)
        });
        let host = host_with(&folder.path().join("state"), connect);
        let host = Arc::new(host.counting_by(accounts));
        let reading = Reading::default();
        let _turn = reading.begin(1000).unwrap();
        for (uid, kind) in [
            (100_000, FailureKind::Busy),
            (165_535, FailureKind::Busy),
            (165_536, FailureKind::Failed),
        ] {
            let given = File::open("/proc").unwrap().into();
            let by = (Caller::for_test(uid, false, false), &Actor::daemon());
            let failure = attach(&host, &reading, by, "here", given).unwrap_err();
            assert_eq!(failure.kind, kind, "{uid}: {failure:?}");
        }
    }
}
