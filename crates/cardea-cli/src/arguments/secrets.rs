//! `cardea pin …`, `puk …`, `admin …`, and where secrets come from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CardArgument, OutputArguments};
use crate::hex::Block;
use crate::terminal::secret::Source;

/// A secret's two options; without them it is asked for.
macro_rules! secret_arguments {
    ($name:ident, $what:literal, $file:ident, $fd:ident) => {
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            #[arg(
                long,
                value_name = "FILE",
                conflicts_with = stringify!($fd),
                help = concat!("File with the ", $what, "; one newline at its end does not count [default: asked]")
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
                }
            }
        }
    };
}

secret_arguments!(PinArguments, "PIN", pin_file, pin_fd);
secret_arguments!(NewPinArguments, "new PIN", new_pin_file, new_pin_fd);
secret_arguments!(PukArguments, "PUK", puk_file, puk_fd);
secret_arguments!(NewPukArguments, "new PUK", new_puk_file, new_puk_fd);
secret_arguments!(
    PassphraseArguments,
    "passphrase",
    passphrase_file,
    passphrase_fd
);

#[derive(Debug, Subcommand)]
pub(crate) enum PinVerb {
    /// Change the PIN
    ///
    /// Where somebody may know the PIN, first shut the computer down and switch it on again (an ordinary shutdown, not
    /// suspend, hibernation or a cut of the power), then change the PIN: what was opened with a captured PIN outlives its
    /// change, its blocking and the destruction of the card until the TPM is reset, and can set the PIN once more.
    Change {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        old: PinArguments,
        #[command(flatten)]
        new: NewPinArguments,
    },
    /// Set a new PIN by PUK or admin key, and give it its tries back
    Unblock(UnblockArguments),
    /// Compare the PIN; a wrong one costs a try
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
    /// By the PUK [default: what the card has]
    #[arg(
        long,
        conflicts_with_all = ["admin", "admin_key_file", "admin_key_fd", "challenge", "response"]
    )]
    pub(crate) puk: bool,
    #[command(flatten)]
    pub(crate) value: PukArguments,
    /// By the administrator: shows a challenge and takes the response
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
    /// Compare the PUK; a wrong one costs a try
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
    /// Print a challenge, to be answered with --challenge and --response of another command
    Challenge {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Judge an administrator's answer
    Verify {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        answer: AdminArguments,
    },
}

/// How the administrator proves to be it; without any, a challenge is shown and the response asked for.
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
    /// Response to it, 16 hexadecimal digits: worth nothing once it was used
    #[arg(long, value_name = "HEX", requires = "challenge")]
    pub(crate) response: Option<Block>,
}

impl AdminArguments {
    /// The admin key's place, if it is at hand.
    pub(crate) fn key(&self) -> Option<Source<'_>> {
        let source = Source {
            file: self.admin_key_file.as_deref(),
            fd: self.admin_key_fd,
        };
        source.is_given().then_some(source)
    }

    /// Whether there is an option of these.
    pub(crate) fn is_given(&self) -> bool {
        self.key().is_some() || self.challenge.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewAdminKeyArguments {
    /// File with the new admin key, 48 hexadecimal digits or 24 bytes [default: asked]
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_fd")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// Open file descriptor to read the new admin key from
    #[arg(long, value_name = "N")]
    pub(crate) new_key_fd: Option<u32>,
    /// Master secret that the card's own new key is derived from, 64 hexadecimal digits
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_key_file", "new_key_fd"])]
    pub(crate) new_key_master_file: Option<PathBuf>,
    /// Make a random one; needs --out
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
    /// Print the check value of a master secret, which tells it from others
    Check {
        /// File with the master secret, 64 hexadecimal digits
        #[arg(long, value_name = "FILE")]
        master_file: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Make a master secret, from which each card's own admin key is derived
    Master {
        /// New file for it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Wrap it to the TPM at that address (`device:/dev/tpmrm0`), so that it does not lie in the clear
        #[arg(long, value_name = "ADDRESS")]
        tpm: Option<String>,
        /// With `--tpm`: the master secret of that file instead of a new one
        #[arg(long, value_name = "FILE", requires = "tpm")]
        from: Option<PathBuf>,
    },
    /// Compute the response to a challenge that a card shows
    Respond(RespondArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RespondArguments {
    /// Card id, as the card shows it with the challenge
    #[arg(long, value_name = "ID")]
    pub(crate) card_id: Option<String>,
    /// Challenge: 16 hexadecimal digits, grouped as you like, with the check digit or without
    #[arg(long, value_name = "HEX")]
    pub(crate) challenge: Block,
    /// File with the master secret that the card's key is derived from
    #[arg(long, value_name = "FILE", required_unless_present_any = ["admin_key_file", "escrow_file"])]
    pub(crate) master_file: Option<PathBuf>,
    /// File with the card's admin key itself, 48 hexadecimal digits or 24 bytes
    #[arg(long, value_name = "FILE", conflicts_with = "master_file")]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// File that the card's random key was kept in when it was made, or what `openssl cms -decrypt` has got out of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["master_file", "admin_key_file"])]
    pub(crate) escrow_file: Option<PathBuf>,
    /// File with its passphrase [default: asked]
    #[arg(long, value_name = "FILE", requires = "escrow_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Check value that the master secret must have
    #[arg(long, value_name = "HEX", requires = "master_file")]
    pub(crate) check: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}
