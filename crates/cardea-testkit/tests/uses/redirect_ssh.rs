//! Cards of this machine on another one, over a real OpenSSH: by `cardea redirect`, and by p11-kit where there is no
//! Cardea. Two daemons with a TPM each; the person here is a pinentry behind `cardea-agent`.

mod hostile;
mod reader;

use std::fs;
use std::process::Command;

use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Outcome, Running, run, wait_for};
use cardea_testkit::redirection::Redirection;
use cardea_testkit::rig::{PIN, bin_dir};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::{MESSAGE, WRONG, module};

/// Where the page says that the module is.
const INSTALLED: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libcardea_pkcs11.so";

/// A user who is not the one that redirects.
const STRANGER: &str = "34";

/// The blocks of shell commands of the page that begin with this.
fn blocks(beginning: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("{}/redirect-ssh.md", crate::PAGES)).unwrap();
    let parts = text.split("```sh\n").skip(1);
    let blocks = parts.map(|part| part.split("```").next().unwrap().to_owned());
    let found: Vec<String> = blocks
        .filter(|block| block.starts_with(beginning))
        .collect();
    assert!(!found.is_empty(), "the page has no {beginning}");
    found
}

/// Runs commands of the page here.
fn shell(machines: &Redirection, commands: &str) -> Outcome {
    let commands = commands
        .replace(INSTALLED, &module())
        .replace("/run/user/1000", &machines.there.text(""));
    let mut command = machines.command(&["sh", "-e", "-c", &commands]);
    command.env("XDG_RUNTIME_DIR", machines.here.path(""));
    run(&mut command)
}

fn does(machines: &Redirection, commands: &str) -> String {
    let outcome = shell(machines, commands);
    assert!(outcome.success, "{commands}\n{}", outcome.text);
    outcome.text
}

/// The page's block with this beginning, by the words of the page.
fn page(machines: &Redirection, beginning: &str) -> String {
    does(machines, &blocks(beginning).concat())
}

/// Signs there by the page's command; the signature is checked here.
fn signs(machines: &Redirection, commands: &str) {
    fs::write(machines.here.path("message"), "signed at dev1\n").unwrap();
    does(machines, commands);
    machines.here.check("rsa", "-sha256", "signature");
    fs::write(machines.here.path("message"), MESSAGE).unwrap();
}

fn end(mut redirect: Running) {
    assert!(redirect.running(), "{}", redirect.log());
    redirect.terminate();
}

fn gone(machines: &Redirection) {
    wait_for("the card has left", || !machines.is_there());
}

#[test]
fn card_signs_on_the_other_machine_and_its_pin_is_typed_here() {
    let machines = Redirection::new("");
    assert!(!machines.is_there());
    let redirect = starts_as_the_page_says(&machines);
    signs_there(&machines);
    pin_is_typed_here_alone(&machines);
    card_is_not_changed_there(&machines);
    others_see_nothing_there(&machines);
    end(redirect);
    gone(&machines);
    let refused = machines.sign("rsa");
    assert!(!refused.success, "{}", refused.text);
    machines
        .here
        .ok(&["--login", "--pin", PIN, "--list-objects"]);
    Use {
        page: "redirect-ssh",
        title: "Redirection over SSH",
        program: "OpenSSH",
        package: "openssh-server",
        interface: Interface::Pkcs11,
        keys: "RSA-2048, P-256",
    }
    .shown();
}

fn starts_as_the_page_says(machines: &Redirection) -> Running {
    let blocks = blocks("cardea redirect");
    let words = blocks.first().map(|block| block.split_ascii_whitespace());
    assert!(words.is_some_and(|words| words.eq(["cardea", "redirect", "dev1"])));
    let redirect = machines.start(&[]);
    let listed = page(machines, "ssh dev1 cardea");
    assert!(
        listed.contains("Alice") && listed.contains("redirected from root at "),
        "{listed}"
    );
    redirect
}

fn signs_there(machines: &Redirection) {
    let keys = page(machines, "ssh dev1 ssh-keygen");
    assert!(
        keys.contains("ssh-rsa ") && keys.contains("ecdsa-sha2-nistp256 "),
        "{keys}"
    );
    let commands = blocks("echo \"signed at dev1\" | ssh dev1").concat();
    signs(machines, &commands);
    let asked = machines.person().asked();
    assert!(
        asked.contains("cardea (process ") && asked.contains(", for dev1, asks for the PIN"),
        "{asked}"
    );
    for key in ["rsa", "ec"] {
        let signed = machines.sign(key);
        assert!(signed.success, "{}", signed.text);
        machines.check(key);
    }
}

