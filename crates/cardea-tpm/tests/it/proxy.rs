//! Somebody between the service and the TPM: listens, answers instead of it, changes what it says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cardea_tpm::Service;

/// What happens with one command: given the command and the way to the TPM, the answer; none hangs up.
pub(crate) type Hook =
    Box<dyn FnMut(&[u8], &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Option<Vec<u8>> + Send>;

/// A socket of its own in front of a TPM's. Its thread ends with the test.
pub(crate) struct Proxy {
    dir: tempfile::TempDir,
    hook: Arc<Mutex<Hook>>,
}

impl Proxy {
    pub(crate) fn start(tpm: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let hook: Arc<Mutex<Hook>> = Arc::new(Mutex::new(honest()));
        let (theirs, tpm) = (Arc::clone(&hook), tpm.to_owned());
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                serve(client, &tpm, &theirs);
            }
        });
        Self { dir, hook }
    }

    pub(crate) fn service(&self) -> Service {
        let address = format!("swtpm:unix={}", self.dir.path().join("sock").display());
        Service::start(&address.parse().unwrap()).unwrap()
    }

    pub(crate) fn behave(&self, hook: Hook) {
        *self.hook.lock().unwrap() = hook;
    }
}

pub(crate) fn honest() -> Hook {
    Box::new(|command, tpm| Some(tpm(command)))
}

pub(crate) fn code_of(command: &[u8]) -> u32 {
    u32::from_be_bytes(command[6..10].try_into().unwrap())
}

/// A response that is nothing but a code.
pub(crate) fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

fn serve(mut client: UnixStream, tpm: &Path, hook: &Mutex<Hook>) {
    let Ok(mut upstream) = UnixStream::connect(tpm) else {
        return;
    };
    let mut ask = |command: &[u8]| {
        upstream.write_all(command).unwrap();
        message(&mut upstream).unwrap_or_default()
    };
    while let Some(command) = message(&mut client) {
        let answer = (hook.lock().unwrap())(&command, &mut ask);
        let Some(answer) = answer else { return };
        if client.write_all(&answer).is_err() || !complete(&answer) {
            // Nothing more will come: the service need not wait for it.
            return;
        }
    }
}

fn complete(answer: &[u8]) -> bool {
    answer
        .get(2..6)
        .is_some_and(|length| length == (answer.len() as u32).to_be_bytes())
}

fn message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; 10];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
    let mut message = header.to_vec();
    message.resize(length, 0);
    stream.read_exact(&mut message[10..]).ok()?;
    Some(message)
}
