//! Cards in remote desktops: real clients redirect them, and what is at the other end uses them.
//!
//! The other end is the server of [`cardea_testkit::rdp`], which does what Windows does, and xrdp.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "an answer that is too short fails the test"
)]

use std::fs;
use std::os::unix::net::UnixStream;

use cardea_pki::{Name, PublicKey, RequestBuilder};
use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Running, wait_for};
use cardea_testkit::rdp::{
    Attribute, Card, Certificate, Code, Context, Device, ReaderState, Server, Session, Share,
};
use cardea_testkit::rig::{PIN, Rig};
use cardea_testkit::transcript::Transcript;
use cardea_testkit::uses::{Interface, Use};

use self::minidriver::Minidriver;

mod minidriver;
mod session;
mod xrdp;

const PAGE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/uses/remote-desktop.md"
);

/// The server's name on the page.
const HOST: &str = "desktop.example.org";

const CLIENT: &str = "xfreerdp /v:desktop.example.org /u:alice /smartcard";
const RDESKTOP: &str = "rdesktop -r scard -u alice desktop.example.org";
const CLIENT_OF_SOME: &str = "xfreerdp /v:desktop.example.org /u:alice /smartcard:Cardea";

/// Longest wait for a change, in milliseconds.
const LIMIT: u32 = 30_000;

/// Exit status of xfreerdp when the server has ended the session.
const ENDED: Option<i32> = Some(12);

/// `CM_IOCTL_GET_FEATURE_REQUEST` as Windows has it, and a feature (PC/SC part 10).
const GET_FEATURES: u32 = 0x0031_3520;
const TLV_PROPERTIES: u8 = 0x12;

/// A command, which the page has as it is here.
fn on_page(command: &str) -> &str {
    let page = fs::read_to_string(PAGE).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let found = blocks.flat_map(str::lines).any(|line| line == command);
    assert!(found, "the page has no {command}");
    command
}

/// The user's machine, with cards and a screen, and a remote machine.
struct Place {
    rig: Rig,
    local: Namespace,
    _screen: Running,
    server: Server,
}

impl Place {
    fn new(rig: Rig) -> Self {
        let (local, screen) = machine(&rig, "");
        Self {
            server: Server::listen(&local),
            rig,
            local,
            _screen: screen,
        }
    }

    /// A client, by its command line.
    fn client(&self, line: &str) -> Running {
        start_client(&self.rig, &self.local, line, "server.pem")
    }

    /// The client of the page, and its session.
    fn open(&self) -> (Running, Session) {
        let mut client = self.client(on_page(CLIENT));
        let session = self.server.accept(&mut client);
        (client, session)
    }

    /// Name of the reader in a slot.
    fn reader(slot: u8) -> String {
        format!("Cardea Virtual Smart Card 00 {slot:02}")
    }
}

/// A user's machine: the remote one's name is known, its certificate (`server.pem`, with `server.key`) is that of
/// the one authority which is trusted, and there is a screen. What `script` mounts is there, too.
fn machine(rig: &Rig, script: &str) -> (Namespace, Running) {
    let path = |name: &str| rig.folder().join(name).display().to_string();
    fs::write(path("hosts"), format!("127.0.0.1 localhost {HOST}\n")).unwrap();
    let make = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ];
    let (subject, name) = (format!("/CN={HOST}"), format!("subjectAltName=DNS:{HOST}"));
    let named = ["-subj", &subject, "-addext", &name];
    let files = ["-keyout", "server.key", "-out", "server.pem"];
    rig.ok("openssl", &[&make[..], &named, &files].concat());
    let script = format!(
        "mkdir -p -m 1777 /tmp/.X11-unix && mount -t tmpfs -o mode=1777 x /tmp/.X11-unix\n\
         mount --bind {} /etc/hosts\n\
         mount --bind {} /etc/ssl/certs/ca-certificates.crt\n\
         {script}",
        path("hosts"),
        path("server.pem"),
    );
    let local = Namespace::new(rig.folder(), &script);
    let mut screen = local.command("Xvfb");
    screen.args([":7", "-nolock", "-nolisten", "tcp"]);
    screen.args(["-screen", "0", "640x480x24"]);
    let mut screen = Running::start(&mut screen, &rig.folder().join("screen.log"));
    let socket = local.path("/tmp/.X11-unix/X7");
    screen.wait_ready(|_| UnixStream::connect(&socket).is_ok());
    (local, screen)
}

