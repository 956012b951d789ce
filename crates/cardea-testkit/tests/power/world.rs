//! A card on a machine that stops and starts again.

use cardea_card::record::CardRecord;
use cardea_card::secret::Pin;
use cardea_card::token::{AdminAnswer, AdminForm, PinError, PinReference};
use cardea_card::{Card, CardError, Connection};
use cardea_testkit::power_cut::{CutLine, CutStore, PowerCut};
use cardea_testkit::software::{ManualClock, SeededRng};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::tpm_card::record_of_kind;
use cardea_testkit::transcript::{ADMIN_KEY, CardKind, PIN, PUK};
use cardea_tpm::{AdminKey, Service};

/// The TPM and the disk, which outlive every stop, and what the card's people know.
pub(crate) struct World {
    folder: tempfile::TempDir,
    tpm: Swtpm,
    starts: u32,
    pub(crate) record: CardRecord,
    pub(crate) pin: Vec<u8>,
    pub(crate) puk: Vec<u8>,
    pub(crate) admin_key: [u8; 24],
}

/// The machine while it runs.
pub(crate) struct Machine {
    pub(crate) card: Card,
    pub(crate) connection: Connection,
    cut: PowerCut,
    store: CutStore,
}

impl World {
    pub(crate) fn new(kind: CardKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
        let record = record_of_kind(&service, kind);
        Self {
            folder,
            tpm,
            starts: 0,
            record,
            pin: PIN.to_vec(),
            puk: PUK.to_vec(),
            admin_key: *ADMIN_KEY,
        }
    }

    /// The machine starts: power for the TPM, the card file is checked and opened.
    pub(crate) fn start(&mut self) -> Machine {
        self.tpm.reset();
        self.starts += 1;
        let cut = PowerCut::default();
        let folder = self.folder.path().join(format!("line{}", self.starts));
        let line = CutLine::start(&folder, &self.tpm.socket(), &cut);
        let service = Service::start(&line.address().parse().unwrap()).unwrap();
        service
            .check_card(&self.record)
            .expect("the card is in order");
        let token = service.token(&self.record).unwrap();
        let store = CutStore::new(&cut);
        let mut card = Card::open(
            self.record.clone(),
            Box::new(token),
            Box::new(store.clone()),
            Box::new(ManualClock::default()),
            Box::new(SeededRng::new(u64::from(self.starts))),
        )
        .expect("what was saved can be opened");
        Machine {
            connection: card.connect(),
            card,
            cut,
            store,
        }
    }

    /// The machine has stopped, or is switched off; the disk stays.
    pub(crate) fn stop(&mut self, machine: Machine) {
        if let Some(record) = machine.store.disk.record() {
            self.record = record;
        }
    }

    /// Stops `operation` at each of its moments in turn, until one attempt comes through; after each,
    /// `check` looks at the restarted card and brings it back to where the operation begins.
    ///
    /// `prepare` and `check` are not interrupted. The operation says whether it was acknowledged.
    pub(crate) fn interrupt_everywhere(
        &mut self,
        mut prepare: impl FnMut(&Self, &mut Machine),
        mut operation: impl FnMut(&Self, &mut Machine) -> bool,
        mut check: impl FnMut(&mut Self, &mut Machine, bool),
    ) {
        let mut attempts = 0;
        for moments in 0.. {
            let mut machine = self.start();
            prepare(self, &mut machine);
            machine.cut.arm(moments);
            let acknowledged = operation(self, &mut machine);
            machine.cut.disarm();
            let stopped = machine.cut.has_stopped();
            assert!(
                stopped || acknowledged,
                "the operation fails without a power cut"
            );
            self.stop(machine);
            let mut machine = self.start();
            check(self, &mut machine, acknowledged);
            self.stop(machine);
            attempts += 1;
            if !stopped {
                break;
            }
        }
        // An operation has at least one command and one save, each with a before and an after.
        assert!(attempts > 4, "only {attempts} moments");
    }
}

pub(crate) fn secret(bytes: &[u8]) -> Pin {
    Pin::new(bytes).unwrap()
}

impl Machine {
    /// The machine stops after so many moments.
    pub(crate) fn stop_after(&self, moments: i64) {
        self.cut.arm(moments);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.cut.has_stopped()
    }

    pub(crate) fn tries(&mut self, reference: PinReference) -> u32 {
        self.card.pin_status(reference).unwrap().left
    }

    pub(crate) fn verify(&mut self, reference: PinReference, value: &[u8]) -> bool {
        match self
            .card
            .verify_pin(&mut self.connection, reference, &secret(value))
        {
            Ok(()) => true,
            Err(CardError::Pin(PinError::Wrong { .. } | PinError::Blocked)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn block(&mut self) {
        while self.tries(PinReference::Pin) > 0 {
            assert!(!self.verify(PinReference::Pin, b"no PIN of ours"));
        }
    }

    pub(crate) fn send(&mut self, command: &[u8]) -> Vec<u8> {
        self.card.transmit(&mut self.connection, command).to_vec()
    }

    /// External authentication; the challenge and answer that were used.
    pub(crate) fn administer(&mut self, key: &[u8; 24]) -> Result<(), CardError> {
        let challenge = self.card.admin_challenge(AdminForm::External)?;
        let mut answer = challenge.clone();
        AdminKey::new(key).unwrap().encrypt(&mut answer);
        let answer = answer.as_slice().try_into().unwrap();
        self.card
            .admin_answer(
                &mut self.connection,
                &challenge,
                AdminAnswer::External(answer),
            )
            .map(drop)
    }

    /// Mutual authentication.
    pub(crate) fn administer_mutually(&mut self, key: &[u8; 24]) -> Result<(), CardError> {
        let challenge = self.card.admin_challenge(AdminForm::Mutual)?;
        let host = [0x77; 16];
        let mut cryptogram = [&challenge[..], &host, &[0; 7], &[0x80]].concat();
        AdminKey::new(key).unwrap().encrypt(&mut cryptogram);
        let answer = self.card.admin_answer(
            &mut self.connection,
            &challenge,
            AdminAnswer::Mutual {
                host: &host,
                cryptogram: cryptogram.as_slice().try_into().unwrap(),
            },
        )?;
        let mut plain = answer.unwrap();
        AdminKey::new(key).unwrap().decrypt(&mut plain);
        assert!(plain.starts_with(&[&host[..], &challenge].concat()));
        Ok(())
    }
}
