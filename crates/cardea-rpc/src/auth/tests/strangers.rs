//! Clients that were written by others.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;

/// A client in Python.
struct Client {
    program: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(user: &str, password: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ntlm_client.py");
        let mut program = Command::new("/usr/bin/python3")
            .arg(script)
            .args([user, password])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: program.stdin.take().unwrap(),
            stdout: BufReader::new(program.stdout.take().unwrap()),
            program,
        }
    }

    fn read(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        base16ct::lower::decode_vec(line.trim_end()).unwrap()
    }

    fn write(&mut self, data: &[u8]) {
        writeln!(self.stdin, "{}", hex(data)).unwrap();
    }

    /// Its last message, and the verdict on it.
    fn authenticate(&mut self) -> Result<Step, AuthError> {
        let mut acceptor = NtlmAcceptor::new(names(), fresh());
        let challenge = go_on(acceptor.step(&self.read(), &accounts())?);
        self.write(&challenge);
        acceptor.step(&self.read(), &accounts())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn impacket_authenticates_and_seals_as_we_do() {
    let mut client = Client::start("ann", "correct horse");
    let (_, identity, mut server) = done(client.authenticate().unwrap());
    assert_eq!(
        identity,
        Identity {
            user: "ann".to_owned(),
            domain: "Firm".to_owned()
        }
    );
    for number in 0..3 {
        let (mut packet, signature) = (client.read(), client.read());
        let body = 7..packet.len() - 8;
        server.unseal(&mut packet, body, &signature).unwrap();
        assert_eq!(packet, format!("header stub {number} trailer.").as_bytes());
        let plain = b"header some longer answer trailer.".to_vec();
        let mut answer = plain.clone();
        let body = 7..answer.len() - 8;
        let signature = server.seal(&mut answer, body);
        client.write(&answer);
        client.write(&signature);
        assert_eq!(client.read(), plain);
    }
    assert!(client.program.wait().unwrap().success());
}

#[test]
fn impacket_without_the_password_is_refused() {
    for (user, password) in [("ann", "wrong"), ("bob", "correct horse")] {
        let refused = Client::start(user, password).authenticate().err();
        assert_eq!(refused, Some(AuthError::Refused));
    }
}

#[test]
fn recorded_negotiation_of_pyspnego_is_accepted() {
    let lines = include_str!("../../../tests/transcripts/pyspnego.txt").lines();
    let tokens: Vec<_> = lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| base16ct::lower::decode_vec(line).unwrap())
        .collect();
    let [first, second, wrapped] = tokens.as_slice() else {
        panic!("three lines")
    };
    // What was recorded is an answer to this challenge, for nonce and time are the same again.
    let mut acceptor = SpnegoAcceptor::new(names(), fresh());
    go_on(acceptor.step(first, &accounts()).unwrap());
    let (_, identity, mut session) = done(acceptor.step(second, &accounts()).unwrap());
    assert_eq!(identity.user, "ann");
    // The first sealed message after the signature over the mechanisms has number 1 and a cipher at its beginning.
    let (signature, body) = wrapped.split_at(SIGNATURE);
    let mut body = body.to_vec();
    let all = 0..body.len();
    session.unseal(&mut body, all, signature).unwrap();
    assert_eq!(body, "a message in Unicode: ä".as_bytes());
}
