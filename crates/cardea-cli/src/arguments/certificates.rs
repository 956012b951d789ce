//! `cardea cert …` and `cardea csr …`

use std::path::PathBuf;

use cardea_pki::{AlternativeName, ExtendedKeyUsage, KeyUsage, Name};
use clap::{Args, Subcommand, ValueEnum};

use super::keys::KeyArgument;
use super::{CardArgument, OutputArguments, PinArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum CertVerb {
    /// Remove the certificate of a key
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
    /// Print the certificate of a key
    Export {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        key: KeyArgument,
        #[arg(long, value_name = "FORMAT", default_value = "pem", help = "Encoding")]
        format: Encoding,
        /// File to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Store a certificate with its key, replacing an earlier one
    Import {
        #[command(flatten)]
        card: CardArgument,
        /// PEM or DER; of several certificates the one for a key of this card is taken
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Key reference or label [default: found by its public key]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// List the certificates
    List {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Make a self-signed certificate and store it, for tests or until a CA has issued one
    SelfSign {
        #[command(flatten)]
        card: CardArgument,
        /// Key reference or label
        #[arg(long, value_name = "KEY")]
        key: String,
        #[command(flatten)]
        wanted: Wanted,
        /// Validity in days from now
        #[arg(
            long,
            value_name = "N",
            default_value = "365",
            value_parser = clap::value_parser!(u32).range(1..=36_525)
        )]
        days: u32,
        /// Replace a certificate without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        pin: PinArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CsrVerb {
    /// Create a certificate request, signed by its key
    Create {
        #[command(flatten)]
        card: CardArgument,
        /// Key reference or label
        #[arg(long, value_name = "KEY")]
        key: String,
        #[command(flatten)]
        wanted: Wanted,
        #[arg(long, value_name = "FORMAT", default_value = "pem", help = "Encoding")]
        format: Encoding,
        /// File to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        pin: PinArguments,
    },
}

/// The content of a certificate.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Subject: CN=Ada,O=Example,C=GB or /C=GB/O=Example/CN=Ada
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Name,
    /// Subject alternative name: dns:…, email:…, upn:…, uri:…; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) san: Vec<AlternativeName>,
    /// Extended key usage: clientAuth, smartcardLogon, emailProtection, … or a dotted number; can be repeated
    #[arg(long, value_name = "USAGE")]
    pub(crate) eku: Vec<ExtendedKeyUsage>,
    /// Key usage: digitalSignature, keyEncipherment, keyAgreement, …; can be repeated [default: all]
    #[arg(long, value_name = "USAGE")]
    pub(crate) key_usage: Vec<KeyUsage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    Der,
    Pem,
}
