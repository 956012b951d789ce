//! The authority by files: tpm2-tools play the card's side, with a software TPM of their own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cardea_attest::authority::{Decision, KnownTpm, Signer, Term};
use cardea_attest::exchange::{
    Answer, Challenge, Issued, OfferedKey, Request, RequestForm, TpmDescription, answer_data,
};
use cardea_attest::{Bundle, EkOrigin, EndorsementKey, TpmIdentity, name_of_public};
use cardea_pki::{Certificate, Curve, PathCertificate, PrivateKey, PublicKey};
use serde_json::Value;

use crate::support::{Place, Run};

/// A software TPM for tpm2-tools.
struct Tpm<'a> {
    place: &'a Place,
    process: Child,
    port: u16,
}

impl Drop for Tpm<'_> {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl<'a> Tpm<'a> {
    fn start(place: &'a Place) -> Self {
        let state = place.path("software-tpm");
        fs::create_dir(&state).unwrap();
        // Two ports in a row, which somebody else may take before the TPM does.
        for _ in 0..50 {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = first.local_addr().unwrap().port();
            let Some(next) = port.checked_add(1) else {
                continue;
            };
            if TcpListener::bind(("127.0.0.1", next)).is_err() {
                continue;
            }
            drop(first);
            let address = |port: u16| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
            let process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--tpmstate", &format!("dir={}", state.display())])
                .args(["--server", &address(port), "--ctrl", &address(next)])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut tpm = Self {
                place,
                process,
                port,
            };
            let since = Instant::now();
            while tpm.process.try_wait().unwrap().is_none() {
                if tpm.command("tpm2_getrandom", &["1"]).status.success() {
                    return tpm;
                }
                assert!(since.elapsed() < Duration::from_secs(60), "no TPM");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("no two ports in a row");
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(tool)
            .args(arguments)
            .current_dir(self.place.path(""))
            .env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:host=127.0.0.1,port={}", self.port),
            )
            .output()
            .unwrap()
    }

    fn run(&self, tool: &str, arguments: &str) {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let output = self.command(tool, &arguments);
        assert!(output.status.success(), "{tool} {arguments:?}: {output:?}");
    }

    /// Nothing stays loaded between two commands.
    fn flush(&self) {
        self.run("tpm2_flushcontext", "-t");
    }

    /// The content of a file with a TPM2B.
    fn sized(&self, name: &str) -> Vec<u8> {
        fs::read(self.place.path(name)).unwrap().split_off(2)
    }

    /// Makes the keys of a card of form A, and its request.
    fn request(&self) -> Request {
        const STORAGE: &str =
            "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
        const SIGNING: &str =
            "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
        self.run(
            "tpm2_createprimary",
            &format!("-C o -G ecc -c srk.ctx -a {STORAGE} -Q"),
        );
        self.flush();
        self.run("tpm2_readpublic", "-c srk.ctx -o srk.pub -Q");
        self.flush();
        self.run(
            "tpm2_create",
            &format!("-C srk.ctx -G ecc256:ecdsa-sha256:null -a {SIGNING} -u ak.pub -r ak.priv -Q"),
        );
        self.flush();
        self.run("tpm2_load", "-C srk.ctx -u ak.pub -r ak.priv -c ak.ctx -Q");
        self.flush();
        self.run("tpm2_createek", "-G ecc -c ek.ctx -u ek.pub -Q");
        self.flush();
        Request {
            attestation_key: self.sized("ak.pub"),
            endorsement_keys: vec![OfferedKey {
                public: self.sized("ek.pub"),
                certificates: Vec::new(),
            }],
            storage_root_key: self.sized("srk.pub"),
            tpm: TpmDescription {
                manufacturer: *b"IBM\0",
                model: "SW   TPM".to_owned(),
                firmware: 0x2019_1023_0016_3636,
                revision: 164,
            },
            form: RequestForm::Approved,
            name: Some("Alice".to_owned()),
        }
    }

    /// Opens a challenge, and has the attestation key certify itself.
    fn answer(&self, challenge: &Challenge) -> Answer {
        let part = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length[..], bytes].concat()
        };
        let head = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1];
        let blob = [&head[..], &part(&challenge.blob), &part(&challenge.seed)].concat();
        fs::write(self.place.path("blob"), blob).unwrap();
        self.run("tpm2_startauthsession", "--policy-session -S session.ctx");
        self.run("tpm2_policysecret", "-S session.ctx -c e -Q");
        self.run(
            "tpm2_activatecredential",
            "-c ak.ctx -C ek.ctx -i blob -o secret -P session:session.ctx -Q",
        );
        self.run("tpm2_flushcontext", "session.ctx");
        self.flush();
        let secret = fs::read(self.place.path("secret")).unwrap();

        // tpm2_certify has no qualifying data of the caller's: the command by hand, for the first loaded object.
        self.run("tpm2_load", "-C srk.ctx -u ak.pub -r ak.priv -c ak.ctx -Q");
        let handles = [0x8000_0001_u32, 0x8000_0001]
            .map(u32::to_be_bytes)
            .concat();
        let session = [&0x4000_0009_u32.to_be_bytes()[..], &[0; 5]].concat();
        let body = [
            &0x148_u32.to_be_bytes()[..],
            &handles,
            &18_u32.to_be_bytes(),
            &session,
            &session,
            &part(&answer_data(&secret)),
            &[0, 0x10],
        ]
        .concat();
        let length = u32::try_from(body.len() + 6).unwrap().to_be_bytes();
        let command = [&[0x80, 0x02], &length[..], &body].concat();
        fs::write(self.place.path("certify"), command).unwrap();
        self.run("tpm2_send", "certify -o certified");
        self.flush();
        let response = fs::read(self.place.path("certified")).unwrap();
        let (head, parameters) = response.split_at(14);
        let (_, code) = head.split_at(6);
        assert!(code.starts_with(&[0; 4]), "{response:?}");
        let (size, parameters) = parameters.split_first_chunk::<2>().unwrap();
        let (attest, rest) = parameters.split_at(usize::from(u16::from_be_bytes(*size)));
        // Behind the signature is an answer for each password.
        let (signature, _) = rest.split_at(rest.len() - 2 * 5);
        Answer {
            secret,
            state: challenge.state.clone(),
            attestation_key: cardea_attest::Statement {
                attest: attest.to_vec(),
                signature: signature.to_vec(),
            },
            witness: None,
        }
    }
}

