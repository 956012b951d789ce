//! A software TPM, a service on it, and records of cards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cardea_card::record::{
    CardId, CardRecord, GidsRecord, KeyRecord, SecretLengths, Settings, TpmRecord,
};
use cardea_card::secret::Pin;
use cardea_tpm::{AdminKey, CardToken, NewCard, NewSecrets, Service};

pub(crate) const PIN: &[u8] = b"123456";
pub(crate) const PUK: &[u8] = b"87654321";
pub(crate) const ADMIN_KEY: [u8; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];

pub(crate) fn pin(typed: &[u8]) -> Pin {
    Pin::new(typed).unwrap()
}

/// A software TPM on a Unix socket, whose state outlives its process.
pub(crate) struct Swtpm {
    dir: tempfile::TempDir,
    child: Child,
}

impl Swtpm {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(dir.path());
        Self { dir, child }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub(crate) fn service(&self) -> Service {
        Service::start(
            &format!("swtpm:unix={}", self.socket().display())
                .parse()
                .unwrap(),
        )
        .unwrap()
    }

    /// A power cut and a new start.
    pub(crate) fn power_cycle(&mut self) {
        self.stop();
        self.resume();
    }

    /// A power cut.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// The start after it.
    pub(crate) fn resume(&mut self) {
        self.child = spawn(self.dir.path());
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Already ended by `stop`, perhaps.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(dir: &Path) -> Child {
    let socket = dir.join("sock");
    drop(std::fs::remove_file(&socket));
    let child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init"])
        .arg("--tpmstate")
        .arg(format!("dir={}", dir.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("swtpm is installed");
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "swtpm does not listen");
        std::thread::yield_now();
    }
    child
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Plain,
    Admin,
    Puk,
    AdminAndPuk,
}

pub(crate) fn new_card(kind: Kind) -> NewCard {
    NewCard::new(NewSecrets::Given {
        pin: pin(PIN),
        puk: matches!(kind, Kind::Puk | Kind::AdminAndPuk).then(|| pin(PUK)),
        admin_key: matches!(kind, Kind::Admin | Kind::AdminAndPuk)
            .then(|| AdminKey::new(&ADMIN_KEY).unwrap()),
    })
}

pub(crate) fn make(service: &Service, kind: Kind) -> CardRecord {
    let prepared = service.prepare_card(&[], new_card(kind)).unwrap();
    record(service.create_card(prepared, &mut |_| {}).unwrap())
}

/// A card with sealed policies and an attestation key.
pub(crate) fn make_attested(service: &Service, taken: &[u32], kind: Kind) -> CardRecord {
    let new = NewCard {
        attests: true,
        ..new_card(kind)
    };
    let prepared = service.prepare_card(taken, new).unwrap();
    record(service.create_card(prepared, &mut |_| {}).unwrap())
}

pub(crate) fn record(tpm: TpmRecord) -> CardRecord {
    CardRecord {
        id: CardId::new([7; 16]),
        name: "test".into(),
        owner: 0,
        created: 0,
        settings: Settings::default(),
        lengths: SecretLengths {
            pin: vec![6],
            puk: vec![],
        },
        tpm,
        keys: Vec::<KeyRecord>::new(),
        gids: GidsRecord {
            life_cycle: 5,
            files: vec![],
        },
        certificates_written: 0,
        objects: None,
        provisional: None,
    }
}

pub(crate) fn token(service: &Service, record: &CardRecord) -> CardToken {
    service.check_card(record).unwrap();
    service.token(record).unwrap()
}
