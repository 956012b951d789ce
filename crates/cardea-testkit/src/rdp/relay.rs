//! A redirected card in a reader of vsmartcard's `vpcd`: what programs in the remote session then use through
//! a pcscd of their own goes to the card at the client.
//!
//! Each message is two bytes of length, the larger first, and as many bytes: a command or, if it is one byte,
//! 0 for power off, 1 for power on, 2 for reset, 4 for the ATR.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_quickack;

use super::{Card, Code, Context, ReaderState, Session, Share};
use crate::namespace::Namespace;
use crate::process::PATIENCE;

/// The first port on which `vpcd` waits for a card.
const PORT: u16 = 0x8C7B;

/// A card that is in a remote reader for as long as this value lives.
pub struct Relay {
    vpcd: TcpStream,
    thread: JoinHandle<Session>,
}

impl Relay {
    /// Puts the card of a redirected reader into the `vpcd` that waits in the namespace.
    ///
    /// # Panics
    ///
    /// When none waits there, or there is no card.
    #[must_use]
    pub fn start(namespace: &Namespace, mut session: Session, reader: &str) -> Self {
        let context = session.establish().expect("a context");
        let card = session.connect(&context, reader, Share::Shared);
        let card = card.expect("a card in the reader");
        let deadline = Instant::now() + PATIENCE;
        let vpcd = loop {
            match namespace.on_network(|| TcpStream::connect(("127.0.0.1", PORT))) {
                Ok(vpcd) => break vpcd,
                Err(error) => assert!(Instant::now() < deadline, "no vpcd: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        vpcd.set_nodelay(true).expect("the connection takes it");
        let mut far = Far {
            session,
            context,
            card,
            reader: reader.to_owned(),
        };
        let stream = vpcd.try_clone().expect("the connection is shared");
        let thread = std::thread::spawn(move || {
            far.serve(stream);
            far.session
        });
        Self { vpcd, thread }
    }

    /// Takes the card out, and gives the session back.
    ///
    /// # Panics
    ///
    /// When the relay has.
    #[must_use]
    pub fn stop(self) -> Session {
        // It may have ended by itself, with the card.
        drop(self.vpcd.shutdown(Shutdown::Both));
        self.thread.join().expect("the relay ends")
    }
}

/// The card at the client.
struct Far {
    session: Session,
    context: Context,
    card: Card,
    reader: String,
}

impl Far {
    /// To the end of the connection, or of the card.
    fn serve(&mut self, mut vpcd: TcpStream) {
        while let Ok(message) = receive(&mut vpcd) {
            let answer = match message.as_slice() {
                // The card at the client stays powered; its state begins anew with the next power.
                [0] => continue,
                [1 | 2] => match self.patiently(|session, card| session.reset(card)) {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                [4] => match self.atr() {
                    Some(atr) => atr,
                    None => break,
                },
                command => match self.patiently(|session, card| session.transmit(card, command)) {
                    Ok(response) => response,
                    Err(_) => break,
                },
            };
            if send(&mut vpcd, &answer).is_err() {
                break;
            }
        }
        drop(vpcd.shutdown(Shutdown::Both));
    }

    /// With the card in the reader: which no transaction of another program delays.
    fn atr(&mut self) -> Option<Vec<u8>> {
        let state = self
            .session
            .status_change(&self.context, &self.reader, 0, 0);
        let state = state.ok()?;
        (state.state & ReaderState::PRESENT != 0).then_some(state.atr)
    }

    /// While a program at the client has the card for a transaction, its turn is waited for. What such a program
    /// has reset is taken up again: the card itself then asks for the PIN.
    fn patiently<T>(
        &mut self,
        mut call: impl FnMut(&mut Session, &Card) -> Result<T, Code>,
    ) -> Result<T, Code> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call(&mut self.session, &self.card) {
                Err(Code::SHARING_VIOLATION) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Code::RESET_CARD) if Instant::now() < deadline => {
                    self.session.reconnect(&self.card)?;
                }
                other => return other,
            }
        }
    }
}

fn receive(vpcd: &mut TcpStream) -> io::Result<Vec<u8>> {
    // vpcd writes length and message apart, and the second waits for the receipt of the first.
    set_tcp_quickack(&*vpcd, true)?;
    let mut length = [0; 2];
    vpcd.read_exact(&mut length)?;
    set_tcp_quickack(&*vpcd, true)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    vpcd.read_exact(&mut message)?;
    Ok(message)
}

fn send(vpcd: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    vpcd.write_all(&[&length.to_be_bytes()[..], answer].concat())
}
