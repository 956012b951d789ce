//! Client certificates in TLS: `docs/uses/tls.md` with curl, OpenSSL and GnuTLS against nginx, and what must be
//! refused, with the words that the page has for it.

use std::io::Write;
use std::process::Stdio;

use cardea_testkit::rig::PIN;
use cardea_testkit::site::{Site, commands, page};
use cardea_testkit::uses::{Interface, Use};

/// A part of a command and what stands in its place.
type Change = (&'static str, String);

/// A program's section of the page.
struct Client<'a> {
    site: &'a Site,
    name: &'a str,
}

impl Client<'_> {
    /// Its commands with parts of them replaced.
    fn with(&self, changes: &[Change]) -> String {
        let mut commands = commands("tls", self.name);
        for (from, to) in changes {
            assert!(commands.contains(from), "{from} is not in {commands}");
            commands = commands.replace(from, to);
        }
        commands
    }

    fn is_let_in(&self) {
        let said = self.site.does(&self.with(&[]));
        assert!(said.contains("<h1>Welcome, CN=Alice</h1>"), "{said}");
    }

    /// The words that the page has for this client, in the row that begins so.
    fn words(&self, row: &str) -> String {
        let text = page("tls");
        let line = |first: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("| {first} |")));
            line.unwrap().split('|').map(str::trim).collect::<Vec<_>>()
        };
        let head = line("What is wrong");
        let column = head.iter().position(|cell| *cell == self.name).unwrap();
        let cells = line(row);
        let mut words = *cells.get(column).unwrap();
        if words == "the same" {
            words = cells.get(2).unwrap();
        }
        words.trim_matches('`').to_owned()
    }

    /// With those changes it ends in the words of that row.
    fn is_refused(&self, row: &str, changes: &[Change]) {
        let said = self.site.shell(&self.with(changes));
        let words = self.words(row);
        assert!(
            said.text.contains(&words),
            "{words} is not in\n{}",
            said.text
        );
        assert!(!said.text.contains("Welcome"), "{}", said.text);
        // What a server says is a success to these two.
        let answered = said.text.contains("HTTP/1.1 403");
        assert_eq!(said.success, answered, "{}", said.text);
    }

    /// Everything that must be refused; the card is gone afterwards.
    fn is_refused_where_it_must(&self) {
        let workplace = &self.site.workplace;
        // GnuTLS takes a path, the engine of OpenSSL a URI.
        let source = match self.name {
            "GnuTLS" => ("pin-source=pin", "pin-source=wrong".into()),
            _ => ("pin-source=file:pin", "pin-source=file:wrong".into()),
        };
        self.is_refused("wrong PIN", &[source]);
        assert_eq!(workplace.tries_left(), 4);
        self.is_let_in();
        assert_eq!(workplace.tries_left(), 5);
        self.is_refused(
            "your certificate is of an authority that the server does not know",
            &[self.to_port("8443")],
        );
        let signed = self.signatures();
        self.is_refused(
            "the server's certificate is of an authority that you do not know",
            &[self.to_port("9443")],
        );
        assert_eq!(self.signatures(), signed);

        workplace.block();
        self.is_refused("blocked card", &[]);
        workplace.unblock();
        self.is_let_in();

        self.is_refused("no such card", &[("token=Alice", "token=Bob".into())]);
        self.site.expire();
        self.is_refused("your certificate has expired", &[]);
        workplace.cardea(&["card", "destroy", "Alice", "--yes"]);
        // What OpenSSL's section has first needs a card.
        let commands = self.with(&[]);
        let said = self.site.refuses(commands.lines().last().unwrap());
        let words = self.words("no card at all, or no daemon");
        assert!(said.contains(&words), "{words} is not in\n{said}");
    }

    /// What changes its port.
    fn to_port(&self, port: &str) -> Change {
        match self.name {
            "curl" => ("example.org/", format!("example.org:{port}/")),
            "OpenSSL" => (":443", format!(":{port}")),
            _ => ("--port=443", format!("--port={port}")),
        }
    }

    /// How many signatures the audit has.
    fn signatures(&self) -> usize {
        let audit = self.site.workplace.cardea(&["audit"]);
        audit
            .lines()
            .filter(|line| line.contains("key-used"))
            .count()
    }

    fn shown(&self, program: &str, package: &str) {
        Use {
            page: "tls",
            title: "TLS client authentication at nginx",
            program,
            package,
            interface: Interface::Pkcs11,
            keys: "RSA-2048, P-256",
        }
        .shown();
    }
}

/// A site for each kind of key.
fn sites() -> [Site; 2] {
    ["rsa-2048", "p-256"].map(Site::of_page)
}

/// Types the PIN at the terminal at which a shell's command asks for it.
fn at_terminal(site: &Site, command: &str) -> String {
    let mut script = site.command("script");
    let mut child = script
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{PIN}").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// A program with both kinds of keys, and all that must be refused.
fn try_out(name: &str, package: &str, program: &str) {
    let sites = sites();
    for site in &sites {
        Client { site, name }.is_let_in();
    }
    let site = &sites[0];
    site.serve_others();
    site.serve_untrusted();
    let client = Client { site, name };
    client.is_refused_where_it_must();
    client.shown(program, package);
}

#[test]
fn curl_is_let_in_with_the_card() {
    try_out("curl", "curl", "curl");
}

#[test]
fn openssl_is_let_in_with_the_card() {
    try_out("OpenSSL", "openssl", "OpenSSL");
}

#[test]
fn gnutls_is_let_in_with_the_card() {
    try_out("GnuTLS", "gnutls-bin", "GnuTLS");
}

#[test]
fn curl_asks_for_the_pin_at_the_terminal() {
    let site = Site::of_page("p-256");
    let command = Client {
        site: &site,
        name: "curl",
    }
    .with(&[(";pin-source=file:pin", String::new())]);
    let said = at_terminal(&site, command.trim());
    assert!(said.contains("PIN for Alice"), "{said}");
    assert!(said.contains("Welcome, CN=Alice"), "{said}");
}

#[test]
fn nobody_is_let_in_without_a_certificate() {
    let site = Site::of_page("p-256");
    let client = Client {
        site: &site,
        name: "curl",
    };
    let said = client.with(&[(
        " --cert \"pkcs11:token=Alice;object=web;pin-source=file:pin\"",
        String::new(),
    )]);
    let said = site.refuses(&said);
    assert!(
        said.contains("needs the certificate of your card"),
        "{said}"
    );
}
