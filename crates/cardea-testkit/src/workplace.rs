//! A daemon without a reader, and the programs that load the PKCS#11 module.
//!
//! Everything here panics where it cannot do its part: it belongs to tests.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::multiplexer::Profile;
use crate::played::{self, Chip};
use crate::process::{self, Outcome};
use crate::rig::{Daemon, PIN, bin_dir};
use crate::swtpm::Swtpm;
use tempfile::TempDir;

/// PUK of the cards that a workplace makes.
pub const PUK: &str = "57721566";

/// A PIN that is none.
pub const WRONG: &str = "000000";

/// What the programs sign and encrypt, in the file `message`.
pub const MESSAGE: &str = "a message of some length\n";

/// The keys of [`Workplace::with_keys`].
pub const KEYS: [&str; 2] = ["rsa", "ec"];

/// A software TPM, a daemon on it, and a folder in which the programs run.
pub struct Workplace {
    /// The daemon.
    pub daemon: Daemon,
    /// Arguments of `card create` for its cards.
    create_arguments: &'static [&'static str],
    _tpm: Chip,
    folder: TempDir,
}

impl Default for Workplace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workplace {
    /// Without a card.
    pub fn new() -> Self {
        Self::with("", None)
    }

    /// Without a card; the daemon has further lines of configuration, and is on a system bus if one is given.
    pub fn with(configuration: &str, bus: Option<&str>) -> Self {
        Self::around(tempfile::tempdir().unwrap(), configuration, bus)
    }

