//! The program `tpmvscmgr`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cardea_cli::tpmvscmgr()
}