/// A client, by its command line, and the file with the authorities that OpenSSL trusts.
fn start_client(rig: &Rig, local: &Namespace, line: &str, trusted: &str) -> Running {
    let mut words = line.split(' ');
    let mut client = local.command(words.next().unwrap());
    client
        .args(words)
        .env("DISPLAY", ":7")
        .env("PCSCLITE_CSOCK_NAME", rig.pcscd.socket())
        .env("SSL_CERT_FILE", rig.folder().join(trusted))
        .env("HOME", rig.folder());
    Running::start(&mut client, &rig.folder().join("client.log"))
}

fn is(readers: &[String], slots: u8) -> bool {
    readers
        .iter()
        .eq(&(0..slots).map(Place::reader).collect::<Vec<_>>())
}

/// What Windows does from the logon to a certificate on the card, by what its components were seen to do.
#[test]
fn windows_finds_a_card_uses_it_and_writes_to_it() {
    let mut rig = Rig::with_card("Windows");
    let recorded = rig.create("Recorded", &[]);
    let windows = rig.card_id();
    let place = Place::new(rig);
    let (mut client, mut session) = place.open();
    let devices: Vec<_> = session.devices().iter().map(|device| device.kind).collect();
    assert_eq!(devices, [Device::SMART_CARDS]);

    // The resource manager: which readers there are, and what is in them.
    session.started();
    let context = session.establish().unwrap();
    session.is_valid(&context).unwrap();
    let readers = session.list_readers(&context).unwrap();
    assert!(is(&readers, 4), "{readers:?}");
    let card = look_into(&mut session, &context, &readers);

    // Plug and Play, the smart card subsystem and the class minidriver look at it.
    session.begin(&card).unwrap();
    let mut transmit = |command: &[u8]| session.transmit(&card, command).unwrap();
    play(&mut transmit, &windows, "windows-probe.txt");
    session.end_transaction(&card).unwrap();

    session.begin(&card).unwrap();
    let mut transmit = |command: &[u8]| session.transmit(&card, command).unwrap();
    let mut driver = Minidriver::new(&mut transmit);
    request_certificate(&place.rig, &mut driver);
    accept_certificate(&place.rig, &mut driver);
    use_key(&place.rig, &mut driver);
    session.end_transaction(&card).unwrap();
    session.disconnect(card).unwrap();
    is_found_at_home(&place.rig);

    // The commands of a recorded enrolment, byte for byte, with another card.
    let card = session
        .connect(&context, &readers[1], Share::Exclusive)
        .unwrap();
    let mut transmit = |command: &[u8]| session.transmit(&card, command).unwrap();
    play(&mut transmit, &recorded, "windows-enrol.txt");
    session.disconnect(card).unwrap();
    session.release(context).unwrap();
    session.end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());

    Use {
        page: "remote-desktop",
        title: "Remote desktop: the card as Windows finds, uses and writes it",
        program: "xfreerdp",
        package: "freerdp2-x11",
        interface: Interface::PcSc,
        keys: "RSA-2048",
    }
    .shown();
}

/// What the resource manager asks of the readers, and of the card in the first.
fn look_into(session: &mut Session, context: &Context, readers: &[String]) -> Card {
    let state = session.status_change(context, &readers[0], 0, 0).unwrap();
    assert_eq!(state.state & ReaderState::PRESENT, ReaderState::PRESENT);
    assert_eq!(state.atr[..2], [0x3B, 0x8D]);
    let empty = session.status_change(context, &readers[2], 0, 0).unwrap();
    assert_eq!(empty.state & ReaderState::EMPTY, ReaderState::EMPTY);
    let card = session
        .connect(context, &readers[0], Share::Shared)
        .unwrap();
    let (names, atr) = session.status(&card).unwrap();
    assert_eq!((&names[..], &atr), (&readers[..1], &state.atr));
    let attribute = session.attribute(&card, Attribute::AtrString).unwrap();
    assert_eq!(attribute, atr);
    let vendor = session.attribute(&card, Attribute::VendorName).unwrap();
    assert!(vendor.starts_with(b"Cardea"), "{vendor:02x?}");
    let features = session.control(&card, GET_FEATURES).unwrap();
    assert_eq!(features[..2], [TLV_PROPERTIES, 4], "{features:02x?}");
    card
}

