//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

/// Virtual smart cards in the machine's TPM.
#[derive(Debug, Parser)]
#[command(
    name = "cardea",
    version,
    about,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 no daemon or no TPM, 4 PIN wrong, 5 PIN blocked, \
                  6 denied, 7 not found, 8 ambiguous, 9 card lost, 10 TPM full, 11 TPM lockout, 12 busy."
)]
pub(crate) struct Cli {
    /// Socket of the daemon
    #[arg(
        long,
        global = true,
        env = "CARDEA_SOCKET",
        value_name = "PATH",
        default_value = cardea_client::DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,

    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Cards: create, list, show, destroy
    #[command(subcommand)]
    Card(CardVerb),
    /// The PIN of a card
    #[command(subcommand)]
    Pin(PinVerb),
    /// Print the reader.conf.d entry that makes pcscd show the cards of this daemon
    ReaderConf {
        /// Handler library
        #[arg(long, value_name = "PATH", default_value = crate::reader_conf::DEFAULT_LIBRARY)]
        library: PathBuf,
        /// Number of slots, 1 to 14 [default: asked of the daemon]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=14))]
        slots: Option<u8>,
    },
    /// The TPM
    #[command(subcommand)]
    Tpm(TpmVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CardVerb {
    /// Create a card
    Create(CreateArguments),
    /// Destroy a card: its keys are gone for ever
    Destroy {
        #[command(flatten)]
        card: CardArgument,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the cards: an administrator sees all, others their own
    List {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show one card
    Show {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name shown to people, 1 to 127 bytes
    #[arg(long)]
    pub(crate) name: String,
    /// Who will be able to unblock the PIN by challenge and response: `random` (nobody: the key is
    /// discarded and the card has no administrator), `default` (0102030405060708 three times: known to all,
    /// for tests), `file:PATH` (48 hexadecimal digits or 24 bytes), `prompt`
    #[arg(long, value_name = "KEY", default_value = "random")]
    pub(crate) admin_key: AdminKeySource,
    /// File with the PIN, 4 to 127 bytes; one newline at its end does not count [default: asked]
    #[arg(long, value_name = "FILE", conflicts_with = "pin_fd")]
    pub(crate) pin_file: Option<PathBuf>,
    /// Open file descriptor to read the PIN from
    #[arg(long, value_name = "N")]
    pub(crate) pin_fd: Option<u32>,
    /// File with a PUK, 4 to 127 bytes; the PIN of a card with PUK is unblocked by the PUK alone [default: no PUK]
    #[arg(long, value_name = "FILE")]
    pub(crate) puk_file: Option<PathBuf>,
    /// Owner of the card, by name or user id [default: you]
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    /// Leave the file system out, for a card management system that writes its own
    #[arg(long)]
    pub(crate) blank: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PinVerb {
    /// Change the PIN
    Change {
        #[command(flatten)]
        card: CardArgument,
        /// File with the present PIN [default: asked]
        #[arg(long, value_name = "FILE", conflicts_with = "pin_fd")]
        pin_file: Option<PathBuf>,
        /// Open file descriptor to read the present PIN from
        #[arg(long, value_name = "N")]
        pin_fd: Option<u32>,
        /// File with the new PIN, 4 to 127 bytes [default: asked]
        #[arg(long, value_name = "FILE", conflicts_with = "new_pin_fd")]
        new_pin_file: Option<PathBuf>,
        /// Open file descriptor to read the new PIN from
        #[arg(long, value_name = "N")]
        new_pin_fd: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TpmVerb {
    /// Maker, algorithms and lockout of the TPM
    Status {
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CardArgument {
    /// Card id, an unambiguous beginning of it, instance id or name
    #[arg(value_name = "ID")]
    pub(crate) card: String,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the admin key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminKeySource {
    Default,
    File(PathBuf),
    Prompt,
    Random,
}

impl FromStr for AdminKeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("default", _) => Ok(Self::Default),
            ("prompt", _) => Ok(Self::Prompt),
            ("random", _) => Ok(Self::Random),
            (_, Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // The text is not repeated: it may be a key that somebody put here by mistake.
            _ => Err("must be random, default, prompt or file:PATH".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn admin_key_sources() {
        assert_eq!("random".parse(), Ok(AdminKeySource::Random));
        assert_eq!("file:/a:b".parse(), Ok(AdminKeySource::File("/a:b".into())));
        for bad in ["", "file:", "RANDOM", "0102030405060708"] {
            let error = bad.parse::<AdminKeySource>().unwrap_err();
            assert!(bad.is_empty() || bad == "file:" || !error.contains(bad));
        }
    }
}
