//! Events to a file that `CARDEA_IFD_LOG` names, for finding faults; nowhere without it.
//! Never the data of an APDU: lengths only.

use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_client::Origin;

use crate::lock::Lock;

/// Environment variable that names the file.
const VARIABLE: &str = "CARDEA_IFD_LOG";

/// A line that would wait longer is left out.
const SHORT: Duration = Duration::from_millis(100);

static FILE: Lock<Option<(File, Origin)>> = Lock::new(None);

/// Whether there is a file: looked at without the lock.
static ON: AtomicBool = AtomicBool::new(false);

/// Opens the file, if there is to be one, and sends panics there instead of to stderr.
/// Both are of this library alone: it has a Rust runtime of its own.
pub(crate) fn start() {
    let Some(mut file) = FILE.lock(SHORT) else {
        return;
    };
    if file.is_some() {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        write(format_args!("panic at={:?}", panic.location()));
    }));
    *file = cardea_client::environment::variable(VARIABLE).and_then(|path| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| Ok((Origin::of(&file)?, file)))
            .map(|(origin, file)| (file, origin))
            .ok()
    });
    ON.store(file.is_some(), Ordering::Relaxed);
}

/// Closes the file: the library may be unloaded.
pub(crate) fn finish() {
    if let Some(mut file) = FILE.lock(SHORT) {
        ON.store(false, Ordering::Relaxed);
        if let Some((file, origin)) = file.take() {
            origin.close(file.into());
        }
    }
}

/// Whether anything that is logged goes anywhere.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

pub(crate) fn write(event: Arguments<'_>) {
    let Some(mut file) = FILE.lock(SHORT) else {
        return;
    };
    // pcscd may have closed it, and opened something else.
    if let Some((file, _)) = file.as_mut().filter(|(file, origin)| origin.is_at(file)) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // One write, so that lines of several processes stay whole. A full disk is no failure.
        let line = format!("{:.6} {} {event}\n", time.as_secs_f64(), std::process::id());
        let _ = file.write_all(line.as_bytes());
    }
}

/// Logs `format` fields, when there is a log.
macro_rules! log {
    ($($field:tt)*) => {
        if crate::log::is_on() {
            crate::log::write(format_args!($($field)*));
        }
    };
}

pub(crate) use log;
