//! A certification authority for these tests, and somebody who types PINs for GnuPG.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cardea_testkit::installed::Installed;
use cardea_testkit::workplace::Workplace;

/// The test CA of a workplace, `ca.pem`.
pub(crate) struct Authority<'a>(&'a Workplace);

impl<'a> Authority<'a> {
    pub(crate) fn of(workplace: &'a Workplace) -> Self {
        Self(workplace)
    }

    /// Certifies Alice's public key for that usage; gives the path of `NAME.pem`.
    pub(crate) fn certify(&self, public_key: &str, name: &str, usage: &str) -> String {
        let Self(workplace) = self;
        if !workplace.path("ca.pem").exists() {
            self.make("ca");
        }
        let extensions = format!(
            "keyUsage = critical, {usage}\nextendedKeyUsage = emailProtection, codeSigning\n\
             subjectAltName = email:alice@example.org\n"
        );
        fs::write(workplace.path(&format!("{name}.ext")), extensions).unwrap();
        // The request is signed by a throw-away key; the certificate is for the given one.
        workplace.does("openssl req -new -newkey rsa:2048 -nodes -keyout away.key -out away.csr -subj /CN=Alice");
        let certificate = workplace.text(&format!("{name}.pem"));
        workplace.does(&format!(
            "openssl x509 -req -in away.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 \
             -extfile {name}.ext -force_pubkey {public_key} -out {certificate}"
        ));
        certificate
    }

    /// Another authority, `other-ca.pem`.
    pub(crate) fn another(&self) {
        self.make("other-ca");
    }

    fn make(&self, name: &str) {
        self.0.does(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        ));
    }
}

/// Has GnuPG's agent ask a program that answers every question for a PIN with this one.
pub(crate) fn pinentry(machine: &Installed, workplace: &Workplace, pin: &str) {
    let program = workplace.path("pinentry");
    let script = format!(
        "#!/bin/sh\necho OK\nwhile read -r line; do\n    case $line in\n        GETPIN*) echo D {pin} ;;\n    esac\n    echo OK\ndone\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // What it was told is kept otherwise.
    machine.does(
        "mkdir -p -m 700 .gnupg\ngrep -qs ^pinentry .gnupg/gpg-agent.conf || \
         printf '%s\\n' \"pinentry-program $PWD/pinentry\" no-allow-mark-trusted >> .gnupg/gpg-agent.conf\ngpgconf --kill all",
    );
}
