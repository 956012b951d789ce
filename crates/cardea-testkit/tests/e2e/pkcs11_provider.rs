//! OpenSSL with our module through pkcs11-provider, where OpenSSL is newer than that of Debian 12, which has the engine.

use std::fs;

use cardea_testkit::page::Page;
use cardea_testkit::process::{self, Outcome};
use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::{MESSAGE, WRONG, Workplace, module};

/// The commands of `docs/uses/openssl.md` with files and labels of the workplace, and the PIN from a file.
fn commands(heading: &str, key: &str) -> String {
    Page::of_uses("openssl")
        .section(heading)
        .replace("$(pkg-config --variable=module cardea-pkcs11)", &module())
        .replace(
            ";type=private\"",
            ";type=private?pin-source=file:pin-file\"",
        )
        .replace("object=sign", &format!("object={key}"))
        .replace("sign.pem", &format!("{key}.pem"))
        .replace("object=mail", "object=rsa")
        .replace("mail.pem", "rsa.pem")
}

/// Runs the page's commands in the workplace, up to the first that fails.
fn shell(workplace: &Workplace, commands: &str) -> Outcome {
    process::run(workplace.client("sh -e -c").arg(commands))
}

fn does(workplace: &Workplace, commands: &str) -> String {
    let outcome = shell(workplace, commands);
    assert!(outcome.success, "{commands}\nfailed:\n{}", outcome.text);
    outcome.text
}

fn refuses(workplace: &Workplace, commands: &str) -> String {
    let outcome = shell(workplace, commands);
    assert!(!outcome.success, "{commands}\nsucceeded:\n{}", outcome.text);
    outcome.text
}

/// A card with certificates and the provider, if OpenSSL is one for it.
fn ready() -> Option<Workplace> {
    let workplace = Workplace::with_certificates();
    if workplace
        .does("openssl version")
        .starts_with("OpenSSL 3.0.")
    {
        return None;
    }
    does(&workplace, &commands("The provider", "ec"));
    fs::write(workplace.path("pin-file"), PIN).unwrap();
    fs::write(workplace.path("letter.txt"), MESSAGE).unwrap();
    Some(workplace)
}

#[test]
fn openssl_signs_and_decrypts_through_its_provider() {
    let Some(workplace) = ready() else { return };
    for key in ["rsa", "ec"] {
        let said = does(&workplace, &commands("Sign and decrypt", key));
        assert!(said.contains("Verified OK"), "{said}");
        let opened = fs::read_to_string(workplace.path("opened.txt")).unwrap();
        assert_eq!(opened.replace('\r', ""), MESSAGE);
    }
}

#[test]
fn wrong_pin_costs_openssl_a_try_through_its_provider() {
    let Some(workplace) = ready() else { return };
    let commands = commands("Sign and decrypt", "ec");
    let sign = commands.lines().next().unwrap();
    fs::write(workplace.path("pin-file"), WRONG).unwrap();
    let said = refuses(&workplace, sign);
    assert!(said.contains("Could not find private key"), "{said}");
    assert_eq!(workplace.tries_left(), 4);
    fs::write(workplace.path("pin-file"), PIN).unwrap();
    does(&workplace, sign);
    assert_eq!(workplace.tries_left(), 5);
    workplace.delete("ec");
    refuses(&workplace, sign);
}
