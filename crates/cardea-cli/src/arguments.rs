//! The command line.
//!
//! Secrets come by prompt, file or descriptor: no argument takes one, which a test below checks.

mod attest;
mod authority;
mod certificates;
mod create;
mod enrolment;
mod examples;
mod keys;
mod machine;
mod redirect;
mod secrets;
mod tpm;

use std::path::PathBuf;
use std::str::FromStr;

use cardea_client::message::Visibility;
use cardea_terms::CounterMode;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::attest::{AttestVerb, Digits, EvidenceArguments, VerifyArguments};
pub(crate) use self::authority::{
    AssetText, AuthorityCurve, AuthorityPinVerb, AuthorityVerb, ChallengeArguments, InitArguments,
    IssueArguments,
};
pub(crate) use self::certificates::{CertVerb, CsrVerb, Encoding, Wanted, WhichCertificate};
pub(crate) use self::create::{CreateArguments, RestoreArguments};
pub(crate) use self::enrolment::{
    AuthorityArguments, CredentialArguments, EnrolArguments, PendingArguments, RenewArguments,
    RevokeArguments, WaitArguments,
};
pub(crate) use self::keys::{Algorithm, KeyVerb, NewKeyArguments, PublicFormat};
pub(crate) use self::machine::MachineArguments;
pub(crate) use self::redirect::RedirectArguments;
pub(crate) use self::secrets::{
    AdminArguments, AdminVerb, HelpdeskVerb, NewAdminKeyArguments, PassphraseArguments,
    PinArguments, PinVerb, PukVerb, RespondArguments, UnblockArguments,
};
pub(crate) use self::tpm::{IndicesArguments, OwnerArguments, ProvisionArguments, TpmVerb, Which};

/// Virtual smart cards in the machine's TPM
#[derive(Debug, Parser)]
#[command(
    name = "cardea",
    version,
    about,
    term_width = 80,
    after_help = examples::BEGIN,
    after_long_help = examples::CARDEA
)]
pub(crate) struct Cli {
    /// Socket of the daemon
    #[arg(
        long,
        global = true,
        help_heading = "Daemon",
        env = "CARDEA_SOCKET",
        value_name = "PATH",
        default_value = cardea_client::DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,

    #[command(flatten)]
    pub(crate) machine: MachineArguments,

    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// The administrator of a card, who answers challenges with the admin key
    #[command(subcommand)]
    Admin(AdminVerb),
    /// What a card proves to a stranger
    #[command(subcommand)]
    Attest(AttestVerb),
    /// Show what happened, when, to which card and by whom
    #[command(after_long_help = examples::AUDIT)]
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
    /// Cards: create, list, show, rename, destroy
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
    #[command(after_long_help = examples::READER_CONF)]
    ReaderConf {
        /// Handler library
        #[arg(long, value_name = "PATH", default_value = crate::places::HANDLER)]
        library: PathBuf,
        /// Number of slots, 1 to 14 [default: asked of the daemon]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=14))]
        slots: Option<u8>,
    },
    /// Make your cards available on another machine, over ssh, for as long as this runs
    #[command(after_long_help = examples::REDIRECT)]
    Redirect(RedirectArguments),
    /// The other end of `redirect`: relays between standard input and output and the daemon
    #[command(hide = true)]
    RedirectAccept,
    /// Print a shell's completion script
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the names that the last word may become, for the scripts of `completions`
    #[command(hide = true)]
    Complete {
        /// What was typed behind `cardea`
        #[arg(last = true)]
        words: Vec<String>,
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
    /// A guided first run: this machine, a first card, a key, a certificate
    #[command(after_long_help = examples::SETUP)]
    Setup {
        /// Folder that stands for the root of the file system
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
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
    #[command(after_long_help = examples::CARD_ATTACH)]
    Attach {
        /// Where the drive is mounted
        #[arg(value_name = "DIR")]
        place: PathBuf,
        /// Run in the foreground until the drive is gone; for services
        #[arg(long)]
        foreground: bool,
    },
    /// Copy a card's file, with which `card restore` brings its recoverable keys back
    ///
    /// Without a recovery key and without this TPM, the copy is of no use to anyone; it shows names and certificates.
    #[command(after_long_help = examples::CARD_BACKUP)]
    Backup {
        #[command(flatten)]
        card: CardArgument,
        /// New file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Create a card
    #[command(after_long_help = examples::CARD_CREATE)]
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
        #[command(flatten)]
        wide: WideArguments,
    },
    /// Give a card another name (administrators)
    #[command(after_long_help = examples::CARD_RENAME)]
    Rename {
        #[command(flatten)]
        card: CardArgument,
        /// The new name, 1 to 127 bytes
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Make a new card with the recoverable keys of a lost one, from a copy of its file
    ///
    /// PIN, PUK and administrator are those of the new card. Keys that cannot be brought back are listed with the
    /// subjects of their certificates, so that these can be revoked.
    #[command(after_long_help = examples::CARD_RESTORE)]
    Restore(Box<RestoreArguments>),
    /// Change settings of a card (administrators)
    #[command(after_long_help = examples::CARD_SET)]
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
        #[command(flatten)]
        wide: WideArguments,
    },
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

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WideArguments {
    /// Do not shorten or leave out anything to fit 80 columns
    #[arg(long, conflicts_with = "json")]
    pub(crate) wide: bool,
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

    fn every_command() -> Vec<clap::Command> {
        let mut root = Cli::command();
        root.build();
        let mut commands = vec![root];
        let mut index = 0;
        while let Some(command) = commands.get(index) {
            let below: Vec<_> = command.get_subcommands().cloned().collect();
            commands.extend(below);
            index += 1;
        }
        commands.retain(|command| !command.is_hide_set() && command.get_name() != "help");
        commands
    }

    /// The words of a command line without redirections.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" > ").next().unwrap();
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty() && !word.contains('<'));
        words
    }

    #[test]
    fn examples_are_valid_commands() {
        let mut seen = 0;
        for command in every_command() {
            let text = command.get_after_long_help();
            let text = text.map(ToString::to_string).unwrap_or_default();
            let text = text.replace("\\\n", "");
            for line in text
                .lines()
                .filter_map(|line| line.strip_prefix("  cardea"))
            {
                let line = format!("cardea{line}");
                let parsed = Cli::command().try_get_matches_from(words(&line));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn help_fits_80_columns_and_the_short_one_is_shorter() {
        for mut command in every_command() {
            let name = command.get_name().to_owned();
            let (short, long) = (command.render_help(), command.render_long_help());
            let (short, long) = (short.to_string(), long.to_string());
            if command
                .get_arguments()
                .any(|argument| argument.get_id() == "admin_key")
            {
                assert!(short.lines().count() * 2 < long.lines().count(), "{name}");
            }
            for line in short.lines().chain(long.lines()) {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }

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
                let secret = ["pin", "puk", "pass", "admin_key", "new_key", "auth"]
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
