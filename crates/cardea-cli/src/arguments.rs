//! The command line.
//!
//! Secrets come by prompt, file or descriptor: no argument takes one, which a test below checks.

mod certificates;
mod keys;
mod redirect;
mod secrets;
mod tpm;

use std::path::PathBuf;
use std::str::FromStr;

use cardea_client::message::Visibility;
use cardea_terms::CounterMode;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::certificates::{CertVerb, CsrVerb, Encoding, Wanted, WhichCertificate};
pub(crate) use self::keys::{Algorithm, KeyVerb, NewKeyArguments, PublicFormat};
pub(crate) use self::redirect::RedirectArguments;
pub(crate) use self::secrets::{
    AdminArguments, AdminVerb, HelpdeskVerb, NewAdminKeyArguments, PassphraseArguments,
    PinArguments, PinVerb, PukVerb, RespondArguments, UnblockArguments,
};
pub(crate) use self::tpm::{IndicesArguments, OwnerArguments, ProvisionArguments, TpmVerb, Which};
use crate::duration::{Seconds, session_limit};
use crate::policy::Policy;

/// Where pcscd's handler is installed.
const DEFAULT_HANDLER: &str = "/usr/lib/pcsc/drivers/serial/libifdcardea.so";

/// Virtual smart cards in the machine's TPM.
#[derive(Debug, Parser)]
#[command(
    name = "cardea",
    version,
    about,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 no daemon or no TPM, 4 PIN, PUK, response or passphrase wrong, 5 blocked, \
                  6 denied, 7 not found, 8 ambiguous, 9 card lost, 10 no room, 11 TPM lockout, 12 busy, 13 declined, 14 no agent."
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
    /// The administrator of a card, who answers challenges with the admin key
    #[command(subcommand)]
    Admin(AdminVerb),
    /// Show what happened, when, to which card and by whom
    Audit {
        #[command(flatten)]
        output: OutputArguments,
        /// Keep printing new records until interrupted
        #[arg(long, conflicts_with = "verify")]
        follow: bool,
        /// Check that no record was changed, removed, moved or cut off
        #[arg(long)]
        verify: bool,
        /// Record that must exist: number and hash, as in the journal
        #[arg(long, value_name = "NUMBER:HASH", requires = "verify")]
        head: Vec<String>,
    },
    /// Cards: create, list, show, destroy
    #[command(subcommand)]
    Card(CardVerb),
    /// The certificates of a card's keys
    #[command(subcommand)]
    Cert(CertVerb),
    /// Certificate requests (PKCS#10)
    #[command(subcommand)]
    Csr(CsrVerb),
    /// The keys of a card
    #[command(subcommand)]
    Key(KeyVerb),
    /// The PIN of a card
    #[command(subcommand)]
    Pin(PinVerb),
    /// The PUK of a card
    #[command(subcommand)]
    Puk(PukVerb),
    /// Print the reader.conf.d entry that makes pcscd show the cards of this daemon
    ReaderConf {
        /// Handler library
        #[arg(long, value_name = "PATH", default_value = DEFAULT_HANDLER)]
        library: PathBuf,
        /// Number of slots, 1 to 14 [default: asked of the daemon]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=14))]
        slots: Option<u8>,
    },
    /// Make your cards available on another machine, over ssh, for as long as this runs
    Redirect(RedirectArguments),
    /// The other end of `redirect`: relays between standard input and output and the daemon
    #[command(hide = true)]
    RedirectAccept,
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Diagnose this machine and suggest fixes
    Doctor {
        #[command(flatten)]
        output: OutputArguments,
        /// Folder that stands for the root of the file system
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Write the manual pages to a folder
    #[command(hide = true)]
    Manual {
        /// Existing folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Help-desk tasks for cards on other machines, without daemon or TPM
    #[command(subcommand)]
    Helpdesk(HelpdeskVerb),
    /// The TPM
    #[command(subcommand)]
    Tpm(TpmVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CardVerb {
    /// Adopt a card whose file another system on this computer has written (administrators)
    Adopt {
        #[command(flatten)]
        card: CardArgument,
        /// New owner of the card, by name or user id [default: unchanged]
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Insert the cards on a mounted drive until it is unmounted, removed or detached
    Attach {
        /// Where the drive is mounted
        #[arg(value_name = "DIR")]
        place: PathBuf,
        /// Run in the foreground until the drive is gone; for services
        #[arg(long)]
        foreground: bool,
    },
    /// Create a card
    Create(Box<CreateArguments>),
    /// Destroy a card and its keys
    ///
    /// This cannot be undone.
    /// A card that is shown as lost, or as made by another TPM, may come back: first switch the computer off completely
    /// (a full power cycle) and on again, make sure that it is the computer that the card was made on, and check in the
    /// firmware setup whether the TPM was replaced, cleared or switched off.
    ///
    /// If somebody else may know the PIN, first shut the computer down and switch it on again (an ordinary shutdown, not
    /// suspend, hibernation or a power cut): whatever was opened with the PIN can use the card's keys until the TPM is
    /// reset, even after the card is destroyed.
    Destroy {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        tpm_owner: OwnerArguments,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Detach the drive of a card before it is unmounted
    Detach {
        #[command(flatten)]
        card: CardArgument,
    },
    /// Keep a drive attached whose connection is standard input
    #[command(hide = true)]
    Hold {
        /// The folder on the drive
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// List the cards: administrators see all, others their own
    List {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Give a card another name (administrators)
    Rename {
        #[command(flatten)]
        card: CardArgument,
        /// The new name, 1 to 127 bytes
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Change settings of a card (administrators)
    Set {
        #[command(flatten)]
        card: CardArgument,
        /// Whether programs that support PIN pads let the agent ask for the PIN
        #[arg(long, value_name = "SWITCH", required_unless_present = "reader")]
        pin_pad: Option<Switch>,
        /// When the card is shown in its reader
        #[arg(long, value_name = "WHEN")]
        reader: Option<Presence>,
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
    /// Mounted drive for the card's file, in its folder `Cardea` [default: the daemon's own folder]
    #[arg(long, value_name = "DIR", conflicts_with = "uninitialised")]
    pub(crate) store: Option<PathBuf>,
    /// Who will be able to unblock the PIN by challenge and response: `random` (nobody: the key is
    /// discarded and the card has no administrator), `default` (0102030405060708 three times: publicly known,
    /// for tests), `file:PATH` (48 hexadecimal digits or 24 bytes),
    /// `escrowed:PATH` (random, and kept in that new file under a passphrase or for the holder of a certificate;
    /// `%` in the path is the card id),
    /// `derived:PATH` (derived for this card from a master secret: 64 hexadecimal digits, the URI of a key in a
    /// PKCS#11 token, or a key wrapped to a TPM), `prompt` [default: the machine's configuration, else random]
    #[arg(long, value_name = "KEY")]
    pub(crate) admin_key: Option<AdminKeySource>,
    /// File with the passphrase of `--admin-key escrowed:PATH` [default: prompt]
    #[arg(long, value_name = "FILE", conflicts_with = "escrow_certificate")]
    pub(crate) escrow_passphrase_file: Option<PathBuf>,
    /// Certificate of the administrator who can open the file of `--admin-key escrowed:PATH`
    #[arg(long, value_name = "FILE")]
    pub(crate) escrow_certificate: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) pin: PinArguments,
    /// Ask for a PUK, 8 to 127 bytes; the PIN of a card with a PUK can only be unblocked with the PUK
    #[arg(long, conflicts_with_all = ["puk_file", "puk_fd"])]
    pub(crate) puk: bool,
    /// Generate a PUK of 12 digits, and show it once on the terminal
    #[arg(long, conflicts_with_all = ["puk", "puk_file", "puk_fd"])]
    pub(crate) generate_puk: bool,
    /// No PUK, without asking for one: without PUK and administrator, a blocked PIN cannot be unblocked
    #[arg(long, conflicts_with_all = ["puk", "puk_file", "puk_fd", "generate_puk"])]
    pub(crate) no_puk: bool,
    /// File with a PUK [default: asked on a terminal, else no PUK]
    #[arg(long, value_name = "FILE", conflicts_with = "puk_fd")]
    pub(crate) puk_file: Option<PathBuf>,
    /// Open file descriptor to read a PUK from
    #[arg(long, value_name = "N")]
    pub(crate) puk_fd: Option<u32>,
    /// Rules for PINs: `min` and `max` (4 to 127 bytes), and for `upper`, `lower`, `digits`,
    /// `special`, `other` one of `required`, `allowed`, `disallowed`;
    /// for example min=4,max=8,digits=required [default: 4 to 127 bytes, any characters]
    #[arg(long, value_name = "RULES")]
    pub(crate) pin_policy: Option<Policy>,
    /// Consecutive wrong PINs that block the PIN, 1 to 255 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) pin_tries: Option<u32>,
    /// Consecutive wrong PUKs that block the PUK, 1 to 255 [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) puk_tries: Option<u32>,
    /// Where wrong PINs are counted: `nv` (counters of the card in the TPM), `nv-owner` (the same, and only the TPM's
    /// owner can read them: what `nv` makes on TPMs that need it) or `object` (the TPM's lockout, for TPMs without such
    /// counters or without room for them; promises less, see the page on TPMs) [default: nv]
    #[arg(long, value_name = "MODE")]
    pub(crate) counter_mode: Option<Counters>,
    /// Longest time that a verified PIN stays valid: 30s, 10m, 8h, or none [default: 8h; none for the card of a system
    /// account other than root]
    #[arg(long, value_name = "DURATION", value_parser = session_limit)]
    pub(crate) session_limit: Option<Seconds>,
    /// Time without use after which a verified PIN expires; 0s = only with the session [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) idle_limit: Option<Seconds>,
    /// Leave the card in initialisation state: PIN and admin key are set by whoever personalises it
    #[arg(
        long,
        conflicts_with_all = [
            "pin_file", "pin_fd", "puk", "generate_puk", "no_puk", "puk_file", "puk_fd", "admin_key", "blank"
        ]
    )]
    pub(crate) uninitialised: bool,
    /// With `--uninitialised`: reserve a PUK
    // A requirement that conflicts with something given is dropped by clap: so the conflicts are here too.
    #[arg(
        long,
        requires = "uninitialised",
        conflicts_with_all = [
            "pin_file", "pin_fd", "puk", "generate_puk", "no_puk", "puk_file", "puk_fd", "admin_key", "blank"
        ]
    )]
    pub(crate) with_puk: bool,
    /// Owner of the card, by name or user id [default: you]
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    /// Programs that support PIN pads let the agent (`cardea-agent`) ask for the PIN
    #[arg(long)]
    pub(crate) pin_pad: bool,
    /// When the card is shown in its reader [default: owner-session for people, always for system accounts]
    #[arg(long, value_name = "WHEN")]
    pub(crate) reader: Option<Presence>,
    /// Do not write the file system, for a card management system that writes its own
    #[arg(long)]
    pub(crate) blank: bool,
    #[command(flatten)]
    pub(crate) tpm_owner: OwnerArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CardArgument {
    /// Card id or an unambiguous prefix of it, instance id, or name
    #[arg(value_name = "ID")]
    pub(crate) card: String,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    Off,
    On,
}

/// Where wrong PINs are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Counters {
    /// In counters of the card in the TPM
    Nv,
    /// The same, which only the TPM's owner can read
    NvOwner,
    /// In the TPM's lockout
    Object,
}

impl From<Counters> for CounterMode {
    fn from(counters: Counters) -> Self {
        match counters {
            Counters::Nv => Self::Nv,
            Counters::NvOwner => Self::NvOwner,
            Counters::Object => Self::Object,
        }
    }
}

/// When a card is shown in its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Presence {
    /// As long as it can be used
    Always,
    /// While its owner has an active session
    OwnerSession,
}

impl From<Presence> for Visibility {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Always => Self::Always,
            Presence::OwnerSession => Self::OwnerSession,
        }
    }
}

/// Where the admin key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminKeySource {
    Default,
    File(PathBuf),
    Derived(PathBuf),
    Escrowed(PathBuf),
    Prompt,
    Random,
}

