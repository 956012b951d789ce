//! `cardea cert enrol`, `renew`, `pending` and `revoke`.

use std::path::PathBuf;

use cardea_pki::{AlternativeName, ExtendedKeyUsage, KeyUsage, Name};
use clap::{Args, ValueEnum};

use super::attest::Digits;
use super::{Algorithm, CardArgument, OutputArguments, PinArguments};
use crate::duration::Seconds;

#[derive(Debug, Args)]
pub(crate) struct EnrolArguments {
    #[command(flatten)]
    pub(crate) card: CardArgument,
    #[command(flatten)]
    pub(crate) authority: AuthorityArguments,
    /// Use this key (reference or label) [default: a new one]
    #[arg(long, value_name = "KEY", conflicts_with_all = ["algorithm", "label", "pin_every_time"])]
    pub(crate) key: Option<String>,
    #[arg(long, value_name = "ALGORITHM", help = "Algorithm of the new key")]
    pub(crate) algorithm: Option<Algorithm>,
    /// Label of the new key
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// The new key needs the PIN for each use
    #[arg(long)]
    pub(crate) pin_every_time: bool,
    /// Subject: CN=Ada,O=Example,C=GB
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<Name>,
    /// Subject alternative name: dns:…, email:…, pkinit:…, upn:…, uri:…; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) san: Vec<AlternativeName>,
    /// Extended key usage: clientAuth, smartcardLogon, … or a dotted number; can be repeated
    #[arg(long, value_name = "USAGE")]
    pub(crate) eku: Vec<ExtendedKeyUsage>,
    /// Key usage: digitalSignature, keyEncipherment, …; can be repeated
    #[arg(long, value_name = "USAGE")]
    pub(crate) key_usage: Vec<KeyUsage>,
    /// Prove in the request where the key is
    #[arg(long)]
    pub(crate) attest: bool,
    #[command(flatten)]
    pub(crate) credentials: CredentialArguments,
    #[command(flatten)]
    pub(crate) wait: WaitArguments,
    #[command(flatten)]
    pub(crate) pin: PinArguments,
}

/// Which authority, and who vouches for it.
#[derive(Debug, Args)]
pub(crate) struct AuthorityArguments {
    /// Profile: NAME.toml in ~/.config/cardea/enrol.d or /etc/cardea/enrol.d
    #[arg(long, value_name = "NAME", conflicts_with_all = ["est", "cmp"])]
    pub(crate) profile: Option<String>,
    /// Address of an authority that speaks EST: https://host[:port]
    #[arg(long, value_name = "URL", conflicts_with = "cmp")]
    pub(crate) est: Option<String>,
    /// Address of an authority that speaks CMP
    #[arg(long, value_name = "URL")]
    pub(crate) cmp: Option<String>,
    /// EST: name of one of several authorities at this address
    #[arg(long, value_name = "LABEL", requires = "est")]
    pub(crate) est_label: Option<String>,
    /// Certificates of authorities to trust, PEM [default: those of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "bootstrap")]
    pub(crate) trust: Option<PathBuf>,
    /// EST: trust the authority's certificate with this SHA-256 fingerprint, in hexadecimal
    #[arg(long, value_name = "HEX", requires = "est")]
    pub(crate) bootstrap: Option<Digits>,
    /// CMP: believe a MAC with SHA-1, as OpenSSL 3.0 makes it
    #[arg(long, requires = "cmp")]
    pub(crate) allow_sha1_mac: bool,
}

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct CredentialArguments {
    /// EST: user name for a first enrolment
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// EST: file with the password [default: prompt]
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// CMP: reference of the shared secret
    #[arg(long, value_name = "TEXT")]
    pub(crate) reference: Option<String>,
    /// CMP: file with the shared secret [default: prompt]
    #[arg(long, value_name = "FILE", requires = "reference")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// What to do until a certificate is there.
#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// Wait so long for an authority that issues later: 30s, 10m, 8h [default: not at all]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<Seconds>,
    /// Store a certificate that differs from what was asked for
    #[arg(long)]
    pub(crate) accept_changes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenewArguments {
    #[command(flatten)]
    pub(crate) card: CardArgument,
    /// Key reference or label [default: the only key with a certificate of an enrolment]
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) authority: AuthorityArguments,
    /// Keep the key, and replace its certificate
    #[arg(long)]
    pub(crate) same_key: bool,
    /// Also if it is not due yet
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArguments,
    #[command(flatten)]
    pub(crate) pin: PinArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PendingArguments {
    /// Go on with this job
    #[arg(long, value_name = "JOB", conflicts_with = "cancel")]
    pub(crate) resume: Option<String>,
    /// Give this job up; a key that it has made stays
    #[arg(long, value_name = "JOB")]
    pub(crate) cancel: Option<String>,
    /// Also those that are over
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
    #[command(flatten)]
    pub(crate) credentials: CredentialArguments,
    #[command(flatten)]
    pub(crate) wait: WaitArguments,
    #[command(flatten)]
    pub(crate) pin: PinArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    #[command(flatten)]
    pub(crate) card: CardArgument,
    /// Key reference or label
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) authority: AuthorityArguments,
    #[arg(long, value_name = "REASON", help = "Why")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) pin: PinArguments,
}

/// Reasons of RFC 5280, section 5.3.1, that a holder can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reason {
    #[value(name = "unspecified")]
    Unspecified = 0,
    #[value(name = "keyCompromise")]
    KeyCompromise = 1,
    #[value(name = "affiliationChanged")]
    AffiliationChanged = 3,
    #[value(name = "superseded")]
    Superseded = 4,
    #[value(name = "cessationOfOperation")]
    CessationOfOperation = 5,
}
