//! xrdp, a server that we did not write, has the readers and the card of a client that we did not write either.
//!
//! Its channel server gives programs of the session a socket in place of pcscd's, with messages of its own for
//! which Debian has no library: this test is the program.
//!
//! With xfreerdp it gets as far as the connection to a card: of the answer it takes the context, which comes
//! first, for the card's handle. rdesktop's answer has no context, and so everything works.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{PATIENCE, Running, wait_for};
use cardea_testkit::rdp::ReaderState;
use cardea_testkit::rig::Rig;
use cardea_testkit::uses::{Interface, Use};

use super::{CLIENT, RDESKTOP, is, machine, on_page, play, start_client};

/// The session's screen; chansrv wants ten or more.
const SCREEN: &str = ":10";

const ESTABLISH: u32 = 0x01;
const LIST_READERS: u32 = 0x03;
const CONNECT: u32 = 0x04;
const TRANSMIT: u32 = 0x09;
const STATUS_CHANGE: u32 = 0x0C;

const SHARED: u32 = 2;
const T0_OR_T1: u32 = 3;
const T1: u32 = 2;

/// xrdp and what belongs to a session, without a login: all of it is running already.
struct Xrdp {
    folder: PathBuf,
    _screen: Running,
    _channels: Running,
    _xrdp: Running,
}

impl Xrdp {
    /// In the namespace of the client, on its loopback interface.
    fn start(rig: &Rig, machine: &Namespace) -> Self {
        let folder = rig.folder().join("xrdp");
        fs::create_dir_all(&folder).unwrap();
        let log = |name: &str| folder.join(format!("{name}.log"));
        let mut screen = machine.command("Xtigervnc");
        screen
            .args([
                SCREEN,
                "-nolock",
                "-rfbport",
                "5910",
                "-localhost",
                "-nolisten",
                "tcp",
            ])
            .args(["-SecurityTypes", "None", "-geometry", "640x480"]);
        let mut screen = Running::start(&mut screen, &log("vnc"));
        let socket = machine.path("/tmp/.X11-unix/X10");
        screen.wait_ready(|_| UnixStream::connect(&socket).is_ok());

        let mut channels = machine.command("xrdp-chansrv");
        channels
            .env("DISPLAY", SCREEN)
            .env("HOME", &folder)
            .env("CHANSRV_LOG_PATH", &folder);
        let mut channels = Running::start(&mut channels, &log("chansrv"));
        let socket = machine.path("/run/xrdp/sockdir/xrdp_chansrv_socket_10");
        channels.wait_ready(|_| socket.exists());

        let configuration = folder.join("xrdp.ini");
        let text = format!(
            "[Globals]\nini_version=1\nfork=false\nport=tcp://127.0.0.1:3389\n\
             security_layer=tls\ncertificate={0}/server.pem\nkey_file={0}/server.key\n\
             autorun=Desktop\nallow_channels=true\nmax_bpp=16\n\
             [Logging]\nLogFile={1}\nLogLevel=DEBUG\nEnableSyslog=false\n\
             [Channels]\nrdpdr=true\n\
             [Desktop]\nname=Desktop\nlib=libvnc.so\nip=127.0.0.1\nport=5910\n\
             username=na\npassword=na\nchansrvport=DISPLAY(10)\n",
            rig.folder().display(),
            log("xrdp").display()
        );
        fs::write(&configuration, text).unwrap();
        let mut xrdp = machine.command("xrdp");
        xrdp.arg("--nodaemon").arg("--config").arg(&configuration);
        let mut xrdp = Running::start(&mut xrdp, &log("xrdp-output"));
        xrdp.wait_ready(|_| {
            let log = fs::read_to_string(log("xrdp")).unwrap_or_default();
            log.contains("listening to port 3389")
        });
        Self {
            folder,
            _screen: screen,
            _channels: channels,
            _xrdp: xrdp,
        }
    }

    /// A program of the session, when the client has redirected its readers.
    fn program(&self, client: &mut Running) -> Program {
        client.wait_ready(|_| self.log().contains("Detected remote smartcard 'SCARD'"));
        let stream = UnixStream::connect(self.folder.join(".pcsc10/pcscd.comm")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Program(stream)
    }

    /// What its channel server notes.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("xrdp-chansrv.10.log")).unwrap_or_default()
    }
}

/// A program of the session.
struct Program(UnixStream);

