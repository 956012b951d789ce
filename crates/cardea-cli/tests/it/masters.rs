//! Where admin keys come from and where they are kept: master secrets in a TPM and in a token, keys for the holder
//! of a certificate, the machine's own choice.

use std::fs;
use std::process::Command;

use crate::support::{Place, Run};

/// As in `docs/help-desk.md`.
const MASTER: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
const ID: &str = "0123456789abcdef0123456789abcdef";
const CHECK: &str = "B64A64";

fn tool(program: &str, arguments: &[&str]) -> Run {
    let output = Command::new(program).args(arguments).output();
    let run = Run::of(output.unwrap_or_else(|error| panic!("{program}: {error}")));
    assert_eq!(run.code, 0, "{program} {arguments:?}: {run:?}");
    run
}

/// The response by a master secret.
fn response(place: &Place, master: &str) -> Run {
    place.run(&[
        "helpdesk",
        "respond",
        "--card-id",
        ID,
        "--challenge",
        "1122334455667788",
        "--master-file",
        master,
    ])
}

#[test]
fn master_secret_in_a_tpm_answers_as_the_one_in_the_clear() {
    let place = Place::without_daemon();
    let clear = place.file("master", MASTER);
    let sealed = place.path("sealed");
    let sealed = sealed.to_str().unwrap();
    let address = format!("simulator:{}", place.path("desk-tpm").display());
    let made = place.run(&[
        "helpdesk", "master", "--out", sealed, "--tpm", &address, "--from", &clear,
    ]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.err.contains(CHECK), "{made:?}");
    let text = fs::read_to_string(sealed).unwrap();
    assert!(!text.contains(MASTER), "it is wrapped");
    let check = place.run(&["helpdesk", "check", "--master-file", sealed]);
    assert_eq!(check.out.trim(), CHECK, "{check:?}");
    let (one, other) = (response(&place, &clear), response(&place, sealed));
    assert_eq!((one.code, &one.out), (0, &other.out), "{other:?}");

    // Out of the TPM it does not come again, and another TPM has no use for it.
    let again = place.path("again");
    let copied = place.run(&[
        "helpdesk",
        "master",
        "--out",
        again.to_str().unwrap(),
        "--tpm",
        &address,
        "--from",
        sealed,
    ]);
    assert_eq!(copied.code, 2, "{copied:?}");
    assert!(!again.exists());
    let elsewhere = text.replace("desk-tpm", "other-tpm");
    let elsewhere = place.file("elsewhere", &elsewhere);
    let refused = response(&place, &elsewhere);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("only the TPM that made it"),
        "{refused:?}"
    );
    let damaged = place.file("damaged", &text.replace('\n', "\n\n"));
    assert_eq!(response(&place, &damaged).code, 2);
}

#[test]
fn master_secret_that_is_made_in_a_tpm_derives_keys() {
    let place = Place::new();
    let sealed = place.path("sealed");
    let sealed = sealed.to_str().unwrap();
    let address = format!("simulator:{}", place.path("desk-tpm").display());
    let made = place.run(&["helpdesk", "master", "--out", sealed, "--tpm", &address]);
    assert_eq!(made.code, 0, "{made:?}");
    place.create("derived", &["--admin-key", &format!("derived:{sealed}")]);
    let shown = place.run(&["card", "show", "derived", "--json"]).json();
    let challenge = place.run(&["admin", "challenge", "derived"]).out;
    let answer = place.run(&[
        "helpdesk",
        "respond",
        "--card-id",
        shown["card_id"].as_str().unwrap(),
        "--challenge",
        challenge.trim(),
        "--master-file",
        sealed,
    ]);
    let verified = place.run(&[
        "admin",
        "verify",
        "derived",
        "--challenge",
        challenge.trim(),
        "--response",
        answer.out.trim(),
    ]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

/// Puts the secret into the token; pkcs11-tool 0.23 writes no generic secret. The configuration of SoftHSM is in the
/// environment alone, so another process does it: this test's program, run again for [`writer`].
fn store(configuration: &str, module: &str, secret: &[u8]) {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "masters::writer", "--nocapture"])
        .env("SOFTHSM2_CONF", configuration)
        .env(WRITE, format!("{module} {digits}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", Run::of(output).out);
}

const WRITE: &str = "CARDEA_TEST_WRITE_SECRET";

/// Nothing but for [`store`].
#[test]
fn writer() {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::object::{Attribute, KeyType, ObjectClass};
    use cryptoki::session::UserType;

    let Ok(order) = std::env::var(WRITE) else {
        return;
    };
    let (module, digits) = order.split_once(' ').unwrap();
    let value = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let context = Pkcs11::new(module).unwrap();
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    context.initialize(threads).unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    session
        .login(UserType::User, Some(&"271828".to_owned().into()))
        .unwrap();
    session
        .create_object(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sign(true),
            Attribute::Label(b"master".to_vec()),
            Attribute::Value(value),
        ])
        .unwrap();
}

