//! Own software TPM, own folders, daemons in this process or as processes, and a client that can misbehave.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cardea_client::message::{
    CardDetails, CardRequest, CardSummary, CardsRequest, CreateCard, Failure, FailureKind, Hello,
    KeyAlgorithm, KeyClass, MAGIC, NewContent, NewKey, PowerAction, ReaderRequest, Reply, Request,
    SecretBytes, SlotRequest, VERSION,
};
use cardea_daemon::{Config, Daemon};
use cardea_tpm::{Address, Service};
use tempfile::TempDir;

/// The longest that anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const PIN: &[u8] = b"123456";

/// Polls until the condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A software TPM on a Unix socket; its state outlives the process.
pub(crate) struct Swtpm {
    folder: PathBuf,
    child: Option<Child>,
}

impl Swtpm {
    pub(crate) fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut tpm = Self {
            folder: folder.to_owned(),
            child: None,
        };
        tpm.restart();
        tpm
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let socket = self.folder.join("socket");
        let _ = fs::remove_file(&socket);
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        self.child = Some(child);
        // Its file is there before it listens.
        until("swtpm listens", || UnixStream::connect(&socket).is_ok());
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> Address {
        format!("swtpm:unix={}", self.folder.join("socket").display())
            .parse()
            .unwrap()
    }

    /// The NV indices in the cards' range, looked up while no daemon is connected.
    pub(crate) fn indices(&self) -> Vec<u32> {
        Service::start(&self.address())
            .unwrap()
            .defined_indices()
            .unwrap()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder with a TPM, a state folder and a socket.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) tpm: Swtpm,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Other users connect in some tests.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        Self { folder, tpm }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("cardea.sock")
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.state_dir(), self.socket(), self.tpm.address())
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.config()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// The daemon as a process, once it serves.
    pub(crate) fn spawn(&self, fault: Option<&str>) -> Process {
        self.serving(self.spawn_unready(fault))
    }

    /// Like [`Place::spawn`], with a changed command.
    pub(crate) fn spawn_with(&self, change: impl FnOnce(&mut Command)) -> Process {
        let mut command = self.command();
        change(&mut command);
        self.serving(Process(command.spawn().unwrap()))
    }

    fn serving(&self, mut process: Process) -> Process {
        until("the daemon serves", || {
            assert!(process.is_running(), "the daemon ended at start");
            UnixStream::connect(self.socket()).is_ok()
        });
        process
    }

    /// As the packaged unit runs: with a user of its own, who can read other users' processes only in part. `None` where
    /// these tests do not run as root.
    pub(crate) fn spawn_as_service(&self, user: u32) -> Option<Process> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        // The build's folder need not be open to that user.
        let program = self.path("cardea-daemon");
        let built = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_cardea-daemon"))
            .arg(&program)
            .status();
        assert!(built.unwrap().success());
        for path in [self.path(""), self.path("tpm"), self.path("tpm/socket")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
        }
        let mut command = Command::new(program);
        command
            .args(["--state-dir".as_ref(), self.state_dir().as_os_str()])
            .args(["--socket".as_ref(), self.socket().as_os_str()])
            .args(["--tpm", &self.tpm.address().to_string()])
            .stderr(Stdio::null())
            .current_dir("/");
        command.uid(user).gid(user);
        Some(self.serving(Process(command.spawn().unwrap())))
    }

    pub(crate) fn spawn_unready(&self, fault: Option<&str>) -> Process {
        let mut command = self.command();
        if let Some(fault) = fault {
            command.env("CARDEA_FAULT_POINT", fault);
        }
        Process(command.spawn().unwrap())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardea-daemon"));
        command
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--socket")
            .arg(self.socket())
            .arg("--tpm")
            .arg(self.tpm.address().to_string())
            .stderr(Stdio::null());
        command
    }
}

/// A daemon of its own process.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the daemon ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client by hand, so that nothing between it and the socket is polite.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
}

impl Client {
    /// Connected and greeted.
    pub(crate) fn connect(socket: &Path) -> Self {
        let mut client = Self::raw(socket);
        client.send(&Hello {
            magic: MAGIC.to_owned(),
            version: VERSION,
        });
        let hello: Hello = minicbor::decode(&client.frame().unwrap()).unwrap();
        assert_eq!(hello.version, VERSION);
        client
    }

