//! `cardea pin …`, `puk …`, `admin …`, and where secrets come from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CardArgument, OutputArguments};
use crate::hex::Block;
use crate::terminal::secret::Source;

/// A secret's two options; without them it is asked for.
macro_rules! secret_arguments {
    ($name:ident, $what:literal, $file:ident, $fd:ident, $options:literal) => {
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            #[arg(
                long,
                value_name = "FILE",
                conflicts_with = stringify!($fd),
                help = concat!("File with the ", $what, "; one line end behind it is ignored [default: prompt]")
            )]
            pub(crate) $file: Option<PathBuf>,
            #[arg(
                long,
                value_name = "N",
                help = concat!("Open file descriptor to read the ", $what, " from")
            )]
            pub(crate) $fd: Option<u32>,
        }

        impl $name {
            pub(crate) fn source(&self) -> Source<'_> {
                Source {
                    file: self.$file.as_deref(),
                    fd: self.$fd,
                    options: $options,
                }
            }
        }
    };
}

secret_arguments!(
    PinArguments,
    "PIN",
    pin_file,
    pin_fd,
    "--pin-file or --pin-fd"
);
secret_arguments!(
    NewPinArguments,
    "new PIN",
    new_pin_file,
    new_pin_fd,
    "--new-pin-file or --new-pin-fd"
);
secret_arguments!(
    PukArguments,
    "PUK",
    puk_file,
    puk_fd,
    "--puk-file or --puk-fd"
);
secret_arguments!(
    NewPukArguments,
    "new PUK",
    new_puk_file,
    new_puk_fd,
    "--new-puk-file or --new-puk-fd"
);
secret_arguments!(
    PassphraseArguments,
    "passphrase",
    passphrase_file,
    passphrase_fd,
    "--passphrase-file or --passphrase-fd"
);

#[derive(Debug, Subcommand)]
pub(crate) enum PinVerb {
    /// Change the PIN
    ///
    /// If somebody else may know the PIN, first shut the computer down and switch it on again (an ordinary shutdown, not
    /// suspend, hibernation or a power cut), then change the PIN: whatever was opened with a captured PIN stays open
    /// until the TPM is reset, even if the PIN is changed or blocked or the card is destroyed, and can set the PIN again.
    Change {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        old: PinArguments,
        #[command(flatten)]
        new: NewPinArguments,
    },
    /// Set a new PIN with the PUK or admin key, and restore its tries
    #[command(after_long_help = super::examples::PIN_UNBLOCK)]
    Unblock(UnblockArguments),
    /// Verify the PIN; a wrong one costs a try
    #[command(after_long_help = super::examples::PIN_VERIFY)]
    Verify {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        pin: PinArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UnblockArguments {
    #[command(flatten)]
    pub(crate) card: CardArgument,
    /// With the PUK [default: what the card has]
    #[arg(
        long,
        conflicts_with_all = ["admin", "admin_key_file", "admin_key_fd", "challenge", "response"]
    )]
    pub(crate) puk: bool,
    #[command(flatten)]
    pub(crate) value: PukArguments,
    /// By the administrator: shows a challenge and asks for the response
    #[arg(long, conflicts_with_all = ["puk_file", "puk_fd"])]
    pub(crate) admin: bool,
    #[command(flatten)]
    pub(crate) answer: AdminArguments,
    #[command(flatten)]
    pub(crate) new: NewPinArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PukVerb {
    /// Change the PUK
    Change {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        old: PukArguments,
        #[command(flatten)]
        new: NewPukArguments,
    },
    /// Verify the PUK; a wrong one costs a try
    Verify {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        puk: PukArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Set a new admin key
    ChangeKey {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        answer: AdminArguments,
        #[command(flatten)]
        new: NewAdminKeyArguments,
    },
    /// Print a challenge, for --challenge and --response of another command
    Challenge {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Verify an administrator's response
    Verify {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        answer: AdminArguments,
    },
}

/// How the administrator authenticates; without any, a challenge is shown and the response asked for.
#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    /// File with the admin key, 48 hexadecimal digits or 24 bytes: the challenge is answered with it
    #[arg(long, value_name = "FILE", conflicts_with = "admin_key_fd")]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// Open file descriptor to read the admin key from
    #[arg(long, value_name = "N")]
    pub(crate) admin_key_fd: Option<u32>,
    /// Challenge that was answered, 16 hexadecimal digits, as `admin challenge` printed it
    #[arg(
        long,
        value_name = "HEX",
        requires = "response",
        conflicts_with_all = ["admin_key_file", "admin_key_fd"]
    )]
    pub(crate) challenge: Option<Block>,
    /// Response to the challenge, 16 hexadecimal digits; valid once
    #[arg(long, value_name = "HEX", requires = "challenge")]
    pub(crate) response: Option<Block>,
}

