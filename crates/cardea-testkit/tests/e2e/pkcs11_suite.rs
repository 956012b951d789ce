//! The suite of behaviours (`pkcs11-suite`) with our module and with SoftHSM2, against the table of
//! `docs/pkcs11-behaviours.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cardea_card::record::CounterMode;
use cardea_testkit::played;
use cardea_testkit::process;
use cardea_testkit::rig::{PIN, bin_dir};

use cardea_testkit::workplace::{PUK, Workplace, module};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Whether each behaviour is as the standard has it, and what was seen if not.
type Found = BTreeMap<String, Option<String>>;

fn found(workplace: &Workplace, module: &str, label: &str) -> Found {
    let mut suite = workplace.client(&bin_dir().join("pkcs11-suite").display().to_string());
    suite
        .env("SOFTHSM2_CONF", workplace.path("softhsm2.conf"))
        .args(["--module", module, "--label", label])
        .args(["--pin", PIN, "--so-pin", PUK]);
    let outcome = process::run(&mut suite);
    assert!(outcome.success, "{}", outcome.text);
    let lines = outcome.text.lines();
    lines
        .filter_map(|line| match line.split_once(' ')? {
            ("ok", name) => Some((name.to_owned(), None)),
            ("differs", rest) => {
                let (name, seen) = rest.split_once(": ")?;
                Some((name.to_owned(), Some(seen.to_owned())))
            }
            _ => None,
        })
        .collect()
}

/// What depends on the software TPM's cryptography: with implicit rejection, a PKCS #1 v1.5 cryptogram that is broken
/// decrypts to random bytes.
const PRETENDED: [&str; 2] = ["broken_cryptograms_are_told", "garbage_is_not_unwrapped"];

/// The rows of the table: behaviour, SoftHSM2, Cardea.
fn table() -> BTreeMap<String, [bool; 2]> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pkcs11-behaviours.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let mut next = || cells.next().unwrap();
        let name = next().trim_matches('`').to_owned();
        let mut is_ok = || {
            let cell = next();
            assert!(["ok", "differs"].contains(&cell), "{cell} in {row}");
            cell == "ok"
        };
        (name, [is_ok(), is_ok()])
    })
    .collect()
}

#[test]
fn behaviours_are_the_standards_but_for_those_of_the_table() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    if played::counter_mode() == CounterMode::Object {
        // There the TPM counts the suite's wrong PINs together, and a right one gives none of them back.
        let file = workplace.text("authorisations");
        let lockout = [
            "tpm",
            "provision",
            "--only",
            "lockout",
            "--max-tries",
            "1000",
        ];
        workplace.cardea(&[&lockout[..], &["--out", &file, "--yes"]].concat());
    }
    fs::create_dir(workplace.path("tokens")).unwrap();
    let configuration = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        workplace.text("tokens")
    );
    fs::write(workplace.path("softhsm2.conf"), configuration).unwrap();
    let mut init = workplace.client("softhsm2-util --init-token --free --label suite");
    let init = init
        .env("SOFTHSM2_CONF", workplace.path("softhsm2.conf"))
        .args(["--so-pin", PUK, "--pin", PIN]);
    let made = process::run(init);
    assert!(made.success, "{}", made.text);

    let theirs = found(&workplace, SOFTHSM, "suite");
    let ours = found(&workplace, &module(), "Alice");
    assert!(theirs.keys().eq(ours.keys()));
    assert!(ours.len() >= 300, "{} behaviours", ours.len());
    let mut table = table();
    if process::openssl_pretends_to_decrypt() {
        for name in PRETENDED {
            table.entry(name.to_owned()).or_insert([true, true])[1] = false;
        }
    }
    if !played::has_curve("P-384") {
        let of_curve = table.entry("generated_p384_keys_sign".to_owned());
        of_curve.or_insert([true, true])[1] = false;
    }
    let mut wrong = Vec::new();
    for (name, seen) in &ours {
        let [softhsm, cardea] = table.get(name).copied().unwrap_or([true, true]);
        for (who, expected, seen) in [
            ("SoftHSM2", softhsm, theirs.get(name).unwrap()),
            ("Cardea", cardea, seen),
        ] {
            if seen.is_none() != expected {
                wrong.push(format!("{who}: {name}: {seen:?}"));
            }
        }
    }
    wrong.extend(
        table
            .keys()
            .filter(|name| !ours.contains_key(*name))
            .map(|name| format!("{name} is in the table only")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(workplace.tries_left(), 5);
}
