//! Kerberos: tickets of an MIT KDC, impacket and MIT's GSS-API as clients.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_dcom::pdu::{AuthLevel, SyntaxId};
use cardea_rpc::auth::{
    AuthError, Directory, Fresh, KerberosAcceptor, KerberosFresh, KerberosService, Keytab,
    ServerNames,
};
use cardea_rpc::rpc::{Answer, Request, Services};
use cardea_rpc::server::{Host, Limits, Server};
use cardea_testkit::process::{Running, run, wait_for};
use cardea_tpmvsc::accounts::Accounts;

use crate::rpc::Echo;

const REALM: &str = "FIRM.EXAMPLE";
const HOST: &str = "target.firm.example";

/// A realm, in a folder of its own.
pub(crate) struct Realm {
    folder: tempfile::TempDir,
    _kdc: Running,
}

impl Realm {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = unused.local_addr().unwrap().port();
        drop(unused);
        fs::write(
            at("krb5.conf"),
            format!(
                "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
                 rdns = false\n dns_canonicalize_hostname = false\n\
                 [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n\
                 [domain_realm]\n .firm.example = {REALM}\n"
            ),
        )
        .unwrap();
        let shown = folder.path().display();
        fs::write(
            at("kdc.conf"),
            format!(
                "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
                 [realms]\n {REALM} = {{\n  database_name = {shown}/principal\n  key_stash_file = {shown}/stash\n  \
                 supported_enctypes = aes256-cts:normal aes128-cts:normal\n }}\n\
                 [logging]\n kdc = STDERR\n"
            ),
        )
        .unwrap();
        let set_up = |command: &str| does(folder.path(), command);
        set_up("kdb5_util create -s -P master");
        for principal in ["ann", "bob", "host/target.firm.example"] {
            set_up(&format!("kadmin.local addprinc -randkey {principal}"));
        }
        set_up("kadmin.local addprinc -randkey -e aes128-cts:normal host/small.firm.example");
        set_up("kadmin.local ktadd -norandkey -k users ann bob");
        set_up(
            "kadmin.local ktadd -norandkey -k keytab host/target.firm.example host/small.firm.example",
        );
        let mut kdc = Command::new("krb5kdc");
        kdc.arg("-n").envs(environment(folder.path()));
        let kdc = Running::start(&mut kdc, &at("kdc.log"));
        wait_for("the KDC", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self { folder, _kdc: kdc }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with tickets of a user.
    pub(crate) fn tickets(&self, user: &str, host: &str) -> String {
        let file = format!("{user}.{host}.tickets");
        does(
            self.folder.path(),
            &format!("kinit -k -t users -c {file} {user}"),
        );
        does(self.folder.path(), &format!("kvno -c {file} host/{host}"));
        file
    }

    /// A service with a keytab, whose clock goes before by so many seconds.
    fn serve(&self, keytab: &str, ahead: i64) -> (u16, Kerberized) {
        let keytab = Keytab::read(&self.path(keytab)).unwrap();
        serve(keytab, ahead)
    }

    /// What impacket says of calls that go to a host.
    fn impacket(&self, port: u16, mechanism: &str, tickets: &str, calls: &[&str]) -> Vec<String> {
        self.client(
            "echo_client.py",
            tickets,
            &[&port.to_string(), mechanism],
            calls,
        )
    }

    fn client(&self, script: &str, tickets: &str, first: &[&str], rest: &[&str]) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(script);
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(script).args(first).args(rest);
        command
            .envs(environment(self.folder.path()))
            .env("KRB5CCNAME", self.path(tickets));
        let outcome = run(&mut command);
        assert!(outcome.success, "{}", outcome.text);
        outcome.text.lines().map(str::to_owned).collect()
    }
}

fn environment(folder: &Path) -> [(&'static str, PathBuf); 3] {
    [
        ("KRB5_CONFIG", folder.join("krb5.conf")),
        ("KRB5_KDC_PROFILE", folder.join("kdc.conf")),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
    ]
}

fn does(folder: &Path, command: &str) {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let command = command
        .args(words)
        .current_dir(folder)
        .envs(environment(folder));
    let outcome = run(command);
    assert!(outcome.success, "{command:?}: {}", outcome.text);
}

/// The service that echoes, with a keytab.
#[derive(Clone)]
struct Kerberized {
    echo: Echo,
    kerberos: Arc<KerberosService>,
    ahead: i64,
}

impl Services for Kerberized {
    fn serves(&self, interface: &SyntaxId) -> bool {
        self.echo.serves(interface)
    }

    fn needs(&self, interface: &SyntaxId, opnum: u16) -> AuthLevel {
        self.echo.needs(interface, opnum)
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        self.echo.call(request)
    }

    fn accounts(&self) -> &dyn Directory {
        self.echo.accounts()
    }

    fn fresh(&self) -> std::io::Result<Fresh> {
        self.echo.fresh()
    }

    fn kerberos(&self) -> std::io::Result<Option<KerberosAcceptor>> {
        let mut random = [[0; 32]; 3];
        getrandom::fill(random.as_flattened_mut()).unwrap();
        let [key, confounders, [a, b, c, d, ..]] = random;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let fresh = KerberosFresh {
            key,
            confounders,
            sequence: u32::from_be_bytes([a, b, c, d]),
            time: i64::try_from(now.as_secs()).unwrap() + self.ahead,
        };
        let service = Arc::clone(&self.kerberos);
        Ok(Some(KerberosAcceptor::new(service, fresh)))
    }

    fn names(&self) -> ServerNames {
        self.echo.names()
    }

    fn authenticated(&self, user: &str) {
        self.echo.authenticated(user);
    }

    fn refused(&self, error: AuthError) {
        self.echo.refused(error);
    }
}

impl Host for Kerberized {
    fn accept(&self, _: SocketAddr, _: SocketAddr) -> Option<Box<dyn Services>> {
        Some(Box::new(self.clone()))
    }
}

fn serve(keytab: Keytab, ahead: i64) -> (u16, Kerberized) {
    let line = cardea_tpmvsc::accounts::line("ann", "correct horse").unwrap();
    let accounts = format!("{}\nkerberos - ann@{REALM}\n", *line);
    let kerberized = Kerberized {
        echo: Echo {
            accounts: Arc::new(Accounts::parse(&accounts).unwrap()),
            refused: Arc::default(),
            undone: Arc::default(),
        },
        kerberos: Arc::new(KerberosService::new(keytab)),
        ahead,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    Server::start(
        vec![listener],
        Box::new(kerberized.clone()),
        Limits::default(),
    )
    .unwrap();
    (port, kerberized)
}

/// As impacket can.
const MECHANISMS: [&str; 3] = ["kerberos", "kerberos-framed", "kerberos-bare"];

fn call(level: &str, user: &str, host: &str, rest: &str) -> String {
    format!("{level}:{user}:{REALM} {host}:{rest}")
}

#[test]
fn impacket_signs_and_seals_calls_with_tickets() {
    let realm = Realm::new();
    for host in [HOST, "small.firm.example"] {
        let tickets = realm.tickets("ann", host);
        for mechanism in MECHANISMS {
            let (port, _) = realm.serve("keytab", 0);
            let calls = [
                ("privacy", "2:0"),
                ("privacy", "2:5"),
                ("privacy", "2:4096"),
                ("privacy", "2:60000"),
                ("integrity", "1:700"),
                ("privacy", "3:1"),
            ]
            .map(|(level, rest)| call(level, "ann", host, rest));
            let said = realm.impacket(
                port,
                mechanism,
                &tickets,
                &calls.each_ref().map(String::as_str),
            );
            let expected = [
                "same",
                "same",
                "same",
                "same",
                "same",
                "answer ann@FIRM.EXAMPLE",
            ];
            assert_eq!(said, expected, "{mechanism} {host}");
        }
    }
    // NTLM is still spoken where there is a keytab.
    let (port, _) = realm.serve("keytab", 0);
    let tickets = realm.tickets("ann", HOST);
    for mechanism in ["ntlm", "spnego"] {
        let said = realm.impacket(
            port,
            mechanism,
            &tickets,
            &["privacy:ann:correct horse:2:50"],
        );
        assert_eq!(said, ["same"], "{mechanism}");
    }
}

#[test]
fn callers_and_calls_that_must_not_be_are_refused() {
    let realm = Realm::new();
    let (ann, bob) = (realm.tickets("ann", HOST), realm.tickets("bob", HOST));
    // Another key under the same name and number.
    does(
        realm.folder.path(),
        "kadmin.local addprinc -randkey host/other.firm.example",
    );
    does(
        realm.folder.path(),
        "kadmin.local ktadd -norandkey -k other host/other.firm.example",
    );
    for mechanism in MECHANISMS {
        for (keytab, ahead, user, tickets) in [
            ("keytab", 0, "bob", &bob),
            ("keytab", 400, "ann", &ann),
            ("keytab", -400, "ann", &ann),
            ("keytab", 7 * 86_400, "ann", &ann),
            ("other", 0, "ann", &ann),
            // A ticket of one with the name of another.
            ("keytab", 0, "ann", &bob),
        ] {
            let (port, kerberized) = realm.serve(keytab, ahead);
            // What needs no protection is refused too.
            let calls = [
                call("privacy", user, HOST, "2:5"),
                call("integrity", user, HOST, "0:5"),
            ];
            let said = realm.impacket(
                port,
                mechanism,
                tickets,
                &calls.each_ref().map(String::as_str),
            );
            assert!(
                said.iter().all(|said| said.starts_with("refused")),
                "{said:?}"
            );
            assert_eq!(kerberized.echo.refused.load(Ordering::SeqCst), calls.len());
        }
        let (port, _) = realm.serve("keytab", 0);
        let calls = [
            call("integrity", "ann", HOST, "2:5"),
            call("connect", "ann", HOST, "1:5"),
        ];
        let said = realm.impacket(port, mechanism, &ann, &calls.each_ref().map(String::as_str));
        assert!(
            said.iter().all(|said| said.starts_with("refused")),
            "{said:?}"
        );
    }
}

#[test]
fn changed_and_repeated_packets_end_the_connection() {
    let realm = Realm::new();
    let tickets = realm.tickets("ann", HOST);
    for mechanism in MECHANISMS {
        for (level, opnum) in [("privacy", 2), ("integrity", 1)] {
            for how in ["damage", "replay"] {
                let (port, _) = realm.serve("keytab", 0);
                let call = call(level, "ann", HOST, &format!("{opnum}:64:{how}"));
                let said = realm.impacket(port, mechanism, &tickets, &[&call]);
                let refused =
                    said == ["refused rpc_s_sec_pkg_error"] || said.concat().contains("00000721");
                assert!(refused, "{mechanism} {level} {how}: {said:?}");
            }
        }
    }
}

#[test]
fn gss_api_of_mit_signs_and_seals_headers_or_bodies_alone() {
    let realm = Realm::new();
    for host in [HOST, "small.firm.example"] {
        let tickets = realm.tickets("ann", host);
        let (port, _) = realm.serve("keytab", 0);
        for mechanism in ["raw", "spnego"] {
            for signing in ["headers", "body"] {
                let calls = ["privacy:{}:2:0", "privacy:{}:2:21", "privacy:{}:2:4096"]
                    .into_iter()
                    .chain(["integrity:{}:1:0", "integrity:{}:1:700"])
                    .map(|call| format!("{mechanism}:{}", call.replace("{}", signing)))
                    .collect::<Vec<_>>();
                let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
                let said = realm.client(
                    "gss_client.py",
                    &tickets,
                    &[&port.to_string(), host],
                    &calls,
                );
                assert_eq!(said, ["same"; 5], "{mechanism} {signing} {host}");
            }
        }
    }
}
