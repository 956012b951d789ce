//! The private socket.

pub(crate) mod arrivals;
pub(crate) mod client;
pub(crate) mod limits;
pub(crate) mod peer;
pub(crate) mod server;
