//! A remote desktop's server, as far as smart cards need one: a real client (xfreerdp, rdesktop) connects to it
//! and redirects its readers, and a test works with them as Windows does at the other end.
//!
//! What: the connection sequence of MS-RDPBCGR without encryption, or in TLS that `openssl` does; the device
//! redirection of MS-RDPEFS; the smart card calls of MS-RDPESC; a relay of a redirected card to a reader of
//! vsmartcard's in another pcscd.
//! What not: a desktop. Nothing is drawn, nobody is asked for a password, what is typed is dropped.

mod connection;
mod devices;
mod ndr;
mod relay;
mod smart_cards;
mod tls;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};

pub use self::relay::Relay;
pub use self::smart_cards::{Attribute, Card, Code, Context, Pending, ReaderState, Share};
pub use self::tls::Certificate;

use self::connection::Connection;
use crate::namespace::Namespace;
use crate::process::{PATIENCE, Running};

/// Port of remote desktops.
pub const PORT: u16 = 3389;

/// Waits for clients.
pub struct Server {
    listener: TcpListener,
    certificate: Option<Certificate>,
}

impl Server {
    /// On [`PORT`] of a namespace's loopback interface, without encryption.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    #[must_use]
    pub fn listen(namespace: &Namespace) -> Self {
        let listener = namespace.on_network(|| TcpListener::bind(("127.0.0.1", PORT)));
        Self {
            listener: listener.expect("the port is free"),
            certificate: None,
        }
    }

    /// The same in TLS.
    #[must_use]
    pub fn with_tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Takes a client's connection up to the point where it has said which devices it redirects.
    ///
    /// # Panics
    ///
    /// With the client's log, when it ends before or does not come in time.
    #[must_use]
    pub fn accept(&self, client: &mut Running) -> Session {
        let stream = self.next(client);
        let connection = Connection::accept(stream, self.certificate.as_ref());
        let connection =
            connection.unwrap_or_else(|error| panic!("no session: {error}\n{}", client.log()));
        Session::start(connection)
            .unwrap_or_else(|error| panic!("no devices: {error}\n{}", client.log()))
    }

    fn next(&self, client: &mut Running) -> TcpStream {
        self.listener
            .set_nonblocking(true)
            .expect("the listener takes it");
        let mut stream = None;
        client.wait_ready(|_| {
            stream = self.listener.accept().ok();
            stream.is_some()
        });
        let (stream, _) = stream.expect("a connection");
        let set = stream.set_nonblocking(false);
        set.and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("the connection takes it");
        stream
    }
}

/// A device that the client has redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its kind: [`Device::SMART_CARDS`] or another one.
    pub kind: u32,
    /// Its name.
    pub name: String,
    id: u32,
}

impl Device {
    /// Kind of the device that stands for all smart card readers.
    pub const SMART_CARDS: u32 = 0x20;
}

/// A client's session.
pub struct Session {
    connection: Connection,
    devices: Vec<Device>,
    next_request: u32,
    answers: BTreeMap<u32, devices::Answer>,
}

impl Session {
    /// What the client redirects.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Ends it as a server does; the client ends with status 12.
    ///
    /// # Panics
    ///
    /// When the client has gone.
    pub fn end(mut self) {
        self.connection.end().expect("the client is there");
    }
}
