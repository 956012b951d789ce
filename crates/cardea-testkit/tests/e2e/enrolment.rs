//! Certificates from an authority onto a card: EST against a server that curl and strongSwan judge to be correct, CMP
//! against OpenSSL's.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Running, wait_for};
use cardea_testkit::rig::{PIN, bin_dir};
use cardea_testkit::workplace::{Workplace, module};

/// The server of the tests, in a folder of its own.
struct EstServer {
    url: String,
    folder: PathBuf,
    _running: Running,
}

impl EstServer {
    fn start(workplace: &Workplace, name: &str, switches: &[&str]) -> Self {
        let folder = workplace.path(name);
        fs::create_dir(&folder).unwrap();
        if !workplace.path("localhost.pem").exists() {
            workplace.issue_server("localhost", "");
        }
        for (from, to) in [
            ("ca.pem", "ca.pem"),
            ("ca.key", "ca.key"),
            ("localhost.pem", "server.pem"),
            ("localhost.key", "server.key"),
        ] {
            fs::copy(workplace.path(from), folder.join(to)).unwrap();
        }
        // Free a moment ago; nobody else on this machine asks for ports of the kernel's choice in the meantime.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/est_server.py");
        let mut command = Command::new("python3");
        command
            .args(["-W", "ignore"])
            .arg(program)
            .arg(&folder)
            .arg(port.to_string())
            .args(switches);
        let mut running = Running::start(&mut command, &folder.join("output"));
        let log = folder.join("log");
        running.wait_ready(|_| log.exists());
        Self {
            url: format!("https://localhost:{port}"),
            folder,
            _running: running,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

/// What `cardea` said, and its exit code.
fn cardea(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap(), text)
}

/// `cardea` in the workplace's folder, as which home and state are there too.
fn command(workplace: &Workplace, arguments: &str) -> Command {
    let program = bin_dir().join("cardea");
    let program = fs::canonicalize(program).unwrap();
    let mut command = workplace.client(&format!("{} {arguments}", program.display()));
    command.env("XDG_STATE_HOME", workplace.path("state"));
    command
}

fn run(workplace: &Workplace, arguments: &str) -> (i32, String) {
    cardea(&mut command(workplace, arguments))
}

fn succeeds(workplace: &Workplace, arguments: &str) -> String {
    let (code, text) = run(workplace, arguments);
    assert_eq!(code, 0, "{arguments}\n{text}");
    text
}

fn keys(workplace: &Workplace) -> usize {
    let listed = workplace
        .daemon
        .printed(&["key", "list", "Alice", "--json"]);
    serde_json::from_str::<serde_json::Value>(&listed)
        .unwrap()
        .as_array()
        .unwrap()
        .len()
}

fn certificates(workplace: &Workplace) -> Vec<serde_json::Value> {
    let listed = workplace
        .daemon
        .printed(&["cert", "list", "Alice", "--json"]);
    serde_json::from_str::<serde_json::Value>(&listed)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

fn password(workplace: &Workplace) -> String {
    fs::write(workplace.path("password"), "sesame\n").unwrap();
    "--user ada --password-file password --pin-file pin".to_owned()
}

#[test]
fn est_enrols_by_password_and_renews_by_the_key_of_the_card() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let credentials = password(&workplace);
    let servers = [
        ("TLSv1.3", EstServer::start(&workplace, "new", &[])),
        (
            "TLSv1.2",
            EstServer::start(&workplace, "old", &["tls=1.2", "lines"]),
        ),
    ];
    let mut made = 0;
    for (version, server) in servers {
        for algorithm in ["rsa-2048", "p-256", "p-384"] {
            let label = format!("{algorithm}-{version}");
            succeeds(
                &workplace,
                &format!(
                    "cert enrol Alice --est {} --trust ca.pem --algorithm {algorithm} --label {label} \
                     --subject CN=Ada --san upn:ada@EXAMPLE.ORG --san pkinit:ada@EXAMPLE.ORG --eku clientAuth \
                     {credentials}",
                    server.url
                ),
            );
            succeeds(
                &workplace,
                &format!("cert renew Alice {label} --now --pin-file pin"),
            );
            made += 2;
            let log = server.log();
            let renewed = format!("POST /.well-known/est/simplereenroll 200 {version}");
            assert!(log.contains(&renewed), "{log}");
        }
        assert_eq!(server.log().matches("simplereenroll 200").count(), 3);
    }
    assert_eq!(keys(&workplace), made);
    let certificates = certificates(&workplace);
    assert_eq!(certificates.len(), made);
    for certificate in &certificates {
        let names = certificate["alternative_names"].to_string();
        assert!(names.contains("upn:ada@EXAMPLE.ORG") && names.contains("pkinit:ada@EXAMPLE.ORG"));
        assert_eq!(certificate["subject"], "CN=Ada");
    }
    // What is kept of all that has no secret in it, and is the user's alone.
    for file in fs::read_dir(workplace.path("state/cardea/jobs")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(
            !text.contains("sesame") && !text.contains("c2VzYW1l"),
            "{text}"
        );
    }
}

#[test]
fn est_waits_for_approval_across_processes() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let server = EstServer::start(&workplace, "est", &["wait=2"]);
    let credentials = password(&workplace);
    let (code, text) = run(
        &workplace,
        &format!(
            "cert enrol Alice --est {} --trust ca.pem --algorithm p-256 --subject CN=Ada {credentials}",
            server.url
        ),
    );
    assert_eq!(code, 16, "{text}");
    let listed = succeeds(&workplace, "cert pending --json");
    let jobs: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(jobs[0]["state"], "pending");
    let job = jobs[0]["job"].as_str().unwrap();
    let text = succeeds(
        &workplace,
        &format!("cert pending --resume {job} --wait 60s {credentials}"),
    );
    assert!(text.contains("stored with key"), "{text}");
    assert_eq!((keys(&workplace), certificates(&workplace).len()), (1, 1));
    assert!(succeeds(&workplace, "cert pending").contains("no enrolments"));
}

#[test]
fn est_trusts_a_fingerprint_and_nothing_on_first_use() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let server = EstServer::start(&workplace, "est", &["sid=S-1-5-21-1-2-3-1104"]);
    let credentials = password(&workplace);
    let enrol = |trust: &str| {
        run(
            &workplace,
            &format!(
                "cert enrol Alice --est {} {trust} --algorithm p-256 --subject CN=Ada --eku smartcardLogon {credentials}",
                server.url
            ),
        )
    };
    let shown = workplace.openssl(&["x509 -in ca.pem -noout -fingerprint -sha256"]);
    let (_, fingerprint) = shown.trim().split_once('=').unwrap();
    let fingerprint = fingerprint.replace(':', "");
    let (code, text) = enrol(&format!("--bootstrap {}", "00".repeat(32)));
    assert_eq!(code, 18, "{text}");
    assert_eq!(keys(&workplace), 0);
    let (code, text) = enrol(&format!("--bootstrap {fingerprint}"));
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("security identifier"), "no warning: {text}");
    assert_eq!(certificates(&workplace)[0]["sid"], "S-1-5-21-1-2-3-1104");
}

