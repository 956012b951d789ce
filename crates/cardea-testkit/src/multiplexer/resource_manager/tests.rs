use std::io::Write as _;
use std::os::unix::net::UnixStream;

use crate::multiplexer::{Multiplexer, code_of, startup_type};
use crate::swtpm::Swtpm;

struct Bench {
    mux: Multiplexer,
    _tpm: Swtpm,
    _folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
    mux.transact(&startup_type(0x144, 0)).unwrap();
    mux.manage_resources();
    Bench {
        mux,
        _tpm: tpm,
        _folder: folder,
    }
}

fn ask(stream: &mut UnixStream, command: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(command).ok()?;
    crate::multiplexer::message::read_message(stream).ok()
}

/// A hash sequence: an object that needs no authorisation.
fn begin_object() -> Vec<u8> {
    vec![0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x86, 0, 0, 0, 0x0B]
}

fn begin_session() -> Vec<u8> {
    let mut command = vec![0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x76];
    command.extend_from_slice(&[0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16]);
    command.extend_from_slice(&[7; 16]);
    command.extend_from_slice(&[0, 0, 1, 0, 0x10, 0, 0x0B]);
    command[5] = u8::try_from(command.len()).unwrap();
    command
}

fn flush(handle: u32) -> Vec<u8> {
    super::plain(super::FLUSH_CONTEXT, handle)
}

fn restart_policy(session: u32) -> Vec<u8> {
    super::plain(0x180, session)
}

fn handle(response: &[u8]) -> u32 {
    super::u32_at(response, 10).unwrap()
}

fn connect(bench: &Bench) -> UnixStream {
    UnixStream::connect(bench.mux.socket()).unwrap()
}

#[test]
fn each_client_has_three_objects_of_its_own() {
    let bench = bench();
    let mut clients: Vec<_> = (0..3).map(|_| connect(&bench)).collect();
    for client in &mut clients {
        for number in 0..3 {
            let made = ask(client, &begin_object()).unwrap();
            assert_eq!((code_of(&made), handle(&made)), (0, 0x80FF_FFFF - number));
        }
    }
    let [one, two, _] = &mut clients[..] else {
        unreachable!();
    };
    let fourth = ask(one, &begin_object()).unwrap();
    assert_eq!(code_of(&fourth), 0x902, "the TPM's own slots");
    assert_eq!(code_of(&ask(two, &flush(0x80FF_FFFE)).unwrap()), 0);
    assert_eq!(
        code_of(&ask(two, &flush(0x80FF_FFFE)).unwrap()),
        super::REFERENCE_H0
    );
    assert_eq!(handle(&ask(two, &begin_object()).unwrap()), 0x80FF_FFFE);
}

#[test]
fn sessions_are_kept_between_commands_and_end_with_their_client() {
    let bench = bench();
    let mut client = connect(&bench);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(handle(&ask(&mut client, &begin_session()).unwrap()));
    }
    for session in &sessions {
        assert_eq!(
            code_of(&ask(&mut client, &restart_policy(*session)).unwrap()),
            0
        );
    }
    let mut other = connect(&bench);
    for _ in 0..3 {
        assert_eq!(code_of(&ask(&mut other, &begin_session()).unwrap()), 0);
    }
    drop(client);
    // The first client's are flushed: 64 are all that a TPM has.
    for _ in 0..70 {
        let mut next = connect(&bench);
        assert_eq!(code_of(&ask(&mut next, &begin_session()).unwrap()), 0);
    }
}
