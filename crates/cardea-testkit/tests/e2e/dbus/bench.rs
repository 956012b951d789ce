//! A bus with polkit, a TPM, a daemon, and cards.

use std::path::PathBuf;

use cardea_testkit::bus::{BusClient, Dictionary, SystemBus, option, secret_option};
use cardea_testkit::rig::{Daemon, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use tempfile::TempDir;

/// Users that every Debian has. The operator may create, destroy and rename by polkit's rule, and unblock others.
pub(super) const OWNER: u32 = 33;
pub(super) const STRANGER: u32 = 34;
pub(super) const OPERATOR: u32 = 38;

pub(super) const PIN: &[u8] = b"271828";
pub(super) const NEW_PIN: &[u8] = b"314159";
pub(super) const PUK: &[u8] = b"57721566";
pub(super) const ADMIN_KEY: &[u8; 24] = b"\x01\x23\x45\x67\x89\xAB\xCD\xEF\x23\x45\x67\x89\xAB\xCD\xEF\x01\x45\x67\x89\xAB\xCD\xEF\x01\x23";

const RULES: &str = r#"
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.cardea.virtualsmartcard.") == 0) {
        return subject.user == "list" ? polkit.Result.YES : polkit.Result.NOT_HANDLED;
    }
});
"#;

pub(super) struct Bench {
    pub(super) daemon: Daemon,
    pub(super) bus: SystemBus,
    pub(super) address: String,
    pub(super) _tpm: Swtpm,
    pub(super) folder: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_rules(RULES)
    }

    /// Where polkit has these rules.
    pub(super) fn with_rules(rules: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cardea-bus")
            .tempdir()
            .unwrap();
        // Other users connect.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let bus = SystemBus::start(&folder.path().join("bus"), rules);
        let address = bus.address();
        let daemon =
            Daemon::start_on_bus(&folder.path().join("daemon"), &tpm.address(), "", &address);
        let bench = Self {
            daemon,
            bus,
            address,
            _tpm: tpm,
            folder,
        };
        bench.await_service();
        bench
    }

    pub(super) fn await_service(&self) {
        self.bus.await_service();
    }

    /// A product, where every user can reach it.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("bin");
        let path = folder.join(name);
        if !path.exists() {
            std::fs::create_dir_all(&folder).unwrap();
            let built = bin_dir().join(name);
            // Another file system takes a copy.
            std::fs::hard_link(&built, &path)
                .or_else(|_| std::fs::copy(&built, &path).map(drop))
                .unwrap();
        }
        path
    }

    pub(super) fn client(&self, uid: u32) -> BusClient {
        BusClient::connect(&self.address, uid)
    }

    /// A card of [`OWNER`], made by root: its path.
    pub(super) fn card(&self, name: &str, further: Dictionary) -> String {
        let mut options: Dictionary = [
            option("admin-key", "supplied"),
            secret_option("admin-key-fd", ADMIN_KEY),
            secret_option("pin-fd", PIN),
            option("pin-policy", short_pins()),
            option("owner", OWNER),
        ]
        .into();
        options.extend(further);
        created(&self.client(0), name, options)
    }
}

/// A policy of six digits and more.
pub(super) fn short_pins() -> std::collections::HashMap<String, zbus::Variant<'static>> {
    [("min-length".to_owned(), zbus::Variant::from(6_u32))].into()
}

/// Makes a card that must come to be: its path.
pub(super) fn created(client: &BusClient, name: &str, options: Dictionary) -> String {
    let operation: zbus::OwnedObjectPath = client
        .get(
            cardea_testkit::bus::ROOT,
            "Manager.CreateCard",
            &(name, options),
        )
        .unwrap();
    let (ok, error, mut result) = client.finished(operation.as_str());
    assert!(ok, "{error}");
    let card: zbus::OwnedObjectPath = result.remove("card").unwrap().try_into().unwrap();
    card.to_string()
}

/// The administrator's answer to a challenge: TDEA of it under the admin key.
pub(super) fn answer(challenge: &[u8]) -> [u8; 8] {
    let mut block: [u8; 8] = challenge.try_into().unwrap();
    cardea_tpm::AdminKey::new(ADMIN_KEY)
        .unwrap()
        .encrypt(&mut block);
    block
}
