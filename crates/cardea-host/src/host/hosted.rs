//! One card as the daemon holds it: alive, waiting for its TPM, refused, or gone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use cardea_card::Card;
use cardea_card::record::{CardId, CardRecord, IndexRole, ReaderVisibility};
use cardea_card::token::{PinReference, PinStatus};
use cardea_client::message::{CardState, CounterMode, Failure, FailureKind, Part};
use cardea_store::KnownCard;

use crate::failure::{SWITCHED_OFF, fail, no_such_card};
use crate::host::drive::Drive;
use crate::host::pad_pace::PadPace;
use crate::host::partial::GoneParts;
use crate::host::redirected::{Carrier, only_there};
use crate::sync::lock;

/// Between two comparisons of a card that is not in use with its TPM, because somebody asks for it.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A card that the daemon knows.
#[derive(Debug)]
pub struct HostedCard {
    /// Its id; absent when not even the file's name tells one.
    pub id: Option<CardId>,
    /// The card file.
    pub(crate) path: PathBuf,
    /// The host's number for it; absent without an id.
    pub instance: Option<u32>,
    /// Absent when the file cannot be read.
    pub owner: Option<u32>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Where its wrong PINs are counted; absent when the file cannot be read, and for cards of other machines.
    pub(crate) mode: Option<CounterMode>,
    /// NV handles that it claims.
    pub(crate) handles: Vec<u32>,
    /// What they are for, in the same order.
    roles: Vec<IndexRole>,
    home: Home,
    body: Mutex<Body>,
    /// What was last known, so that a list need not wait for a card at work.
    shown: Mutex<Shown>,
    uninitialised: AtomicBool,
    /// Whether its file has its counts because its TPM sets its own back.
    counted_here: AtomicBool,
    /// Only in its reader while its owner has an active session.
    session_bound: AtomicBool,
    /// Parts that it is without.
    gone: Arc<GoneParts>,
    /// Something went wrong with it that the keeper is to look at.
    doubted: AtomicBool,
    /// How often its PIN pad asks.
    pad_pace: PadPace,
    /// It is no longer one of the host's cards.
    forgotten: AtomicBool,
    /// Its drive has gone while it was at work: whoever has it next finds it away.
    leaving: AtomicBool,
}

/// Where a card is kept.
#[derive(Debug)]
enum Home {
    /// On a drive, by this host: what the host has recorded of it, and the drive while that is there.
    Drive(Box<KnownCard>, Mutex<Option<Arc<Drive>>>),
    /// In the state folder.
    Here,
    /// On another machine; the connection that brings it along.
    Redirected(Arc<Carrier>),
    /// On a drive, and this host has not written it; the user account that has brought it.
    Stranger(Arc<Drive>, u32),
}

/// What people see of a card.
#[derive(Debug)]
struct Shown {
    name: String,
    view: View,
    /// When it was last compared with its TPM because somebody asked for it.
    asked: Option<Instant>,
}

/// Tries as last known, and a number that differs when the contents may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Tries of the PIN.
    pub pin_left: Option<u32>,
    /// Tries of the PUK.
    pub puk_left: Option<u32>,
    /// Differs when the contents may.
    pub revision: u64,
}

/// What there is of a card.
pub(crate) enum Body {
    /// On the machine that it is redirected from.
    Elsewhere,
    /// On a drive that is not there.
    Away,
    /// Destroyed.
    Gone,
    /// In use.
    Live(Box<Card>),
    /// Not used, and why is in the view.
    Refused(Refused),
    /// To be checked as soon as the TPM answers.
    Waiting(Box<CardRecord>),
}

/// A card that is not used.
pub(crate) struct Refused {
    pub(crate) record: Option<Box<CardRecord>>,
    /// Whether its indices may be undefined at removal.
    pub(crate) indices: Indices,
    /// Whether the TPM may say something else another time.
    pub(crate) again: bool,
}

/// Whose the NV indices are that a refused card names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Indices {
    /// Not known to be its own: nobody touches them.
    NotOurs,
    /// Those that still have the recorded Names are its own.
    Own,
}