/// `certreq -new`: a key, and a request that it signs.
fn request_certificate(rig: &Rig, driver: &mut Minidriver<'_>) {
    assert_eq!(driver.tries(), 0x63C5);
    assert_eq!(driver.verify("000000"), 0x63C4);
    assert_eq!((driver.tries(), rig.tries_left()), (0x63C4, 4));
    assert_eq!(driver.verify(PIN), minidriver::DONE);
    assert_eq!(rig.tries_left(), 5);
    let (n, e) = driver.generate("le-6f0c9a52-2f6a-4a3e-9d0b-51f0");
    let key = PublicKey::from_rsa(&n, &e).unwrap();
    let public = rig.folder().join("windows.pub");
    fs::write(&public, key.to_spki_pem()).unwrap();
    let subject = "CN=Alice".parse::<Name>().unwrap();
    let request = RequestBuilder::new(subject, key).build().unwrap();
    let signature = driver.sign(&request.digest_info()).unwrap();
    driver.forget();
    assert_eq!(driver.sign(&request.digest_info()), Err(0x6982));
    let request = request.finish(&signature).unwrap();
    fs::write(rig.folder().join("windows.csr"), request.to_pem()).unwrap();
    let verify = ["req", "-verify", "-noout", "-in", "windows.csr"];
    rig.ok("openssl", &verify);
}

/// A CA answers; `certreq -accept`: the certificate, in blocks of 240 bytes.
fn accept_certificate(rig: &Rig, driver: &mut Minidriver<'_>) {
    rig.issue_certificate("windows.pub", "windows.pem", "/CN=Alice");
    let certificate = rig.der("windows.pem");
    assert_eq!(driver.verify(PIN), minidriver::DONE);
    driver.store_certificate(&certificate);
    let content = driver.stored_certificate();
    assert!(content.len() > 2 * 240, "{} bytes", content.len());
    // A renewal takes its place.
    rig.issue_certificate("windows.pub", "renewed.pem", "/CN=Alice Renewed");
    driver.store_certificate(&rig.der("renewed.pem"));
    assert_ne!(driver.stored_certificate(), content);
    driver.store_certificate(&certificate);
    assert_eq!(driver.stored_certificate(), content);
}

/// A signature, and a message for the key, which OpenSSL checks and makes.
fn use_key(rig: &Rig, driver: &mut Minidriver<'_>) {
    let digest = "3031300d060960864801650304020105000420";
    let digest: Vec<u8> = (0..digest.len() / 2)
        .map(|at| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap())
        .chain(0xA0..0xC0)
        .collect();
    let signature = driver.sign(&digest).unwrap();
    check_signature(rig, "windows.pub", &digest[19..], &signature);
    let secret = b"a key of 32 bytes for a message.";
    let cryptogram = encrypt(rig, "windows.pub", secret);
    assert_eq!(driver.decipher(&cryptogram).unwrap(), secret);
    driver.forget();
    assert_eq!(driver.decipher(&cryptogram), Err(0x6982));
}

/// What Windows has written is what programs at home find.
fn is_found_at_home(rig: &Rig) {
    let read = rig.does("pkcs15-tool --read-certificate 00");
    let here = fs::read_to_string(rig.folder().join("windows.pem")).unwrap();
    assert!(read.contains(here.trim()), "{read}");
    let signed = ["--sign", "--id", "00", "--mechanism", "SHA256-RSA-PKCS"];
    fs::write(rig.folder().join("message"), "from home").unwrap();
    let files = ["--input-file", "message", "--output-file", "signature"];
    let arguments = rig.pkcs11(&[&signed[..], &files].concat());
    rig.ok("pkcs11-tool", &arguments);
    let verify = ["dgst", "-sha256", "-verify", "windows.pub"];
    let files = ["-signature", "signature", "message"];
    rig.ok("openssl", &[&verify[..], &files].concat());
}

