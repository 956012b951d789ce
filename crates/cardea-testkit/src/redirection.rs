//! Two machines: one that has a card, one that it is redirected to, and OpenSSH between them.
//!
//! What: two workplaces with a TPM each, a real sshd on the loopback interface in a folder of its own, an agent with a
//! pinentry that types what a file says. What not: two networks; with [`crate::namespace`] there can be one.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bus::SystemBus;
use crate::multiplexer::Profile;
use crate::namespace::Namespace;
use crate::process::{self, Outcome, Running, wait_for};
use crate::rig::{PIN, bin_dir};
use crate::workplace::Workplace;

/// A pinentry that needs nobody: it types the file `pin-to-type`, and allows what it is asked to if there is a file
/// `consent`, as soon as there is no file `hold`. What it was asked is in the file `asked`.
const PINENTRY: &str = r##"#!/bin/sh
cd "$(dirname "$0")"
echo "OK ready"
while read -r line; do
    case "$line" in
    SETDESC*) echo "$line" >> asked; echo OK ;;
    GETPIN*)
        if [ -s pin-to-type ]; then echo "D $(cat pin-to-type)"; echo OK
        else echo "ERR 83886179 cancelled"; fi ;;
    CONFIRM*)
        while [ -e hold ]; do sleep 0.05; done
        if [ -e consent ]; then echo OK; else echo "ERR 83886179 cancelled"; fi ;;
    BYE*) echo OK; exit 0 ;;
    *) echo OK ;;
    esac
done
"##;

/// The other machine's name for `ssh`.
pub const HOST: &str = "dev1";

/// An OpenSSH server for root on the loopback interface, called [`HOST`] by the `ssh` in its folder `bin`.
pub struct Sshd {
    process: Running,
    folder: PathBuf,
    port: u16,
    /// Where it is reached from.
    network: Option<Namespace>,
}

