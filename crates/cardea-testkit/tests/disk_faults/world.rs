//! A TPM, a daemon whose disk fails when told, and what the people of its cards know.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, Failure, FailureKind, NewContent, PowerAction,
    Reference, Reply, Request, SecretBytes, SlotRequest,
};
use cardea_testkit::bus::{BusClient, SystemBus};
use cardea_testkit::process::run;
use cardea_testkit::rig::{Daemon, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::transcript::ADMIN_KEY;
use tempfile::TempDir;

use crate::adoption::Drive;
use crate::disk::{Disk, Fault};
use crate::doors;
use crate::walk::{Told, Truth};

/// Name of the card that operations work on.
pub(crate) const CARD: &str = "card";

/// A secret of the card: the one that works, and the one that comes next.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) now: String,
    pub(crate) next: String,
}

impl Secret {
    fn new(now: &str, next: &str) -> Self {
        Self {
            now: now.to_owned(),
            next: next.to_owned(),
        }
    }

    pub(crate) fn swap(&mut self) {
        std::mem::swap(&mut self.now, &mut self.next);
    }
}

/// Everything that outlives a failure of the disk.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) daemon: Daemon,
    pub(crate) pin: Secret,
    pub(crate) puk: Secret,
    /// As 24 characters.
    pub(crate) admin_key: Secret,
    pub(crate) has_puk: bool,
    has_card: bool,
    /// Path on the bus of a card whose name changes.
    pub(crate) bus_path: String,
    /// A number of what comes next, so that no name comes twice.
    pub(crate) count: u32,
    /// What the card is on, where it is on a drive.
    pub(crate) drive: Option<Drive>,
    bus: Option<SystemBus>,
    _tpm: Swtpm,
    folder: TempDir,
}

impl World {
    /// Without a card.
    pub(crate) fn empty() -> Self {
        Self::with(None)
    }

    /// On a system bus, without a card.
    pub(crate) fn on_bus() -> Self {
        let folder = folder();
        let bus = SystemBus::start(&folder.path().join("bus"), "");
        Self::with(Some((folder, bus)))
    }

    fn with(place: Option<(TempDir, SystemBus)>) -> Self {
        let (folder, bus) = match place {
            Some((folder, bus)) => (folder, Some(bus)),
            None => (folder(), None),
        };
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let disk = Disk::new(folder.path().join("disk"));
        let place = folder.path().join("daemon");
        let address = bus.as_ref().map(SystemBus::address);
        let wrapper = ["env", &disk.variable()];
        let daemon = Daemon::start_with(&place, &tpm.address(), "", &wrapper, address.as_deref());
        let world = Self {
            disk,
            daemon,
            pin: Secret::new("271828", "314159"),
            puk: Secret::new("57721566", "14142135"),
            admin_key: Secret::new(
                std::str::from_utf8(ADMIN_KEY).unwrap(),
                "another admin key, 24 by",
            ),
            has_puk: true,
            has_card: false,
            bus_path: String::new(),
            count: 0,
            drive: None,
            bus,
            _tpm: tpm,
            folder,
        };
        world.await_service();
        world
    }

    /// Another TPM, another daemon and cards as at the beginning, where the present ones are of no use any more.
    pub(crate) fn renew(&mut self) {
        let mut new = if self.bus.is_some() {
            Self::on_bus()
        } else {
            Self::empty()
        };
        new.has_puk = self.has_puk;
        *self = if self.has_card { new.with_card() } else { new };
    }

    /// With a card that has PIN, PUK and administrator.
    pub(crate) fn with_card(mut self) -> Self {
        self.has_card = true;
        self.create_card();
        self
    }

    /// With a card without PUK, whose PIN the administrator unblocks.
    pub(crate) fn with_helped_card(mut self) -> Self {
        self.has_puk = false;
        self.with_card()
    }

    pub(crate) fn create_card(&mut self) {
        let order = self.order(CARD);
        self.done(&Request::Cards(CardsRequest::Create(Box::new(order))));
    }