impl Program {
    fn call(&mut self, code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let message = [&length[..], &code.to_le_bytes(), body].concat();
        self.0.write_all(&message).unwrap();
        let mut head = [0; 8];
        self.0.read_exact(&mut head).unwrap();
        assert_eq!(word(&head, 4), code);
        let mut answer = vec![0; usize::try_from(word(&head, 0)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        let status = word(&answer, answer.len() - 4);
        assert_eq!(status, 0, "call {code}: {status:08X}");
        answer
    }

    fn establish(&mut self) -> u32 {
        let answer = self.call(ESTABLISH, &2_u32.to_le_bytes());
        word(&answer, 0)
    }

    fn readers(&mut self, context: u32) -> Vec<String> {
        let body = [context, 0, 8192].map(u32::to_le_bytes).concat();
        let answer = self.call(LIST_READERS, &body);
        let names = answer[8..answer.len() - 4].chunks_exact(100);
        assert_eq!(u32::try_from(names.len()).unwrap(), word(&answer, 4));
        names.map(text).collect()
    }

    /// State and ATR.
    fn state(&mut self, context: u32, reader: &str) -> (u32, Vec<u8>) {
        let mut body = [context, 0, 1].map(u32::to_le_bytes).concat();
        body.extend(name(reader));
        body.extend([0; 12 + 36]);
        let answer = self.call(STATUS_CHANGE, &body);
        let length = usize::try_from(word(&answer, 12)).unwrap();
        (word(&answer, 8), answer[16..16 + length].to_vec())
    }

    /// The card's handle.
    fn connect(&mut self, context: u32, reader: &str) -> u32 {
        let mut body = context.to_le_bytes().to_vec();
        body.extend(name(reader));
        body.extend([SHARED, T0_OR_T1].map(u32::to_le_bytes).concat());
        word(&self.call(CONNECT, &body), 0)
    }

    fn transmit(&mut self, card: u32, command: &[u8]) -> Vec<u8> {
        let length = u32::try_from(command.len()).unwrap();
        let mut body = [card, T1, 8, 0, length].map(u32::to_le_bytes).concat();
        body.extend(command);
        body.extend([T1, 0, 0, 258].map(u32::to_le_bytes).concat());
        let answer = self.call(TRANSMIT, &body);
        let length = usize::try_from(word(&answer, 12)).unwrap();
        answer[16..16 + length].to_vec()
    }
}

/// A place of a user, with a card, and xrdp.
fn place() -> (Rig, Namespace, Running, Xrdp) {
    let rig = Rig::with_card("Alice");
    let script = "mkdir -p /run/xrdp && mount -t tmpfs x /run/xrdp\n\
                  mkdir -m 3777 /run/xrdp/sockdir";
    let (local, screen) = machine(&rig, script);
    let xrdp = Xrdp::start(&rig, &local);
    (rig, local, screen, xrdp)
}

#[test]
fn xrdp_lists_the_readers_of_xfreerdp_and_sees_the_card() {
    let (rig, local, _screen, xrdp) = place();
    // Whom the client does not know it gives nothing; and nobody is there to say that it may.
    let mut stranger = start_client(&rig, &local, on_page(CLIENT), "no-such-file");
    assert!(!stranger.wait().success());
    let log = stranger.log();
    assert!(log.contains("certificate not trusted"), "{log}");
    assert!(!xrdp.log().contains("Detected"), "{}", xrdp.log());

    // With a password, xrdp goes on to the session without asking.
    let line = format!("{} /p:none", on_page(CLIENT));
    let mut client = start_client(&rig, &local, &line, "server.pem");
    let mut program = xrdp.program(&mut client);
    let context = program.establish();
    let readers = program.readers(context);
    assert!(is(&readers, 4), "{readers:?}");
    let (state, atr) = program.state(context, &readers[0]);
    assert_eq!(state & ReaderState::PRESENT, ReaderState::PRESENT);
    assert_eq!(atr[..2], [0x3B, 0x8D]);
    let (state, atr) = program.state(context, &readers[1]);
    assert_eq!(state & ReaderState::EMPTY, ReaderState::EMPTY);
    assert!(atr.is_empty(), "{atr:02x?}");
    let destroyed = rig
        .daemon
        .cardea(&["card", "destroy", &rig.card_id(), "--yes"]);
    assert!(destroyed.success, "{}", destroyed.text);
    wait_for("the removal", || {
        program.state(context, &readers[0]).0 & ReaderState::EMPTY != 0
    });

    Use {
        page: "remote-desktop",
        title: "Remote desktop: a server lists the readers of xfreerdp",
        program: "xrdp",
        package: "xrdp",
        interface: Interface::PcSc,
        keys: "none is used",
    }
    .shown();
}

#[test]
fn xrdp_enrols_on_the_card_of_rdesktop() {
    let (rig, local, _screen, xrdp) = place();
    let line = format!("{} -p none", on_page(RDESKTOP));
    let mut client = start_client(&rig, &local, &line, "server.pem");
    let mut program = xrdp.program(&mut client);
    let context = program.establish();
    let readers = program.readers(context);
    assert!(is(&readers, 4), "{readers:?}");
    let card = program.connect(context, &readers[0]);
    let mut transmit = |command: &[u8]| program.transmit(card, command);
    play(&mut transmit, &rig.card_id(), "windows-probe.txt");
    play(&mut transmit, &rig.card_id(), "windows-enrol.txt");
    // A wrong PIN costs a try.
    let wrong = [&[0x00, 0x20, 0x00, 0x80, 0x06][..], b"000000"].concat();
    assert_eq!(transmit(&wrong), [0x63, 0xC4]);
    assert_eq!(rig.tries_left(), 4);

    Use {
        page: "remote-desktop",
        title: "Remote desktop: a server uses and writes the card of rdesktop",
        program: "xrdp",
        package: "xrdp",
        interface: Interface::PcSc,
        keys: "RSA-2048",
    }
    .shown();
}

/// A name in its field.
fn name(reader: &str) -> Vec<u8> {
    let mut name = reader.as_bytes().to_vec();
    name.resize(100, 0);
    name
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn text(name: &[u8]) -> String {
    let name = name.iter().take_while(|byte| **byte != 0);
    name.map(|byte| char::from(*byte)).collect()
}
