//! `cardea tpm …`, and where the TPM's own authorisations come from.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::OutputArguments;
use crate::duration::Seconds;
use crate::terminal::secret::Source;

#[derive(Debug, Subcommand)]
pub(crate) enum TpmVerb {
    /// Show by what an attestation authority knows the TPM: its endorsement keys, with the maker's certificates
    ///
    /// The pin is the SHA-256 of the public key, for an authority's list of known TPMs.
    /// Where a key is neither stored nor quickly made, this takes half a minute.
    Ek {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// List the NV indices in the range of cards and their cards, or remove an unclaimed one
    Indices(IndicesArguments),
    /// Set the TPM's owner and lockout authorisation
    Provision(Box<ProvisionArguments>),
    /// End a lockout of the TPM and forget the failures that led to it
    ResetLockout {
        #[command(flatten)]
        auth: LockoutArguments,
    },
    /// Show manufacturer, slots, authorisations and lockout of the TPM
    Status {
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IndicesArguments {
    /// Remove the index with this handle, as listed: 0x01C2…
    #[arg(long, value_name = "HANDLE", conflicts_with = "json")]
    pub(crate) remove: Option<Handle>,
    /// Do not ask for confirmation
    #[arg(long, requires = "remove")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) owner: OwnerArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// An NV handle, `0x` and eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) u32);

impl std::str::FromStr for Handle {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or("must be 0x and eight hexadecimal digits")
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProvisionArguments {
    /// Set only one of the two
    #[arg(long, value_name = "WHICH")]
    pub(crate) only: Option<Which>,
    /// New file for the random values, to be kept in a safe place
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// File with the new owner authorisation [default: random]
    #[arg(long, value_name = "FILE")]
    pub(crate) owner_auth_file: Option<PathBuf>,
    /// File with the new lockout authorisation [default: random]
    #[arg(long, value_name = "FILE")]
    pub(crate) lockout_auth_file: Option<PathBuf>,
    /// File with the present owner authorisation, if one is set
    #[arg(long, value_name = "FILE")]
    pub(crate) old_owner_auth_file: Option<PathBuf>,
    /// File with the present lockout authorisation, if one is set
    #[arg(long, value_name = "FILE")]
    pub(crate) old_lockout_auth_file: Option<PathBuf>,
    /// Failures after which the TPM locks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tries: Option<u32>,
    /// Time after which the TPM forgets one failure: 30s, 10m, 8h
    #[arg(long, value_name = "DURATION")]
    pub(crate) recovery_time: Option<Seconds>,
    /// Time for which a wrong lockout authorisation disables that authorisation; 0s = until the machine is
    /// restarted
    #[arg(long, value_name = "DURATION", visible_alias = "lockout-recovery-time")]
    pub(crate) lockout_recovery: Option<Seconds>,
    /// Leave the lockout as it is where nobody has set it up [default: 32 failures, 2h, 24h in place of 3 failures,
    /// 1000s, 1000s]
    #[arg(long, conflicts_with_all = ["max_tries", "recovery_time", "lockout_recovery"])]
    pub(crate) keep_lockout: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    Lockout,
    Owner,
}

/// The TPM's owner authorisation.
#[derive(Debug, Args)]
pub(crate) struct OwnerArguments {
    /// File with the TPM's owner authorisation, if one is set; the file of `tpm provision` is accepted
    #[arg(long, value_name = "FILE", conflicts_with = "owner_auth_fd")]
    pub(crate) owner_auth_file: Option<PathBuf>,
    /// Open file descriptor to read it from
    #[arg(long, value_name = "N")]
    pub(crate) owner_auth_fd: Option<u32>,
}

impl OwnerArguments {
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            file: self.owner_auth_file.as_deref(),
            fd: self.owner_auth_fd,
            options: "--owner-auth-file or --owner-auth-fd",
        }
    }
}

/// The TPM's lockout authorisation.
#[derive(Debug, Args)]
pub(crate) struct LockoutArguments {
    /// File with the TPM's lockout authorisation, if one is set; the file of `tpm provision` is accepted
    #[arg(long, value_name = "FILE", conflicts_with = "lockout_auth_fd")]
    pub(crate) lockout_auth_file: Option<PathBuf>,
    /// Open file descriptor to read it from
    #[arg(long, value_name = "N")]
    pub(crate) lockout_auth_fd: Option<u32>,
}

impl LockoutArguments {
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            file: self.lockout_auth_file.as_deref(),
            fd: self.lockout_auth_fd,
            options: "--lockout-auth-file or --lockout-auth-fd",
        }
    }
}
