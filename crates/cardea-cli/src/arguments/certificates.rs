//! `cardea cert …` and `cardea csr …`

use std::path::PathBuf;

use cardea_pki::{AlternativeName, ExtendedKeyUsage, KeyUsage, Name};
use clap::{Args, Subcommand, ValueEnum};

use super::attest::Digits;
use super::enrolment::{EnrolArguments, PendingArguments, RenewArguments, RevokeArguments};
use super::{CardArgument, OutputArguments, PinArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum CertVerb {
    /// Remove a certificate; a kept one of the key takes its place
    Delete {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        which: WhichCertificate,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// Get a certificate from an authority onto the card, by EST or CMP
    #[command(after_long_help = super::examples::CERT_ENROL)]
    Enrol(Box<EnrolArguments>),
    /// Print a certificate
    Export {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        which: WhichCertificate,
        #[arg(long, value_name = "FORMAT", default_value = "pem", help = "Encoding")]
        format: Encoding,
        /// File to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Store a certificate with its key, replacing an earlier one
    #[command(after_long_help = super::examples::CERT_IMPORT)]
    Import {
        #[command(flatten)]
        card: CardArgument,
        /// PEM or DER; of several certificates the one for a key of this card is taken
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Key reference or label [default: found by its public key]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Keep the earlier certificate beside the new one, for PKCS#11 programs
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// List the certificates: those with the keys, and those that are kept beside them
    List {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// List enrolments that are not over; resume or cancel one
    Pending(Box<PendingArguments>),
    /// Replace a certificate before it ends, with a new key
    #[command(after_long_help = super::examples::CERT_RENEW)]
    Renew(Box<RenewArguments>),
    /// Have the authority revoke a certificate, by CMP
    Revoke(Box<RevokeArguments>),
    /// Show one certificate
    #[command(after_long_help = super::examples::CERT_SHOW)]
    Show {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        which: WhichCertificate,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Make a self-signed certificate and store it, for tests or until a CA has issued one
    #[command(after_long_help = super::examples::CERT_SELF_SIGN)]
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
        /// Keep the earlier certificate beside the new one, for PKCS#11 programs
        #[arg(long)]
        keep: bool,
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
    #[command(after_long_help = super::examples::CSR_CREATE)]
    Create {
        #[command(flatten)]
        card: CardArgument,
        /// Key reference or label
        #[arg(long, value_name = "KEY")]
        key: String,
        #[command(flatten)]
        wanted: Wanted,
        /// Prove in the request where the key is, and how the card's PIN is counted
        ///
        /// The request has a statement of the TPM about the key (draft-ietf-lamps-csr-attestation) and the card's evidence.
        /// The card needs an attestation key with a certificate.
        #[arg(long, help_heading = "Attestation")]
        attest: bool,
        /// The certification authority's nonce, in hexadecimal, at most 32 bytes
        #[arg(
            long,
            value_name = "HEX",
            help_heading = "Attestation",
            requires = "attest"
        )]
        nonce: Option<Digits>,
        #[arg(long, value_name = "FORMAT", default_value = "pem", help = "Encoding")]
        format: Encoding,
        /// File to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        pin: PinArguments,
    },
}

/// One of the certificates on a card.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichCertificate {
    /// Key reference (two hexadecimal digits, as in `key list`) or label: the certificate with this key
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// First digits of its fingerprint, as in `cert list`: also a kept certificate
    #[arg(long, value_name = "DIGITS")]
    pub(crate) sha256: Option<String>,
}

/// The content of a certificate.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Subject: CN=Ada,O=Example,C=GB or /C=GB/O=Example/CN=Ada
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Name,
    /// Subject alternative name: dns:…, email:…, pkinit:…, upn:…, uri:…; can be repeated
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
