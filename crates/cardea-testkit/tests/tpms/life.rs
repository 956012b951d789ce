//! A card's life through the PKCS#11 module, on whatever TPM: keys of each kind, signatures, wrong PINs, a PIN change, a
//! blocked PIN and the PUK.

use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::{PUK, WRONG, Workplace};

const NEW_PIN: &str = "161803";

/// Name, arguments of `pkcs11-tool`, id and signature mechanism of each kind of key.
const KEYS: [(&str, &str, &str, &str); 4] = [
    ("rsa-2048", "rsa:2048", "01", "SHA256-RSA-PKCS"),
    ("rsa-3072", "rsa:3072", "02", "SHA256-RSA-PKCS"),
    ("p-256", "EC:prime256v1", "03", "ECDSA-SHA256"),
    ("p-384", "EC:secp384r1", "04", "ECDSA-SHA384"),
];

/// Everything that the card "Alice" is for. Returns the kinds of keys that the TPM has; all others must have been
/// refused without a trace.
pub(crate) fn live(workplace: &Workplace) -> String {
    let login = |pin: &'static str| vec!["--token-label", "Alice", "--login", "--pin", pin];
    let mut made = Vec::new();
    for (name, kind, id, mechanism) in KEYS {
        let generate = format!("--keypairgen --key-type {kind} --label {name} --id {id}");
        let generated = workplace.tool(&with(&login(PIN), &generate));
        if generated.success {
            made.push(name);
            sign(workplace, &login(PIN), name, id, mechanism);
            continue;
        }
        refused_everywhere(workplace, name, &generated.text);
        let listed = workplace.ok(&with(&login(PIN), "--list-objects"));
        assert!(!listed.contains(name), "{listed}");
    }
    let mechanisms = workplace.ok(&["--token-label", "Alice", "--list-mechanisms"]);
    for (mechanism, smaller, larger) in [
        ("RSA-PKCS, keySize={2048,", "2048", "3072"),
        ("ECDSA, keySize={256,", "256", "384"),
    ] {
        let has_larger = made.iter().any(|name| name.ends_with(larger));
        let longest = if has_larger { larger } else { smaller };
        let told = format!("{mechanism}{longest}}}");
        assert!(mechanisms.contains(&told), "{told}: {mechanisms}");
    }
    let (name, _, id, mechanism) = KEYS[0];
    count_and_change(workplace, &login);
    block_and_unblock(workplace, &login);
    sign(workplace, &login(PIN), name, id, mechanism);
    made.join(", ")
}

/// An algorithm that the TPM has not is refused as such through PKCS#11, and by name on the command line.
fn refused_everywhere(workplace: &Workplace, name: &str, through_pkcs11: &str) {
    // The tool does not know the name of each.
    let (code, number) = match name {
        "p-384" => ("CKR_CURVE_NOT_SUPPORTED", "(0x140)"),
        _ => ("CKR_KEY_SIZE_RANGE", "(0x62)"),
    };
    let is_named = [code, number].iter().any(|it| through_pkcs11.contains(it));
    assert!(is_named, "{name}: {through_pkcs11}");
    let pin = workplace.text("pin");
    let generate = ["key", "generate", "Alice", "--algorithm", name];
    let generated = workplace
        .daemon
        .cardea(&[&generate[..], &["--pin-file", &pin]].concat());
    let told = format!("no {name} keys, only p-256");
    let is_told = generated.text.contains(&told) && generated.text.contains("rsa-2048");
    assert!(!generated.success && is_told, "{}", generated.text);
}

/// A wrong PIN costs a try, the correct one returns it; another PIN, and back.
fn count_and_change(workplace: &Workplace, login: &impl Fn(&'static str) -> Vec<&'static str>) {
    workplace.fails(&with(&login(WRONG), "--list-objects"), "CKR_PIN_INCORRECT");
    assert_eq!(workplace.tries_left(), 4);
    forget_failures(workplace);
    for (old, new) in [(PIN, NEW_PIN), (NEW_PIN, PIN)] {
        workplace.ok(&with(&login(old), &format!("--change-pin --new-pin {new}")));
        workplace.fails(&with(&login(old), "--list-objects"), "CKR_PIN_INCORRECT");
        forget_failures(workplace);
    }
    workplace.ok(&with(&login(PIN), "--list-objects"));
    assert_eq!(workplace.tries_left(), 5);
}

fn block_and_unblock(workplace: &Workplace, login: &impl Fn(&'static str) -> Vec<&'static str>) {
    while workplace.tries_left() > 0 {
        let refused = workplace.tool(&with(&login(WRONG), "--list-objects"));
        assert!(!refused.success, "{}", refused.text);
        forget_failures(workplace);
    }
    workplace.fails(&with(&login(PIN), "--list-objects"), "CKR_PIN_LOCKED");
    let unblock = format!("--token-label Alice --login --login-type so --so-pin {PUK} --init-pin");
    let unblock: Vec<&str> = unblock.split_ascii_whitespace().collect();
    workplace.ok(&[&unblock[..], &["--new-pin", PIN]].concat());
    assert_eq!(workplace.tries_left(), 5);
}

/// Failures of cards whose counters are objects count towards the lockout of the TPM, which some leave at three.
fn forget_failures(workplace: &Workplace) {
    workplace.cardea(&["tpm", "reset-lockout"]);
}

fn sign(workplace: &Workplace, login: &[&str], name: &str, id: &str, mechanism: &str) {
    workplace.ok(&with(
        login,
        &format!(
            "--sign --mechanism {mechanism} --id {id} --input-file message --output-file signature \
             --signature-format openssl"
        ),
    ));
    let hash = match mechanism {
        "ECDSA-SHA384" => "-sha384",
        _ => "-sha256",
    };
    workplace.check(name, hash, "signature");
}

/// Further arguments, with blanks between.
fn with<'a>(login: &[&'a str], line: &'a str) -> Vec<&'a str> {
    let further = line.split_ascii_whitespace();
    login.iter().copied().chain(further).collect()
}
