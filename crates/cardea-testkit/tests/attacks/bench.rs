//! A software TPM with a service on it, and a second client for the attacker.

use std::cell::Cell;

use cardea_card::record::{CardId, CardRecord, CounterMode, CounterObject, IndexRecord, IndexRole};
use cardea_card::secret::Pin;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinError, PinReference, PrivateOperation};
use cardea_card::{Card, Connection, KeyNumber, KeyUsage, NewKey, gids};
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::Multiplexer;
use cardea_testkit::played;
use cardea_testkit::software::{ManualClock, MemoryStore, SeededRng};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::tpm_card;
use cardea_testkit::transcript::CardKind;
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};
use cardea_tpm::{AdminKey, HierarchyAuth, LockoutParameters, Service};
use tempfile::TempDir;

use crate::raw::{Auth, EMPTY, Entity, OWNER, Reader, TRANSIENT, cc};

/// What an attack came to: nothing, or what the attacker got.
pub(crate) type Outcome = Result<(), String>;

/// The attack has succeeded if the condition holds.
macro_rules! succeeds_if {
    ($condition:expr, $($what:tt)+) => {
        if $condition {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use succeeds_if;

/// Long enough to be found in a heap of bytes, and nowhere else in it.
pub(crate) const PIN: &[u8] = b"pin-Zw7q-first";
pub(crate) const SECOND_PIN: &[u8] = b"pin-Xk4m-second";
pub(crate) const THIRD_PIN: &[u8] = b"pin-Vb9t-third";
pub(crate) const WRONG_PIN: &[u8] = b"pin-Rh2c-wrong";
pub(crate) const PUK: &[u8] = b"puk-Lf8d-of-the-card";
pub(crate) const ADMIN_KEY: [u8; 24] = *b"\x91K3y-of\xE2-the-admin1!\xC7\x05\xB9~";

/// What attackers set a hierarchy's value to.
pub(crate) const OWN_VALUE: &[u8] = b"own";

/// TPM_RC_BAD_AUTH of the first session.
const BAD_AUTH: u32 = 0x9A2;

pub(crate) fn pin(typed: &[u8]) -> Pin {
    Pin::new(typed).unwrap()
}

pub(crate) fn admin_key() -> AdminKey {
    AdminKey::new(&ADMIN_KEY).unwrap()
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Admin,
    /// Administrator and PUK.
    Both,
    Plain,
    Puk,
}

thread_local! {
    static OBJECTS: Cell<bool> = const { Cell::new(false) };
}

/// Carries out an attack against cards in object mode.
pub(crate) fn in_object_mode(attack: impl FnOnce() -> Outcome) -> Outcome {
    OBJECTS.set(true);
    let outcome = attack();
    OBJECTS.set(false);
    outcome
}

/// Goes from its last field to its first.
pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) mux: Multiplexer,
    /// Its cards are in object mode.
    objects: bool,
    _tpm: Swtpm,
    _folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(folder.path(), &tpm);
        let service = service(&mux);
        let objects = OBJECTS.get() || played::counter_mode() == CounterMode::Object;
        if objects {
            let nothing = HierarchyAuth::new(&[]).unwrap();
            let usual = LockoutParameters {
                max_tries: 32,
                recovery: 7200,
                lockout_recovery: 86_400,
            };
            service.set_lockout_parameters(&nothing, usual).unwrap();
        }
        Self {
            service,
            mux,
            objects,
            _tpm: tpm,
            _folder: folder,
        }
    }

    /// A daemon that was restarted.
    pub(crate) fn restart(&mut self) {
        self.service = service(&self.mux);
    }

    /// Failures of cards in object mode add up until the TPM locks, which would end what is tried many times.
    pub(crate) fn stay_away_from_the_lockout(&self) {
        if self.objects {
            let nothing = HierarchyAuth::new(&[]).unwrap();
            self.service.reset_lockout(&nothing).unwrap();
        }
    }

    pub(crate) fn record(&self, kind: Kind) -> CardRecord {
        self.numbered(kind, 1)
    }

    /// Cards of one bench have different numbers.
    pub(crate) fn numbered(&self, kind: Kind, number: u8) -> CardRecord {
        let id = CardId::new([number; 16]);
        let make = match self.objects {
            false => tpm_card::new_record,
            true => tpm_card::new_record_in_objects,
        };
        let mut record = make(
            &self.service,
            gids::created_card(id),
            PIN,
            matches!(kind, Kind::Both | Kind::Puk).then_some(PUK),
            matches!(kind, Kind::Admin | Kind::Both).then_some(&ADMIN_KEY),
        );
        record.id = id;
        record
    }

    /// A card that waits for its personalisation.
    pub(crate) fn uninitialised(&self, puk: bool) -> CardRecord {
        let kind = match puk {
            true => CardKind::UninitialisedWithPuk,
            false => CardKind::Uninitialised,
        };
        match self.objects {
            false => tpm_card::uninitialised_record(&self.service, puk),
            true => tpm_card::record_in_objects(&self.service, kind),
        }
    }

    /// What compares a card's secret; an object is loaded, until [`Bench::put_away`].
    pub(crate) fn counter(&self, record: &CardRecord, role: IndexRole) -> Entity {
        match counter_object(record, role) {
            Some(counter) => {
                let blob = &counter.object;
                self.load(&blob.private, &blob.public).unwrap()
            }
            None => {
                let index = index(record, role);
                Entity::named(index.handle, &index.name)
            }
        }
    }

    /// Flushes what was loaded.
    pub(crate) fn put_away(&self, counter: &Entity) {
        if counter.handle >= TRANSIENT {
            self.flush(counter.handle);
        }
    }

    pub(crate) fn open(&self, record: &CardRecord) -> Card {
        tpm_card::open(&self.service, record.clone())
    }

    /// The card without the checks for which the TPM is asked.
    pub(crate) fn open_unchecked(&self, record: &CardRecord) -> Card {
        let token = self.service.token(record).unwrap();
        Card::open(
            record.clone(),
            Box::new(token),
            Box::new(MemoryStore::default()),
            Box::new(ManualClock::default()),
            Box::new(SeededRng::new(11)),
        )
        .unwrap()
    }

    /// The same record with further keys, made under the PIN.
    pub(crate) fn with_keys(&self, record: &CardRecord, classes: &[KeyClass]) -> CardRecord {
        let mut card = self.open(record);
        let mut connection = card.connect();
        card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
            .unwrap();
        for class in classes {
            card.generate_key(&mut connection, KeyAlgorithm::P256, &new_key(*class))
                .unwrap();
        }
        card.record().clone()
    }

    /// Wrong tries of the PIN so far.
    pub(crate) fn failures(&self, record: &CardRecord) -> u32 {
        self.failures_of(record, PinReference::Pin)
    }

    pub(crate) fn failures_of(&self, record: &CardRecord, reference: PinReference) -> u32 {
        let role = match reference {
            PinReference::Pin => IndexRole::Pin,
            PinReference::Puk => IndexRole::Puk,
        };
        if let Some(counter) = counter_object(record, role) {
            return counter.count;
        }
        let mut token = self.service.token(record).unwrap();
        let status = token.status(reference).unwrap();
        status.limit - status.left
    }

    /// Wrong tries and limit of an index, as anybody reads them: by the approval that asks for nothing, or as the
    /// owner where the card has no such approval. An error is the TPM's response code.
    pub(crate) fn counted(&self, record: &CardRecord, role: IndexRole) -> Result<(u32, u32), u32> {
        let found = index(record, role);
        let own = Entity::named(found.handle, &found.name);
        let read = |by: Entity, auth: Auth<'_>| {
            self.send(cc::NV_READ, &[by, own.clone()], &[auth], &[0, 8, 0, 0])
        };
        let answer = match record.tpm.mode {
            CounterMode::NvOwner => {
                let answer = read(Entity::plain(OWNER), EMPTY);
                match answer.code {
                    BAD_AUTH => read(Entity::plain(OWNER), Auth::Password(OWN_VALUE)),
                    _ => answer,
                }
            }
            CounterMode::Nv | CounterMode::Object => {
                let id = match role {
                    IndexRole::Pin => ApprovalId::P6,
                    IndexRole::Adm => ApprovalId::A1,
                    IndexRole::Puk => ApprovalId::U6,
                };
                let mut approvals = record.tpm.approvals.iter();
                let approval = approvals.find(|it| it.id == id.as_str()).unwrap();
                let session = self.policy_session();
                self.policy_command_code(&session, cc::NV_READ);
                self.policy_authorize(
                    &session,
                    &approval.digest,
                    role_ref(role),
                    &name_of(&record.tpm.birth_public),
                    &approval.ticket,
                );
                let answer = read(own.clone(), Auth::Session(&session, &[]));
                self.flush(session.handle);
                answer
            }
        };
        if answer.code != 0 {
            return Err(answer.code);
        }
        let mut data = Reader(&answer.body[6..14]);
        let mut number = || u32::from_be_bytes(data.bytes(4).try_into().unwrap());
        Ok((number(), number()))
    }

    /// Compares a PIN with the TPM's.
    pub(crate) fn accepts(&self, record: &CardRecord, typed: &[u8]) -> bool {
        let Ok(mut token) = self.service.token(record) else {
            return false;
        };
        if self.objects {
            let mut card = self.open_unchecked(record);
            let mut connection = card.connect();
            let verified = card.verify_pin(&mut connection, PinReference::Pin, &pin(typed));
            return verified.is_ok();
        }
        match token.verify(PinReference::Pin, &pin(typed)) {
            Ok(()) => true,
            Err(PinError::Wrong { .. } | PinError::Blocked | PinError::Token(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn service(mux: &Multiplexer) -> Service {
    Service::start(&mux.address().parse().unwrap()).unwrap()
}

pub(crate) fn new_key(class: KeyClass) -> NewKey {
    NewKey {
        label: None,
        usage: KeyUsage::Exchange,
        class,
        id: None,
    }
}

/// A signature with the engine's key.
pub(crate) fn signs(card: &mut Card, connection: &mut Connection, reference: u8) -> bool {
    let operation = PrivateOperation::SignEcdsa { digest: &[7; 32] };
    card.use_key(connection, KeyNumber::new(reference), operation)
        .is_ok()
}

/// The same after a PIN.
pub(crate) fn signs_with(bench: &Bench, record: &CardRecord, typed: &[u8], reference: u8) -> bool {
    let mut card = bench.open(record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(typed))
        .is_ok()
        && signs(&mut card, &mut connection, reference)
}

pub(crate) fn index(record: &CardRecord, role: IndexRole) -> &IndexRecord {
    let mut indices = record.tpm.indices.iter();
    indices.find(|index| index.role == role).unwrap()
}

/// The object of a card in object mode.
pub(crate) fn counter_object(record: &CardRecord, role: IndexRole) -> Option<&CounterObject> {
    let mut objects = record.tpm.counter_objects.iter().flatten();
    objects.find(|object| object.role == role)
}

/// The Name of what compares a card's secret.
pub(crate) fn counter_name(record: &CardRecord, role: IndexRole) -> Vec<u8> {
    match counter_object(record, role) {
        Some(counter) => name_of(&counter.object.public).to_vec(),
        None => index(record, role).name.clone(),
    }
}

/// What the right PIN or PUK is to the TPM.
pub(crate) fn value(record: &CardRecord, role: IndexRole, typed: &[u8]) -> [u8; 32] {
    *cardea_tpm::auth::auth_value(&record.tpm.salt, role, typed)
}
