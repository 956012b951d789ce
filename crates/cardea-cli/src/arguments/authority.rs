//! `cardea attest authority …`

use std::path::PathBuf;
use std::str::FromStr;

use cardea_pki::Name;
use clap::{Args, Subcommand, ValueEnum};

use super::OutputArguments;
use super::examples;

/// The heading of what a file's place is said with.
const PLACE: &str = "Authority";

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityVerb {
    /// Judge a card's request, and make a challenge that only its TPM can open
    ///
    /// The TPM must be known by its maker's certificate (folder `roots`), by a pin, or, if that is asked for, at its
    /// first use. Nothing is kept: what the authority must know again travels with the challenge.
    #[command(
        after_long_help = examples::AUTHORITY_CHALLENGE,
        override_usage = "cardea attest authority challenge [OPTIONS] --folder <DIR>
                                          --out <FILE> <REQUEST>"
    )]
    Challenge(ChallengeArguments),
    /// Make an authority that certifies the attestation keys of cards: a folder with its key and certificate
    ///
    /// Whoever has the folder's key can vouch for anything: keep it on a computer of its own.
    #[command(after_long_help = examples::AUTHORITY_INIT)]
    Init(InitArguments),
    /// Judge a card's answer, and issue the certificate of its attestation key
    ///
    /// Each challenge is good for one certificate. What is issued is in the folder's record before it is handed out.
    #[command(
        after_long_help = examples::AUTHORITY_ISSUE,
        override_usage = "cardea attest authority issue [OPTIONS] --folder <DIR>
                                      --out <FILE> <ANSWER>"
    )]
    Issue(IssueArguments),
    /// TPMs that are known by themselves
    #[command(subcommand)]
    Pin(AuthorityPinVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityPinVerb {
    /// Add the pin of a TPM's endorsement key, as `cardea tpm ek` shows it
    #[command(
        after_long_help = examples::AUTHORITY_PIN_ADD,
        override_usage = "cardea attest authority pin add [OPTIONS] --folder <DIR>
                                        --asset <TEXT> <PIN>"
    )]
    Add {
        /// SHA-256 of the endorsement key's SubjectPublicKeyInfo, in hexadecimal
        #[arg(value_name = "PIN")]
        digest: PinDigest,
        /// What the computer is called in your inventory
        #[arg(long, value_name = "TEXT")]
        asset: AssetText,
        #[command(flatten)]
        folder: FolderArgument,
    },
    /// Add all pins of a file: each line has a pin, blanks, and the name of the asset
    #[command(after_long_help = examples::AUTHORITY_PIN_IMPORT)]
    Import {
        /// The list; `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        folder: FolderArgument,
    },
    /// List the pins
    List {
        #[command(flatten)]
        folder: FolderArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Remove a pin; certificates that were issued by it stay valid
    Remove {
        /// The pin, in hexadecimal
        #[arg(value_name = "PIN")]
        digest: PinDigest,
        #[command(flatten)]
        folder: FolderArgument,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FolderArgument {
    /// Folder of the authority
    #[arg(long = "folder", value_name = "DIR", help_heading = PLACE)]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// New folder, or an empty one
    #[arg(long = "folder", value_name = "DIR", help_heading = PLACE)]
    pub(crate) folder: PathBuf,
    /// What the authority is called
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "New key",
        default_value = "CN=Cardea attestation authority"
    )]
    pub(crate) subject: Name,
    /// Its key
    #[arg(
        long,
        value_name = "CURVE",
        help_heading = "New key",
        default_value = "p-384"
    )]
    pub(crate) curve: AuthorityCurve,
    /// How long its certificate is valid
    #[arg(
        long,
        value_name = "N",
        help_heading = "New key",
        default_value_t = 3650,
        value_parser = clap::value_parser!(u32).range(1..=36_500)
    )]
    pub(crate) days: u32,
    /// Private key that the authority is to have instead of a new one: PEM or DER, not encrypted
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Existing key",
        requires = "certificate",
        conflicts_with_all = ["subject", "curve", "days"]
    )]
    pub(crate) key: Option<PathBuf>,
    /// Its certificate, which must allow it to issue others, and those between it and a root
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Existing key",
        requires = "key"
    )]
    pub(crate) certificate: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AuthorityCurve {
    #[value(name = "p-256")]
    P256,
    #[value(name = "p-384")]
    P384,
}

#[derive(Debug, Args)]
pub(crate) struct ChallengeArguments {
    /// The card's request (`cardea-ak-request-1`)
    #[arg(value_name = "REQUEST")]
    pub(crate) request: PathBuf,
    /// File to write the challenge to
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Accept a TPM that neither a certificate nor a pin shows: it may be any program. The certificate will say so
    #[arg(long)]
    pub(crate) trust_on_first_use: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArgument,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArguments {
    /// The card's answer (`cardea-ak-answer-1`)
    #[arg(value_name = "ANSWER")]
    pub(crate) answer: PathBuf,
    /// File to write the certificate and its chain to
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long the certificate is valid, at most as long as the authority's own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(1..=3650)
    )]
    pub(crate) days: u32,
    /// How old the challenge may be, in minutes: more if the messages go by hand
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_080)
    )]
    pub(crate) within: u32,
    #[command(flatten)]
    pub(crate) folder: FolderArgument,
}

/// The pin of an endorsement key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinDigest(pub(crate) [u8; 32]);

impl FromStr for PinDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = crate::hex::parse(text.as_bytes());
        bytes
            .map(|bytes| Self(*bytes))
            .ok_or("these are not 64 hexadecimal digits")
    }
}

/// What a computer is called: one line.
#[derive(Clone, Debug)]
pub(crate) struct AssetText(pub(crate) String);

impl FromStr for AssetText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err("this is not one line of 1 to 256 bytes");
        }
        Ok(Self(text.to_owned()))
    }
}