/// SoftHSM stands for the administrator's token.
#[test]
fn master_secret_in_a_token_answers_as_the_one_in_the_clear() {
    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    let place = Place::without_daemon();
    let clear = place.file("master", MASTER);
    let tokens = place.path("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = place.file(
        "softhsm2.conf",
        &format!("directories.tokendir = {}\n", tokens.display()),
    );
    let with_token = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", &configuration);
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, 0, "{program}: {run:?}");
    };
    with_token(
        "softhsm2-util",
        &[
            "--init-token",
            "--free",
            "--label",
            "Help desk",
            "--so-pin",
            "12345678",
            "--pin",
            "271828",
        ],
    );
    store(&configuration, MODULE, &(0..32).collect::<Vec<u8>>());
    let pin = place.file("token-pin", "271828\n");
    let wrong = place.file("wrong-pin", "000000\n");
    let uri = |object: &str, pin: &str| {
        format!(
            "pkcs11:token=Help%20desk;object={object};type=secret-key?module-path={MODULE}&pin-source=file:{pin}\n"
        )
    };
    let asked = |name: &str, text: &str| {
        let file = place.file(name, text);
        let output = place
            .command(&[
                "helpdesk",
                "respond",
                "--card-id",
                ID,
                "--challenge",
                "1122334455667788",
                "--master-file",
                &file,
                "--check",
                CHECK,
            ])
            .env("SOFTHSM2_CONF", &configuration)
            .output();
        Run::of(output.unwrap())
    };
    let answered = asked("uri", &uri("master", &pin));
    assert_eq!(answered.code, 0, "{answered:?}");
    assert_eq!(answered.out, response(&place, &clear).out);

    let refused = asked("wrong-pin-uri", &uri("master", &wrong));
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.err.contains("wrong PIN for token Help desk"),
        "{refused:?}"
    );
    for (name, text, code) in [
        ("no-key", uri("other", &pin), 7),
        ("no-token", uri("master", &pin).replace("Help", "No"), 7),
        ("no-module", "pkcs11:token=Help%20desk\n".to_owned(), 2),
        (
            "no-library",
            uri("master", &pin).replace(MODULE, "/nonexistent.so"),
            1,
        ),
    ] {
        let refused = asked(name, &text);
        assert_eq!(refused.code, code, "{name}: {refused:?}");
    }
}

#[test]
fn random_key_is_kept_for_the_holder_of_a_certificate() {
    let place = Place::new();
    let file = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (key, certificate, kept) = (file("admin.key"), file("admin.pem"), file("kept-%"));
    let certify = |kind: &[&str], key: &str, certificate: &str| {
        let request = "req -x509 -nodes -subj /CN=Administrator -days 1 -keyout";
        let request: Vec<&str> = request.split(' ').collect();
        tool(
            "openssl",
            &[&request[..], &[key, "-out", certificate, "-newkey"], kind].concat(),
        );
    };
    certify(&["rsa:2048"], &key, &certificate);
    let card = place.create(
        "card",
        &[
            "--admin-key",
            &format!("escrowed:{kept}"),
            "--escrow-certificate",
            &certificate,
        ],
    );
    let id = card["card_id"].as_str().unwrap();
    let kept = kept.replace('%', id);
    let challenge = place.run(&["admin", "challenge", "card"]).out;
    let respond = |escrow: &str| {
        place.run(&[
            "helpdesk",
            "respond",
            "--challenge",
            challenge.trim(),
            "--card-id",
            id,
            "--escrow-file",
            escrow,
        ])
    };
    let closed = respond(&kept);
    assert_eq!(closed.code, 2, "{closed:?}");
    assert!(closed.err.contains("openssl cms -decrypt"), "{closed:?}");
    let opened = tool(
        "openssl",
        &[
            "cms", "-decrypt", "-inform", "PEM", "-in", &kept, "-inkey", &key,
        ],
    );
    let opened = place.file("opened", &opened.out);
    let answer = respond(&opened);
    assert_eq!(answer.code, 0, "{answer:?}");
    let verified = place.run(&[
        "admin",
        "verify",
        "card",
        "--challenge",
        challenge.trim(),
        "--response",
        answer.out.trim(),
    ]);
    assert_eq!(verified.code, 0, "{verified:?}");

    // A certificate that is none, and one that cannot be encrypted to, leave no file and no card.
    let curve = file("curve.pem");
    let kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    certify(&kind, &file("curve.key"), &curve);
    let other = file("other");
    for certificate in [&curve, &key] {
        let refused = place.run(&[
            "card",
            "create",
            "--name",
            "refused",
            "--pin-file",
            &file("pin"),
            "--admin-key",
            &format!("escrowed:{other}"),
            "--escrow-certificate",
            certificate,
        ]);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    assert!(!std::path::Path::new(&other).exists());
}

#[test]
fn machine_says_what_admin_key_cards_get() {
    let place = Place::with(|config| {
        // The folder is known when the daemon starts.
        let master = config.state_dir.with_file_name("master");
        config.admin_key = format!("derived:{}", master.display());
    });
    place.file("master", MASTER);
    let derived = place.create("derived", &[]);
    assert_eq!(derived["administrator"], true);
    let own = place.create("own", &["--admin-key", "random"]);
    assert_eq!(own["administrator"], false, "who chooses has the choice");
    let wrong = Place::with(|config| config.admin_key = "nonsense".into());
    let pin = wrong.path("pin");
    let refused = wrong.run(&[
        "card",
        "create",
        "--name",
        "card",
        "--pin-file",
        pin.to_str().unwrap(),
    ]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("`admin_key`"), "{refused:?}");
}
