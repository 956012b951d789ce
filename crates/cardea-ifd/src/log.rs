//! Events to a file that `CARDEA_IFD_LOG` names, for finding faults; nowhere without it.
//! Never the data of an APDU: lengths only.

use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Environment variable that names the file.
const VARIABLE: &str = "CARDEA_IFD_LOG";

static FILE: OnceLock<Option<File>> = OnceLock::new();

/// Opens the file and sends panics there, once. Both are of this library alone: it has a Rust runtime of its own.
pub(crate) fn start() {
    FILE.get_or_init(|| {
        std::panic::set_hook(Box::new(|panic| {
            write(format_args!("panic at={:?}", panic.location()));
        }));
        let path = std::env::var_os(VARIABLE)?;
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .ok()
    });
}

/// Whether anything that is logged goes anywhere.
pub(crate) fn is_on() -> bool {
    matches!(FILE.get(), Some(Some(_)))
}

pub(crate) fn write(event: Arguments<'_>) {
    if let Some(Some(file)) = FILE.get() {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // One write, so that lines of several threads and processes stay whole. A full disk is no failure.
        let line = format!("{:.6} {} {event}\n", time.as_secs_f64(), std::process::id());
        let mut file = file;
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