/// An authority in a folder `ca`, and a command of it.
struct Scene {
    place: Place,
    folder: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::without_daemon();
        let folder = place.path("ca").display().to_string();
        let scene = Self { place, folder };
        let made = scene.run(&["init", "--curve", "p-256", "--subject", "CN=Test authority"]);
        assert_eq!(made.code, 0, "{made:?}");
        scene
    }

    fn run(&self, words: &[&str]) -> Run {
        let all = [
            &["attest", "authority"],
            words,
            &["--folder", self.folder.as_str()],
        ];
        self.place.run(&all.concat())
    }

    fn path(&self, name: &str) -> String {
        self.place.path(name).display().to_string()
    }

    fn challenge(&self, more: &[&str]) -> Run {
        let (request, out) = (self.path("request"), self.path("challenge"));
        self.run(&[&["challenge", &request, "--out", &out], more].concat())
    }

    fn issue(&self, more: &[&str]) -> Run {
        let (answer, out) = (self.path("answer"), self.path("certificate"));
        self.run(&[&["issue", &answer, "--out", &out], more].concat())
    }

    /// Lets a TPM answer the challenge.
    fn answer(&self, tpm: &Tpm<'_>) {
        let challenge = fs::read(self.place.path("challenge")).unwrap();
        let answer = tpm.answer(&Challenge::decode(&challenge).unwrap());
        fs::write(self.place.path("answer"), answer.encode()).unwrap();
    }

    fn record(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.place.path("ca/issued.jsonl")).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.collect()
    }
}

