//! TLS by `openssl s_server`, between the client and us: for clients that do nothing without it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, wait_for};

/// Files with a certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The plain text of a connection.
pub(super) struct Tls {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Tls {
    /// Leads what the client sends through a process; what is read and written here is its plain text.
    pub(super) fn accept(client: TcpStream, certificate: &Certificate) -> io::Result<Self> {
        // A free port, which is given up for the process.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut child = Command::new("openssl")
            .args(["s_server", "-quiet", "-naccept", "1", "-accept"])
            .arg(port.to_string())
            .arg("-cert")
            .arg(&certificate.certificate)
            .arg("-key")
            .arg(&certificate.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut process = None;
        wait_for("openssl's port", || {
            process = TcpStream::connect(port).ok();
            process.is_some()
        });
        let process = process.ok_or_else(|| io::Error::other("no openssl"))?;
        process.set_nodelay(true)?;
        pump(client.try_clone()?, process.try_clone()?);
        pump(process, client);
        let input = child.stdin.take();
        let output = child.stdout.take();
        let output = output.ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self {
            child,
            input,
            output,
        })
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let input = self.input.as_mut();
        input.map_or(Ok(0), |input| input.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // What was written last still goes out: it ends with its input, or with the connection.
        drop(self.input.take());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Copies until one side has ended.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}