fn pin_is_typed_here_alone(machines: &Redirection) {
    // A wrong PIN is the person's; three times, and the program learns of it.
    machines.person().types(WRONG);
    let refused = machines.sign("rsa");
    assert!(
        !refused.success && refused.text.contains("CKR_PIN_INCORRECT"),
        "{}",
        refused.text
    );
    assert_eq!(machines.here.tries_left(), 2);
    machines.person().types(PIN);
    assert!(machines.sign("rsa").success);
    assert_eq!(machines.here.tries_left(), 5);

    // A PIN that is given there goes nowhere, right or wrong, and costs nothing: CKR_FUNCTION_REJECTED.
    for pin in [PIN, WRONG] {
        machines
            .there
            .fails(&["--login", "--pin", pin, "--list-objects"], "0x200");
    }
    assert_eq!(machines.here.tries_left(), 5);
}

fn card_is_not_changed_there(machines: &Redirection) {
    let denied = machines
        .there
        .daemon
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    assert!(
        !denied.success && denied.text.contains("do this there"),
        "{}",
        denied.text
    );
    machines.there.fails(
        &[
            "--login",
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "new",
        ],
        "CKR_",
    );
}

fn others_see_nothing_there(machines: &Redirection) {
    let shown = run(machines
        .there
        .client("setpriv --reuid 34 --clear-groups")
        .args([
            bin_dir().join("cardea").display().to_string().as_str(),
            "card",
            "list",
        ]));
    assert!(!shown.text.contains("Alice"), "{}", shown.text);
    let seen = run(machines
        .there
        .client(&format!(
            "setpriv --reuid {STRANGER} --clear-groups pkcs11-tool --module"
        ))
        .arg(module())
        .arg("-T"));
    assert!(!seen.text.contains("Alice"), "{}", seen.text);
}

#[test]
fn ssh_goes_on_from_the_other_machine_with_the_redirected_key() {
    let machines = Redirection::new("");
    let redirect = machines.start(&[]);
    let keys = machines.there.does(&format!("ssh-keygen -D {}", module()));
    let own = fs::read_to_string(machines.sshd.bin().join("../user.pub")).unwrap();
    machines.sshd.authorize(&own);
    // From there to a third machine, which is the same server with the card's keys alone.
    let hop = |further: &str| {
        machines.there.run(&format!(
            "ssh -F {} -o IdentityFile=none -o IdentitiesOnly=no -o PKCS11Provider={} {further} dev1 echo hopped",
            machines.sshd.client_config(),
            module()
        ))
    };
    let before = hop("-o PubkeyAcceptedAlgorithms=rsa-sha2-256,ecdsa-sha2-nistp256");
    assert!(!before.success, "{}", before.text);
    machines.sshd.authorize(&format!("{own}{keys}"));
    for algorithm in ["rsa-sha2-256", "ecdsa-sha2-nistp256"] {
        let hopped = hop(&format!(
            "-o BatchMode=no -o PubkeyAcceptedAlgorithms={algorithm}"
        ));
        assert!(
            hopped.success && hopped.text.contains("hopped"),
            "{algorithm}: {}",
            hopped.text
        );
    }
    machines.person().types("");
    let refused = hop("-o BatchMode=no -o PubkeyAcceptedAlgorithms=rsa-sha2-256");
    assert!(!refused.success, "{}", refused.text);
    end(redirect);
}

#[test]
fn each_use_can_be_asked_for() {
    let machines = Redirection::new("");
    let mut redirect = machines.start(&["--consent", "--card", "Alice"]);
    machines.person().consents(true);
    let signed = machines.sign("rsa");
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    let asked = machines.person().asked();
    assert!(
        asked.contains(", for dev1, wants to sign with key rsa"),
        "{asked}"
    );
    machines.person().consents(false);
    for _ in 0..2 {
        let refused = machines.sign("ec");
        assert!(
            !refused.success && refused.text.contains("CKR_FUNCTION_CANCELED"),
            "{}",
            refused.text
        );
    }
    // The row is broken by a yes to something.
    machines.person().consents(true);
    assert!(machines.sign("ec").success);
    machines.check("ec");
    // Three in a row, and nobody listens any more. The PIN between them is a yes, so it is refused too.
    machines.person().consents(false);
    machines.person().types("");
    for _ in 0..3 {
        assert!(!machines.sign("ec").success);
    }
    assert!(!redirect.wait().success());
    assert!(
        redirect
            .log()
            .contains("dev1 was refused several times in a row"),
        "{}",
        redirect.log()
    );
    gone(&machines);
    assert_eq!(machines.here.tries_left(), 5);
}

