//! A software TPM with a service on it, and a second client for the attacker.

use cardea_card::record::{CardId, CardRecord, IndexRecord, IndexRole};
use cardea_card::secret::Pin;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinError, PinReference, PrivateOperation};
use cardea_card::{Card, Connection, KeyNumber, KeyUsage, NewKey, gids};
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::Multiplexer;
use cardea_testkit::software::{ManualClock, MemoryStore, SeededRng};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::tpm_card;
use cardea_tpm::{AdminKey, Service};
use tempfile::TempDir;

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

/// Goes from its last field to its first.
pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) mux: Multiplexer,
    _tpm: Swtpm,
    _folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(folder.path(), &tpm);
        let service = service(&mux);
        Self {
            service,
            mux,
            _tpm: tpm,
            _folder: folder,
        }
    }

    /// A daemon that was restarted.
    pub(crate) fn restart(&mut self) {
        self.service = service(&self.mux);
    }

    pub(crate) fn record(&self, kind: Kind) -> CardRecord {
        self.numbered(kind, 1)
    }

    /// Cards of one bench have different numbers.
    pub(crate) fn numbered(&self, kind: Kind, number: u8) -> CardRecord {
        let id = CardId::new([number; 16]);
        let mut record = tpm_card::new_record(
            &self.service,
            gids::created_card(id),
            PIN,
            matches!(kind, Kind::Both | Kind::Puk).then_some(PUK),
            matches!(kind, Kind::Admin | Kind::Both).then_some(&ADMIN_KEY),
        );
        record.id = id;
        record
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
        let mut token = self.service.token(record).unwrap();
        let status = token.status(reference).unwrap();
        status.limit - status.left
    }

    /// Compares a PIN with the TPM's.
    pub(crate) fn accepts(&self, record: &CardRecord, typed: &[u8]) -> bool {
        let Ok(mut token) = self.service.token(record) else {
            return false;
        };
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

/// What the right PIN or PUK is to the TPM.
pub(crate) fn value(record: &CardRecord, role: IndexRole, typed: &[u8]) -> [u8; 32] {
    *cardea_tpm::auth::auth_value(&record.tpm.salt, role, typed)
}
