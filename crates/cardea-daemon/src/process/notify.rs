//! What systemd wants to hear of a service (sd_notify(3)): ready, stopping, still alive.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's socket; without one every message is dropped.
#[derive(Debug, Default)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    ///
    /// When `NOTIFY_SOCKET` is set but no address of a socket.
    pub fn from_environment() -> io::Result<Self> {
        Self::new(
            env::var_os("NOTIFY_SOCKET"),
            env::var("WATCHDOG_USEC").ok(),
            env::var("WATCHDOG_PID").ok(),
        )
    }

    fn new(
        socket: Option<OsString>,
        watchdog: Option<String>,
        pid: Option<String>,
    ) -> io::Result<Self> {
        let Some(socket) = socket.filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let target = (UnixDatagram::unbound()?, address(&socket)?);
        let meant_for_us = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = watchdog
            .filter(|_| meant_for_us)
            .and_then(|text| text.parse().ok())
            .filter(|&limit| limit > 0)
            .map(Duration::from_micros);
        Ok(Self {
            target: Some(target),
            watchdog,
        })
    }

    /// Whether there is a service manager that waits for messages.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.target.is_some()
    }

    /// How often [`alive`](Self::alive) is wanted: half the limit, as sd_watchdog_enabled(3) advises.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Start-up is over.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Sign of life for the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.target
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::warn!(%error, "service manager not reached");
        }
    }
}

/// A path, or a name in the abstract namespace after `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest),
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "NOTIFY_SOCKET is neither a path nor an abstract name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_socket_in_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()), Some("3000000".into()), None).unwrap();
        assert!(notifier.is_heard());
        notifier.ready();
        assert!(receive(&manager).starts_with("READY=1"));
        notifier.alive();
        assert_eq!(receive(&manager), "WATCHDOG=1");
        notifier.stopping();
        assert_eq!(receive(&manager), "STOPPING=1");
        assert_eq!(notifier.interval(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("cardea-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::new(Some(format!("@{name}").into()), None, None).unwrap();
        notifier.ready();
        assert!(receive(&manager).starts_with("READY=1"));
        assert_eq!(notifier.interval(), None);
    }

    #[test]
    fn watchdog_of_another_process_is_not_ours() {
        let socket = || Some(OsString::from("/nonexistent"));
        let watchdog = || Some(String::from("1000000"));
        let other = Notifier::new(socket(), watchdog(), Some("1".into())).unwrap();
        assert_eq!(other.interval(), None);
        let ours = std::process::id().to_string();
        let ours = Notifier::new(socket(), watchdog(), Some(ours)).unwrap();
        assert_eq!(ours.interval(), Some(Duration::from_millis(500)));
    }

    #[test]
    fn nothing_is_sent_without_a_manager_and_a_bad_address_is_an_error() {
        let silent = Notifier::new(None, Some("1000000".into()), None).unwrap();
        silent.ready();
        assert!(!silent.is_heard());
        assert_eq!(silent.interval(), None);
        assert!(Notifier::new(Some("relative".into()), None, None).is_err());
    }
}
