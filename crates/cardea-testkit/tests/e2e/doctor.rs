//! What `cardea doctor` finds where it takes a TPM in trouble or a bus; the rest is in the command's own tests.

use cardea_card::token::CardStore as _;
use cardea_store::Store;
use cardea_testkit::bus::SystemBus;
use cardea_testkit::multiplexer::{Fault, Multiplexer, Trigger};
use cardea_testkit::process::wait_for;
use cardea_testkit::rig::Daemon;
use cardea_testkit::swtpm::Swtpm;
use serde_json::Value;
use tempfile::TempDir;

/// TPM2_ReadClock.
const READ_CLOCK: u32 = 0x181;

/// NV_DefineSpace.
const NV_DEFINE: u32 = 0x12A;

/// TPM_RC_NV_SPACE.
const NV_SPACE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x4B];

/// A daemon whose TPM can be disturbed.
struct Ward {
    daemon: Daemon,
    mux: Multiplexer,
    _tpm: Swtpm,
    folder: TempDir,
}

impl Ward {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
        let daemon = Daemon::start(&folder.path().join("daemon"), &mux.address(), "");
        Self {
            daemon,
            mux,
            _tpm: tpm,
            folder,
        }
    }

    /// Names and texts of the faults.
    fn faults(&self) -> Vec<(String, String)> {
        let root = self.folder.path().display().to_string();
        faults(&self.daemon, &root)
    }
}

fn faults(daemon: &Daemon, root: &str) -> Vec<(String, String)> {
    let looked = daemon.cardea(&["doctor", "--json", "--root", root]);
    let end = looked.text.rfind(']').unwrap();
    let findings: Value = serde_json::from_str(&looked.text[..=end]).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let faults = findings.as_array().unwrap().iter();
    faults
        .filter(|finding| finding["weight"] == "fault")
        .map(|finding| (text(finding, "name"), text(finding, "text")))
        .collect()
}

fn has(faults: &[(String, String)], name: &str) -> bool {
    faults.iter().any(|(found, _)| found == name)
}

#[test]
fn clock_that_runs_too_fast_is_found() {
    let ward = Ward::new();
    // From here on the TPM says that an hour more has passed.
    let faster = || {
        Fault::Change(Box::new(|mut response: Vec<u8>| {
            let time = u64::from_be_bytes(response[10..18].try_into().unwrap()) + 3_600_000;
            response[10..18].copy_from_slice(&time.to_be_bytes());
            response
        }))
    };
    assert!(!has(&ward.faults(), "tpm-clock"));
    wait_for("the daemon can tell", || {
        let status = ward.daemon.cardea(&["tpm", "status", "--json"]);
        !status.text.contains("\"clock_deviation_permille\": null")
    });
    assert!(!has(&ward.faults(), "tpm-clock"));
    ward.mux.inject(Trigger::command(READ_CLOCK), faster());
    let found = ward.faults();
    assert!(has(&found, "tpm-clock"), "{found:?}");
}

#[test]
fn tpm_without_room_is_found() {
    let ward = Ward::new();
    assert!(!has(&ward.faults(), "nv-full"));
    let full = Fault::Replace(NV_SPACE.to_vec());
    ward.mux.inject(Trigger::command(NV_DEFINE).after(2), full);
    let found = ward.faults();
    assert!(has(&found, "nv-full"), "{found:?}");
    assert!(!has(&ward.faults(), "nv-full"), "room again");
    let listed = ward.daemon.cardea(&["tpm", "indices", "--json"]);
    assert_eq!(listed.text.trim(), "[]", "nothing is left of the trials");
}

