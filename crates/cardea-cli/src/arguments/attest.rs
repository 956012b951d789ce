//! `cardea attest …`

use std::path::PathBuf;
use std::str::FromStr;

use cardea_attest::{Level, Name, Requirements};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{AuthorityVerb, CardArgument, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum AttestVerb {
    /// Open the challenge of an attestation authority (administrators)
    ///
    /// Only the TPM that the request came from can open it, and only for this card.
    #[command(after_long_help = super::examples::ATTEST_REQUEST)]
    Answer {
        #[command(flatten)]
        card: CardArgument,
        /// The authority's challenge
        #[arg(value_name = "FILE")]
        challenge: PathBuf,
        /// New file for the answer
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// The authority that certifies the attestation keys of cards, by files
    #[command(subcommand)]
    Authority(AuthorityVerb),
    /// Make an attestation key for a card that has none (administrators)
    ///
    /// Such a card proves where its keys are, and how many wrong PINs it takes now (level 1).
    /// That this limit lasts can be proven by cards that were created with --attest only.
    #[command(after_long_help = super::examples::ATTEST_ENABLE)]
    Enable {
        #[command(flatten)]
        card: CardArgument,
    },
    /// Write what a card can prove of itself and its keys
    ///
    /// It takes no PIN, and lets nobody use anything.
    /// Whoever is given the evidence of two cards can tell that they are in one computer.
    #[command(after_long_help = super::examples::ATTEST_EVIDENCE)]
    Evidence(Box<EvidenceArguments>),
    /// Store the certificate that an attestation authority has issued (administrators)
    #[command(after_long_help = super::examples::ATTEST_REQUEST)]
    Import {
        #[command(flatten)]
        card: CardArgument,
        /// What the authority has issued, or certificates, PEM or DER, the attestation key's first
        #[arg(value_name = "FILE")]
        issued: PathBuf,
    },
    /// Ask an attestation authority for a certificate (administrators)
    ///
    /// The request has the TPM's endorsement keys with their certificates, which identify this computer: it is for the
    /// authority alone.
    #[command(after_long_help = super::examples::ATTEST_REQUEST)]
    Request {
        #[command(flatten)]
        card: CardArgument,
        /// File for the request
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show a card's attestation key, and what it can prove now
    #[command(after_long_help = super::examples::ATTEST_ENABLE)]
    Show {
        #[command(flatten)]
        card: CardArgument,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Check what a card proves, without daemon, TPM and card
    ///
    /// The evidence is accepted if everything in it is true and every rule of --policy holds.
    /// The exit code is 0 then, and 1 if it is refused.
    #[command(after_long_help = super::examples::ATTEST_VERIFY)]
    Verify(Box<VerifyArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct EvidenceArguments {
    #[command(flatten)]
    pub(crate) card: CardArgument,
    /// Key reference or label; can be repeated [default: all keys]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// The verifier's nonce, in hexadecimal, at most 64 bytes [default: none]
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<Digits>,
    /// File for the evidence
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The evidence
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Certificates of authorities that are trusted to certify attestation keys, PEM or DER
    #[arg(long, value_name = "FILE", required_unless_present = "attestation_key")]
    pub(crate) trust: Vec<PathBuf>,
    /// Certificates that may lie between an authority and an attestation key, PEM or DER
    #[arg(long, value_name = "FILE", requires = "trust")]
    pub(crate) intermediate: Vec<PathBuf>,
    /// Name of an attestation key that is trusted in evidence without certificates, in hexadecimal
    #[arg(long, value_name = "NAME")]
    pub(crate) attestation_key: Vec<Hex<{ size_of::<Name>() }>>,
    /// Nonce that the evidence must answer, in hexadecimal [default: any; the evidence may be old]
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<Digits>,
    /// What the evidence must show besides being true, with commas between: pin-limit=N, level=1|2, generated, always,
    /// no-administrator, no-recovery
    #[arg(long, value_name = "RULES")]
    pub(crate) policy: Option<Policy>,
    /// Judge the certificates as of this time, as in 2026-12-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// So many bytes in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> FromStr for Hex<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match crate::hex::parse(text.as_bytes()) {
            Some(bytes) => Ok(Self(*bytes)),
            None => Err(format!("these are not {} hexadecimal digits", 2 * N)),
        }
    }
}

/// Any number of bytes in hexadecimal.
#[derive(Clone, Debug)]
pub(crate) struct Digits(pub(crate) Vec<u8>);

impl FromStr for Digits {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        base16ct::mixed::decode_vec(text)
            .map(Self)
            .map_err(|_| "this is not hexadecimal")
    }
}

/// The rules of `--policy`.
#[derive(Clone, Debug)]
pub(crate) struct Policy(pub(crate) Requirements);

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules = Requirements::default();
        for rule in text.split(',') {
            let (name, value) = match rule.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (rule, None),
            };
            match (name, value) {
                ("pin-limit", Some(value)) => {
                    let limit = value
                        .parse()
                        .map_err(|_| format!("{value} is not a number"))?;
                    rules.pin_limit = Some(limit);
                }
                ("level", Some("1")) => rules.level = Some(Level::L1),
                ("level", Some("2")) => rules.level = Some(Level::L2),
                ("generated", None) => rules.generated_only = true,
                ("always", None) => rules.always_only = true,
                ("no-administrator", None) => rules.no_administrator = true,
                ("no-recovery", None) => rules.recovery = Some(Vec::new()),
                _ => return Err(format!("there is no rule {rule}")),
            }
        }
        Ok(Self(rules))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_read_whole_or_refused() {
        let all = "pin-limit=5,level=2,generated,always,no-administrator,no-recovery";
        let Policy(rules) = all.parse().unwrap();
        assert_eq!(
            rules,
            Requirements {
                pin_limit: Some(5),
                level: Some(Level::L2),
                no_administrator: true,
                generated_only: true,
                always_only: true,
                recovery: Some(Vec::new()),
                ..Requirements::default()
            }
        );
        for wrong in [
            "",
            "level=3",
            "level",
            "pin-limit=five",
            "pin-limit=-1",
            "generated=yes",
            "generated,",
            "Level=1",
        ] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }
}
