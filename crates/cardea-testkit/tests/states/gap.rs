//! Other programs that save sessions beside a daemon that nobody uses, on TPMs whose context gap is small: 255 saves of
//! other sessions, after which none can be saved until the oldest saved one was loaded.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cardea_client::message::{CardRequest, KeyClass, NewKey, Reply, Request};
use cardea_testkit::multiplexer::{Multiplexer, Profile};
use cardea_testkit::process::PATIENCE;

use crate::{PIN, Place, Reader, number_at, secret, verify_apdu};

const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_CAPABILITY: u32 = 0x17A;
const GET_RANDOM: u32 = 0x17B;

/// Less than either part takes to load a session, execute a command and save the session.
const PACE: Duration = Duration::from_millis(5);

/// A program with one session.
pub(crate) struct Program {
    stream: UnixStream,
    session: u32,
    /// Where it saves and loads the session itself, while it is saved.
    context: Option<Vec<u8>>,
}

impl Program {
    pub(crate) fn start(tpm: &Multiplexer) -> Self {
        let stream = UnixStream::connect(tpm.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut program = Self {
            stream,
            session: 0,
            context: None,
        };
        // StartAuthSession without salt and binding: a nonce of 16 bytes, HMAC, no cipher, SHA-256.
        let parameters = [
            &[0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16][..],
            &[7; 16],
            &[0, 0, 0, 0, 0x10, 0, 0x0B],
        ];
        let started = program.ask(&command(0x176, &parameters.concat())).unwrap();
        program.session = number_at(&started, 10);
        program
    }

    /// None: the resource manager could not save its session, and has ended it.
    fn ask(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        self.stream.write_all(command).ok()?;
        let mut answer = vec![0; 10];
        self.stream.read_exact(&mut answer).ok()?;
        answer.resize(number_at(&answer, 2) as usize, 0);
        self.stream.read_exact(&mut answer[10..]).ok()?;
        Some(answer)
    }

    /// Any command, after which the resource manager saves the session.
    pub(crate) fn be_saved(&mut self) {
        let answer = self.ask(&command(GET_RANDOM, &[0, 8]));
        let code = answer.as_deref().map(|answer| number_at(answer, 6));
        assert_eq!(code, Some(0), "the session of another program is gone");
    }

    /// What a program does that has the TPM without a resource manager.
    fn save(&mut self) {
        if let Some(context) = self.context.take() {
            let loaded = self.ask(&command(CONTEXT_LOAD, &context)).unwrap();
            assert_eq!(number_at(&loaded, 6), 0);
        }
        let saved = self.ask(&command(CONTEXT_SAVE, &self.session.to_be_bytes()));
        let saved = saved.unwrap();
        assert_eq!(
            number_at(&saved, 6),
            0,
            "another program cannot save its session"
        );
        self.context = Some(saved[10..].to_vec());
    }

    /// Without a resource manager nobody else ends its session.
    fn end(&mut self) {
        let flush = command(FLUSH_CONTEXT, &self.session.to_be_bytes());
        let flushed = self.ask(&flush).unwrap();
        assert_eq!(number_at(&flushed, 6), 0);
    }
}

fn command(code: u32, parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + parameters.len()).unwrap();
    [
        &[0x80, 1][..],
        &length.to_be_bytes(),
        &code.to_be_bytes(),
        parameters,
    ]
    .concat()
}

/// Two programs, each of which saves its session so many times.
fn beside(place: &Place, saves: u32, managed: bool, pace: Duration) {
    let mut programs = [Program::start(&place.tpm), Program::start(&place.tpm)];
    if !managed {
        // There are three slots.
        programs.iter_mut().for_each(Program::save);
    }
    for _ in 0..saves {
        for program in &mut programs {
            match managed {
                true => program.be_saved(),
                false => program.save(),
            }
            std::thread::sleep(pace);
        }
    }
    programs.iter_mut().for_each(Program::end);
}

/// Sessions in the TPM, loaded or saved.
pub(crate) fn sessions(place: &Place) -> u32 {
    let count = |first: u32| {
        let ask = [1, first, 64].map(u32::to_be_bytes).concat();
        let answer = place.tpm.transact(&command(GET_CAPABILITY, &ask));
        number_at(&answer.unwrap(), 15)
    };
    count(0x0200_0000) + count(0x0300_0000)
}

/// Gives the daemon time to end its sessions. One that does not is found out by the programs.
fn leave_alone(place: &Place) {
    for _ in 0..100 {
        if sessions(place) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn place(profile: &str, managed: bool) -> Place {
    let place = Place::with_part(Profile::named(profile), managed);
    place.create_in_object("card").unwrap();
    place
}

#[test]
fn programs_save_sessions_beside_a_card_that_was_used() {
    for profile in ["amd-3", "npct75x-7.2.1"] {
        for managed in [true, false] {
            let place = place(profile, managed);
            let key = place.key();
            let mut reader = Reader::power_up(&place, 0);
            assert_eq!(reader.send(&verify_apdu()), [0x90, 0x00]);
            assert_eq!(reader.sign(key), [0x90, 0x00]);
            leave_alone(&place);
            beside(&place, 1000, managed, Duration::ZERO);
            // No PIN is asked for.
            assert_eq!(reader.sign(key), [0x90, 0x00], "{profile}");
            leave_alone(&place);
            beside(&place, 300, managed, Duration::ZERO);
            place.verify(PIN).unwrap();
        }
    }
}

/// Nothing but the PIN can begin its session anew.
#[test]
fn programs_save_sessions_beside_a_key_that_waits_for_its_one_operation() {
    let place = place("amd-3", true);
    let made = place.ask(&Request::card(
        "card",
        CardRequest::GenerateKey {
            pin: Some(secret(PIN)),
            key: NewKey {
                label: None,
                class: KeyClass::Always,
                sign_only: true,
                id: None,
            },
            algorithm: cardea_terms::KeyAlgorithm::P256,
        },
    ));
    let Ok(Reply::Key(key)) = made else {
        panic!("{made:?}")
    };
    let mut reader = Reader::power_up(&place, 0);
    assert_eq!(reader.send(&verify_apdu()), [0x90, 0x00]);
    beside(&place, 140, true, PACE);
    assert_eq!(reader.sign(key.reference), [0x90, 0x00]);
    assert_eq!(reader.sign(key.reference), [0x69, 0x82], "it was one");
}
