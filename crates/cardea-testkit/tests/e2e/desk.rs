//! A daemon without a reader, and the programs that load the PKCS#11 module.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cardea_testkit::process::{self, Outcome};
use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use tempfile::TempDir;

pub(crate) const PUK: &str = "57721566";

/// A PIN that is none.
pub(crate) const WRONG: &str = "000000";

/// What the programs sign and encrypt, in the file `message`.
pub(crate) const MESSAGE: &str = "a message of some length\n";

/// The keys of [`Desk::with_keys`].
pub(crate) const KEYS: [&str; 2] = ["rsa", "ec"];

/// A software TPM, a daemon on it, and a folder in which the programs run.
pub(crate) struct Desk {
    pub(crate) daemon: Daemon,
    _tpm: Swtpm,
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "");
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
            _tpm: tpm,
            folder,
        }
    }

    /// With the card "Alice" that has a key of each kind, labelled with it.
    pub(crate) fn with_keys() -> Self {
        let desk = Self::new();
        desk.create("Alice");
        desk.generate("rsa", "rsa-2048");
        desk.generate("ec", "p-256");
        desk
    }

    /// The same, each key with a certificate of the test CA.
    pub(crate) fn with_certificates() -> Self {
        let desk = Self::with_keys();
        for key in KEYS {
            desk.certify(key);
        }
        desk
    }

    /// The same card files in a machine with another TPM.
    pub(crate) fn move_to(&mut self, tpm: &Swtpm) {
        self.daemon.kill();
        self.daemon = Daemon::start(&self.folder.path().join("daemon"), &tpm.address(), "");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn create(&self, name: &str) {
        let (pin, puk) = (self.text("pin"), self.text("puk"));
        let create = ["card", "create", "--name", name, "--pin-file", &pin];
        self.cardea(&[&create[..], &["--puk-file", &puk]].concat());
    }

    /// Makes a key on the card "Alice".
    pub(crate) fn generate(&self, label: &str, algorithm: &str) {
        let generate = ["key", "generate", "Alice", "--algorithm", algorithm];
        self.with_pin(&[&generate[..], &["--label", label]].concat());
    }

    /// Has the test CA certify a key of the card "Alice", and stores the certificate; it is in `KEY.pem`.
    pub(crate) fn certify(&self, key: &str) {
        let certificate = self.issue(&self.public(key), key);
        self.with_pin(&["cert", "import", "Alice", &certificate]);
    }

    /// Has the test CA (`ca.pem`, made when first asked) certify a public key; gives the path of `NAME.pem`.
    pub(crate) fn issue(&self, public_key: &str, name: &str) -> String {
        if !self.path("ca.pem").exists() {
            self.does(
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=TestCA",
            );
            let extensions = "keyUsage = digitalSignature, keyEncipherment, keyAgreement\n\
                 extendedKeyUsage = clientAuth, emailProtection, codeSigning\n\
                 subjectAltName = email:alice@example.org\n";
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

    /// Path of a file with the public half of a key of the card "Alice".
    pub(crate) fn public(&self, key: &str) -> String {
        let file = self.text(&format!("{key}.pub"));
        self.cardea(&["key", "export-public", "Alice", key, "--out", &file]);
        file
    }

    /// The card's URI, as the command line prints it.
    pub(crate) fn uri(&self, card: &str) -> String {
        let shown = self.cardea(&["card", "show", card]);
        let line = shown.lines().find_map(|line| line.strip_prefix("URI:"));
        line.unwrap().trim().to_owned()
    }

    /// The URI of a private key of the card "Alice", as the command line prints it.
    pub(crate) fn key_uri(&self, label: &str) -> String {
        let listed = self.cardea(&["key", "list", "Alice"]);
        let part = format!(";object={label};");
        let line = listed.lines().find(|line| line.contains(&part));
        let uri = line.and_then(|line| line.split_once(": "));
        assert!(uri.is_some(), "no {label} in {listed}");
        uri.unwrap().1.to_owned()
    }

    /// PIN tries left of the card "Alice".
    pub(crate) fn tries_left(&self) -> u32 {
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
    pub(crate) fn block(&self) {
        let wrong = self.text("wrong");
        while self.tries_left() > 0 {
            let refused = self
                .daemon
                .cardea(&["pin", "verify", "Alice", "--pin-file", &wrong]);
            assert!(!refused.success, "{}", refused.text);
        }
    }

    /// Ends that by the PUK; the PIN is the same again.
    pub(crate) fn unblock(&self) {
        let (pin, puk) = (self.text("pin"), self.text("puk"));
        let unblock = ["pin", "unblock", "Alice", "--puk-file", &puk];
        self.cardea(&[&unblock[..], &["--new-pin-file", &pin]].concat());
    }

    /// Deletes a key of the card "Alice".
    pub(crate) fn delete(&self, key: &str) {
        self.with_pin(&["key", "delete", "Alice", key, "--yes"]);
    }

    /// `cardea`, which must succeed.
    pub(crate) fn cardea(&self, arguments: &[&str]) -> String {
        let outcome = self.daemon.cardea(arguments);
        assert!(outcome.success, "{arguments:?}\n{}", outcome.text);
        outcome.text
    }

    fn with_pin(&self, arguments: &[&str]) -> String {
        let pin = self.text("pin");
        self.cardea(&[arguments, &["--pin-file", &pin]].concat())
    }

    /// A program in the folder, not yet started: its name and its arguments, with blanks between.
    pub(crate) fn client(&self, line: &str) -> Command {
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

    pub(crate) fn run(&self, line: &str) -> Outcome {
        process::run(&mut self.client(line))
    }

    /// A program that must succeed, and what it printed.
    pub(crate) fn does(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(outcome.success, "{line}\nfailed:\n{}", outcome.text);
        outcome.text
    }

    /// A program that must fail, and what it printed.
    pub(crate) fn refuses(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(!outcome.success, "{line}\nsucceeded:\n{}", outcome.text);
        outcome.text
    }

    /// `pkcs11-tool` with our module.
    pub(crate) fn tool(&self, further: &[&str]) -> Outcome {
        let mut command = self.client("pkcs11-tool --module");
        process::run(command.arg(module()).args(further))
    }

    pub(crate) fn ok(&self, further: &[&str]) -> String {
        let outcome = self.tool(further);
        assert!(outcome.success, "{further:?}\n{}", outcome.text);
        outcome.text
    }

    pub(crate) fn fails(&self, further: &[&str], why: &str) {
        let outcome = self.tool(further);
        assert!(
            !outcome.success && outcome.text.contains(why),
            "{further:?}: {why} is not in\n{}",
            outcome.text
        );
    }

    /// OpenSSL without our module.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        self.does(&format!("openssl {}", arguments.join(" ")))
    }

    /// Checks with OpenSSL that a key of the card "Alice" made a signature over the message, and not over
    /// another one.
    pub(crate) fn check(&self, key: &str, options: &str, signature: &str) {
        let public = self.public(key);
        let verify = format!("openssl dgst -verify {public} -signature {signature} {options}");
        let verified = self.does(&format!("{verify} message"));
        assert!(verified.contains("Verified OK"), "{verified}");
        self.refuses(&format!("{verify} another"));
    }

    /// Checks a signed message in CMS, and that it is refused with another CA.
    pub(crate) fn check_cms(&self, file: &str, format: &str) {
        let verify = format!("openssl cms -verify -inform {format} -in {file} -CAfile");
        let verified = self.does(&format!("{verify} ca.pem"));
        assert!(verified.replace('\r', "").contains(MESSAGE), "{verified}");
        self.does(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -subj /CN=OtherCA",
        );
        self.refuses(&format!("{verify} other.pem"));
    }
}

/// Our module; a real path, as ssh-agent wants it.
pub(crate) fn module() -> String {
    let path = bin_dir().join("libcardea_pkcs11.so");
    fs::canonicalize(path).unwrap().display().to_string()
}
