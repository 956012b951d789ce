//! Everything together: software TPM, daemon, pcscd with the handler, clients.
//!
//! The products' own binaries are used, from the folder that the test itself was built into
//! (or `CARDEA_BIN_DIR`): build them before, as `./test` does.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{CardsRequest, CreateCard, NewContent, Reply, Request, SecretBytes};
use tempfile::TempDir;

use crate::pcscd::Pcscd;
use crate::played::{self, Chip};
use crate::process::{Memory, Outcome, Running, run, wait_for};
use crate::transcript::ADMIN_KEY;

/// PIN of the cards that a rig makes.
pub const PIN: &str = "271828";

/// Folder of the products' binaries.
///
/// # Panics
///
/// When the test does not run from a build folder.
#[must_use]
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CARDEA_BIN_DIR") {
        return dir.into();
    }
    let own = std::env::current_exe().expect("the test has a path");
    let dir = own.ancestors().nth(2).expect("target/PROFILE/deps/test");
    assert!(
        dir.join("cardea-daemon").exists(),
        "no cardea-daemon in {}: build the products first",
        dir.display()
    );
    dir.to_owned()
}

/// OpenSC's PKCS#11 module.
///
/// # Panics
///
/// When OpenSC is not installed.
#[must_use]
pub fn opensc_module() -> &'static str {
    [
        "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
        "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
        "/usr/lib/opensc-pkcs11.so",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
    .expect("OpenSC is installed")
}

/// A daemon of a test's own.
pub struct Daemon {
    programs: PathBuf,
    folder: PathBuf,
    tpm: String,
    options: Vec<String>,
    bus: Option<String>,
    wrapper: Vec<String>,
    process: Option<Running>,
}

