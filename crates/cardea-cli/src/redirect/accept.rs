//! The remote end: relays bytes between ssh and the daemon without interpreting them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use crate::exit::{Exit, Failure};

/// Fits a frame.
const PIECE: usize = 128 * 1024;

/// Passes on until either side ends.
pub(crate) fn accept(socket: &Path) -> Result<(), Failure> {
    let daemon = cardea_client::connect(socket).map_err(|error| {
        Failure::new(
            Exit::Away,
            format!(
                "no connection to the daemon at {}: {error}; is cardea-daemon running?",
                socket.display()
            ),
        )
    })?;
    let input = own(io::stdin().as_fd())?;
    let output = own(io::stdout().as_fd())?;
    let upwards = daemon.try_clone()?;
    let spawned = thread::Builder::new().spawn(move || {
        // Either end may go at any time: then there is nothing left to pass on.
        let _ = pass(input, &upwards);
        let _ = upwards.shutdown(Shutdown::Both);
    });
    spawned?;
    // A program's exit ends the other thread too.
    let _ = pass(&daemon, output);
    Ok(())
}

/// An unbuffered file.
fn own(descriptor: impl AsFd) -> io::Result<File> {
    Ok(File::from(descriptor.as_fd().try_clone_to_owned()?))
}

fn pass(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(piece.get(..count).unwrap_or_default())?;
    }
}
