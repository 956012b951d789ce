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

use super::{Card, Session};
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
    /// Puts the card into the `vpcd` that waits in the namespace.
    ///
    /// # Panics
    ///
    /// When none waits there.
    #[must_use]
    pub fn start(namespace: &Namespace, session: Session, card: Card) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let vpcd = loop {
            match namespace.on_network(|| TcpStream::connect(("127.0.0.1", PORT))) {
                Ok(vpcd) => break vpcd,
                Err(error) => assert!(Instant::now() < deadline, "no vpcd: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        vpcd.set_nodelay(true).expect("the connection takes it");
        let stream = vpcd.try_clone().expect("the connection is shared");
        let thread = std::thread::spawn(move || relay(stream, session, &card));
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

/// To the end of the connection, or of the card.
fn relay(mut vpcd: TcpStream, mut session: Session, card: &Card) -> Session {
    while let Ok(message) = receive(&mut vpcd) {
        let answer = match message.as_slice() {
            // The card at the client stays powered; a new start of its state comes with the next power.
            [0] => continue,
            [1 | 2] => match session.reset(card) {
                Ok(()) => continue,
                Err(_) => break,
            },
            [4] => session.status(card).map(|(_, atr)| atr),
            command => session.transmit(card, command),
        };
        let sent = answer.map(|answer| send(&mut vpcd, &answer));
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    drop(vpcd.shutdown(Shutdown::Both));
    session
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
