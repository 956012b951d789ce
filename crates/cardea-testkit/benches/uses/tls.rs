//! TLS handshakes with nginx, which asks for a certificate: curl with the card, with a key in a file, and with
//! tpm2-pkcs11.
//!
//! Cardea and tpm2-pkcs11 have a software TPM each, of the same binary. Blocks alternate, and their order rotates.
//! The rates are those of the median times.
//! No connection resumes another's session. Both modules are loaded by the engine of OpenSSL, by their path.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cardea_testkit::process::run;
use cardea_testkit::rig::PIN;
use cardea_testkit::site::{NAME, Site};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::workplace::module;

use crate::statistics::median;

const PEER: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

/// Labels of the keys, and what they are called in the table.
const KEYS: [(&str, &str); 2] = [("rsa", "RSA-2048"), ("ec", "P-256")];

/// Connections in a block.
const BLOCK: u32 = 10;

/// Where curl has its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    Card,
    Peer,
}

const WAYS: [Way; 3] = [Way::File, Way::Card, Way::Peer];

/// Sets the scene, and has the user measure inside of it.
pub(crate) fn measure(part: usize) {
    let site = Site::of_page("rsa-2048");
    let workplace = &site.workplace;
    for (key, algorithm) in [("rsa", "rsa-2048"), ("ec", "p-256")] {
        workplace.generate(key, algorithm);
        let _ = workplace.issue(&workplace.public(key), &format!("card-{key}"));
    }
    for (key, options) in [
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ec", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        workplace.does(&format!("openssl genpkey {options} -out file-{key}.key"));
        workplace.does(&format!(
            "openssl pkey -in file-{key}.key -pubout -out file-{key}.pub"
        ));
        let _ = workplace.issue(&format!("file-{key}.pub"), &format!("file-{key}"));
    }
    let _peer = Path::new(PEER).exists().then(|| peer(&site));
    let own = std::env::current_exe().unwrap();
    let mut user = site.command(own.to_str().unwrap());
    user.arg("--tls-user")
        .args((part == 1).then_some("--quick"));
    assert!(user.status().unwrap().success());
}

/// tpm2-pkcs11 with a token and the same keys.
fn peer(site: &Site) -> Swtpm {
    let workplace = &site.workplace;
    let tpm = Swtpm::start(&workplace.path("peer-tpm"));
    // TPM2_Startup(CLEAR), which firmware sends before tpm2-pkcs11 comes.
    let mut stream = UnixStream::connect(tpm.socket()).unwrap();
    stream
        .write_all(&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0])
        .unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    drop(stream);
    std::fs::create_dir(workplace.path("peer-store")).unwrap();
    let tool = |arguments: &str| {
        forget(&workplace.path(""));
        let mut command = workplace.client(&format!("pkcs11-tool --module {PEER} {arguments}"));
        peer_environment(&mut command, &workplace.path(""));
        let outcome = run(&mut command);
        assert!(outcome.success, "{arguments}\n{}", outcome.text);
    };
    tool(&format!(
        "--init-token --slot-index 0 --label peer --so-pin {PIN}"
    ));
    tool(&format!(
        "--token-label peer --init-pin --login --login-type so --so-pin {PIN} --pin {PIN}"
    ));
    for (number, (key, kind)) in [("rsa", "rsa:2048"), ("ec", "EC:prime256v1")]
        .iter()
        .enumerate()
    {
        tool(&format!(
            "--token-label peer --login --pin {PIN} --keypairgen --key-type {kind} --label {key} --id 0{number}"
        ));
        tool(&format!(
            "--token-label peer --read-object --type pubkey --label {key} --output-file peer-{key}.der"
        ));
        workplace.does(&format!(
            "openssl pkey -pubin -inform DER -in peer-{key}.der -out peer-{key}.pub"
        ));
        let _ = workplace.issue(&format!("peer-{key}.pub"), &format!("peer-{key}"));
    }
    tpm
}

