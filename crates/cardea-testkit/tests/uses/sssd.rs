//! SSSD's `p11_child`: `docs/uses/sssd.md`, and what must be refused.

use cardea_testkit::process::Outcome;
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;

use crate::network::Computer;

/// The last command of the page's trial is the sign-in.
fn sign_in(computer: &Computer, from: &str, to: &str) -> Outcome {
    let section = computer.section("Try it without a directory");
    let (_, commands) = section.split_once("MODULE=").unwrap();
    assert!(commands.contains(from), "{from} is not in {commands}");
    computer.runs(&format!("MODULE={}", commands.replace(from, to)))
}

/// What it prints about the certificate of the card, without the base64.
fn found(text: &str) -> Vec<&str> {
    text.lines().skip(1).take(4).collect()
}

fn is_admitted(computer: &Computer, id: &str) {
    let Outcome { success, text, .. } = sign_in(computer, "", "");
    let module = "/usr/lib/x86_64-linux-gnu/pkcs11/libcardea_pkcs11.so";
    assert!(success, "{text}");
    assert_eq!(found(&text), ["Alice", module, id, "login"], "{text}");
}

/// Nobody is admitted, for a reason that the page has.
fn is_refused(computer: &Computer, from: &str, to: &str, reason: &str) {
    let text = sign_in(computer, from, to).text;
    assert!(text.contains(reason), "{reason} is not in\n{text}");
    assert!(!text.contains("\nlogin\n"), "{text}");
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
}

#[test]
fn p11_child_of_sssd_verifies_the_card() {
    let computer = Computer::with_card("sssd", &["sssd"]);
    for (key, id) in [("rsa-2048", "00"), ("p-256", "1D")] {
        if key == "p-256" {
            computer.change_to_p256("login");
        }
        let before = computer.signatures();
        let section = computer.section("Try it without a directory");
        let (pre, _) = section.split_once("MODULE=").unwrap();
        let listed = computer.machine.does(pre);
        assert_eq!(found(&listed).last(), Some(&"login"), "{listed}");
        assert_eq!(computer.signatures(), before);
        is_admitted(&computer, id);
        assert_eq!(computer.signatures(), before + 1);
    }
    is_refused(&computer, PIN, WRONG, "C_Login failed [160]");
    assert_eq!(computer.workplace.tries_left(), 4);

    computer.another_authority();
    let authority = "/etc/sssd/pki/sssd_auth_ca_db.pem";
    let before = computer.signatures();
    is_refused(&computer, authority, "other.pem", "X509_verify_cert failed");
    assert_eq!(computer.signatures(), before);
    is_admitted(&computer, "1D");
    assert_eq!(computer.workplace.tries_left(), 5);

    computer.workplace.block();
    is_refused(&computer, "", "", "C_Login failed: PIN locked");
    computer.workplace.unblock();
    is_admitted(&computer, "1D");
    let text = sign_in(&computer, "token_name=Alice", "token_name=Bob").text;
    assert!(text.starts_with("0\n") && !text.contains("login"), "{text}");
    Use {
        page: "sssd",
        title: "Sign-in with SSSD: the card's part",
        program: "SSSD p11_child",
        package: "sssd-common",
        interface: Interface::Pkcs11,
        keys: "RSA-2048, P-256",
    }
    .shown();
}
