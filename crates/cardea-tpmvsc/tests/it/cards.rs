//! The whole way: impacket as the administrator's machine, the service, a daemon, a software TPM.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cardea_testkit::process::Running;
use cardea_testkit::workplace::Workplace;
use serde_json::{Value, json};

use crate::kerberos::Realm;

/// A workplace with the service beside its daemon.
pub(crate) struct Target {
    // Ends first: its log is in the workplace.
    service: Running,
    workplace: Workplace,
    pub(crate) port: String,
}

impl Target {
    /// On a port of its own.
    pub(crate) fn new(configuration: &str) -> Self {
        Self::listening(
            &format!("listen = ['127.0.0.1:0']\n{configuration}"),
            Stdio::null(),
        )
    }

    /// With all of the configuration but the files and the daemon.
    pub(crate) fn listening(configuration: &str, stdin: Stdio) -> Self {
        let workplace = Workplace::new();
        let secret = |name: &str, user: &str, password: &str| {
            let line = cardea_tpmvsc::accounts::line(user, password).unwrap();
            fs::write(workplace.path(name), line.as_bytes()).unwrap();
            fs::set_permissions(workplace.path(name), Permissions::from_mode(0o600)).unwrap();
        };
        secret("accounts", "ann", "correct horse");
        secret("callback", "target", "battery staple");
        let accounts = fs::read_to_string(workplace.path("accounts")).unwrap();
        let accounts = format!("{accounts}\nkerberos - ann@FIRM.EXAMPLE\n");
        fs::write(workplace.path("accounts"), accounts).unwrap();
        let configuration = format!(
            "accounts = '{}'\nsocket = '{}'\n{configuration}",
            workplace.text("accounts"),
            workplace.daemon.socket().display()
        );
        let configuration = configuration.replace("CALLBACK", &workplace.text("callback"));
        fs::write(workplace.path("tpmvsc.toml"), configuration).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardea-tpmvsc"));
        command.args(["serve", "--config", &workplace.text("tpmvsc.toml")]);
        let mut service =
            Running::start_with_input(&mut command, stdin, &workplace.path("tpmvsc.log"));
        service.wait_ready(|service| service.log().contains("listening"));
        let log = service.log();
        let (_, rest) = log.split_once("127.0.0.1:").unwrap();
        let port = rest.chars().take_while(char::is_ascii_digit).collect();
        Self {
            service,
            workplace,
            port,
        }
    }

    fn client(&self, mechanism: &str, level: &str, password: &str, interface: u8) -> Client {
        let interface = interface.to_string();
        let arguments = [mechanism, level, "ann", password, &interface, "remote"];
        Client::start(&self.port, &arguments)
    }

    pub(crate) fn usual(&self, interface: u8) -> Client {
        let mut client = self.client("ntlm", "privacy", "correct horse", interface);
        assert_eq!(client.read()["activated"], true);
        client
    }

    pub(crate) fn show(&self, card: &str) -> Value {
        let shown = self
            .workplace
            .daemon
            .printed(&["card", "show", "--json", card]);
        serde_json::from_str(&shown).unwrap()
    }

    /// What the daemon's audit has of an event.
    fn audited(&self, event: &str) -> Vec<Value> {
        let records = self.workplace.daemon.printed(&["audit", "--json"]);
        let records = records
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        records
            .filter(|record: &Value| record["event"] == event)
            .collect()
    }

    /// Its port at 127.0.0.1.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// What the service has logged.
    pub(crate) fn log(&self) -> String {
        self.service.log()
    }

    /// The service's process.
    pub(crate) fn pid(&self) -> u32 {
        self.service.pid()
    }

    pub(crate) fn instances(&self) -> Vec<String> {
        let cards = self.workplace.daemon.printed(&["card", "list", "--json"]);
        let cards: Value = serde_json::from_str(&cards).unwrap();
        let instance = |card: &Value| card["instance_id"].as_str().unwrap().to_owned();
        cards.as_array().unwrap().iter().map(instance).collect()
    }
}

/// An administrator's machine.
pub(crate) struct Client {
    program: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(port: &str, arguments: &[&str]) -> Self {
        Self::start_with(port, arguments, &[])
    }

