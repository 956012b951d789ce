//! Another machine, and connections to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use cardea_dcom::pdu::SyntaxId;
use cardea_rpc::rpc::outgoing::Outgoing;

use crate::account::Account;
use crate::error::RemoteError;

/// Where every machine answers first.
pub const RESOLVER_PORT: u16 = 135;

/// How long one address may take to answer at all.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// For everything before an order.
const SHORT_TIME: Duration = Duration::from_secs(30);

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;

/// Another machine, and whom to call it as.
pub struct Machine {
    host: String,
    addresses: Vec<SocketAddr>,
    account: Account,
    /// For everything before an order.
    pub(crate) patience: Duration,
}

impl Machine {
    /// By its name or address; nothing is connected to yet.
    ///
    /// # Errors
    ///
    /// There is no such name.
    pub fn new(host: &str, port: u16, account: Account) -> Result<Self, RemoteError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: bare.to_owned(),
            addresses: Self::find(host, port)?,
            account,
            patience: SHORT_TIME,
        })
    }

    /// Whether there is such a name: for whoever asks before somebody types a password.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Unreachable`].
    pub fn find(host: &str, port: u16) -> Result<Vec<SocketAddr>, RemoteError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = (bare, port).to_socket_addrs();
        let found = found.map_err(RemoteError::Unreachable)?;
        Ok(found.take(MAX_ADDRESSES).collect())
    }

    /// A connection to the first of its addresses that answers, and which one that is.
    pub(crate) fn first(
        &self,
        interface: SyntaxId,
        until: Instant,
    ) -> Result<(Outgoing, SocketAddr), RemoteError> {
        let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in &self.addresses {
            match TcpStream::connect_timeout(address, CONNECT_TIME) {
                Ok(stream) => return Ok((self.bind(stream, interface, until)?, *address)),
                Err(error) => failed = error,
            }
        }
        Err(RemoteError::Unreachable(failed))
    }

    /// A connection to another port of an address that has answered.
    pub(crate) fn connect(
        &self,
        address: IpAddr,
        port: u16,
        interface: SyntaxId,
        until: Instant,
    ) -> Result<Outgoing, RemoteError> {
        let address = SocketAddr::new(address, port);
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME);
        self.bind(stream.map_err(RemoteError::Unreachable)?, interface, until)
    }

    /// Whether an address is, by its text, the one that was asked for.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.host)
    }

    fn bind(
        &self,
        stream: TcpStream,
        interface: SyntaxId,
        until: Instant,
    ) -> Result<Outgoing, RemoteError> {
        let initiator = self.account.initiator(&self.host)?;
        let bound = Outgoing::bind_with(stream, interface, initiator, until);
        let mut outgoing = bound.map_err(RemoteError::of)?;
        outgoing.verify_calls();
        Ok(outgoing)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Machine").field(&self.host).finish()
    }
}