    /// Connected only.
    pub(crate) fn raw(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send<T: minicbor::Encode<()>>(&mut self, message: &T) {
        let content = minicbor::to_vec(message).unwrap();
        let length = u32::try_from(content.len()).unwrap();
        self.bytes(&[&length.to_be_bytes()[..], &content].concat());
    }

    /// The next frame; `None` when the daemon closed.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        let mut content = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut content).ok()?;
        Some(content)
    }

    /// The final answer, if the daemon lives to give one.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        loop {
            match minicbor::decode(&self.frame()?).unwrap() {
                Reply::Progress(_) => {}
                reply => return Some(reply),
            }
        }
    }

    pub(crate) fn call(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.reply().expect("an answer")
    }

    pub(crate) fn failure(&mut self, request: &Request) -> Failure {
        match self.call(request) {
            Reply::Failed(failure) => failure,
            other => panic!("{request:?} answered {other:?}"),
        }
    }

    pub(crate) fn kind(&mut self, request: &Request) -> FailureKind {
        self.failure(request).kind
    }

    pub(crate) fn done(&mut self, request: &Request) {
        match self.call(request) {
            Reply::Done => {}
            other => panic!("{request:?} answered {other:?}"),
        }
    }

    pub(crate) fn create(&mut self, name: &str) -> CardDetails {
        match self.call(&creation(name)) {
            Reply::Card(card) => *card,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn show(&mut self, card: &str) -> CardDetails {
        match self.call(&Request::card(card, CardRequest::Show)) {
            Reply::Card(card) => *card,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&mut self) -> Vec<CardSummary> {
        match self.call(&Request::Cards(CardsRequest::List { from: None })) {
            Reply::Cards(page) => page.entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn slots(&mut self) -> (u64, Vec<u64>) {
        match self.call(&Request::Reader(ReaderRequest::States)) {
            Reply::Slots {
                generation,
                inserted,
            } => (generation, inserted),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn power(&mut self, slot: u8) {
        let request = Request::slot(
            slot,
            SlotRequest::Power {
                action: PowerAction::Up,
            },
        );
        match self.call(&request) {
            Reply::Atr(atr) => assert_eq!(atr.first(), Some(&0x3B)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn transmit(&mut self, slot: u8, apdu: &[u8]) -> Vec<u8> {
        match self.call(&transmission(slot, apdu)) {
            Reply::Response(response) => response.expose().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// VERIFY of the PIN (ISO 7816-4 §11.5.6); gives the status word.
    pub(crate) fn verify(&mut self, slot: u8, pin: &[u8]) -> u16 {
        let mut apdu = vec![0x00, 0x20, 0x00, 0x80, u8::try_from(pin.len()).unwrap()];
        apdu.extend_from_slice(pin);
        let response = self.transmit(slot, &apdu);
        u16::from_be_bytes(response.try_into().unwrap())
    }
}

pub(crate) fn transmission(slot: u8, apdu: &[u8]) -> Request {
    Request::slot(slot, SlotRequest::Transmit { apdu: secret(apdu) })
}

pub(crate) fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

/// A request about the card `work`.
pub(crate) fn on_card(request: CardRequest) -> Request {
    Request::card("work", request)
}

/// The PIN, for as long as the program is there.
pub(crate) fn login() -> Request {
    on_card(CardRequest::Login { pin: secret(PIN) })
}

/// A key of the card `work`, after its PIN.
pub(crate) fn generation(algorithm: KeyAlgorithm, class: KeyClass) -> Request {
    on_card(CardRequest::GenerateKey {
        pin: Some(secret(PIN)),
        key: NewKey {
            label: None,
            class,
            sign_only: false,
            id: None,
        },
        algorithm,
    })
}

pub(crate) fn order(name: &str) -> CreateCard {
    CreateCard::new(name, NewContent::with_pin(secret(PIN)))
}

/// With an administrator, and with a PUK or without.
pub(crate) fn administered(name: &str, puk: Option<&[u8]>) -> CreateCard {
    let content = NewContent::Personalised {
        pin: secret(PIN),
        puk: puk.map(secret),
        admin_key: Some(secret(&ADMIN_KEY)),
        blank: false,
    };
    CreateCard::new(name, content)
}

/// Admin key of [`administered`] cards.
pub(crate) const ADMIN_KEY: [u8; 24] = *b"0123456789abcdefFEDCBA98";

pub(crate) fn creation(name: &str) -> Request {
    Request::Cards(CardsRequest::Create(Box::new(order(name))))
}

pub(crate) fn destruction(card: &str) -> Request {
    Request::card(card, CardRequest::Destroy { owner_auth: None })
}