impl AdminArguments {
    /// Where to read the admin key from, if that is given.
    pub(crate) fn key(&self) -> Option<Source<'_>> {
        let source = Source {
            file: self.admin_key_file.as_deref(),
            fd: self.admin_key_fd,
            options: "--admin-key-file or --admin-key-fd",
        };
        source.is_given().then_some(source)
    }

    /// Whether one of these options is given.
    pub(crate) fn is_given(&self) -> bool {
        self.key().is_some() || self.challenge.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewAdminKeyArguments {
    /// File with the new admin key, 48 hexadecimal digits or 24 bytes [default: prompt]
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_fd")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// Open file descriptor to read the new admin key from
    #[arg(long, value_name = "N")]
    pub(crate) new_key_fd: Option<u32>,
    /// File with the master secret from which the card's new key is derived
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_key_file", "new_key_fd"])]
    pub(crate) new_key_master_file: Option<PathBuf>,
    /// Generate a random key; needs --out
    #[arg(
        long,
        requires = "out",
        conflicts_with_all = ["new_key_file", "new_key_fd", "new_key_master_file"]
    )]
    pub(crate) new_key_random: bool,
    /// New file for the random key, written before the card is changed
    #[arg(long, value_name = "FILE", requires = "new_key_random")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HelpdeskVerb {
    /// Print the check value of a master secret, which identifies it
    Check {
        /// File with the master secret, 64 hexadecimal digits
        #[arg(long, value_name = "FILE")]
        master_file: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Create a master secret, from which the admin key of each card is derived
    Master {
        /// New file for it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Wrap it to the TPM at this address (`device:/dev/tpmrm0`), so that it is not stored unencrypted
        #[arg(long, value_name = "ADDRESS")]
        tpm: Option<String>,
        /// With `--tpm`: use the master secret in this file instead of a new one
        #[arg(long, value_name = "FILE", requires = "tpm")]
        from: Option<PathBuf>,
    },
    /// Compute the response to a card's challenge
    #[command(after_long_help = super::examples::RESPOND)]
    Respond(RespondArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RespondArguments {
    /// Card id, as shown with the challenge
    #[arg(long, value_name = "ID")]
    pub(crate) card_id: Option<String>,
    /// Challenge: 16 hexadecimal digits in any grouping, with or without the check digit
    #[arg(long, value_name = "HEX")]
    pub(crate) challenge: Block,
    /// File with the master secret that the card's key is derived from
    #[arg(long, value_name = "FILE", required_unless_present_any = ["admin_key_file", "escrow_file"])]
    pub(crate) master_file: Option<PathBuf>,
    /// File with the card's admin key itself, 48 hexadecimal digits or 24 bytes
    #[arg(long, value_name = "FILE", conflicts_with = "master_file")]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// File in which the card's random key was kept, or its content as decrypted by `openssl cms -decrypt`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["master_file", "admin_key_file"])]
    pub(crate) escrow_file: Option<PathBuf>,
    /// File with its passphrase [default: prompt]
    #[arg(long, value_name = "FILE", requires = "escrow_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Check value that the master secret must have
    #[arg(long, value_name = "HEX", requires = "master_file")]
    pub(crate) check: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}