#[test]
fn what_is_not_there_is_refused() {
    let mut place = Place::new(Rig::with_card("Alice"));
    let (mut client, mut session) = place.open();
    session.started();
    let context = session.establish().unwrap();
    let connect = |session: &mut Session, reader: &str, share| {
        session.connect(&context, reader, share).map(drop)
    };
    assert_eq!(
        connect(&mut session, &Place::reader(1), Share::Shared),
        Err(Code::NO_SMART_CARD)
    );
    assert_eq!(
        connect(&mut session, "Some Other Reader 00 00", Share::Shared),
        Err(Code::UNKNOWN_READER)
    );

    // One program alone, and no room for the response.
    let reader = Place::reader(0);
    let exclusive = session
        .connect(&context, &reader, Share::Exclusive)
        .unwrap();
    let second = session.establish().unwrap();
    assert_eq!(
        session.connect(&second, &reader, Share::Shared).map(drop),
        Err(Code::SHARING_VIOLATION)
    );
    let select = [
        0x00, 0xA4, 0x04, 0x00, 0x09, 0xA0, 0, 0, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x00,
    ];
    assert_eq!(
        session.transmit_into(&exclusive, &select, 2),
        Err(Code::INSUFFICIENT_BUFFER)
    );
    assert!(
        session
            .transmit(&exclusive, &select)
            .unwrap()
            .ends_with(&[0x90, 0x00])
    );
    session.disconnect(exclusive).unwrap();

    // A wait that nothing ends, one that is cancelled, and one that a removal ends.
    let present = session.status_change(&context, &reader, 0, 0).unwrap();
    assert_eq!(
        session.status_change(&context, &reader, present.event, 1),
        Err(Code::TIMEOUT)
    );
    let waiting = session.begin_status_change(&second, &reader, present.event, u32::MAX);
    // What comes before pcscd's library waits is lost.
    wait_for("the end of the wait", || {
        session.cancel(&second).unwrap();
        session.has_answered(&waiting)
    });
    assert_eq!(session.end_status_change(&waiting), Err(Code::CANCELLED));
    let card = session.connect(&context, &reader, Share::Shared).unwrap();
    let waiting = session.begin_status_change(&second, &reader, present.event, u32::MAX);
    let id = place.rig.card_id();
    let destroyed = place.rig.daemon.cardea(&["card", "destroy", &id, "--yes"]);
    assert!(destroyed.success, "{}", destroyed.text);
    let gone = session.end_status_change(&waiting).unwrap();
    assert_eq!(gone.state & ReaderState::EMPTY, ReaderState::EMPTY);
    assert_eq!(session.transmit(&card, &select), Err(Code::REMOVED_CARD));

    // A new card in the same reader, and the longest command that there is.
    let pin = place.rig.folder().join("pin").display().to_string();
    let create = ["card", "create", "--name", "Bob", "--pin-file", &pin];
    let made = place.rig.daemon.cardea(&create);
    assert!(made.success, "{}", made.text);
    let back = session
        .status_change(&second, &reader, gone.event, LIMIT)
        .unwrap();
    assert_eq!(back.state & ReaderState::PRESENT, ReaderState::PRESENT);
    let card = session.connect(&context, &reader, Share::Shared).unwrap();
    let mut longest = vec![0x00, 0xDB, 0xA0, 0x10, 0x00, 0xFF, 0xFF];
    longest.resize(7 + 0xFFFF + 2, 0);
    let refused = session.transmit(&card, &longest).unwrap();
    // The data object in it is shorter.
    assert_eq!(refused, [0x6A, 0x85]);

    // Without pcscd at home the session stays, and says so.
    place.rig.pcscd.kill();
    assert_eq!(session.establish().map(drop), Err(Code::NO_SERVICE));
    session.end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());
}