impl Daemon {
    /// Starts one with its state below `folder`, and further lines of configuration.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start(folder: &Path, tpm: &str, configuration: &str) -> Self {
        Self::start_under(folder, tpm, configuration, &[])
    }

    /// The same, started by another program, which takes the daemon as its argument.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start_under(folder: &Path, tpm: &str, configuration: &str, wrapper: &[&str]) -> Self {
        Self::start_with(folder, tpm, configuration, wrapper, None)
    }

    /// Like [`Daemon::start_under`], and on a system bus if one is given.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start_with(
        folder: &Path,
        tpm: &str,
        configuration: &str,
        wrapper: &[&str],
        bus: Option<&str>,
    ) -> Self {
        Self::start_from(&bin_dir(), folder, tpm, configuration, wrapper, bus)
    }

    /// Like [`Daemon::start_with`], with the programs of a build.
    fn start_from(
        programs: &Path,
        folder: &Path,
        tpm: &str,
        configuration: &str,
        wrapper: &[&str],
        bus: Option<&str>,
    ) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let file = folder.join("cardea.toml");
        std::fs::write(&file, configuration).expect("the configuration is written");
        let options = vec!["--config".into(), file.display().to_string()];
        let mut daemon = Self {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            tpm: tpm.to_owned(),
            options,
            bus: bus.map(str::to_owned),
            wrapper: Vec::new(),
            process: None,
        };
        daemon.wrap(wrapper);
        daemon.restart();
        daemon
    }

    /// From now on started by another program, which takes the daemon as its argument.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Whether it has not ended.
    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Running::running)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Running::pid)
    }

    /// The same on a system bus.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start_on_bus(folder: &Path, tpm: &str, configuration: &str, bus: &str) -> Self {
        Self::start_with(folder, tpm, configuration, &[], Some(bus))
    }

    /// Starts it again with other lines of configuration.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn configure(&mut self, configuration: &str) {
        let file = self.folder.join("cardea.toml");
        std::fs::write(&file, configuration).expect("the configuration is written");
        self.restart();
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("cardea.sock")
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Kills it, if it runs, and starts it again.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let program = self.programs.join("cardea-daemon");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(&self.options).args(["--tpm", &self.tpm]);
        command
            .arg("--state-dir")
            .arg(self.state())
            .arg("--socket")
            .arg(self.socket());
        if let Some(bus) = &self.bus {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        }
        let mut process = Running::start(&mut command, &self.folder.join("daemon.log"));
        let socket = self.socket();
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        self.process = Some(process);
    }

    /// Ends it without a chance to clean up.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it as a service manager would.
    ///
    /// # Panics
    ///
    /// When it does not end cleanly.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate();
            assert!(status.success(), "{status}\n{}", process.log());
        }
    }

    /// Its resident memory in KiB.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn resident_memory(&self) -> u64 {
        self.memory(Memory::Resident)
    }

    /// Most resident memory that it has had, in KiB.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.memory(Memory::Peak)
    }

    fn memory(&self, kind: Memory) -> u64 {
        let pid = self.pid().expect("the daemon runs");
        kind.of(pid).expect("the process is there")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Runs `cardea` on it.
    #[must_use]
    pub fn cardea(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(self.programs.join("cardea"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments))
    }

    /// Runs `cardea` on it, which must succeed, and gives what it printed: without what it tells a person who
    /// waits.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.programs.join("cardea"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .output()
            .expect("cardea starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Software TPM, daemon and pcscd.
pub struct Rig {
    /// pcscd; goes first.
    pub pcscd: Pcscd,
    /// The daemon.
    pub daemon: Daemon,
    /// The TPM.
    pub tpm: Chip,
    cards: Vec<String>,
    folder: TempDir,
}

impl Rig {
    /// Without a card, with four slots.
    #[must_use]
    pub fn new() -> Self {
        Self::with_slots(4)
    }

    /// Without a card.
    ///
    /// # Panics
    ///
    /// When anything does not come up.
    #[must_use]
    pub fn with_slots(slots: u8) -> Self {
        Self::from_build(&bin_dir(), slots)
    }

    /// Like [`Rig::with_slots`], with the programs of a build, which may be another one than the test's.
    ///
    /// # Panics
    ///
    /// When anything does not come up.
    #[must_use]
    pub fn from_build(programs: &Path, slots: u8) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cardea-rig")
            .tempdir()
            .expect("a folder");
        let tpm = Chip::start(&folder.path().join("tpm"));
        let daemon = Daemon::start_from(
            programs,
            &folder.path().join("daemon"),
            &tpm.address(),
            &format!("slots = {slots}\n"),
            &[],
            None,
        );
        let library = programs.join("libifdcardea.so").display().to_string();
        let entry = daemon.printed(&["reader-conf", "--library", &library]);
        let pcscd = Pcscd::start(folder.path(), &entry);
        Self {
            pcscd,
            daemon,
            tpm,
            cards: Vec::new(),
            folder,
        }
    }

    /// With one created card.
    #[must_use]
    pub fn with_card(name: &str) -> Self {
        let mut rig = Self::new();
        rig.create(name, &[]);
        rig
    }

    /// With one blank card.
    #[must_use]
    pub fn with_blank_card(name: &str) -> Self {
        let mut rig = Self::new();
        rig.create(name, &["--blank"]);
        rig
    }

    /// Makes a card with PIN [`PIN`] and gives its id. If it has a reader, pcscd shows it on return.
    ///
    /// # Panics
    ///
    /// When the card cannot be made or does not appear.
    pub fn create(&mut self, name: &str, further: &[&str]) -> String {
        let pin = self.folder.path().join("pin");
        std::fs::write(&pin, PIN).expect("the PIN is written");
        let pin = pin.display().to_string();
        let mut arguments = vec![
            "card",
            "create",
            "--name",
            name,
            "--pin-file",
            &pin,
            "--json",
        ];
        arguments.extend_from_slice(played::create_arguments());
        arguments.extend_from_slice(further);
        let made = self.daemon.cardea(&arguments);
        assert!(made.success, "{}", made.text);
        let id = json_text(&made.text, "card_id").expect("the card has an id");
        self.seated(&id, json_text(&made.text, "reader").is_some());
        id
    }

    /// Makes a card over the private socket and gives its id.
    ///
    /// # Panics
    ///
    /// When the card cannot be made or does not appear.
    pub fn order(&mut self, mut order: CreateCard) -> String {
        order.counter_mode.get_or_insert_with(played::counter_mode);
        let mut client = Client::connect(&self.daemon.socket()).expect("the daemon answers");
        let reply = client
            .call_with_progress(
                &Request::Cards(CardsRequest::Create(Box::new(order))),
                Duration::from_secs(60),
                &mut |_| {},
            )
            .expect("an answer");
        match reply {
            Reply::Card(card) => {
                self.seated(&card.summary.card_id, card.summary.reader.is_some());
                card.summary.card_id
            }
            other => panic!("no card was made: {other:?}"),
        }
    }

    /// A card with PIN [`PIN`], the admin key [`ADMIN_KEY`] and perhaps a PUK.
    ///
    /// # Panics
    ///
    /// When the card cannot be made or does not appear.
    pub fn administered(&mut self, name: &str, puk: Option<&str>) -> String {
        let secret = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        self.order(CreateCard::new(
            name,
            NewContent::Personalised {
                pin: secret(PIN),
                puk: puk.map(secret),
                admin_key: Some(SecretBytes::new(ADMIN_KEY.to_vec())),
                blank: false,
            },
        ))
    }

    fn seated(&mut self, id: &str, has_reader: bool) {
        let slot = self.cards.len();
        self.cards.push(id.to_owned());
        if has_reader {
            self.wait_for_card(slot);
        }
    }

    /// Waits until pcscd shows the card in a slot: after creation, or after a restart of the daemon.
    ///
    /// # Panics
    ///
    /// When it does not appear.
    pub fn wait_for_card(&self, slot: usize) {
        let slot = slot.to_string();
        wait_for("the card's insertion", || {
            self.run("opensc-tool", &["--reader", &slot, "--atr"])
                .success
        });
    }

    /// Id of the first card made.
    ///
    /// # Panics
    ///
    /// Without a card.
    #[must_use]
    pub fn card_id(&self) -> String {
        self.cards.first().expect("the rig has a card").clone()
    }

    /// Folder for the test's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// PIN tries left of the first card, as the daemon tells them.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn tries_left(&self) -> u32 {
        self.tries_left_of(&self.card_id())
    }

    /// PIN tries left of a card, as the daemon tells them.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn tries_left_of(&self, card: &str) -> u32 {
        let shown = self.daemon.cardea(&["card", "show", card, "--json"]);
        assert!(shown.success, "{}", shown.text);
        // The TPM's lockout has some left too.
        let (_, pin) = shown.text.split_once("\"pin\":").expect("a PIN");
        let (_, rest) = pin.split_once("\"left\":").expect("tries are shown");
        let digits: String = rest
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().expect("a number")
    }

    /// Runs a PC/SC client.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        run(self.client(program).args(arguments))
    }

    /// A PC/SC client, not yet started.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PCSCLITE_CSOCK_NAME", self.pcscd.socket())
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        command
    }

    /// Runs a PC/SC client that must succeed, and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let outcome = self.run(program, arguments);
        assert!(
            outcome.success,
            "{program} {arguments:?} failed:\n{}",
            outcome.text
        );
        outcome.text
    }

    /// Runs a PC/SC client that must succeed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn ok(&self, program: &str, arguments: &[&str]) -> String {
        self.output(program, arguments)
    }

    /// Runs a PC/SC client that must fail, and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it succeeds.
    pub fn fails(&self, program: &str, arguments: &[&str]) -> String {
        let outcome = self.run(program, arguments);
        assert!(
            !outcome.success,
            "{program} {arguments:?} succeeded:\n{}",
            outcome.text
        );
        outcome.text
    }

    /// Runs a PC/SC client that must succeed: its name and its arguments, with blanks between.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn does(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (program, arguments) = words.split_first().expect("a program");
        self.ok(program, arguments)
    }

    /// Like [`Rig::does`], for a client that must fail.
    ///
    /// # Panics
    ///
    /// When it succeeds.
    pub fn refuses(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (program, arguments) = words.split_first().expect("a program");
        self.fails(program, arguments)
    }

    /// Runs `pkcs11-tool` with OpenSC's module, logged in, which must succeed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn opensc(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        self.ok("pkcs11-tool", &self.pkcs11(&words))
    }

    /// Like [`Rig::opensc`], and it must fail.
    ///
    /// # Panics
    ///
    /// When it succeeds.
    pub fn opensc_refuses(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        self.fails("pkcs11-tool", &self.pkcs11(&words))
    }

    /// Arguments of `pkcs11-tool` with OpenSC's module, logged in.
    #[must_use]
    pub fn pkcs11<'a>(&self, further: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["--module", opensc_module(), "--login", "--pin", PIN];
        arguments.extend_from_slice(further);
        arguments
    }

    /// Has a CA of the rig's (made when first asked) certify a public key.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not.
    pub fn issue_certificate(&self, public_key: &str, certificate: &str, subject: &str) {
        if !self.folder.path().join("ca.pem").exists() {
            self.ok(
                "openssl",
                &[
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-keyout",
                    "ca.key",
                    "-out",
                    "ca.pem",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=Test CA",
                ],
            );
        }
        // The request is signed by a throw-away key; the certificate is for the card's.
        self.ok(
            "openssl",
            &[
                "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "tmp.key", "-out",
                "tmp.csr", "-subj", subject,
            ],
        );
        self.ok(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                "tmp.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "1",
                "-force_pubkey",
                public_key,
                "-out",
                certificate,
            ],
        );
    }

    /// DER of a certificate in PEM.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn der(&self, certificate: &str) -> Vec<u8> {
        self.ok(
            "openssl",
            &[
                "x509",
                "-in",
                certificate,
                "-outform",
                "DER",
                "-out",
                "tmp.der",
            ],
        );
        std::fs::read(self.folder.path().join("tmp.der")).expect("a certificate")
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

/// Value of a text field in flat JSON.
fn json_text(json: &str, field: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{field}\":"))?;
    let (value, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(value.to_owned())
}