#[test]
fn est_refusals_say_who_must_do_what_and_leave_nothing() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let credentials = password(&workplace);
    let enrol = |server: &EstServer, options: &str| {
        run(
            &workplace,
            &format!(
                "cert enrol Alice --est {} --algorithm p-256 --subject CN=Ada {options}",
                server.url
            ),
        )
    };
    for (name, switch, code, words) in [
        ("s400", "status=400", 17, "because"),
        ("s403", "status=403", 17, "administrator"),
        ("s503", "status=503", 18, "not available"),
        ("key", "key", 1, "another key"),
        ("names", "names", 1, "CN=Eve"),
    ] {
        let server = EstServer::start(&workplace, name, &[switch]);
        let (found, text) = enrol(&server, &format!("--trust ca.pem {credentials}"));
        assert_eq!(found, code, "{name}: {text}");
        assert!(
            text.contains(words) && !text.contains('\x1b'),
            "{name}: {text}"
        );
    }
    assert!(certificates(&workplace).is_empty());
    let made = keys(&workplace);

    // Nobody is asked for a PIN as long as the network does not work: there is none to be read here.
    let server = EstServer::start(&workplace, "good", &[]);
    workplace
        .does("openssl req -x509 -newkey rsa:2048 -nodes -keyout o.key -out o.pem -subj /CN=Other");
    let no_pin = "--user ada --password-file password --pin-file /nonexistent";
    let (code, text) = enrol(&server, &format!("--trust o.pem {no_pin}"));
    assert_eq!(code, 18, "{text}");
    assert!(text.contains("not trusted"), "{text}");
    let gone = EstServer {
        url: "https://localhost:1".to_owned(),
        ..EstServer::start(&workplace, "gone", &[])
    };
    let (code, text) = enrol(&gone, &format!("--trust ca.pem {no_pin}"));
    assert_eq!(code, 18, "{text}");
    assert_eq!(keys(&workplace), made);

    // A wrong PIN costs one try, and one only.
    let tries = workplace.tries_left();
    let wrong = "--user ada --password-file password --pin-file wrong";
    let (code, text) = enrol(&server, &format!("--trust ca.pem {wrong}"));
    assert_eq!(code, 4, "{text}");
    assert_eq!(workplace.tries_left(), tries - 1);
    workplace.with_pin(&["pin", "verify", "Alice"]);
    assert_eq!(keys(&workplace), made);

    // A person can agree to other names.
    let listed = succeeds(&workplace, "cert pending --json");
    let jobs: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let changed = jobs.as_array().unwrap().iter();
    let changed = changed.filter(|job| job["state"] == "issued");
    let job = changed
        .map(|job| job["job"].as_str().unwrap())
        .next()
        .unwrap();
    let resume = format!("cert pending --resume {job} --accept-changes --pin-file pin");
    // Its server has to be there: it is asked before the PIN.
    let (code, text) = run(&workplace, &resume);
    assert!(code == 0 || code == 18, "{text}");
}