impl Sshd {
    /// Starts one with its files in `folder`, in a network of its own if one is given. Its sessions have these
    /// variables besides the usual ones.
    #[must_use]
    pub fn start(folder: &Path, environment: &[(&str, &str)], network: Option<Namespace>) -> Self {
        fs::create_dir_all(folder.join("bin")).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        for key in ["host", "user"] {
            let made = process::run(Command::new("ssh-keygen").args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &path(key),
            ]));
            assert!(made.success, "{}", made.text);
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
        // Free until a moment ago.
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let variables: Vec<String> = environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             StreamLocalBindUnlink yes\nLogLevel VERBOSE\nSetEnv {}\n",
            path("host"),
            path("authorized"),
            variables.join(" ")
        );
        fs::write(folder.join("sshd_config"), configuration).unwrap();
        let key = fs::read_to_string(folder.join("host.pub")).unwrap();
        fs::write(
            folder.join("known_hosts"),
            format!("[127.0.0.1]:{port} {key}"),
        )
        .unwrap();
        let client = format!(
            "Host {HOST}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n BatchMode yes\n UserKnownHostsFile {}\n",
            path("user"),
            path("known_hosts")
        );
        fs::write(folder.join("ssh_config"), client).unwrap();
        let ssh = folder.join("bin/ssh");
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
            path("ssh_config")
        );
        fs::write(&ssh, script).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        // Where sshd looks for it.
        fs::create_dir_all("/run/sshd").unwrap();
        let program = "/usr/sbin/sshd";
        let mut server = match &network {
            Some(network) => network.command(program),
            None => Command::new(program),
        };
        server.args(["-D", "-e", "-f", &path("sshd_config")]);
        let mut process = Running::start(&mut server, &folder.join("sshd.log"));
        process.wait_ready(|process| process.log().contains("Server listening on"));
        Self {
            process,
            folder: folder.to_owned(),
            port,
            network,
        }
    }

    /// The network that it is in, if that is one of its own.
    #[must_use]
    pub fn network(&self) -> Option<&Namespace> {
        self.network.as_ref()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the `ssh` that knows [`HOST`].
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Settings of that `ssh`: for `ssh -F`.
    #[must_use]
    pub fn client_config(&self) -> String {
        self.folder.join("ssh_config").display().to_string()
    }

    /// Lets the owner of a public key in, in the form of `authorized_keys`.
    pub fn authorize(&self, line: &str) {
        fs::write(self.folder.join("authorized"), line).unwrap();
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// A system bus with the agent of a person who types what a file says.
pub struct Person {
    _agent: Running,
    bus: SystemBus,
    folder: PathBuf,
}

impl Person {
    /// Types this PIN from now on; nothing = says no.
    pub fn types(&self, pin: &str) {
        fs::write(self.folder.join("pin-to-type"), pin).unwrap();
    }

    /// The address of the bus.
    #[must_use]
    pub fn bus(&self) -> String {
        self.bus.address()
    }

    /// Consents from now on, or does not.
    pub fn consents(&self, consents: bool) {
        let file = self.folder.join("consent");
        if consents {
            fs::write(file, "").unwrap();
        } else {
            drop(fs::remove_file(file));
        }
    }

    /// Takes time from now on before a consent, or does not.
    pub fn hesitates(&self, hesitates: bool) {
        let file = self.folder.join("hold");
        if hesitates {
            fs::write(file, "").unwrap();
        } else {
            drop(fs::remove_file(file));
        }
    }

    /// What was asked so far.
    #[must_use]
    pub fn asked(&self) -> String {
        let asked = fs::read_to_string(self.folder.join("asked")).unwrap_or_default();
        asked.replace("%0A", "\n")
    }
}

/// Two machines.
pub struct Redirection {
    /// The one with the card "Alice" and its keys.
    pub here: Workplace,
    /// The other one.
    pub there: Workplace,
    /// Its server.
    pub sshd: Sshd,
    /// Who sits here, where there is a bus.
    pub person: Option<Person>,
}

impl Redirection {
    /// With an agent here; `there` is configured with further lines.
    #[must_use]
    pub fn new(there: &str) -> Self {
        Self::over(there, None)
    }

    /// With an agent here, where the TPM plays a part and the cards are in object mode.
    #[must_use]
    pub fn in_object_mode(profile: Profile) -> Self {
        Self::with_agent("", None, |bus| Workplace::in_object_mode(profile, bus))
    }

    /// The same over a network of its own.
    #[must_use]
    pub fn over(there: &str, network: Option<Namespace>) -> Self {
        Self::with_agent(there, network, |bus| Workplace::with("", Some(bus)))
    }

    fn with_agent(
        there: &str,
        network: Option<Namespace>,
        here: impl FnOnce(&str) -> Workplace,
    ) -> Self {
        let (there, sshd) = Self::other(there, network);
        let bus = SystemBus::start(&there.path("bus"), "");
        let here = here(&bus.address());
        let folder = here.path("person");
        fs::create_dir_all(&folder).unwrap();
        let pinentry = folder.join("pinentry");
        fs::write(&pinentry, PINENTRY).unwrap();
        fs::set_permissions(&pinentry, fs::Permissions::from_mode(0o755)).unwrap();
        bus.await_service();
        let mut command = Command::new(bin_dir().join("cardea-agent"));
        command
            .arg("--pinentry")
            .arg(&pinentry)
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
        let mut agent = Running::start(&mut command, &folder.join("agent.log"));
        agent.wait_ready(|agent| agent.log().contains("registered"));
        let person = Person {
            _agent: agent,
            bus,
            folder,
        };
        person.types(PIN);
        Self::between(here, there, sshd, Some(person))
    }

    /// Without a bus here: nobody is asked but at a terminal.
    #[must_use]
    pub fn without_agent(there: &str) -> Self {
        let (there, sshd) = Self::other(there, None);
        Self::between(Workplace::with("", None), there, sshd, None)
    }

    /// The other machine, with its server; Cardea's programs are in the path there.
    fn other(configuration: &str, network: Option<Namespace>) -> (Workplace, Sshd) {
        let workplace = Workplace::with(configuration, None);
        let path = format!("{}:/usr/bin:/bin", bin_dir().display());
        let socket = workplace.daemon.socket().display().to_string();
        let environment = [("PATH", path.as_str()), ("CARDEA_SOCKET", &socket)];
        let sshd = Sshd::start(&workplace.path("sshd"), &environment, network);
        (workplace, sshd)
    }

    fn between(here: Workplace, there: Workplace, sshd: Sshd, person: Option<Person>) -> Self {
        here.create("Alice");
        here.generate("rsa", "rsa-2048");
        here.generate("ec", "p-256");
        Self {
            here,
            there,
            sshd,
            person,
        }
    }

    /// Who sits here.
    #[must_use]
    pub fn person(&self) -> &Person {
        self.person.as_ref().unwrap()
    }

    /// A program here, not yet started, with `ssh` and Cardea's programs in its path. It has a session of its own,
    /// without a terminal.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.here.client("setsid --wait");
        if let Some(network) = &self.sshd.network {
            let inside = network.command("env");
            command.arg(inside.get_program()).args(inside.get_args());
        }
        command.args(words).env(
            "PATH",
            format!(
                "{}:{}:{}",
                self.sshd.bin().display(),
                bin_dir().display(),
                std::env::var("PATH").unwrap()
            ),
        );
        command
    }

    /// `cardea redirect` at work: the card is there on return.
    #[must_use]
    pub fn start(&self, further: &[&str]) -> Running {
        let mut running = self.begin(&[&["cardea", "redirect", HOST][..], further].concat());
        running.wait_ready(|running| running.log().contains("dev1 has Alice"));
        wait_for("the card is there", || self.is_there());
        running
    }

    /// A program here in the background; its log is its own.
    #[must_use]
    pub fn begin(&self, words: &[&str]) -> Running {
        let log = self.here.path("redirect.log");
        drop(fs::remove_file(&log));
        Running::start(&mut self.command(words), &log)
    }

    /// Whether the card is listed there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.there
            .cardea(&["card", "list"])
            .contains("redirected from")
    }

    /// Signs the message there with a key of the card and PKCS#11; the signature is in the file `NAME.sig`.
    #[must_use]
    pub fn sign(&self, key: &str) -> Outcome {
        drop(fs::remove_file(self.there.path(&format!("{key}.sig"))));
        let (id, mechanism) = match key {
            "ec" => ("1d", "ECDSA-SHA256"),
            _ => ("00", "SHA256-RSA-PKCS"),
        };
        let signature = format!("{key}.sig");
        self.there.tool(&[
            "--login",
            "--sign",
            "--id",
            id,
            "--mechanism",
            mechanism,
            "--signature-format",
            "openssl",
            "-i",
            "message",
            "-o",
            &signature,
        ])
    }

    /// Checks here a signature that was made there.
    pub fn check(&self, key: &str) {
        let name = format!("{key}.sig");
        fs::copy(self.there.path(&name), self.here.path(&name)).unwrap();
        self.here.check(key, "-sha256", &name);
    }
}