/// The record of a key that a version without the inner wrap has imported.
#[test]
fn key_that_an_older_version_imported_is_shown_as_exposed() {
    let mut ward = Ward::new();
    let file = |name: &str| ward.folder.path().join(name).display().to_string();
    let (pin, pem) = (file("pin"), file("key.pem"));
    std::fs::write(&pin, "271828").unwrap();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "EC", "-out", &pem]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    let made = cardea_testkit::process::run(&mut openssl);
    assert!(made.success, "{}", made.text);
    let daemon = &ward.daemon;
    for arguments in [
        &["card", "create", "--name", "work", "--pin-file", &pin][..],
        &["key", "import", "work", &pem, "--pin-file", &pin],
        &[
            "key",
            "generate",
            "work",
            "--algorithm",
            "p-256",
            "--pin-file",
            &pin,
        ],
    ] {
        let done = daemon.cardea(arguments);
        assert!(done.success, "{}", done.text);
    }
    ward.daemon.stop();
    let exposed_keys = |ward: &mut Ward, inner_wrapped: Option<bool>| {
        ward.daemon.stop();
        let store = Store::open(&ward.daemon.state()).unwrap();
        let mut record = store.cards().unwrap().remove(0).content.unwrap();
        record.keys[0].inner_wrapped = inner_wrapped;
        store.card(record.id).save(&record).unwrap();
        drop(store);
        ward.daemon.restart();
        let told = |verb: &str, noun: &str| -> Value {
            serde_json::from_str(&ward.daemon.printed(&[noun, verb, "work", "--json"])).unwrap()
        };
        let (card, keys) = (told("show", "card"), told("list", "key"));
        // References of the exposed ones.
        let exposed = |keys: &Value| -> Vec<String> {
            let keys = keys.as_array().unwrap().iter();
            keys.filter(|key| key["import_exposed"].as_bool().unwrap())
                .map(|key| key["reference"].as_str().unwrap().to_owned())
                .collect()
        };
        let found = exposed(&keys);
        assert_eq!(exposed(&card["keys"]), found);
        let warned = card["warnings"]
            .to_string()
            .contains("can recover this key");
        assert_eq!(warned, !found.is_empty());
        let text = ward.daemon.cardea(&["key", "list", "work"]).text;
        assert_eq!(
            text.contains("can recover this key"),
            !found.is_empty(),
            "{text}"
        );
        let root = ward.folder.path().display().to_string();
        let looked = ward.daemon.cardea(&["doctor", "--root", &root]).text;
        assert_eq!(
            looked.contains("imported by an older version"),
            !found.is_empty()
        );
        found
    };
    assert_eq!(exposed_keys(&mut ward, None), ["9E"]);
    assert_eq!(exposed_keys(&mut ward, Some(false)), ["9E"]);
    assert_eq!(exposed_keys(&mut ward, Some(true)), [""; 0]);
}

#[test]
fn polkit_that_refuses_an_administrator_is_found() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    /// The user `backup`, whose group are the administrators here.
    const ADMINISTRATOR: u32 = 34;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let looked = |rule: &str, name: &str| {
        let path = folder.path().join(name);
        let rules = format!(
            "polkit.addRule(function(action, subject) {{ \
             if (action.id.indexOf(\"org.cardea.virtualsmartcard.\") == 0) return polkit.Result.{rule}; }});"
        );
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let bus = SystemBus::start(&path.join("bus"), &rules);
        let daemon = Daemon::start_on_bus(
            &path.join("daemon"),
            &tpm.address(),
            "admin_group = \"backup\"\n",
            &bus.address(),
        );
        std::fs::set_permissions(path.join("daemon"), PermissionsExt::from_mode(0o755)).unwrap();
        // What the installation puts in place.
        let root = path.join("root");
        for file in [
            "usr/share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf",
            "usr/share/polkit-1/actions/org.cardea.virtualsmartcard.policy",
        ] {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let program = path.join("cardea");
        std::fs::copy(cardea_testkit::rig::bin_dir().join("cardea"), &program).unwrap();
        let mut command = std::process::Command::new(program);
        command
            .arg("--socket")
            .arg(daemon.socket())
            .args(["doctor", "--json", "--root"])
            .arg(&root)
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
            .uid(ADMINISTRATOR)
            .gid(ADMINISTRATOR)
            .current_dir("/");
        cardea_testkit::process::run(&mut command).text
    };
    let refused = looked("NO", "refusing");
    assert!(refused.contains("polkit-refuses"), "{refused}");
    let allowed = looked("YES", "allowing");
    assert!(
        allowed.contains("\"polkit\"") && !allowed.contains("polkit-refuses"),
        "{allowed}"
    );
}