#[test]
fn keys_decipher_there_and_ask_every_time_where_they_want_to() {
    let machines = Redirection::new("");
    let pin = machines.here.text("pin");
    let generate = "key generate Alice --algorithm rsa-2048 --label always --pin-every-time";
    let words: Vec<&str> = generate.split(' ').collect();
    machines
        .here
        .cardea(&[&words[..], &["--pin-file", &pin]].concat());
    let redirect = machines.start(&[]);
    let public = machines.here.public("rsa");
    let cipher = machines.there.text("cipher");
    machines.here.does(&format!(
        "openssl pkeyutl -encrypt -pubin -inkey {public} -in message -out {cipher}"
    ));
    let decipher = [
        "--login",
        "--decrypt",
        "--mechanism",
        "RSA-PKCS",
        "--id",
        "00",
    ];
    let files = ["-i", "cipher", "-o", "plain"];
    machines.there.ok(&[&decipher[..], &files].concat());
    let plain = fs::read_to_string(machines.there.path("plain")).unwrap();
    assert_eq!(plain, MESSAGE);

    let asked = |machines: &Redirection| {
        machines
            .person()
            .asked()
            .matches("asks for the PIN")
            .count()
    };
    let before = asked(&machines);
    let sign = [
        "--login",
        "--sign",
        "--mechanism",
        "SHA256-RSA-PKCS",
        "--id",
        "01",
    ];
    let files = ["-i", "message", "-o", "always.sig"];
    machines.there.ok(&[&sign[..], &files].concat());
    assert_eq!(
        asked(&machines),
        before + 2,
        "for the login and for the key"
    );
    machines.check("always");
    end(redirect);
}

/// The `ssh` that a redirection runs.
fn ssh_of(redirect: &Running) -> String {
    let pid = redirect.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn cut_in_the_middle_of_a_command_loses_nothing() {
    let machines = Redirection::new("");
    let mut redirect = machines.start(&["--consent"]);
    machines.person().hesitates(true);
    machines.person().consents(true);
    let mut tool = machines.there.client("pkcs11-tool --module");
    tool.arg(module()).args(["--login", "--sign", "--id", "00"]);
    tool.args([
        "--mechanism",
        "SHA256-RSA-PKCS",
        "-i",
        "message",
        "-o",
        "cut.sig",
    ]);
    let mut tool = Running::start(&mut tool, &machines.there.path("tool.log"));
    wait_for("the question", || {
        machines.person().asked().contains("wants to")
    });
    let killed = run(Command::new("kill").args(["-KILL", &ssh_of(&redirect)]));
    assert!(killed.success, "{}", killed.text);
    assert!(!tool.wait().success());
    assert!(tool.log().contains("CKR_DEVICE_REMOVED"), "{}", tool.log());
    gone(&machines);
    assert!(!redirect.wait().success());
    assert!(
        redirect.log().contains("the connection to dev1 has ended"),
        "{}",
        redirect.log()
    );
    machines.person().hesitates(false);
    // The card here is as it was, and goes there again.
    assert_eq!(machines.here.tries_left(), 5);
    machines
        .here
        .ok(&["--login", "--pin", PIN, "--list-objects"]);
    let redirect = machines.start(&[]);
    let signed = machines.sign("rsa");
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    end(redirect);
    let audit = machines.there.cardea(&["audit", "--json"]);
    assert!(
        audit.contains("card-redirected") && audit.contains("card-withdrawn"),
        "{audit}"
    );
    let audit = machines.here.cardea(&["audit", "--json"]);
    assert!(audit.contains("dev1"), "{audit}");
}

#[test]
fn network_that_is_gone_ends_it_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let machines = Redirection::over("", Some(Namespace::new(folder.path(), "")));
    let options = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
    let mut redirect = machines.start(&[&["--"][..], &options].concat());
    assert!(machines.sign("rsa").success);
    machines.check("rsa");
    let network = |state: &str| {
        let network = machines.sshd.network().unwrap();
        let set = run(network.command("ip").args(["link", "set", "lo", state]));
        assert!(set.success, "{}", set.text);
    };
    network("down");
    assert!(!redirect.wait().success());
    assert!(
        redirect.log().contains("has ended (ssh failed)"),
        "{}",
        redirect.log()
    );
    assert!(machines.is_there(), "nobody has told the other side yet");
    network("up");
    gone(&machines);
    assert_eq!(machines.here.tries_left(), 5);
}

