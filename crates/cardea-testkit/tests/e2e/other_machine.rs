//! Cards of another machine: `tpmvscmgr /machine` and `cardea --machine` in one network, the service in another.
//!
//! Two network namespaces with a line between them; the daemon and its TPM are on the target's side.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cardea_rpc::auth::NtHash;
use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Outcome, Running, run, wait_for};
use cardea_testkit::rig::bin_dir;
use cardea_testkit::terminal::{Answer, Dialogue, converse};
use cardea_testkit::workplace::Workplace;
use rustix::process::{Pid, Signal, kill_process};

const TARGET: &str = "10.77.0.1";
const ADMIN: &str = "10.77.0.2";
const NAME: &str = "target.firm.example";
const REALM: &str = "FIRM.EXAMPLE";
const PASSWORD: &str = "correct horse";
const CREATE: &str = "create /name remote /adminkey default /pin default /puk default /generate";

/// Two machines and the line between them.
struct Machines {
    // Programs end before their networks.
    kdc: Option<Running>,
    service: Running,
    admin: Namespace,
    target: Namespace,
    workplace: Workplace,
}

impl Machines {
    fn new(kerberos: bool) -> Self {
        let workplace = Workplace::new();
        let folder = |name: &str| {
            let folder = workplace.path(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (here, there) = (folder("admin"), folder("target"));
        fs::write(workplace.path("hosts"), format!("{TARGET} {NAME} target\n")).unwrap();
        let hosts = format!("mount --bind {} /etc/hosts", workplace.text("hosts"));
        let admin = Namespace::new(&here, &hosts);
        let target = Namespace::new(&there, &hosts);
        let other = admin.pid().to_string();
        does(
            &target,
            &format!("/usr/sbin/ip link add line type veth peer name line netns {other}"),
        );
        for (network, address) in [(&target, TARGET), (&admin, ADMIN)] {
            does(
                network,
                &format!("/usr/sbin/ip address add {address}/24 dev line"),
            );
            does(network, "/usr/sbin/ip link set line up");
        }
        let kdc = kerberos.then(|| realm(&workplace, &target));
        let service = service(&workplace, &target, kerberos);
        Self {
            kdc,
            service,
            admin,
            target,
            workplace,
        }
    }

    /// A program of the products on the administrator's side, with these tickets.
    fn program(&self, wrapper: &[&str], name: &str, tickets: Option<&str>) -> Command {
        let program = bin_dir().join(name).display().to_string();
        let mut words = wrapper.iter().copied().chain([&*program]);
        let mut command = self.admin.command(words.next().unwrap());
        let cache = self.workplace.path(tickets.unwrap_or("none"));
        command
            .args(words)
            .envs(environment(&self.workplace))
            .env("KRB5CCNAME", cache)
            .env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// `tpmvscmgr` with somebody at its terminal.
    fn manage(&self, line: &str, answers: &[Answer<'_>]) -> Dialogue {
        let mut command = self.program(&["setsid", "--ctty"], "tpmvscmgr", None);
        converse(command.args(line.split(' ')), answers)
    }

    /// `tpmvscmgr` with tickets and nobody at a terminal.
    fn manage_with_tickets(&self, line: &str, tickets: &str) -> Outcome {
        run(self
            .program(&[], "tpmvscmgr", Some(tickets))
            .args(line.split(' ')))
    }

    /// `cardea --machine` with a password in a file.
    fn cardea(&self, password: &str, arguments: &[&str]) -> Outcome {
        fs::write(self.workplace.path("password"), password).unwrap();
        let password = self.workplace.text("password");
        let mut command = self.program(&[], "cardea", None);
        command.args([
            "--machine",
            TARGET,
            "--user",
            "ann",
            "--password-file",
            &password,
        ]);
        run(command.args(arguments))
    }

    fn instances(&self) -> Vec<String> {
        let cards = self.workplace.daemon.printed(&["card", "list", "--json"]);
        let cards: serde_json::Value = serde_json::from_str(&cards).unwrap();
        let instance = |card: &serde_json::Value| card["instance_id"].as_str().unwrap().to_owned();
        cards.as_array().unwrap().iter().map(instance).collect()
    }

    /// A file with the tickets of a user.
    fn tickets(&self, user: &str) {
        let at = |name: &str| self.workplace.text(name);
        let line = format!(
            "/usr/bin/kinit -k -t {} -c {} {user}",
            at("users"),
            at(user)
        );
        does_in(&self.admin, &line, &self.workplace);
    }
}

fn service(workplace: &Workplace, target: &Namespace, kerberos: bool) -> Running {
    let accounts = workplace.path("accounts");
    let hash = NtHash::of_password(PASSWORD).to_hex();
    fs::write(
        &accounts,
        format!("ntlm {} ann\nkerberos - ann@{REALM}\n", *hash),
    )
    .unwrap();
    fs::set_permissions(&accounts, Permissions::from_mode(0o600)).unwrap();
    let keytab = match kerberos {
        true => format!("keytab = '{}'\n", workplace.text("keytab")),
        false => String::new(),
    };
    let configuration = workplace.path("tpmvsc.toml");
    let text = format!(
        "listen = ['{TARGET}:135']\naccounts = '{}'\nsocket = '{}'\n{keytab}",
        accounts.display(),
        workplace.daemon.socket().display()
    );
    fs::write(&configuration, text).unwrap();
    let program = bin_dir().join("cardea-tpmvsc").display().to_string();
    let mut command = target.command(&program);
    command.args(["serve", "--config"]).arg(&configuration);
    let mut service = Running::start(&mut command, &workplace.path("tpmvsc.log"));
    service.wait_ready(|service| service.log().contains("listening"));
    service
}

/// A realm, with its KDC on the target.
fn realm(workplace: &Workplace, target: &Namespace) -> Running {
    let at = |name: &str| workplace.text(name);
    fs::write(
        workplace.path("krb5.conf"),
        format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n\
             [realms]\n {REALM} = {{\n  kdc = {TARGET}:88\n }}\n"
        ),
    )
    .unwrap();
    fs::write(
        workplace.path("kdc.conf"),
        format!(
            "[kdcdefaults]\n kdc_listen = {TARGET}:88\n kdc_tcp_listen = {TARGET}:88\n\
             [realms]\n {REALM} = {{\n  database_name = {}\n  key_stash_file = {}\n  \
             supported_enctypes = aes256-cts:normal\n }}\n[logging]\n kdc = STDERR\n",
            at("principal"),
            at("stash")
        ),
    )
    .unwrap();
    let (users, keytab) = (at("users"), at("keytab"));
    for line in [
        "/usr/sbin/kdb5_util create -s -P master".to_owned(),
        "/usr/sbin/kadmin.local addprinc -randkey ann".to_owned(),
        "/usr/sbin/kadmin.local addprinc -randkey bob".to_owned(),
        format!("/usr/sbin/kadmin.local addprinc -randkey host/{NAME}"),
        format!("/usr/sbin/kadmin.local ktadd -norandkey -k {users} ann bob"),
        format!("/usr/sbin/kadmin.local ktadd -norandkey -k {keytab} host/{NAME}"),
    ] {
        does_in(target, &line, workplace);
    }
    let mut kdc = target.command("/usr/sbin/krb5kdc");
    kdc.arg("-n").envs(environment(workplace));
    let kdc = Running::start(&mut kdc, &workplace.path("kdc.log"));
    wait_for("the KDC", || {
        target.on_network(|| std::net::TcpStream::connect((TARGET, 88)).is_ok())
    });
    kdc
}

fn environment(workplace: &Workplace) -> [(&'static str, PathBuf); 2] {
    [
        ("KRB5_CONFIG", workplace.path("krb5.conf")),
        ("KRB5_KDC_PROFILE", workplace.path("kdc.conf")),
    ]
}

fn does(network: &Namespace, line: &str) {
    let mut words = line.split(' ');
    let outcome = run(network.command(words.next().unwrap()).args(words));
    assert!(outcome.success, "{line}: {}", outcome.text);
}

fn does_in(network: &Namespace, line: &str, workplace: &Workplace) {
    let mut words = line.split(' ');
    let mut command = network.command(words.next().unwrap());
    let outcome = run(command.args(words).envs(environment(workplace)));
    assert!(outcome.success, "{line}: {}", outcome.text);
}

/// The steps of a creation, in the words of both programs.
const STEPS: [&str; 4] = [
    "preparing the card...",
    "making the card's objects in the TPM...",
    "writing the card file...",
    "putting the card into its reader...",
];

fn has_steps(text: &str) {
    let places: Vec<_> = STEPS.iter().map(|step| text.find(step)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{text}"
    );
}

#[test]
fn tpmvscmgr_makes_and_destroys_a_card_with_a_password_that_is_typed() {
    let machines = Machines::new(false);
    let to = format!("/machine {TARGET} /user FIRM\\ann");
    let password = [("password of FIRM\\ann at 10.77.0.1", PASSWORD)];
    let made = machines.manage(&format!("{CREATE} {to}"), &password);
    assert!(made.outcome.success, "{}", made.outcome.text);
    assert_eq!(made.answers, 1);
    has_steps(&made.outcome.text);
    assert!(!made.outcome.text.contains(PASSWORD));
    let [instance] = &machines.instances()[..] else {
        panic!("one card");
    };
    let line = format!("Smart Card Reader Device Instance ID = {instance}");
    assert!(made.outcome.text.contains(&line), "{}", made.outcome.text);
    let destroy = format!("destroy /instance {instance} {to}");
    let destroyed = machines.manage(&destroy, &password).outcome;
    assert!(destroyed.success, "{}", destroyed.text);
    assert!(
        destroyed
            .text
            .contains("taking the card out of its reader...")
    );
    assert!(destroyed.text.contains("TPM Smart Card destroyed."));
    assert!(machines.instances().is_empty());
    let again = machines.manage(&destroy, &password).outcome;
    assert_eq!(again.code, Some(1));
    assert!(
        again.text.contains("(0x80070490) Element not found."),
        "{}",
        again.text
    );
    // Who it was, and from where.
    let log = machines.service.log();
    assert!(log.contains("ann") && log.contains(ADMIN), "{log}");
    assert!(!log.contains(PASSWORD));
    let audit = machines.workplace.daemon.printed(&["audit", "--json"]);
    let of_card = audit
        .lines()
        .find(|line| line.contains("card-created"))
        .unwrap();
    assert!(
        of_card.contains("ann") && of_card.contains(ADMIN),
        "{of_card}"
    );
}

#[test]
fn tickets_take_the_place_of_a_password() {
    let machines = Machines::new(true);
    assert!(machines.kdc.is_some());
    machines.tickets("ann");
    machines.tickets("bob");
    let to = format!("/machine {NAME}");
    let made = machines.manage_with_tickets(&format!("{CREATE} {to}"), "ann");
    assert!(made.success, "{}", made.text);
    has_steps(&made.text);
    let [instance] = &machines.instances()[..] else {
        panic!("one card");
    };
    // Bob is somebody, but not an administrator.
    let destroy = format!("destroy /quiet /instance {instance} {to}");
    let refused = machines.manage_with_tickets(&destroy, "bob");
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(
        refused.text.contains("(0x80070005) Access is denied."),
        "{}",
        refused.text
    );
    assert_eq!(machines.instances().len(), 1);
    let mut cardea = machines.program(&[], "cardea", Some("ann"));
    let destroyed = run(cardea.args(["--machine", NAME, "card", "destroy", "--yes", instance]));
    assert!(destroyed.success, "{}", destroyed.text);
    // A machine that the KDC does not know gets no password instead.
    let other = machines.manage_with_tickets(&format!("{CREATE} /machine target"), "ann");
    assert_eq!(other.code, Some(3), "{}", other.text);
    assert!(
        other.text.contains("no ticket for host/target"),
        "{}",
        other.text
    );
    assert!(machines.instances().is_empty());
}

#[test]
fn cardea_has_its_own_words_and_codes() {
    let machines = Machines::new(false);
    fs::write(machines.workplace.path("new-pin"), "87654321").unwrap();
    let pin = machines.workplace.text("new-pin");
    let create = [
        "card",
        "create",
        "--name",
        "r",
        "--pin-file",
        &pin,
        "--no-puk",
    ];
    let made = machines.cardea(PASSWORD, &[&create[..], &["--json"]].concat());
    assert!(made.success, "{}", made.text);
    let [instance] = &machines.instances()[..] else {
        panic!("one card");
    };
    assert!(
        made.text.contains(&instance.replace('\\', "\\\\")),
        "{}",
        made.text
    );
    for (password, arguments, code, says) in [
        ("wrong", &create[..], 6, "wrong password"),
        (PASSWORD, &["card", "list"], 2, "only"),
        (
            PASSWORD,
            &[&create[..], &["--owner", "root"]].concat(),
            2,
            "--owner",
        ),
        (
            PASSWORD,
            &["card", "destroy", "--yes", "r"],
            2,
            "instance id",
        ),
        (
            PASSWORD,
            &["card", "destroy", "--yes", "ROOT\\SMARTCARDREADER\\0099"],
            7,
            "not found",
        ),
        (
            PASSWORD,
            &["card", "destroy", "--yes", instance],
            0,
            "destroyed",
        ),
    ] {
        let outcome = machines.cardea(password, arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.text);
        assert!(
            outcome.text.contains(says),
            "{arguments:?}: {}",
            outcome.text
        );
    }
    assert!(machines.instances().is_empty());
    // Nobody is there.
    does(&machines.target, "/usr/sbin/ip link set line down");
    let away = machines.cardea(PASSWORD, &create);
    assert_eq!(away.code, Some(3), "{}", away.text);
}

#[test]
fn interrupt_in_the_middle_leaves_no_card() {
    let machines = Machines::new(false);
    let daemon = i32::try_from(machines.workplace.daemon.pid().unwrap()).unwrap();
    let daemon = Pid::from_raw(daemon).unwrap();
    // The first step is reported before the daemon is asked, which then takes its time.
    kill_process(daemon, Signal::STOP).unwrap();
    let shown = machines.workplace.path("shown");
    let mut command = machines.program(&[], "tpmvscmgr", None);
    let password = machines.workplace.path("password");
    fs::write(&password, PASSWORD).unwrap();
    let output = fs::File::create(&shown).unwrap();
    let line = format!("{CREATE} /machine {TARGET} /user ann /passwordfd 0");
    let mut client = Interrupted(
        command
            .args(line.split(' '))
            .stdin(fs::File::open(&password).unwrap())
            .stdout(output.try_clone().unwrap())
            .stderr(Stdio::from(output))
            .spawn()
            .unwrap(),
    );
    let said = || fs::read_to_string(&shown).unwrap();
    wait_for("the first step", || {
        said().contains("preparing the card...")
    });
    let pid = Pid::from_raw(i32::try_from(client.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    wait_for("the wish to end", || {
        said().contains("take everything back")
    });
    kill_process(daemon, Signal::CONT).unwrap();
    let status = client.0.wait().unwrap();
    assert_eq!(status.code(), Some(4), "{}", said());
    assert!(
        said().contains("(0x80004004) Operation aborted."),
        "{}",
        said()
    );
    wait_for("no card", || machines.instances().is_empty());
    assert!(Path::new(&shown).exists());
}

/// A client that must not be left behind by a test that fails.
struct Interrupted(Child);

impl Drop for Interrupted {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