    /// With more in its environment.
    fn start_with(port: &str, arguments: &[&str], environment: &[(&str, PathBuf)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote_cards.py");
        let mut program = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .arg(port)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: program.stdin.take().unwrap(),
            stdout: BufReader::new(program.stdout.take().unwrap()),
            program,
        }
    }

    pub(crate) fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the client says {line:?}"))
    }

    pub(crate) fn call(&mut self, order: Value) -> Value {
        self.begin(order);
        self.read()
    }

    /// Has it call; [`Client::read`] gives the answer.
    pub(crate) fn begin(&mut self, order: Value) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    pub(crate) fn result(&mut self, order: Value) -> u64 {
        let answer = self.call(order);
        answer["result"]
            .as_u64()
            .unwrap_or_else(|| panic!("not a result: {answer}"))
    }

    fn fault(&mut self, order: Value) -> String {
        let answer = self.call(order);
        answer["fault"]
            .as_str()
            .unwrap_or_else(|| panic!("not a fault: {answer}"))
            .to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// 4 to 8 characters, digit required, non-ASCII disallowed.
const POLICY: &str = "0100000004000000080000000000000000000000010000000000000002000000";

/// A policy of lengths and of what is said of the five classes of characters.
fn policy(shortest: u32, longest: u32, classes: [u32; 5]) -> String {
    let words = [1, shortest, longest].into_iter().chain(classes);
    words
        .map(|word| base16ct::lower::encode_string(&word.to_le_bytes()))
        .collect()
}

const E_INVALIDARG: u64 = 0x8007_0057;
const NOT_FOUND: u64 = 0x8007_0490;

#[test]
fn cards_are_created_by_every_interface_and_destroyed() {
    let target = Target::new("");
    let mut first = None;
    for (method, mechanism) in [(1, "ntlm"), (2, "spnego"), (3, "ntlm")] {
        let mut client = target.client(mechanism, "privacy", "correct horse", method);
        assert_eq!(client.read()["activated"], true);
        let card = client.call(json!({
            "call": "create", "method": method, "name": format!("Card {method}"), "kcv": "b073dc",
            "attestation": 1,
        }));
        assert_eq!(card["result"], 0, "{card}");
        let instance = card["instance"].as_str().unwrap();
        assert!(instance.starts_with(r"ROOT\SMARTCARDREADER\000"), "{card}");
        assert_eq!(card.get("reboot").cloned(), (method < 3).then(|| json!(0)));
        first.get_or_insert_with(|| instance.to_owned());
    }
    let attests = |card| {
        let shown = target.workplace.daemon.cardea(&["attest", "show", card]);
        shown.success
    };
    assert!(attests("Card 3") && !attests("Card 1"));
    assert_eq!(target.instances().len(), 3);
    // As people may type it.
    let instance = first.unwrap().to_lowercase();
    let destroy = json!({"call": "destroy", "instance": instance});
    let mut client = target.usual(1);
    assert_eq!(client.result(destroy.clone()), 0);
    assert_eq!(client.result(destroy), NOT_FOUND);
    assert_eq!(target.instances().len(), 2);
    // The audit has this service's user, and the caller as the service knows them.
    let (created, destroyed) = (
        target.audited("card-created"),
        target.audited("card-destroyed"),
    );
    assert_eq!((created.len(), destroyed.len()), (3, 1));
    for record in created.iter().chain(&destroyed) {
        assert_eq!(record["principal"], "ann", "{record}");
        assert_eq!(record["address"], "127.0.0.1", "{record}");
        assert_eq!(record["uid"], rustix::process::getuid().as_raw());
        assert!(record.get("for").is_none(), "{record}");
    }
    let shown = target.workplace.daemon.printed(&["audit"]);
    assert!(
        shown.contains("for ann at 127.0.0.1, according to "),
        "{shown}"
    );
    // What is done here is nobody else's.
    let here = target
        .workplace
        .daemon
        .cardea(&["card", "destroy", "Card 3", "--yes"]);
    assert!(here.success, "{}", here.text);
    assert!(
        target.audited("card-destroyed")[1]
            .get("principal")
            .is_none()
    );
}

#[test]
fn administrators_with_a_ticket_create_and_destroy_cards() {
    let realm = Realm::new();
    let target = Target::new(&format!("keytab = '{}'", realm.path("keytab").display()));
    assert!(
        target
            .service
            .log()
            .contains("host/target.firm.example@FIRM.EXAMPLE")
    );
    let secret = "FIRM.EXAMPLE target.firm.example";
    let client = |user: &str, level: &str| {
        let tickets = realm.tickets(user, "target.firm.example");
        let environment = [("KRB5CCNAME", realm.path(&tickets))];
        let arguments = ["kerberos", level, user, secret, "1", "remote"];
        Client::start_with(&target.port, &arguments, &environment)
    };
    let mut ann = client("ann", "privacy");
    assert_eq!(ann.read()["activated"], true);
    let card = ann.call(json!({"call": "create", "method": 1}));
    assert_eq!(card["result"], 0, "{card}");
    assert_eq!(target.instances().len(), 1);
    let destroy = json!({"call": "destroy", "instance": card["instance"]});
    assert_eq!(ann.result(destroy), 0);
    assert!(target.instances().is_empty());
    for event in ["card-created", "card-destroyed"] {
        let records = target.audited(event);
        assert_eq!(records[0]["principal"], "ann@FIRM.EXAMPLE", "{event}");
        assert_eq!(records[0]["address"], "127.0.0.1", "{event}");
    }
    // Of the realm, but no administrator.
    assert!(client("bob", "privacy").read()["fault"].is_string());
    // NTLM goes on.
    target.usual(1);
}

#[test]
fn object_is_asked_for_other_interfaces_and_outlives_its_references() {
    let target = Target::new("");
    let mut client = target.usual(1);
    // Not on the interface that was asked for.
    let with_policy = json!({"call": "create", "method": 2, "policy": POLICY, "pin": "12345"});
    assert!(
        client
            .fault(with_policy.clone())
            .contains("nca_s_op_rng_error")
    );
    assert_eq!(client.result(json!({"call": "query", "interface": 2})), 0);
    assert_eq!(client.result(with_policy), 0);
    assert_eq!(client.result(json!({"call": "release"})), 0);
    let missing = json!({"call": "destroy", "instance": r"ROOT\SMARTCARDREADER\0009"});
    assert_eq!(client.result(missing.clone()), NOT_FOUND);
    // Nobody's interface pointer.
    let stale = json!({"call": "destroy", "instance": "x", "ipid": "11".repeat(16)});
    assert!(client.fault(stale).contains("RPC_E_DISCONNECTED"));
    assert_eq!(client.result(missing), NOT_FOUND);
}

#[test]
fn resolver_says_where_the_object_is_and_takes_pings() {
    let target = Target::new("names = ['target.example.org']\n");
    let mut client = target.usual(1);
    let answer = client.call(json!({"call": "resolver"}));
    let port = &target.port;
    let addresses: Vec<_> = answer["addresses"].as_array().unwrap().iter().collect();
    assert_eq!(addresses.len(), 4, "{answer}");
    for (address, host) in addresses
        .iter()
        .zip(["127.0.0.1", "target.example.org"].repeat(2))
    {
        let expected = format!("{host}[{port}]");
        assert_eq!(address.as_str().unwrap().trim_end_matches('\0'), expected);
    }
    // Nobody's set: OR_INVALID_SET.
    let unknown = client.call(json!({"call": "ping", "set": 4711}));
    assert_eq!(unknown["result"], 1912, "{unknown}");
}

#[test]
fn invalid_parameters_fail_with_their_results_and_leave_no_card() {
    let target = Target::new("");
    let mut client = target.usual(3);
    let create = |what: Value| {
        let mut order = json!({"call": "create", "method": 3});
        order
            .as_object_mut()
            .unwrap()
            .extend(what.as_object().unwrap().clone());
        order
    };
    for (what, result) in [
        (json!({"kcv": "b073dd"}), E_INVALIDARG),
        (json!({"algorithm": 2}), E_INVALIDARG),
        (json!({"key": "01"}), E_INVALIDARG),
        (json!({"name": ""}), E_INVALIDARG),
        (json!({"policy": "02".repeat(32)}), E_INVALIDARG),
        (json!({"policy": "01"}), E_INVALIDARG),
        (json!({"attestation": 7}), E_INVALIDARG),
        (json!({"attestation": 2}), 0x8007_04CF),
        (json!({"pin": "1234567"}), 0x8010_002A),
        (json!({"puk": "31"}), 0x8010_002A),
        (json!({"policy": POLICY, "pin": "abcdef"}), 0x8010_002A),
        (json!({"callback": "00112233"}), E_INVALIDARG),
        // Over the limits.
        (json!({"pin": "1".repeat(128)}), 0x8010_002A),
        (json!({"puk": "31".repeat(128)}), 0x8010_002A),
        (json!({"name": "n".repeat(128)}), E_INVALIDARG),
        (json!({"key": "01".repeat(25)}), E_INVALIDARG),
        (json!({"kcv": "b073dc00"}), E_INVALIDARG),
        // Policies that contradict themselves: lengths, nothing allowed, five classes
        // in four characters, an unknown option, lengths beyond the limits.
        (json!({"policy": policy(9, 8, [0; 5])}), E_INVALIDARG),
        (json!({"policy": policy(4, 8, [2; 5])}), E_INVALIDARG),
        (json!({"policy": policy(4, 4, [1; 5])}), E_INVALIDARG),
        (
            json!({"policy": policy(4, 8, [3, 0, 0, 0, 0])}),
            E_INVALIDARG,
        ),
        (json!({"policy": policy(3, 8, [0; 5])}), E_INVALIDARG),
        (json!({"policy": policy(4, 128, [0; 5])}), E_INVALIDARG),
    ] {
        assert_eq!(client.result(create(what.clone())), result, "{what}");
    }
    let by_name = json!({"call": "destroy", "instance": "VSC"});
    assert_eq!(client.result(by_name), NOT_FOUND);
    assert!(target.instances().is_empty());
}

#[test]
fn strangers_and_callers_without_privacy_get_nowhere() {
    let target = Target::new("");
    for mechanism in ["ntlm", "spnego"] {
        let mut wrong = target.client(mechanism, "privacy", "wrong", 1);
        assert!(wrong.read()["fault"].is_string());
    }
    for level in ["none", "connect"] {
        let mut low = target.client("ntlm", level, "correct horse", 1);
        assert!(low.read()["fault"].is_string(), "{level}");
    }
    // Activation says that privacy is needed, and impacket does as it is told.
    let mut integrity = target.client("ntlm", "integrity", "correct horse", 1);
    assert_eq!(integrity.read()["activated"], true);
    for (interface, class, result) in [
        ("1", "other", 0x8004_0154_u64),
        ("4", "remote", 0x8000_4002),
    ] {
        let arguments = ["ntlm", "privacy", "ann", "correct horse", interface, class];
        let refused = Client::start(&target.port, &arguments).read();
        assert_eq!(refused["result"], result, "{refused}");
    }
    let arguments = ["ntlm", "privacy", "ann", "correct horse", "1", "local"];
    assert_eq!(
        Client::start(&target.port, &arguments).read()["activated"],
        true
    );
    let log = target.service.log();
    assert!(log.contains("unknown account or wrong password"), "{log}");
    assert!(!log.contains("correct horse"));
}

#[test]
fn service_listens_on_the_socket_that_it_is_given_and_ends_when_asked_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener));
    let mut target = Target::listening("", stdin);
    assert_eq!(target.port, port.to_string());
    let mut client = target.usual(1);
    assert_eq!(client.result(json!({"call": "create", "method": 1})), 0);
    assert!(target.service.terminate().success());
}

#[test]
fn service_without_accounts_or_addresses_says_so_and_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = folder.path().join("accounts");
    let configuration = folder.path().join("tpmvsc.toml");
    fs::write(
        &configuration,
        format!("accounts = '{}'\n", accounts.display()),
    )
    .unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardea-tpmvsc"));
        command.args(["serve", "--config", configuration.to_str().unwrap()]);
        let ended = cardea_testkit::process::run(&mut command);
        assert!(!ended.success);
        ended.text
    };
    let missing = format!("cannot read {}", accounts.display());
    assert!(start().contains(&missing));
    fs::write(&accounts, "# nobody\n").unwrap();
    fs::set_permissions(&accounts, Permissions::from_mode(0o644)).unwrap();
    assert!(start().contains("is accessible to others"));
    fs::set_permissions(&accounts, Permissions::from_mode(0o600)).unwrap();
    assert!(start().contains("has no account"));
    let line = cardea_tpmvsc::accounts::line("ann", "x").unwrap();
    fs::write(&accounts, line.as_bytes()).unwrap();
    assert!(start().contains("nothing to listen on"));
}