/// State of a card as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: CardState,
    pub(crate) reason: String,
}

impl View {
    pub(crate) fn new(state: CardState, reason: impl Into<String>) -> Self {
        Self {
            state,
            reason: reason.into(),
        }
    }

    pub(crate) fn ready() -> Self {
        Self::new(CardState::Ready, "")
    }

    pub(crate) fn of_status(status: PinStatus) -> Self {
        if status.left == 0 {
            Self::new(CardState::Blocked, "the PIN is blocked")
        } else {
            Self::ready()
        }
    }

    pub(crate) fn drive_away() -> Self {
        Self::new(CardState::DriveAway, "on a drive that is not attached")
    }

    pub(crate) fn switched_off() -> Self {
        Self::new(CardState::SwitchedOff, SWITCHED_OFF)
    }

    pub(crate) fn unsafe_tpm(reason: String) -> Self {
        Self::new(CardState::UnsafeTpm, reason)
    }

    pub(crate) fn away() -> Self {
        Self::new(CardState::TpmAway, "the TPM cannot be reached")
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Elsewhere => "Elsewhere",
            Self::Away => "Away",
            Self::Gone => "Gone",
            Self::Live(_) => "Live",
            Self::Refused(_) => "Refused",
            Self::Waiting(_) => "Waiting",
        })
    }
}

/// Where the host keeps a card.
pub(crate) struct Place {
    pub(crate) id: Option<CardId>,
    pub(crate) path: PathBuf,
    pub(crate) instance: Option<u32>,
}

impl HostedCard {
    pub(crate) fn pad_pace(&self) -> &PadPace {
        &self.pad_pace
    }

