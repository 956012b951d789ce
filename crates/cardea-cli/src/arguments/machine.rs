//! `cardea --machine HOST …`

use std::path::PathBuf;

use clap::Args;

use crate::machine::Place;
use crate::terminal::secret::Source;

/// Cards of another machine, by MS-TPMVSC.
#[derive(Debug, Args)]
#[command(next_help_heading = "Another machine")]
pub(crate) struct MachineArguments {
    /// Another machine, by name or address: `card create` and `card destroy` work there, over MS-TPMVSC
    ///
    /// With the tickets of Kerberos that you have (kinit), else with a password.
    #[arg(long, value_name = "HOST")]
    pub(crate) machine: Option<String>,
    /// Account there: USER, DOMAIN\USER or USER@REALM, with a password [default: your name]
    #[arg(long, value_name = "NAME", requires = "machine")]
    pub(crate) user: Option<String>,
    /// File with its password; one line end behind it is ignored [default: prompt]
    #[arg(
        long,
        value_name = "FILE",
        requires = "machine",
        conflicts_with = "password_fd"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// Open file descriptor to read its password from
    #[arg(long, value_name = "N", requires = "machine")]
    pub(crate) password_fd: Option<u32>,
}

impl MachineArguments {
    /// The other machine, if there is one.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        self.machine.as_deref().map(|host| Place {
            host,
            user: self.user.as_deref(),
            password: Source {
                file: self.password_file.as_deref(),
                fd: self.password_fd,
                options: "--password-file or --password-fd",
            },
        })
    }
}
