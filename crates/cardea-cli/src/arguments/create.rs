//! `cardea card create`

use std::path::PathBuf;

use clap::Args;

use super::{
    AdminKeySource, Counters, OutputArguments, OwnerArguments, PassphraseArguments, PinArguments,
    Presence,
};
use crate::duration::{Seconds, session_limit};
use crate::policy::Policy;

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// Copy of the old card's file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Private key of a certificate of `key generate --recoverable-by`
    ///
    /// A file: PKCS#8 or SEC 1, PEM or DER.
    ///
    /// A PKCS#11 URI: the key is on a card of this computer, and `key list --wide` prints the URI; with
    /// `?module-path=PATH` it is in a token of any maker, which that module reaches. It must do key agreement
    /// (CKM_ECDH1_DERIVE), and have its public key or certificate beside it. Its PIN is asked for, or comes from a
    /// file: `pin-source=PATH` after the `?`. Where the URI names several keys, the one that fits is taken.
    #[arg(long, value_name = "KEY", help_heading = "Recovery")]
    pub(crate) with: PathBuf,
    #[command(flatten, next_help_heading = "Recovery")]
    pub(crate) passphrase: PassphraseArguments,
    #[command(flatten, next_help_heading = "New card")]
    pub(crate) create: CreateArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name shown to people, 1 to 127 bytes
    #[arg(long)]
    pub(crate) name: String,
    /// Owner of the card, by name or user id [default: you]
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    #[command(flatten, next_help_heading = "PIN")]
    pub(crate) pin: PinArguments,
    /// Rules for PINs, such as min=6,max=8,digits=required
    ///
    /// `min` and `max` (4 to 127 bytes), and for `upper`, `lower`, `digits`, `special`, `other` one of `required`,
    /// `allowed`, `disallowed` [default: 4 to 127 bytes, any characters]
    #[arg(long, value_name = "RULES", help_heading = "PIN")]
    pub(crate) pin_policy: Option<Policy>,
    /// Consecutive wrong PINs that block the PIN, 1 to 255 [default: 5]
    #[arg(
        long,
        value_name = "N",
        help_heading = "PIN",
        value_parser = clap::value_parser!(u32).range(1..=255)
    )]
    pub(crate) pin_tries: Option<u32>,
    /// Longest time that a verified PIN stays valid: 30s, 10m, 8h, none
    ///
    /// The default is 8h; none for the card of a system account other than root.
    #[arg(long, value_name = "DURATION", help_heading = "PIN", value_parser = session_limit)]
    pub(crate) session_limit: Option<Seconds>,
    /// Time without use after which a verified PIN expires [default: 0s]
    ///
    /// With 0s it expires with the session only.
    #[arg(long, value_name = "DURATION", help_heading = "PIN")]
    pub(crate) idle_limit: Option<Seconds>,
    /// Let the agent ask for the PIN where programs support PIN pads
    ///
    /// The agent is `cardea-agent`, which runs in the user's session.
    #[arg(long, help_heading = "PIN")]
    pub(crate) pin_pad: bool,
    /// Ask for a PUK, 8 to 127 bytes
    ///
    /// The PIN of a card with a PUK can only be unblocked with the PUK.
    /// Without one of the four options, a PUK is offered on a terminal if nobody else could unblock the PIN.
    #[arg(long, help_heading = "PUK", conflicts_with_all = ["puk_file", "puk_fd"])]
    pub(crate) puk: bool,
    /// Generate a PUK of 12 digits, and show it once on the terminal
    #[arg(long, help_heading = "PUK", conflicts_with_all = ["puk", "puk_file", "puk_fd"])]
    pub(crate) generate_puk: bool,
    /// No PUK, without asking for one
    ///
    /// Without PUK and administrator, a blocked PIN cannot be unblocked.
    #[arg(
        long,
        help_heading = "PUK",
        conflicts_with_all = ["puk", "puk_file", "puk_fd", "generate_puk"]
    )]
    pub(crate) no_puk: bool,
    /// File with a PUK
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "PUK",
        conflicts_with = "puk_fd"
    )]
    pub(crate) puk_file: Option<PathBuf>,
    /// Open file descriptor to read a PUK from
    #[arg(long, value_name = "N", help_heading = "PUK")]
    pub(crate) puk_fd: Option<u32>,
    /// Consecutive wrong PUKs that block the PUK, 1 to 255 [default: 10]
    #[arg(
        long,
        value_name = "N",
        help_heading = "PUK",
        value_parser = clap::value_parser!(u32).range(1..=255)
    )]
    pub(crate) puk_tries: Option<u32>,
    /// Who can unblock the PIN by challenge and response, see --help
    ///
    /// `random`: nobody, the key is discarded and the card has no administrator.
    /// `file:PATH`: 48 hexadecimal digits or 24 bytes.
    /// `escrowed:PATH`: random, and kept in that new file under a passphrase or for the holder of a certificate; `%` in
    /// the path is the card id.
    /// `derived:PATH`: derived for this card from a master secret: 64 hexadecimal digits, the URI of a key in a PKCS#11
    /// token, or a key wrapped to a TPM.
    /// `prompt`: typed.
    /// `default`: 0102030405060708 three times, publicly known, for tests.
    /// The default is the machine's configuration, else `random`.
    #[arg(long, value_name = "KEY", help_heading = "Administrator of the card")]
    pub(crate) admin_key: Option<AdminKeySource>,
    /// File with the passphrase of `--admin-key escrowed:PATH` [default: prompt]
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Administrator of the card",
        conflicts_with = "escrow_certificate"
    )]
    pub(crate) escrow_passphrase_file: Option<PathBuf>,
    /// Who can open the file of `--admin-key escrowed:PATH`
    #[arg(long, value_name = "FILE", help_heading = "Administrator of the card")]
    pub(crate) escrow_certificate: Option<PathBuf>,
    /// Have the card able to prove what it promises
    ///
    /// It gets an attestation key, and its limits of tries and its ways to unblock the PIN are sealed: nobody can change
    /// them, not even who has made the card, and whoever is given its evidence can verify that (level 2, from the next
    /// restart of the computer on).
    /// It takes one more index in the TPM, and an earlier version cannot open the card's file.
    #[arg(long, help_heading = "Attestation", conflicts_with = "counter_mode")]
    pub(crate) attest: bool,
    /// When the card is in its reader
    ///
    /// The default is owner-session for people, always for system accounts.
    #[arg(long, value_name = "WHEN", help_heading = "Place")]
    pub(crate) reader: Option<Presence>,
    /// Mounted drive for the card's file, in its folder `Cardea`
    ///
    /// The default is the daemon's own folder.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Place",
        conflicts_with = "uninitialised"
    )]
    pub(crate) store: Option<PathBuf>,
    /// Where wrong PINs are counted [default: nv]
    ///
    /// `nv`: in counters of the card in the TPM.
    /// `nv-owner`: the same, and only the TPM's owner can read them: what `nv` makes on TPMs that need it.
    /// `object`: by the TPM's lockout, for TPMs without such counters or without room for them; promises less, see the
    /// page on TPMs.
    #[arg(long, value_name = "MODE", help_heading = "TPM")]
    pub(crate) counter_mode: Option<Counters>,
    #[command(flatten, next_help_heading = "TPM")]
    pub(crate) tpm_owner: OwnerArguments,
    /// Leave the card in initialisation state
    ///
    /// PIN and admin key are set by whoever personalises it.
    #[arg(
        long,
        help_heading = "Card management systems",
        conflicts_with_all = [
            "pin_file", "pin_fd", "puk", "generate_puk", "no_puk", "puk_file", "puk_fd", "admin_key", "blank"
        ]
    )]
    pub(crate) uninitialised: bool,
    /// With `--uninitialised`: reserve a PUK
    // A requirement that conflicts with something given is dropped by clap: so the conflicts are here too.
    #[arg(
        long,
        help_heading = "Card management systems",
        requires = "uninitialised",
        conflicts_with_all = [
            "pin_file", "pin_fd", "puk", "generate_puk", "no_puk", "puk_file", "puk_fd", "admin_key", "blank"
        ]
    )]
    pub(crate) with_puk: bool,
    /// Do not write the file system, for a system that writes its own
    #[arg(long, help_heading = "Card management systems")]
    pub(crate) blank: bool,
    #[command(flatten, next_help_heading = "Output")]
    pub(crate) output: OutputArguments,
}