    fn at(home: Home, place: Place, name: &str, body: Body, view: View) -> Self {
        Self {
            id: place.id,
            path: place.path,
            instance: place.instance,
            owner: None,
            created: 0,
            mode: None,
            handles: Vec::new(),
            roles: Vec::new(),
            home,
            body: Mutex::new(body),
            shown: Mutex::new(Shown {
                name: name.to_owned(),
                view,
                asked: None,
            }),
            uninitialised: AtomicBool::new(false),
            counted_here: AtomicBool::new(false),
            session_bound: AtomicBool::new(false),
            gone: Arc::default(),
            doubted: AtomicBool::new(false),
            pad_pace: PadPace::default(),
            forgotten: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    fn with_record(self, record: &CardRecord) -> Self {
        let bound = record.settings.visibility == ReaderVisibility::OwnerSession;
        Self {
            owner: Some(record.owner),
            created: record.created,
            mode: Some(record.tpm.mode),
            uninitialised: AtomicBool::new(record.provisional.is_some()),
            counted_here: AtomicBool::new(is_counted_here(record)),
            session_bound: AtomicBool::new(bound),
            ..self
        }
    }

    /// A card in the state folder whose file can be read.
    pub(crate) fn new(place: Place, record: &CardRecord, body: Body, view: View) -> Self {
        let indices = &record.tpm.indices;
        Self {
            handles: record.tpm.handles().collect(),
            roles: indices.iter().map(|index| index.role).collect(),
            ..Self::at(Home::Here, place, &record.name, body, view).with_record(record)
        }
    }

    /// A card of this host whose drive is not there.
    pub(crate) fn on_drive(known: KnownCard, path: PathBuf, instance: Option<u32>) -> Self {
        let place = Place {
            id: Some(known.card),
            path,
            instance,
        };
        let name = known.name.clone();
        Self {
            owner: Some(known.owner),
            created: known.created,
            mode: Some(known.mode()),
            handles: known.handles().collect(),
            roles: known.indices.iter().map(|index| index.role).collect(),
            ..Self::at(
                Home::Drive(Box::new(known), Mutex::default()),
                place,
                &name,
                Body::Away,
                View::drive_away(),
            )
        }
    }

    /// A card on a drive that this host has not written: it claims nothing here.
    pub(crate) fn stranger(
        place: Place,
        record: &CardRecord,
        body: Body,
        view: View,
        (drive, brought_by): (Arc<Drive>, u32),
    ) -> Self {
        let home = Home::Stranger(drive, brought_by);
        Self::at(home, place, &record.name, body, view).with_record(record)
    }

    /// A card of another machine, for the user that has brought it along.
    pub(crate) fn redirected(
        id: CardId,
        name: &str,
        owner: u32,
        carrier: &Arc<Carrier>,
        view: View,
    ) -> Self {
        let place = Place {
            id: Some(id),
            path: PathBuf::new(),
            instance: None,
        };
        let home = Home::Redirected(Arc::clone(carrier));
        Self {
            owner: Some(owner),
            ..Self::at(home, place, name, Body::Elsewhere, view)
        }
    }

    /// A card whose file cannot be read.
    pub(crate) fn unreadable(place: Place, reason: String) -> Self {
        let refused = Body::Refused(Refused {
            record: None,
            indices: Indices::NotOurs,
            again: false,
        });
        let view = View::new(CardState::Unreadable, reason);
        Self::at(Home::Here, place, "", refused, view)
    }

    #[cfg(test)]
    pub(crate) fn for_test(
        id: Option<CardId>,
        instance: Option<u32>,
        name: &str,
        owner: Option<u32>,
    ) -> Self {
        let place = Place {
            id,
            path: "/nonexistent/broken.card".into(),
            instance,
        };
        let card = Self {
            owner,
            ..Self::unreadable(place, String::new())
        };
        card.set_name(name);
        card
    }

    /// The connection that brings it along; absent = it is a card of this machine.
    pub(crate) fn carrier(&self) -> Option<&Arc<Carrier>> {
        match &self.home {
            Home::Redirected(carrier) => Some(carrier),
            Home::Drive(..) | Home::Here | Home::Stranger(..) => None,
        }
    }

    /// Whether it is a card of another machine.
    #[must_use]
    pub fn is_redirected(&self) -> bool {
        self.carrier().is_some()
    }

    /// Its state as last known.
    #[must_use]
    pub fn state(&self) -> CardState {
        lock(&self.shown).view.state
    }

    /// Parts that it is without, in the words of the socket.
    #[must_use]
    pub fn gone_parts(&self) -> Vec<Part> {
        self.gone.parts()
    }

    pub(crate) fn is_carried_by(&self, carrier: &Arc<Carrier>) -> bool {
        self.carrier().is_some_and(|own| Arc::ptr_eq(own, carrier))
    }

    /// Whether this user's programs may find it on the socket: a redirected card is for nobody but its user.
    pub(crate) fn serves(&self, uid: u32) -> bool {
        self.carrier().is_none() || self.owner == Some(uid)
    }

    /// Whether it is in use and has a PUK: then its PIN is not reset by the administrator.
    pub fn has_puk(&self) -> bool {
        match &*self.body() {
            Body::Live(live) => has_reference(live.record(), PinReference::Puk),
            _ => false,
        }
    }

    /// The id that the card application tells, or the host's while that is not known.
    pub fn shown_id(&self) -> Option<CardId> {
        match &*self.body() {
            Body::Live(live) => live.card_id(),
            _ => self.id,
        }
    }

    /// What changes by use, without asking the TPM; absent for a card at work or not in use.
    pub fn counts(&self) -> Option<Counts> {
        let mut body = self.try_body()?;
        let Body::Live(live) = &mut *body else {
            return None;
        };
        let mut left = |reference| Some(live.known_pin_status(reference).ok()?.left);
        Some(Counts {
            pin_left: left(PinReference::Pin),
            puk_left: left(PinReference::Puk),
            revision: live.revision(),
        })
    }

    /// Name shown to people.
    pub fn name(&self) -> String {
        lock(&self.shown).name.clone()
    }

    pub(crate) fn set_name(&self, name: &str) {
        name.clone_into(&mut lock(&self.shown).name);
    }

    /// Whether it is in its reader only while its owner has an active session.
    pub(crate) fn is_session_bound(&self) -> bool {
        self.session_bound.load(Ordering::Relaxed)
    }

    pub(crate) fn set_visibility(&self, visibility: ReaderVisibility) {
        let bound = visibility == ReaderVisibility::OwnerSession;
        self.session_bound.store(bound, Ordering::Relaxed);
    }

    /// The drive that it is on, while that is there.
    pub(crate) fn drive(&self) -> Option<Arc<Drive>> {
        match &self.home {
            Home::Drive(_, drive) => lock(drive).clone(),
            Home::Stranger(drive, _) => Some(Arc::clone(drive)),
            Home::Here | Home::Redirected(_) => None,
        }
    }

    /// The drive of a card of this host has come or gone.
    pub(crate) fn set_drive(&self, new: Option<Arc<Drive>>) {
        if let Home::Drive(_, drive) = &self.home {
            *lock(drive) = new;
        }
    }

    /// As this host has recorded a card on a drive.
    pub(crate) fn known(&self) -> Option<&KnownCard> {
        match &self.home {
            Home::Drive(known, _) => Some(known),
            Home::Here | Home::Redirected(_) | Home::Stranger(..) => None,
        }
    }

    /// The user account that has brought it along on a drive, if this host has not written it.
    pub(crate) fn brought_by(&self) -> Option<u32> {
        match &self.home {
            Home::Stranger(_, account) => Some(*account),
            Home::Drive(..) | Home::Here | Home::Redirected(_) => None,
        }
    }

    /// Whether it is not this host's: on a drive that was written elsewhere, or on another machine.
    pub(crate) fn is_guest(&self) -> bool {
        match &self.home {
            Home::Redirected(_) | Home::Stranger(..) => true,
            Home::Drive(..) | Home::Here => false,
        }
    }

    /// Whether programs may come to use it without its file being replaced: now, or once the TPM is as it should be.
    pub(crate) fn may_be_used(&self) -> bool {
        match self.state() {
            CardState::Foreign
            | CardState::Lost
            | CardState::NotTrusted
            | CardState::Unreadable => false,
            CardState::Blocked
            | CardState::DriveAway
            | CardState::Ready
            | CardState::SwitchedOff
            | CardState::TpmAway
            | CardState::UnsafeTpm => true,
        }
    }

    /// Parts that it is without.
    pub(crate) fn gone(&self) -> &Arc<GoneParts> {
        &self.gone
    }

    /// Something went wrong with it, and whoever noticed cannot wait for the reason.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Like [`Self::is_doubted`], and it is looked at now.
    pub(crate) fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::Relaxed)
    }