#[test]
fn cards_come_and_go_with_those_here() {
    let mut machines = Redirection::new("");
    let redirect = machines.start(&[]);
    let names = |machines: &Redirection| machines.there.cardea(&["card", "list"]);
    machines.here.create("Second");
    wait_for("the second card", || names(&machines).contains("Second"));
    machines
        .here
        .cardea(&["card", "destroy", "Second", "--yes"]);
    wait_for("it goes", || !names(&machines).contains("Second"));
    // A blocked card is one there too.
    machines.here.block();
    wait_for("it is blocked there", || {
        names(&machines).contains("blocked")
    });
    // The person here is led to its unblocking, and has no PUK at hand.
    let refused = machines.sign("rsa");
    assert!(
        !refused.success && refused.text.contains("CKR_FUNCTION_CANCELED"),
        "{}",
        refused.text
    );
    assert!(machines.person().asked().contains("Its PIN is blocked"));
    machines.here.unblock();
    assert!(machines.sign("rsa").success);
    machines.check("rsa");
    // Without a daemon here there is no card there; with one again there is.
    machines.here.daemon.kill();
    wait_for("the daemon is missed", || !machines.is_there());
    machines.here.daemon.restart();
    wait_for("the card is back", || machines.is_there());
    // Nor with a daemon there: then it is over.
    let mut redirect = redirect;
    machines.there.daemon.kill();
    assert!(!redirect.wait().success());
    assert!(redirect.log().contains("has ended"), "{}", redirect.log());
    machines.there.daemon.restart();
    assert!(!machines.is_there());
}

#[test]
fn pin_is_typed_at_the_terminal_where_no_agent_runs() {
    let machines = Redirection::without_agent("");
    // Without a terminal either, both sides are told.
    let redirect = machines.start(&[]);
    let refused = machines.sign("rsa");
    assert!(
        !refused.success && refused.text.contains("CKR_FUNCTION_FAILED"),
        "{}",
        refused.text
    );
    assert!(
        redirect
            .log()
            .contains("dev1 asked for card Alice, but nobody can be asked"),
        "{}",
        redirect.log()
    );
    end(redirect);
    gone(&machines);

    // script(1) gives the command a terminal, and types what comes through the pipe.
    let mut command = machines.command(&["sh", "-c"]);
    command.arg("mkfifo typed && exec 3<>typed && exec script -qefc 'cardea redirect dev1 --consent' /dev/null <&3");
    let mut redirect = Running::start(&mut command, &machines.here.path("terminal.log"));
    redirect.wait_ready(|redirect| redirect.log().contains("dev1 has Alice"));
    wait_for("the card is there", || machines.is_there());
    let types = |line: &str| {
        let mut pipe = fs::File::options()
            .write(true)
            .open(machines.here.path("typed"))
            .unwrap();
        std::io::Write::write_all(&mut pipe, line.as_bytes()).unwrap();
    };
    let mut tool = machines.there.client("pkcs11-tool --module");
    tool.arg(module()).args(["--login", "--sign", "--id", "00"]);
    tool.args([
        "--mechanism",
        "SHA256-RSA-PKCS",
        "-i",
        "message",
        "-o",
        "rsa.sig",
    ]);
    let mut tool = Running::start(&mut tool, &machines.there.path("tool.log"));
    wait_for("the question", || {
        redirect.log().contains("PIN of card Alice, for dev1: ")
    });
    types("000000\n");
    wait_for("the tries", || {
        redirect.log().contains("wrong PIN; 4 tries left")
    });
    wait_for("the second question", || {
        redirect.log().matches("PIN of card Alice").count() == 2
    });
    types(&format!("{PIN}\n"));
    wait_for("the consent", || {
        redirect.log().contains("dev1 wants to sign with key rsa")
    });
    types("y\n");
    assert!(tool.wait().success(), "{}", tool.log());
    machines.check("rsa");
    assert!(!redirect.log().contains(PIN), "the PIN was shown");
    redirect.terminate();
}