#[test]
fn est_server_of_the_tests_is_judged_by_others() {
    let workplace = Workplace::new();
    let server = EstServer::start(&workplace, "est", &["wait=1"]);
    let base = format!("{}/.well-known/est", server.url);
    let curl = "curl -s --cacert ca.pem";
    fs::write(
        workplace.path("decode.sh"),
        "set -e; base64 -d \"$1\" | openssl pkcs7 -inform DER -print_certs -noout\n",
    )
    .unwrap();
    workplace.does(&format!("{curl} {base}/cacerts -o ca.b64"));
    assert!(workplace.does("sh decode.sh ca.b64").contains("TestCA"));
    workplace.does("openssl req -new -newkey rsa:2048 -nodes -keyout a.key -outform DER -out a.der -subj /CN=Ada");
    workplace.does("openssl base64 -A -in a.der -out a.b64");
    let post = "-H Content-Type:application/pkcs10 --data-binary @a.b64";
    let enrol = format!("{curl} -u ada:sesame {post} {base}/simpleenroll");
    let status = format!("{enrol} -o first -w %{{http_code}}");
    assert!(workplace.does(&status).contains("202"));
    workplace.does(&format!("{enrol} -o a.p7"));
    assert!(workplace.does("sh decode.sh a.p7").contains("Ada"));
    let refused = format!("{curl} {post} {base}/simpleenroll -o no -w %{{http_code}}");
    assert!(workplace.does(&refused).contains("401"));

    workplace.does(&format!(
        "pki --estca --url {} --cacert ca.pem --caout est-ca.pem --outform pem --force",
        server.url
    ));
    fs::write(
        workplace.path("swan.sh"),
        "set -e\npki --gen --type ecdsa --size 256 --outform pem > k.pem\n\
         pki --req --in k.pem --type ecdsa --dn CN=Swan --outform der > r.der\n\
         pki --est --url \"$1\" --in r.der --userpass ada:sesame --cacert ca.pem --interval 1 --outform pem > c.pem\n\
         pki --est --url \"$1\" --in r.der --cert c.pem --key k.pem --cacert ca.pem --interval 1 --outform pem > c2.pem\n\
         openssl verify -CAfile ca.pem c.pem c2.pem\n",
    )
    .unwrap();
    let verified = workplace.does(&format!("sh swan.sh {}", server.url));
    assert_eq!(verified.matches(": OK").count(), 2, "{verified}");
}

/// OpenSSL's mock of an authority, on a network of its own; it issues the one certificate.
struct CmpServer {
    _running: Running,
}

impl CmpServer {
    fn start(workplace: &Workplace, network: &Namespace, further: &str) -> Self {
        let mut command = network.command("openssl");
        let path = |name: &str| workplace.text(name);
        command.args([
            "cmp",
            "-port",
            "8829",
            "-srv_ref",
            "123",
            "-srv_secret",
            "pass:sesame",
            "-srv_cert",
            &path("ra.pem"),
            "-srv_key",
            &path("ra.key"),
            "-srv_trusted",
            &path("ca.pem"),
            "-rsp_cert",
            &path("rsa.pem"),
            "-rsp_extracerts",
            &path("ca.pem"),
            "-rsp_capubs",
            &path("ca.pem"),
        ]);
        command.args(further.split_ascii_whitespace());
        let running = Running::start(&mut command, &workplace.path("cmp.log"));
        network.on_network(|| {
            wait_for("the authority", || {
                std::net::TcpStream::connect("127.0.0.1:8829").is_ok()
            });
        });
        Self { _running: running }
    }
}