fn peer_environment(command: &mut Command, folder: &Path) {
    let socket = folder.join("peer-tpm/sock");
    command
        .env("TPM2_PKCS11_STORE", folder.join("peer-store"))
        .env(
            "TPM2_PKCS11_TCTI",
            format!("swtpm:path={}", socket.display()),
        )
        .env("TPM2_PKCS11_LOG_LEVEL", "0")
        .env("TSS2_LOG", "all+none")
        .env("PKCS11_MODULE_PATH", PEER);
}

/// What a resource manager does when a process ends: tpm2-pkcs11 in curl leaves a key and a session in the TPM.
fn forget(folder: &Path) {
    for kind in ["--transient-object", "--loaded-session"] {
        let mut command = Command::new("tpm2_flushcontext");
        let socket = folder.join("peer-tpm/sock");
        command
            .arg(kind)
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", socket.display()));
        let outcome = run(&mut command);
        assert!(outcome.success, "{}", outcome.text);
    }
}

/// The other side of [`measure`]: in the site's namespace and in the workplace's folder.
pub(crate) fn be_the_user(part: usize) {
    println!(
        "| TLS handshakes | file key 1/s | Cardea 1/s | share | tpm2-pkcs11 1/s | share |\n|---|---|---|---|---|---|"
    );
    for (key, name) in KEYS {
        row(&format!("{name}, a curl for each"), part, 1.0, |way| {
            (0..BLOCK).map(|_| connect(way, key, 1)).collect()
        });
        row(
            &format!("{name}, one curl"),
            part,
            f64::from(BLOCK),
            |way| vec![connect(way, key, BLOCK)],
        );
    }
}

/// Blocks of times, each of which was that of so many connections.
fn row(name: &str, part: usize, connections: f64, block: impl Fn(Way) -> Vec<f64>) {
    let ways: Vec<Way> = WAYS
        .into_iter()
        .filter(|way| *way != Way::Peer || Path::new(PEER).exists())
        .collect();
    let mut times = [vec![], vec![], vec![]];
    for way in &ways {
        block(*way);
    }
    for round in 0..3 * part {
        for turn in 0..ways.len() {
            let at = (round + turn) % ways.len();
            if let (Some(way), Some(times)) = (ways.get(at), times.get_mut(at)) {
                times.extend(block(*way));
            }
        }
    }
    let [file, card, peer] = times;
    let rate = |times: Vec<f64>| connections / median(times);
    let (file, card) = (rate(file), rate(card));
    let told = |rate: f64| format!("{rate:.1} | {:.0} %", 100.0 * rate / file);
    let peer = match peer.is_empty() {
        true => "– | –".into(),
        false => told(rate(peer)),
    };
    println!("| {name} | {file:.1} | {} | {peer} |", told(card));
}

/// The seconds of a curl that makes so many connections, one after the other.
fn connect(way: Way, key: &str, connections: u32) -> f64 {
    let folder = std::env::current_dir().unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert", "ca.pem"])
        .args(["--no-sessionid", "--header", "Connection: close"])
        .args(["--output", "/dev/null"]);
    let (name, token) = match way {
        Way::File => ("file", None),
        Way::Card => ("card", Some("Alice")),
        Way::Peer => ("peer", Some("peer")),
    };
    curl.args(["--cert", &format!("{name}-{key}.pem")]);
    match token {
        None => curl.args(["--key", &format!("file-{key}.key")]),
        Some(token) => curl
            .args(["--engine", "pkcs11", "--key-type", "ENG", "--key"])
            .arg(format!(
                "pkcs11:token={token};object={key};type=private;pin-source=file:pin"
            )),
    };
    match way {
        Way::File => {}
        Way::Card => drop(curl.env("PKCS11_MODULE_PATH", module())),
        Way::Peer => {
            peer_environment(&mut curl, &folder);
            forget(&folder);
        }
    }
    curl.arg(format!("https://{NAME}/?[1-{connections}]"));
    let begin = Instant::now();
    let status = curl.status().unwrap();
    let time = begin.elapsed();
    assert!(status.success(), "curl fails: {status}");
    time.as_secs_f64()
}