#[test]
fn p11_kit_serves_a_machine_without_cardea() {
    let machines = Redirection::new("");
    let serve = blocks("eval").concat();
    let sign = blocks("echo \"signed at dev1\" | ssh -R").concat();
    let end = blocks("p11-kit server --kill").concat();
    // The daemon there is none.
    let mut machines = machines;
    machines.there.daemon.kill();
    page(&machines, "cardea card set");
    signs(&machines, &[serve.as_str(), &sign, &end].concat());
    assert!(machines.person().asked().contains("asks for the PIN"));
    // A person who says no, and a card that is gone.
    machines.person().types("");
    let refused = shell(
        &machines,
        &format!("{serve}trap 'p11-kit server --kill' EXIT\n{sign}"),
    );
    assert!(
        !refused.success
            || fs::read(machines.here.path("signature"))
                .unwrap()
                .is_empty(),
        "{}",
        refused.text
    );
    assert!(refused.text.contains("CKR_"), "{}", refused.text);
    machines.person().types(PIN);
    machines.here.cardea(&["card", "destroy", "Alice", "--yes"]);
    let refused = shell(
        &machines,
        &format!("{serve}trap 'p11-kit server --kill' EXIT\n{sign}"),
    );
    assert!(
        !refused.text.contains("Using signature"),
        "{}",
        refused.text
    );
    assert!(
        fs::read(machines.here.path("signature"))
            .unwrap()
            .is_empty()
    );
    Use {
        page: "redirect-ssh",
        title: "Remote use without Cardea there",
        program: "p11-kit",
        package: "p11-kit",
        interface: Interface::Pkcs11,
        keys: "RSA-2048",
    }
    .shown();
}

#[test]
fn what_cannot_be_redirected_is_reported() {
    let machines = Redirection::without_agent("");
    let refused = |words: &[&str], why: &str| {
        let outcome = run(&mut machines.command(&[&["cardea", "redirect"], words].concat()));
        assert!(
            !outcome.success && outcome.text.contains(why),
            "{words:?}: {why} is not in\n{}",
            outcome.text
        );
    };
    refused(&["-oProxyCommand=touch x"], "");
    refused(&["dev2"], "ssh failed");
    refused(
        &["dev1", "--ssh", "no-such-program"],
        "cannot start no-such-program",
    );
    refused(
        &["dev1", "--remote-command", "no-such-program"],
        "cardea was not found there",
    );
    refused(
        &[
            "dev1",
            "--remote-command",
            "echo Welcome; cardea redirect-accept",
        ],
        "does its shell print anything",
    );
    refused(
        &[
            "dev1",
            "--remote-command",
            "cardea --socket /nonexistent redirect-accept",
        ],
        "is cardea-daemon running?",
    );
    refused(&["dev1", "--card", "Nobody"], "there is no such card");
    // To this machine itself.
    let own = format!(
        "cardea --socket {} redirect-accept",
        machines.here.daemon.socket().display()
    );
    refused(&["dev1", "--remote-command", &own], "you already have card");
    // Options of ssh reach it.
    refused(&["dev1", "--", "-p", "1"], "ssh failed");
    // What was redirected cannot be redirected again, and a machine takes so many from a user.
    let redirect = machines.start(&[]);
    let chained = machines
        .there
        .daemon
        .cardea(&["redirect", "dev1", "--card", "Alice"]);
    assert!(
        !chained.success && chained.text.contains("cannot be redirected again"),
        "{}",
        chained.text
    );
    let alone = machines.there.daemon.cardea(&["redirect", "dev1"]);
    assert!(
        !alone.success && alone.text.contains("no card here"),
        "{}",
        alone.text
    );
    refused(&["dev1"], "you already have card");
    assert!(machines.is_there());
    end(redirect);
    machines.here.cardea(&["card", "destroy", "Alice", "--yes"]);
    refused(&["dev1"], "you have no card here");
}