/// OpenSSL's own client, with our module, is the second implementation of our end.
fn openssl_updates_and_revokes(workplace: &Workplace, network: &Namespace) {
    let uri = format!("{};pin-value={PIN}", workplace.key_uri("rsa"));
    for (name, last) in [
        ("kur", ["-newkey", &uri].as_slice()),
        ("rr", &["-oldcert", "rsa.pem", "-revreason", "4"]),
    ] {
        let mut client = network.command("env");
        client
            .arg("-C")
            .arg(workplace.path("."))
            .arg(format!("PKCS11_MODULE_PATH={}", module()))
            .arg(format!(
                "CARDEA_SOCKET={}",
                workplace.daemon.socket().display()
            ))
            .args([
                "openssl",
                "cmp",
                "-server",
                "127.0.0.1:8829",
                "-path",
                "pkix/",
            ])
            .args(["-cmd", name, "-engine", "pkcs11", "-keyform", "ENGINE"])
            .args(["-key", &uri, "-cert", "rsa.pem", "-trusted", "ca.pem"])
            .args(["-certout", "out.pem"])
            .args(last);
        let (code, text) = cardea(&mut client);
        assert_eq!(code, 0, "{name}: {text}");
    }
}

#[test]
fn cmp_enrols_renews_and_revokes_at_openssl() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    workplace.generate("rsa", "rsa-2048");
    let public = workplace.public("rsa");
    workplace.issue(&public, "rsa");
    workplace.issue_server(
        "ra",
        "extendedKeyUsage = 1.3.6.1.5.5.7.3.28, 1.3.6.1.5.5.7.3.27",
    );
    let network = Namespace::new(&workplace.path("."), "");
    fs::write(workplace.path("secret"), "sesame").unwrap();
    fs::write(workplace.path("other-secret"), "other").unwrap();
    let inside = |arguments: &str| {
        let plain = command(&workplace, arguments);
        let mut inside = network.command("env");
        inside.arg("-C").arg(workplace.path("."));
        for (name, value) in plain.get_envs() {
            let value = value.unwrap().to_string_lossy();
            inside.arg(format!("{}={value}", name.to_string_lossy()));
        }
        inside.arg(plain.get_program()).args(plain.get_args());
        cardea(&mut inside)
    };
    let authority = "--cmp http://127.0.0.1:8829/pkix/ --trust ca.pem --allow-sha1-mac";
    let enrol = |secret: &str| {
        inside(&format!(
            "cert enrol Alice {authority} --key rsa --subject CN=rsa --reference 123 --secret-file {secret} --pin-file pin"
        ))
    };
    {
        let _server = CmpServer::start(&workplace, &network, "");
        let (code, text) = enrol("other-secret");
        assert_eq!(code, 18, "{text}");
        assert!(
            certificates(&workplace).is_empty(),
            "unprotected errors are shown and not believed"
        );
        let (code, text) = enrol("secret");
        assert_eq!(code, 0, "{text}");
        assert_eq!(certificates(&workplace).len(), 1);
        let (code, text) = inside("cert renew Alice rsa --same-key --now --pin-file pin");
        assert_eq!(code, 0, "{text}");
        openssl_updates_and_revokes(&workplace, &network);
        let (code, text) = inside("cert revoke Alice rsa --reason superseded --pin-file pin");
        assert_eq!(code, 0, "{text}");
    }
    {
        let _server = CmpServer::start(&workplace, &network, "-poll_count 2 -check_after 2");
        // In one process: the mock forgets a transaction with its connection.
        let (code, text) = inside(&format!(
            "cert enrol Alice {authority} --key rsa --subject CN=rsa --reference 123 --secret-file secret --pin-file pin \
             --wait 30s"
        ));
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("waiting for the authority"), "{text}");
    }
    {
        let _server = CmpServer::start(
            &workplace,
            &network,
            "-pkistatus 2 -failurebits 512 -statusstring no",
        );
        let (code, text) = enrol("secret");
        assert_eq!(code, 17, "{text}");
        assert!(text.contains("badPOP"), "{text}");
    }
    assert_eq!((keys(&workplace), certificates(&workplace).len()), (1, 1));
}
