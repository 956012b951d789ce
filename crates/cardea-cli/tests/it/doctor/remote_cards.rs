//! The service for other machines, as its package and an administrator leave it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{finds, machine, write};
use crate::support::Place;

const ACCOUNTS: &str = "/etc/cardea/tpmvsc/accounts";
const FOLDER: &str = "/etc/cardea/tpmvsc";
const WANTED: &str = "/etc/systemd/system/sockets.target.wants/cardea-tpmvsc.socket";

/// A machine with the packaged units.
struct Remote {
    place: Place,
    root: String,
}

impl Remote {
    fn installed() -> Self {
        let place = Place::new();
        let root = machine(&place);
        let remote = Self { place, root };
        assert!(remote.names().is_empty(), "not installed");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
        for name in ["cardea-tpmvsc.socket", "cardea-tpmvsc.service"] {
            let unit = fs::read_to_string(packaging.join(name)).unwrap();
            remote.write(&format!("/usr/lib/systemd/system/{name}"), &unit);
        }
        remote
    }

    /// With its socket enabled, limited to a network, and an account of each mechanism.
    fn enabled() -> Self {
        let remote = Self::installed();
        remote.write(WANTED, "");
        let limit = "[Socket]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/24\n";
        remote.drop_in("cardea-tpmvsc.socket", limit);
        remote.write(ACCOUNTS, "ntlm 00 ann\nkerberos - eve@FIRM.EXAMPLE\n");
        remote.mode(FOLDER, 0o700);
        remote
    }

    fn write(&self, path: &str, content: &str) {
        write(Path::new(&self.root), path, content);
    }

    fn drop_in(&self, unit: &str, content: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/own.conf"), content);
    }

    fn mode(&self, path: &str, mode: u32) {
        let path = Path::new(&self.root).join(path.trim_start_matches('/'));
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What is said of it: the rest of each name, and the text.
    fn found(&self) -> Vec<(String, String)> {
        let run = self.place.run(&["doctor", "--json", "--root", &self.root]);
        let findings = run.json();
        let ours = findings.as_array().unwrap().iter().filter_map(|finding| {
            let name = finding["name"].as_str().unwrap();
            let name = name.strip_prefix("remote-cards")?.trim_start_matches('-');
            let text = finding["text"].as_str().unwrap().to_owned();
            Some((name.to_owned(), text))
        });
        ours.collect()
    }

    fn names(&self) -> Vec<String> {
        let found = self.found();
        found.into_iter().map(|(name, _)| name).collect()
    }

    fn says(&self, at: usize, what: &str) {
        let found = self.found();
        let text = found.get(at).map_or("", |(_, text)| text);
        assert!(text.contains(what), "{what}: {found:?}");
    }
}

#[test]
fn service_for_other_machines_is_judged_by_who_reaches_it() {
    let remote = Remote::installed();
    assert_eq!(remote.names(), [""]);
    remote.says(0, "installed and off");
    remote.write(WANTED, "");
    assert_eq!(remote.names(), ["", "reach", "accounts"]);
    remote.says(0, "through port 135 on every address");
    // Each advice is followed, as the page has it.
    let network = "[Socket]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/24\n";
    remote.drop_in("cardea-tpmvsc.socket", network);
    assert_eq!(remote.names(), ["", "accounts"]);
    let address = "[Socket]\nListenStream=\nListenStream=10.0.0.5:135\n";
    remote.drop_in("cardea-tpmvsc.socket", address);
    assert_eq!(remote.names(), ["", "accounts"]);
    remote.says(0, "through 10.0.0.5:135");
    remote.write(ACCOUNTS, "# nobody\n");
    remote.mode(FOLDER, 0o700);
    assert_eq!(remote.names(), ["", "accounts"]);
    remote.says(1, "has no account");
    remote.write(ACCOUNTS, "ntlm 00 ann\n");
    assert_eq!(remote.names(), [""]);
}

/// Whoever reads the hashes can sign in.
#[test]
fn accounts_of_the_service_for_other_machines_are_kept_from_others() {
    let remote = Remote::enabled();
    // The folder is enough.
    remote.mode(ACCOUNTS, 0o644);
    assert_eq!(remote.names(), [""]);
    remote.mode(FOLDER, 0o755);
    remote.mode(ACCOUNTS, 0o604);
    finds(
        &remote.place,
        &remote.root,
        "remote-cards-readable",
        &format!("chmod go= {ACCOUNTS}"),
    );
    remote.mode(FOLDER, 0o750);
    assert_eq!(remote.names(), [""]);
    remote.mode(ACCOUNTS, 0o640);
    assert_eq!(remote.names(), ["", "readable"]);
    remote.mode(ACCOUNTS, 0o600);
    // The configuration has the last word on the file.
    remote.write("/etc/cardea/tpmvsc.toml", "accounts = '/srv/accounts'\n");
    assert_eq!(remote.names(), ["", "accounts"]);
    remote.says(1, "/srv/accounts");
}

#[test]
fn hashes_are_a_weakness_where_tickets_could_be_used() {
    let remote = Remote::enabled();
    assert_eq!(remote.names(), [""]);
    remote.write("/etc/krb5.keytab", "");
    assert_eq!(remote.names(), ["", "ntlm"]);
    remote.says(1, "an account of the service");
    let keytab = "[Service]\nLoadCredential=keytab:/etc/cardea/tpmvsc/keytab\n";
    remote.drop_in("cardea-tpmvsc.service", keytab);
    assert_eq!(remote.names(), ["", "ntlm"]);
    remote.says(1, "speaks Kerberos");
    remote.write(ACCOUNTS, "kerberos - eve@FIRM.EXAMPLE\n");
    assert_eq!(remote.names(), [""]);
}

/// Nobody types the TPM's owner authorisation who calls from elsewhere.
#[test]
fn service_for_other_machines_needs_the_owner_authorisation_that_is_set() {
    let remote = Remote::enabled();
    let auth = remote.place.path("auth");
    let provision = ["tpm", "provision", "--yes", "--out", auth.to_str().unwrap()];
    assert_eq!(remote.place.run(&provision).code, 0);
    assert_eq!(remote.names(), ["", "owner"]);
    remote.write("/usr/lib/systemd/system/cardea.service", "");
    assert_eq!(remote.names(), ["", "owner"]);
    let credential = "[Service]\nLoadCredentialEncrypted=owner-auth:/etc/cardea/owner-auth.cred\n";
    remote.drop_in("cardea.service", credential);
    assert_eq!(remote.names(), [""]);
}