#[test]
fn only_what_is_redirected_is_seen() {
    let place = Place::new(Rig::with_card("Alice"));
    let without = on_page(CLIENT).strip_suffix(" /smartcard").unwrap();
    let mut client = place.client(without);
    let session = place.server.accept(&mut client);
    assert_eq!(session.devices(), []);
    session.end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());

    let mut client = place.client(on_page(CLIENT_OF_SOME));
    let mut session = place.server.accept(&mut client);
    let context = session.establish().unwrap();
    let readers = session.list_readers(&context).unwrap();
    assert!(is(&readers, 4), "{readers:?}");
    session.end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());

    let mut client = place.client(&format!("{without} /smartcard:Other"));
    let mut session = place.server.accept(&mut client);
    let context = session.establish().unwrap();
    let listed = session.list_readers(&context);
    assert!(
        listed.as_ref().is_ok_and(Vec::is_empty) || listed.is_err(),
        "{listed:?}"
    );
    session.end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());
}

/// A client that others wrote, over an encrypted connection.
#[test]
fn rdesktop_hands_on_the_card_too() {
    let mut place = Place::new(Rig::with_card("Alice"));
    place.server = place.server.with_tls(Certificate {
        certificate: place.rig.folder().join("server.pem"),
        key: place.rig.folder().join("server.key"),
    });
    let mut client = place.client(on_page(RDESKTOP));
    let mut session = place.server.accept(&mut client);
    let kinds: Vec<_> = session.devices().iter().map(|device| device.kind).collect();
    assert_eq!(kinds, [Device::SMART_CARDS]);
    let context = session.establish().unwrap();
    let readers = session.list_readers(&context).unwrap();
    assert!(is(&readers, 4), "{readers:?}");
    let card = session
        .connect(&context, &readers[0], Share::Shared)
        .unwrap();
    assert!(
        session
            .connect(&context, &readers[1], Share::Shared)
            .is_err()
    );
    let id = place.rig.card_id();
    let mut transmit = |command: &[u8]| session.transmit(&card, command).unwrap();
    play(&mut transmit, &id, "windows-probe.txt");
    play(&mut transmit, &id, "windows-enrol.txt");
    session.end();
    client.wait();

    Use {
        page: "remote-desktop",
        title: "Remote desktop: the card as Windows uses it, by another client",
        program: "rdesktop",
        package: "rdesktop",
        interface: Interface::PcSc,
        keys: "RSA-2048",
    }
    .shown();
}

/// Plays a transcript of `cardea-card`.
fn play(transmit: &mut dyn FnMut(&[u8]) -> Vec<u8>, id: &str, name: &str) {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../cardea-card/tests/transcripts/"
    );
    let text = fs::read_to_string(format!("{folder}{name}")).unwrap();
    let transcript = Transcript::parse(&text).unwrap();
    let id: cardea_card::record::CardId = id.parse().unwrap();
    let played = transcript.play_through(PIN.as_bytes(), id.as_bytes(), transmit);
    played.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Has OpenSSL check a PKCS#1 signature over a SHA-256 hash, and not over another one.
fn check_signature(rig: &Rig, public: &str, hash: &[u8], signature: &[u8]) {
    fs::write(rig.folder().join("hash.sig"), signature).unwrap();
    let mut other = hash.to_vec();
    other[0] ^= 1;
    for (hash, right) in [(hash, true), (&other[..], false)] {
        fs::write(rig.folder().join("hash"), hash).unwrap();
        let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", public];
        let files = ["-in", "hash", "-sigfile", "hash.sig"];
        let options = ["-pkeyopt", "digest:sha256"];
        let verified = rig.run("openssl", &[&verify[..], &files, &options].concat());
        assert_eq!(verified.success, right, "{}", verified.text);
    }
}

/// Has OpenSSL encrypt with PKCS#1's padding.
fn encrypt(rig: &Rig, public: &str, plain: &[u8]) -> Vec<u8> {
    fs::write(rig.folder().join("plain"), plain).unwrap();
    let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", public];
    let files = ["-in", "plain", "-out", "cryptogram"];
    rig.ok("openssl", &[&encrypt[..], &files].concat());
    fs::read(rig.folder().join("cryptogram")).unwrap()
}