    /// Whether it may be compared with its TPM because somebody asks for it, which costs the TPM a few commands.
    pub(crate) fn may_ask(&self) -> bool {
        let mut shown = lock(&self.shown);
        let due = shown
            .asked
            .is_none_or(|asked| asked.elapsed() >= ASK_INTERVAL);
        if due {
            shown.asked = Some(Instant::now());
        }
        due
    }

    /// Whether it is in the state folder, or on a drive that somebody brings.
    pub fn is_here(&self) -> bool {
        match &self.home {
            Home::Drive(_, drive) => lock(drive)
                .as_ref()
                .is_some_and(|drive| drive.serves(self.owner)),
            Home::Here | Home::Redirected(_) => true,
            Home::Stranger(drive, _) => drive.serves(self.owner),
        }
    }

    /// Where it is, for a list; empty for a drive that is not there, absent in the state folder.
    pub(crate) fn place(&self) -> Option<String> {
        match self.drive() {
            Some(drive) => Some(drive.place.clone()),
            None => self.known().map(|_| String::new()),
        }
    }

    /// It is no longer one of the host's cards: whoever found it before is refused.
    pub(crate) fn set_forgotten(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
    }

    /// Why a request cannot use it now.
    pub(crate) fn unusable(&self) -> Failure {
        if let Some(carrier) = self.carrier() {
            return only_there(carrier);
        }
        if self.forgotten.load(Ordering::Relaxed) {
            return no_such_card();
        }
        let view = self.view();
        let kind = match view.state {
            CardState::TpmAway => FailureKind::NoTpm,
            CardState::DriveAway => FailureKind::NotFound,
            CardState::Foreign | CardState::Lost => FailureKind::Lost,
            CardState::SwitchedOff => FailureKind::SwitchedOff,
            CardState::UnsafeTpm => FailureKind::UnsafeTpm,
            _ => FailureKind::Failed,
        };
        fail(kind, format!("the card cannot be used: {}", view.reason))
    }

