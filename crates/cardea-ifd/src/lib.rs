//! The IFD handler: shows the daemon's cards to pcscd, as cards in the slots of one reader.
//!
//! What: the entry points `IFDH*` of the IFD handler interface 3.0 (pcsc-lite's `ifdhandler.h`), each a
//! request to the daemon or an answer of our own about the reader.
//! What not: no key, no PIN, no parser of APDUs, no thread, no signal handler, no output.
//! Begin with `abi`, which is all of the unsafe code, then `slot`.
//!
//! The library exports nothing else: `rustc` gives the linker a version script for it, and a test looks.
//!
//! Environment: `CARDEA_IFD_LOG` names a file to log to, `CARDEA_SOCKET` the daemon's socket where the
//! `DEVICENAME` has none. `docs/reader.md` describes the `DEVICENAME`.

mod abi;
mod attributes;
mod codes;
mod control;
mod device;
mod lock;
mod log;
mod output;
mod registry;
mod seen;
mod slot;
