//! `cardea key …`

use std::path::PathBuf;

use cardea_terms::{KeyAlgorithm, KeyClass};
use clap::{Args, Subcommand, ValueEnum};

use super::{CardArgument, OutputArguments, PassphraseArguments, PinArguments, WideArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Delete a key and its certificate, which cannot be undone
    Delete {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        key: KeyArgument,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// Print a public key
    ExportPublic {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        key: KeyArgument,
        /// SubjectPublicKeyInfo, or a line for authorized_keys
        #[arg(long, value_name = "FORMAT", default_value = "pem")]
        format: PublicFormat,
        /// File to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Generate a key in the TPM
    #[command(after_long_help = super::examples::KEY_GENERATE)]
    Generate {
        #[command(flatten)]
        card: CardArgument,
        /// Key algorithm [default: asked if the PIN is typed, else rsa-2048]
        ///
        /// rsa-2048 works with every program, OpenSC and Windows among them, which do not know elliptic-curve keys on
        /// these cards; p-256 is much faster.
        #[arg(long, value_name = "ALGORITHM")]
        algorithm: Option<Algorithm>,
        #[command(flatten)]
        options: NewKeyArguments,
        /// Certificate of a key on P-256 whose holder can bring this key back; up to 7 times
        ///
        /// For encryption keys. Whoever holds the private key of that certificate has this key too, without the PIN, as
        /// soon as they have a copy of the card file, for as long as this key exists. `cardea card restore` brings it
        /// back on another computer.
        #[arg(long, value_name = "CERTIFICATE", help_heading = "Recovery")]
        recoverable_by: Vec<PathBuf>,
        #[command(flatten)]
        pin: PinArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Import a key that was made elsewhere, with its certificate from a PKCS#12 file
    #[command(after_long_help = super::examples::KEY_IMPORT)]
    Import {
        #[command(flatten)]
        card: CardArgument,
        /// PKCS#12, PKCS#8, PKCS#1 or SEC 1, PEM or DER
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        options: NewKeyArguments,
        #[command(flatten)]
        passphrase: PassphraseArguments,
        #[command(flatten)]
        pin: PinArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// List the keys
    #[command(after_long_help = super::examples::KEY_LIST)]
    List {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
        #[command(flatten)]
        wide: WideArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgument {
    /// Key reference (two hexadecimal digits, as in `key list`) or label
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct NewKeyArguments {
    /// Name shown to people, 1 to 127 bytes [default: from the file, else random]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Ask for the PIN before every use
    #[arg(long)]
    pub(crate) pin_every_time: bool,
    /// RSA: for signatures only, not for decryption
    #[arg(long)]
    pub(crate) sign_only: bool,
}

impl NewKeyArguments {
    pub(crate) fn class(&self) -> KeyClass {
        if self.pin_every_time {
            KeyClass::Always
        } else {
            KeyClass::Session
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "p-256")]
    P256,
    #[value(name = "p-384")]
    P384,
}

impl From<Algorithm> for KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::P256 => Self::P256,
            Algorithm::P384 => Self::P384,
            Algorithm::Rsa2048 => Self::Rsa2048,
            Algorithm::Rsa3072 => Self::Rsa3072,
        }
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::P256 => Self::P256,
            KeyAlgorithm::P384 => Self::P384,
            KeyAlgorithm::Rsa2048 => Self::Rsa2048,
            KeyAlgorithm::Rsa3072 => Self::Rsa3072,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublicFormat {
    Pem,
    Ssh,
}