    /// With copies of a TPM's state (`tpm`) and a daemon's (`state`) that were kept in a folder.
    pub fn from_kept(kept: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&kept.join("tpm"), &folder.path().join("tpm"));
        copy(&kept.join("state"), &folder.path().join("daemon/state"));
        Self::around(folder, "", None)
    }

    /// Without a card, with a TPM that plays a part.
    pub fn playing(profile: Profile) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Chip::start_as(&folder.path().join("tpm"), Some(profile));
        Self::on(tpm, folder, "", None)
    }

    /// Without a card, with a TPM that plays a part and a daemon on a system bus; its cards are in object mode.
    pub fn in_object_mode(profile: Profile, bus: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Chip::start_as(&folder.path().join("tpm"), Some(profile));
        Self {
            create_arguments: &["--counter-mode", "object"],
            ..Self::on(tpm, folder, "", Some(bus))
        }
    }

    fn around(folder: TempDir, configuration: &str, bus: Option<&str>) -> Self {
        let tpm = Chip::start(&folder.path().join("tpm"));
        Self::on(tpm, folder, configuration, bus)
    }

    fn on(tpm: Chip, folder: TempDir, configuration: &str, bus: Option<&str>) -> Self {
        let place = folder.path().join("daemon");
        let daemon = match bus {
            Some(bus) => Daemon::start_on_bus(&place, &tpm.address(), configuration, bus),
            None => Daemon::start(&place, &tpm.address(), configuration),
        };
        for (name, content) in [
            ("pin", PIN),
            ("puk", PUK),
            ("wrong", WRONG),
            ("message", MESSAGE),
            ("another", "another message"),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        Self {
            daemon,
            create_arguments: played::create_arguments(),
            _tpm: tpm,
            folder,
        }
    }

    /// With the card "Alice" that has a key of each kind, labelled with it.
    pub fn with_keys() -> Self {
        let workplace = Self::new();
        workplace.create("Alice");
        workplace.generate("rsa", "rsa-2048");
        workplace.generate("ec", "p-256");
        workplace
    }

    /// The same, each key with a certificate of the test CA.
    pub fn with_certificates() -> Self {
        let workplace = Self::with_keys();
        for key in KEYS {
            workplace.certify(key);
        }
        workplace
    }

    /// The same card files in a machine with another TPM.
    pub fn move_to(&mut self, tpm: &Swtpm) {
        self.daemon.kill();
        self.daemon = Daemon::start(&self.folder.path().join("daemon"), &tpm.address(), "");
    }

    /// Path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a card with PIN [`PIN`] and PUK [`PUK`].
    pub fn create(&self, name: &str) {
        let (pin, puk) = (self.text("pin"), self.text("puk"));
        let create = ["card", "create", "--name", name, "--pin-file", &pin];
        let further = [&["--puk-file", &puk], self.create_arguments].concat();
        self.cardea(&[&create[..], &further].concat());
    }

    /// Makes a key on the card "Alice".
    pub fn generate(&self, label: &str, algorithm: &str) {
        let generate = ["key", "generate", "Alice", "--algorithm", algorithm];
        self.with_pin(&[&generate[..], &["--label", label]].concat());
    }

    /// Has the test CA certify a key of the card "Alice", and stores the certificate; it is in `KEY.pem`.
    pub fn certify(&self, key: &str) {
        let certificate = self.issue(&self.public(key), key);
        self.with_pin(&["cert", "import", "Alice", &certificate]);
    }

    /// Has the test CA (`ca.pem`, made when first asked) certify a public key; gives the path of `NAME.pem`.
    pub fn issue(&self, public_key: &str, name: &str) -> String {
        self.make_ca();
        if !self.path("user.ext").exists() {
            let extensions = "keyUsage = digitalSignature, keyEncipherment, keyAgreement\n\
                 extendedKeyUsage = clientAuth, emailProtection, codeSigning, \
                 1.3.6.1.5.2.3.4, 1.3.6.1.4.1.311.20.2.2\n\
                 subjectAltName = email:alice@example.org, \
                 otherName:1.3.6.1.5.2.2;SEQUENCE:principal, \
                 otherName:1.3.6.1.4.1.311.20.2.3;UTF8:alice@TEST.LOCAL\n\
                 [principal]\nrealm = EXP:0, GeneralString:TEST.LOCAL\n\
                 principal_name = EXP:1, SEQUENCE:name\n\
                 [name]\nname_type = EXP:0, INTEGER:1\nname_string = EXP:1, SEQUENCE:parts\n\
                 [parts]\npart = GeneralString:alice\n";
            fs::write(self.path("user.ext"), extensions).unwrap();
        }
        // The request is signed by a throw-away key; the certificate is for the given one.
        self.does(&format!(
            "openssl req -new -newkey rsa:2048 -nodes -keyout tmp.key -out tmp.csr -subj /CN={name}"
        ));
        let certificate = self.text(&format!("{name}.pem"));
        self.does(&format!(
            "openssl x509 -req -in tmp.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 \
             -extfile user.ext -force_pubkey {public_key} -out {certificate}"
        ));
        certificate
    }

    fn make_ca(&self) {
        if !self.path("ca.pem").exists() {
            self.does(
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=TestCA",
            );
        }
    }

    /// Has the test CA certify a server of that name in the DNS, with further lines of extensions; it is in
    /// `NAME.pem`, its key in `NAME.key`.
    pub fn issue_server(&self, name: &str, extensions: &str) {
        self.make_ca();
        let text = format!(
            "keyUsage = digitalSignature, keyEncipherment\n\
             subjectAltName = DNS:{name}, IP:127.0.0.1\n{extensions}\n"
        );
        let text = match extensions.contains("extendedKeyUsage") {
            true => text,
            false => format!("extendedKeyUsage = serverAuth\n{text}"),
        };
        fs::write(self.path("server.ext"), text).unwrap();
        self.does(&format!(
            "openssl req -new -newkey rsa:2048 -nodes -keyout {name}.key -out server.csr -subj /CN={name}"
        ));
        self.does(&format!(
            "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 \
             -extfile server.ext -out {name}.pem"
        ));
    }

    /// Path of a file with the public half of a key of the card "Alice".
    pub fn public(&self, key: &str) -> String {
        let file = self.text(&format!("{key}.pub"));
        self.cardea(&["key", "export-public", "Alice", key, "--out", &file]);
        file
    }

    /// The card's URI, as the command line prints it.
    pub fn uri(&self, card: &str) -> String {
        let shown = self.cardea(&["card", "show", "--wide", card]);
        let line = shown.lines().find_map(|line| line.strip_prefix("URI:"));
        line.unwrap().trim().to_owned()
    }

    /// The URI of a private key of the card "Alice", as the command line prints it.
    pub fn key_uri(&self, label: &str) -> String {
        let listed = self.cardea(&["key", "list", "--wide", "Alice"]);
        let part = format!(";object={label};");
        let line = listed.lines().find(|line| line.contains(&part));
        let uri = line.and_then(|line| line.split_once(": "));
        assert!(uri.is_some(), "no {label} in {listed}");
        uri.unwrap().1.to_owned()
    }

    /// PIN tries left of the card "Alice".
    pub fn tries_left(&self) -> u32 {
        let shown = self.cardea(&["card", "show", "Alice"]);
        let line = shown
            .lines()
            .find_map(|line| line.strip_prefix("PIN:"))
            .unwrap()
            .trim();
        match line.split_once(' ').unwrap() {
            ("blocked", _) => 0,
            (left, _) => left.parse().unwrap(),
        }
    }

    /// Uses up the PIN tries of the card "Alice".
    pub fn block(&self) {
        let wrong = self.text("wrong");
        while self.tries_left() > 0 {
            let refused = self
                .daemon
                .cardea(&["pin", "verify", "Alice", "--pin-file", &wrong]);
            assert!(!refused.success, "{}", refused.text);
        }
    }

    /// Ends that by the PUK; the PIN is the same again.
    pub fn unblock(&self) {
        let (pin, puk) = (self.text("pin"), self.text("puk"));
        let unblock = ["pin", "unblock", "Alice", "--puk-file", &puk];
        self.cardea(&[&unblock[..], &["--new-pin-file", &pin]].concat());
    }

    /// Deletes a key of the card "Alice".
    pub fn delete(&self, key: &str) {
        self.with_pin(&["key", "delete", "Alice", key, "--yes"]);
    }

    /// `cardea`, which must succeed.
    pub fn cardea(&self, arguments: &[&str]) -> String {
        let outcome = self.daemon.cardea(arguments);
        assert!(outcome.success, "{arguments:?}\n{}", outcome.text);
        outcome.text
    }

    /// Runs `cardea` with the PIN of the cards.
    pub fn with_pin(&self, arguments: &[&str]) -> String {
        let pin = self.text("pin");
        self.cardea(&[arguments, &["--pin-file", &pin]].concat())
    }

    /// A program in the folder, not yet started: its name and its arguments, with blanks between.
    pub fn client(&self, line: &str) -> Command {
        let mut words = line.split_ascii_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("CARDEA_SOCKET", self.daemon.socket())
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C");
        command
    }

    /// Runs a program in the folder.
    pub fn run(&self, line: &str) -> Outcome {
        process::run(&mut self.client(line))
    }

    /// A program that must succeed, and what it printed.
    pub fn does(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(outcome.success, "{line}\nfailed:\n{}", outcome.text);
        outcome.text
    }

    /// A program that must fail, and what it printed.
    pub fn refuses(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(!outcome.success, "{line}\nsucceeded:\n{}", outcome.text);
        outcome.text
    }

    /// `pkcs11-tool` with our module.
    pub fn tool(&self, further: &[&str]) -> Outcome {
        let mut command = self.client("pkcs11-tool --module");
        process::run(command.arg(module()).args(further))
    }

    /// `pkcs11-tool`, which must succeed.
    pub fn ok(&self, further: &[&str]) -> String {
        let outcome = self.tool(further);
        assert!(outcome.success, "{further:?}\n{}", outcome.text);
        outcome.text
    }

    /// `pkcs11-tool`, which must fail and say this.
    pub fn fails(&self, further: &[&str], why: &str) {
        let outcome = self.tool(further);
        assert!(
            !outcome.success && outcome.text.contains(why),
            "{further:?}: {why} is not in\n{}",
            outcome.text
        );
    }

    /// OpenSSL without our module.
    pub fn openssl(&self, arguments: &[&str]) -> String {
        self.does(&format!("openssl {}", arguments.join(" ")))
    }

    /// Checks with OpenSSL that a key of the card "Alice" made a signature over the message, and not over
    /// another one.
    pub fn check(&self, key: &str, options: &str, signature: &str) {
        let public = self.public(key);
        let verify = format!("openssl dgst -verify {public} -signature {signature} {options}");
        let verified = self.does(&format!("{verify} message"));
        assert!(verified.contains("Verified OK"), "{verified}");
        self.refuses(&format!("{verify} another"));
    }

    /// Checks a signed message in CMS, and that it is refused with another CA.
    pub fn check_cms(&self, file: &str, format: &str) {
        let verify = format!("openssl cms -verify -inform {format} -in {file} -CAfile");
        let verified = self.does(&format!("{verify} ca.pem"));
        assert!(verified.replace('\r', "").contains(MESSAGE), "{verified}");
        self.does(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -subj /CN=OtherCA",
        );
        self.refuses(&format!("{verify} other.pem"));
    }
}

/// Copies a folder with what is in it. What a version control system has kept is readable for all; state is not.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Our module; a real path, as ssh-agent wants it.
pub fn module() -> String {
    let path = bin_dir().join("libcardea_pkcs11.so");
    fs::canonicalize(path).unwrap().display().to_string()
}