    /// Whether the index is this card's.
    pub(crate) fn claims(&self, handle: u32) -> bool {
        self.handles.contains(&handle)
    }

    /// Whose secret the index counts for this card.
    pub(crate) fn role_of(&self, handle: u32) -> Option<IndexRole> {
        let position = self.handles.iter().position(|claimed| *claimed == handle)?;
        self.roles.get(position).copied()
    }

    /// The card id, or the name of a file that has none.
    pub fn selector(&self) -> String {
        match self.id {
            Some(id) => id.to_string(),
            None => self
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// `ROOT\SMARTCARDREADER\NNNN`, as Windows names the devices of its virtual cards.
    pub fn instance_id(&self) -> String {
        self.instance
            .map(|number| format!("ROOT\\SMARTCARDREADER\\{number:04}"))
            .unwrap_or_default()
    }

    /// Waits until the card is free. The engine answers every request with a status word and leaves no
    /// half-made state behind, so a poisoned lock is taken over.
    pub(crate) fn body(&self) -> MutexGuard<'_, Body> {
        self.left(self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` when the card is at work.
    pub(crate) fn try_body(&self) -> Option<MutexGuard<'_, Body>> {
        match self.body.try_lock() {
            Ok(body) => Some(self.left(body)),
            Err(TryLockError::Poisoned(body)) => Some(self.left(body.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes it out of use because its drive has gone, without waiting for what it is at work on: its sessions and
    /// tickets end when that does. The caller holds the provisioning lock.
    pub(crate) fn leave(&self) {
        self.set_view(View::drive_away());
        self.leaving.store(true, Ordering::Release);
        drop(self.try_body());
    }

    /// Whether it is still at work from before its drive went.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    fn left<'a>(&self, mut body: MutexGuard<'a, Body>) -> MutexGuard<'a, Body> {
        if self.is_leaving() {
            *body = match self.known() {
                Some(_) => Body::Away,
                None => Body::Gone,
            };
            // Again: its work may have changed it.
            self.set_view(View::drive_away());
            self.leaving.store(false, Ordering::Release);
        }
        body
    }

    /// Whether the daemon counts its wrong PINs because its TPM sets its own counts back.
    pub(crate) fn is_counted_here(&self) -> bool {
        self.counted_here.load(Ordering::Relaxed)
    }

    pub(crate) fn set_counted_here(&self) {
        self.counted_here.store(true, Ordering::Relaxed);
    }

    /// Whether it waited for its personalisation when it was last looked at.
    pub(crate) fn is_uninitialised(&self) -> bool {
        self.uninitialised.load(Ordering::Relaxed)
    }

    pub(crate) fn set_uninitialised(&self, uninitialised: bool) {
        self.uninitialised.store(uninitialised, Ordering::Relaxed);
    }

    pub(crate) fn view(&self) -> View {
        lock(&self.shown).view.clone()
    }

    /// Whether it is shown in a state that a live card can have. Of a card at work nothing else can be seen.
    pub(crate) fn looks_live(&self) -> bool {
        let state = self.view().state;
        matches!(
            state,
            CardState::Blocked | CardState::Ready | CardState::TpmAway
        )
    }

    pub(crate) fn set_view(&self, view: View) {
        lock(&self.shown).view = view;
    }
}

fn is_counted_here(record: &CardRecord) -> bool {
    record.tpm.mode == CounterMode::Nv && record.tpm.counter_objects.is_some()
}

/// Whether the record has a counter for this reference.
pub(crate) fn has_reference(record: &CardRecord, reference: PinReference) -> bool {
    let role = match reference {
        PinReference::Pin => IndexRole::Pin,
        PinReference::Puk => IndexRole::Puk,
    };
    record.tpm.roles().any(|has| has == role)
}