#[test]
fn card_of_a_pinned_tpm_gets_one_certificate_and_the_record_has_it() {
    let scene = Scene::new();
    let place = &scene.place;
    let tpm = Tpm::start(place);
    let request = tpm.request();
    fs::write(place.path("request"), request.encode()).unwrap();
    // Nobody knows this TPM, and the refusal says what to do.
    let pin = EndorsementKey::parse(&request.endorsement_keys[0].public);
    let pin = base16ct::upper::encode_string(&pin.unwrap().pin());
    let unknown = scene.challenge(&[]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.err.contains("refused (ek-unknown)"), "{unknown:?}");
    assert!(
        unknown.err.replace("\n  ", " ").contains(&pin),
        "{unknown:?}"
    );
    assert!(!place.path("challenge").exists());

    let added = scene.run(&["pin", "add", &pin, "--asset", "PC 17"]);
    assert_eq!(added.code, 0, "{added:?}");
    let made = scene.challenge(&[]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.err.contains("known by its pin, as PC 17"), "{made:?}");
    scene.answer(&tpm);

    // Where it cannot be written, nothing is issued, and the challenge is still good.
    let answer = scene.path("answer");
    let nowhere = scene.path("no/certificate");
    let failed = scene.run(&["issue", &answer, "--out", &nowhere]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(scene.record().is_empty());
    // The computer stopped while it wrote to the record.
    fs::write(place.path("ca/issued.jsonl"), "{\"time\":\"2026").unwrap();

    // Two at once, with one answer.
    let out = |number: u32| scene.path(&format!("certificate-{number}"));
    let commands: Vec<_> = [1, 2]
        .map(|number| {
            place
                .command(&["attest", "authority", "issue", &answer])
                .args(["--out", &out(number), "--folder", &scene.folder])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .into_iter()
        .map(|child| Run::of(child.wait_with_output().unwrap()))
        .collect();
    let mut codes: Vec<_> = commands.iter().map(|run| run.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 1], "{commands:?}");
    let first = if commands[0].code == 0 { 1 } else { 2 };
    let refused = &commands[2 - first];
    assert!(refused.err.contains("answer-used"), "{refused:?}");
    let again = scene.issue(&[]);
    assert!(again.err.contains("answer-used"), "{again:?}");
    let first = u32::try_from(first).unwrap();
    assert!(!place.path(&format!("certificate-{}", 3 - first)).exists());

    let issued = Issued::decode(&fs::read(out(first)).unwrap()).unwrap();
    assert_eq!(issued.certificates.len(), 1);
    let certificate = Certificate::parse(&issued.certificates[0]).unwrap();
    let pem = place.file("own.pem", &certificate.to_pem());
    let verified = Command::new("openssl")
        .args(["verify", "-purpose", "any", "-CAfile"])
        .args([place.path("ca/authority.pem").to_str().unwrap(), &pem])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");

    let [line] = &scene.record()[..] else {
        panic!("one record")
    };
    assert_eq!(line["ek"], "pin");
    assert_eq!(line["asset"], "PC 17");
    assert_eq!(line["card"], "Alice");
    assert_eq!(line["form"], "approved");
    assert_eq!(line["ek_pin"], pin);
    assert_eq!(line["tpm"]["manufacturer"], "id:49424D00");
    assert_eq!(line["certificate"], certificate.to_pem());
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md"));
    let documented = documented.unwrap();
    for name in line.as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{name}`")), "{name}");
    }
    // Nothing is left of what failed.
    let left = fs::read_dir(place.path("")).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name());
    assert!(!left.any(|name| name.to_string_lossy().contains(".new-")));
}

#[test]
fn answer_of_another_tpm_or_to_another_authority_is_refused() {
    let scene = Scene::new();
    let tpm = Tpm::start(&scene.place);
    fs::write(scene.place.path("request"), tpm.request().encode()).unwrap();
    let made = scene.challenge(&["--trust-on-first-use"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.err.contains("first use"), "{made:?}");
    scene.answer(&tpm);
    let bytes = fs::read(scene.place.path("answer")).unwrap();
    let mut answer = Answer::decode(&bytes).unwrap();
    answer.secret[0] ^= 1;
    fs::write(scene.place.path("answer"), answer.encode()).unwrap();
    let refused = scene.issue(&[]);
    assert!(refused.err.contains("refused (secret)"), "{refused:?}");
    answer.secret[0] ^= 1;
    fs::write(scene.place.path("answer"), answer.encode()).unwrap();
    // A message in the place of another.
    let (request, out) = (scene.path("request"), scene.path("certificate"));
    let refused = scene.run(&["issue", &request, "--out", &out]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("cardea-ak-request-1"), "{refused:?}");

    let other = scene.path("other");
    let made = scene
        .place
        .run(&["attest", "authority", "init", "--folder", &other]);
    assert_eq!(made.code, 0, "{made:?}");
    let (file, out) = (scene.path("answer"), scene.path("certificate"));
    let issue = ["attest", "authority", "issue", &file, "--out", &out];
    let refused = scene
        .place
        .run(&[&issue[..], &["--folder", &other]].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("state-foreign"), "{refused:?}");
    assert!(!scene.place.path("certificate").exists());
    // Firmware that is put on the list meanwhile gets no challenge any more.
    let list = scene.place.path("ca/firmware");
    fs::write(&list, "id:49424D00, *, id:20191023\n").unwrap();
    let refused = scene.challenge(&["--trust-on-first-use"]);
    assert!(refused.err.contains("ek-firmware"), "{refused:?}");
    fs::write(&list, "IBM\n").unwrap();
    let refused = scene.challenge(&["--trust-on-first-use"]);
    assert!(refused.err.contains("line 1"), "{refused:?}");
    fs::remove_file(&list).unwrap();
    let issued = scene.issue(&["--days", "30"]);
    assert_eq!(issued.code, 0, "{issued:?}");
    assert_eq!(scene.record()[0]["ek"], "first-use");

    // What cannot be recorded is not handed out.
    assert_eq!(scene.challenge(&["--trust-on-first-use"]).code, 0);
    scene.answer(&tpm);
    let record = scene.place.path("ca/issued.jsonl");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let second = scene.path("second");
    let refused = scene.run(&["issue", &file, "--out", &second]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("issued.jsonl"), "{refused:?}");
    assert!(!scene.place.path("second").exists());
}

#[test]
fn authority_is_made_whole_and_private_or_not_at_all() {
    let scene = Scene::new();
    let place = &scene.place;
    for name in ["ca/authority.key", "ca/state.key"] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(place.path("ca")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let key = fs::read(place.path("ca/authority.key")).unwrap();
    let again = scene.run(&["init"]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.err.contains("not empty"), "{again:?}");
    assert_eq!(fs::read(place.path("ca/authority.key")).unwrap(), key);

    // A key and a certificate that are there, into an empty folder.
    let (key, own) = (
        scene.path("ca/authority.key"),
        scene.path("ca/authority.pem"),
    );
    let second = scene.path("second");
    fs::create_dir(&second).unwrap();
    let init = ["attest", "authority", "init", "--folder", &second];
    let given = ["--key", &key, "--certificate", &own];
    let made = place.run(&[&init[..], &given].concat());
    assert_eq!(made.code, 0, "{made:?}");
    let copied = fs::read(place.path("second/authority.pem")).unwrap();
    assert_eq!(copied, fs::read(place.path("ca/authority.pem")).unwrap());

    // Somebody else's certificate: no folder.
    let third = scene.path("third");
    let made = place.run(&["attest", "authority", "init", "--folder", &third]);
    assert_eq!(made.code, 0, "{made:?}");
    let foreign = scene.path("third/authority.pem");
    let fourth = scene.path("fourth");
    let given = ["--key", &key, "--certificate", &foreign];
    let refused = place.run(
        &[
            &["attest", "authority", "init", "--folder", &fourth],
            &given[..],
        ]
        .concat(),
    );
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("another key"), "{refused:?}");
    assert!(!place.path("fourth").exists());

    // A key that others can read is not used.
    fs::set_permissions(
        place.path("ca/state.key"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    place.file("request", "");
    let refused = scene.challenge(&[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let nothing = place.run(&["attest", "authority", "pin", "list", "--folder", &fourth]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.err.contains("authority init"), "{nothing:?}");
}

#[test]
fn evidence_whose_attestation_key_it_certified_is_accepted_with_its_certificate() {
    let scene = Scene::new();
    let place = &scene.place;
    let read = |name: &str| fs::read(place.path("ca").join(name)).unwrap();
    let key = PrivateKey::parse(&read("authority.key"), None).unwrap();
    let own = Certificate::parse(&read("authority.pem")).unwrap();
    let own = PathCertificate::parse(own.der()).unwrap();
    let signer = Signer::new(key, vec![own]).unwrap();
    // The worked example of the design; its attestation key ends with its point.
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../cardea-attest/src/tests/data/sealed.evidence"
    );
    let mut bundle = Bundle::decode(&fs::read(example).unwrap()).unwrap();
    let public = bundle.attestation_key.clone();
    let (_, numbers) = public.split_at(public.len() - 68);
    let (x, y) = numbers.split_at(34);
    let (x, y) = (x.split_at(2).1, y.split_at(2).1);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let decision = Decision {
        challenge: [0; 32],
        key: PublicKey::from_ec(Curve::P256, x, y).unwrap(),
        name: name_of_public(&public).unwrap(),
        tpm: KnownTpm {
            pin: [0; 32],
            origin: EkOrigin::Pin,
            root: None,
            identity: TpmIdentity {
                manufacturer: "id:49424D00".to_owned(),
                model: "SW   TPM".to_owned(),
                version: "id:20191023".to_owned(),
            },
        },
        form: RequestForm::Approved,
        card: None,
    };
    let term = Term {
        serial: &[7],
        now: i64::try_from(now).unwrap(),
        seconds: 86_400,
    };
    bundle.certificates = signer.issue(&decision, &term).unwrap().certificates;
    let evidence = place.path("evidence");
    fs::write(&evidence, bundle.encode()).unwrap();
    let trust = scene.path("ca/authority.pem");
    let verify = ["attest", "verify", evidence.to_str().unwrap(), "--json"];
    let accepted = place.run(&[&verify[..], &["--trust", &trust]].concat());
    assert_eq!(accepted.code, 0, "{accepted:?}");
    let json = accepted.json();
    assert_eq!(json["ek"], "pin");
    assert_eq!(json["ak_issuer"], "CN=Test authority");
    assert_eq!(json["tpm"]["model"], "SW   TPM");
    assert_eq!(json["level"], 2);
}

#[test]
fn pins_are_added_listed_imported_whole_and_removed() {
    let scene = Scene::new();
    let (one, two) = ("AB".repeat(32), "0C".repeat(32));
    let add = |pin: &str, asset: &str| scene.run(&["pin", "add", pin, "--asset", asset]);
    assert_eq!(add(&one, "PC 1").code, 0);
    assert_eq!(add(&one, "PC 1").code, 0);
    let other = add(&one, "PC 2");
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains("PC 1"), "{other:?}");
    assert_eq!(add("AB", "PC 1").code, 2);
    // Of a list with a fault nothing is taken.
    let bad = scene
        .place
        .file("bad", &format!("{two} PC 2\n{one} PC 3\n"));
    assert_eq!(scene.run(&["pin", "import", &bad]).code, 1);
    let list = || scene.run(&["pin", "list", "--json"]).json();
    assert_eq!(list().as_array().unwrap().len(), 1);
    let good = scene
        .place
        .file("good", &format!("# all\n{two}\tPC 2, room 4\n"));
    assert_eq!(scene.run(&["pin", "import", &good]).code, 0);
    assert_eq!(list()[1]["asset"], "PC 2, room 4");
    let text = scene.run(&["pin", "list"]).out;
    assert_eq!(text, format!("{one} PC 1\n{two} PC 2, room 4\n"));
    assert_eq!(scene.run(&["pin", "remove", &one]).code, 0);
    assert_eq!(scene.run(&["pin", "remove", &one]).code, 7);
    assert_eq!(list().as_array().unwrap().len(), 1);
}