    /// A card with PIN, PUK and administrator.
    pub(crate) fn order(&self, name: &str) -> CreateCard {
        CreateCard::new(
            name,
            NewContent::Personalised {
                pin: secret(&self.pin.now),
                puk: self.has_puk.then(|| secret(&self.puk.now)),
                admin_key: Some(secret(&self.admin_key.now)),
                blank: false,
            },
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with this content: its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// The daemon ends without a chance to write anything more, and another one starts on a disk that works.
    pub(crate) fn restart(&mut self) {
        self.daemon.kill();
        self.disk.watch();
        self.daemon.restart();
        self.await_service();
    }

    fn await_service(&self) {
        if let Some(bus) = &self.bus {
            bus.await_service();
        }
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.disk.fail(fault);
    }

    /// A client of the bus, as root.
    pub(crate) fn bus(&self) -> BusClient {
        let bus = self.bus.as_ref().expect("a bus");
        BusClient::connect(&bus.address(), 0)
    }

    /// Asks over the private socket.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let mut client = Client::connect(&self.daemon.socket()).unwrap();
        match client.call_with_progress(request, Duration::from_secs(60), &mut |_| {}) {
            Ok(Reply::Failed(failure)) => Err(failure),
            Ok(reply) => Ok(reply),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn ask_card(&self, request: CardRequest) -> Result<Reply, Failure> {
        self.ask(&Request::card(CARD, request))
    }

    /// Asks, and it must be done.
    pub(crate) fn done(&self, request: &Request) -> Reply {
        self.ask(request)
            .unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    pub(crate) fn done_card(&self, request: CardRequest) -> Reply {
        self.done(&Request::card(CARD, request))
    }

    /// Sends commands on a connection of the reader's, the last of which is the operation.
    pub(crate) fn transmit(&self, commands: &[Vec<u8>]) -> Told {
        doors::sent(&mut self.reader(), commands).0
    }

    /// A connection of the reader's: whole responses to commands.
    pub(crate) fn reader(&self) -> impl FnMut(&[u8]) -> Vec<u8> + use<> {
        let mut client = Client::connect(&self.daemon.socket()).unwrap();
        let power = SlotRequest::Power {
            action: PowerAction::Up,
        };
        let up = client.call(&Request::slot(0, power), Duration::from_secs(60));
        assert!(matches!(up, Ok(Reply::Atr(_))), "{up:?}");
        move |command| send(&mut client, command)
    }

    /// Runs the command line.
    pub(crate) fn cardea(&self, arguments: &[&str]) -> Told {
        let outcome = self.daemon.cardea(arguments);
        match outcome.success {
            true => Told::Done,
            false => Told::Failed(outcome.text),
        }
    }

    /// Has the PKCS#11 module do something in a process of its own.
    pub(crate) fn pkcs11(&self, so_pin: &str, action: &str) -> Told {
        let programs = bin_dir();
        let module = programs.join("libcardea_pkcs11.so");
        let mut command = Command::new(programs.join("pkcs11-suite"));
        command
            .env("CARDEA_SOCKET", self.daemon.socket())
            .arg("--module")
            .arg(module)
            .args(["--label", CARD, "--pin", &self.pin.now, "--so-pin", so_pin])
            .args(["--do", action]);
        let outcome = run(&mut command);
        assert!(outcome.success, "{}", outcome.text);
        match outcome.text.trim() {
            "CKR_OK" => Told::Done,
            value => Told::Failed(value.to_owned()),
        }
    }

    /// Whether the card takes this PIN or PUK.
    pub(crate) fn takes(&self, reference: Reference, value: &str) -> bool {
        let verified = self.ask_card(CardRequest::VerifyPin {
            value: secret(value),
            reference,
        });
        match verified {
            Ok(_) => true,
            Err(failure)
                if matches!(failure.kind, FailureKind::PinWrong | FailureKind::Blocked) =>
            {
                false
            }
            Err(failure) => panic!("{failure:?}"),
        }
    }

    /// Which of two PINs or PUKs works. The one that comes next is tried first, so that no try stays spent.
    pub(crate) fn which(&self, reference: Reference, secret: &Secret) -> Truth {
        let new = self.takes(reference, &secret.next);
        let old = self.takes(reference, &secret.now);
        if new && !old {
            self.takes(reference, &secret.next);
        }
        Truth::of(old, new)
    }
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("cardea-disk")
        .tempdir()
        .unwrap();
    // polkit and the bus run as other users.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    folder
}

/// The whole response to one command.
fn send(client: &mut Client, command: &[u8]) -> Vec<u8> {
    let request = Request::slot(
        0,
        SlotRequest::Transmit {
            apdu: SecretBytes::new(command.to_vec()),
        },
    );
    match client.call(&request, Duration::from_secs(60)).unwrap() {
        Reply::Response(response) => response.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn secret(value: impl AsRef<[u8]>) -> SecretBytes {
    SecretBytes::new(value.as_ref().to_vec())
}

/// What a reply of the socket says of the operation.
pub(crate) fn told(answer: Result<Reply, Failure>) -> Told {
    match answer {
        Ok(_) => Told::Done,
        Err(failure) => Told::Failed(format!("{:?}: {}", failure.kind, failure.message)),
    }
}