impl FromStr for AdminKeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text
            .strip_prefix("derived:")
            .filter(|path| !path.is_empty())
        {
            return Ok(Self::Derived(path.into()));
        }
        if let Some(path) = text
            .strip_prefix("escrowed:")
            .filter(|path| !path.is_empty())
        {
            return Ok(Self::Escrowed(path.into()));
        }
        match (text, text.strip_prefix("file:")) {
            ("default", _) => Ok(Self::Default),
            ("prompt", _) => Ok(Self::Prompt),
            ("random", _) => Ok(Self::Random),
            (_, Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // The text is not repeated: it may be a key that somebody put here by mistake.
            _ => Err(
                "must be random, default, prompt, file:PATH, derived:PATH or escrowed:PATH".into(),
            ),
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

    /// Every option that has a secret's name is a switch, or names a file, a descriptor or a number.
    #[test]
    fn no_argument_takes_a_secret() {
        let mut commands = vec![Cli::command()];
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secret = ["pin", "puk", "passphrase", "admin_key", "new_key", "auth"]
                    .iter()
                    .any(|word| id.contains(word));
                if !secret || !argument.get_action().takes_values() {
                    continue;
                }
                seen += 1;
                assert!(
                    id.ends_with("_file")
                        || id.ends_with("_fd")
                        || [
                            "pin_pad",
                            "pin_policy",
                            "pin_tries",
                            "puk_tries",
                            "admin_key"
                        ]
                        .contains(&id),
                    "{id} of {}",
                    command.get_name()
                );
            }
        }
        assert!(seen > 20, "{seen}");
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
