//! What evidence proves, and the words for it.

use std::fmt;

use cardea_pki::PublicKey;
use cardea_terms::{KeyClass, Origin, tame};

use crate::{EkOrigin, Name, Role, TpmIdentity};

/// What a verifier knows after it has accepted a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// How much is proven.
    pub level: Level,
    /// Whether the bundle answers a nonce that the verifier asked for.
    pub is_fresh: bool,
    /// Whether the card says that its TPM has not been reset since the card was made.
    pub is_made_in_this_boot: bool,
    /// Who vouches for the attestation key.
    pub authority: Authority,
    /// The keys, in the bundle's order.
    pub keys: Vec<KeyClaim>,
    /// How the PIN is counted.
    pub pin: Tries,
    /// How the PUK is counted. A card of form A does not show whether it has one.
    pub puk: Option<Tries>,
    /// How the administrator is counted. A card of form A does not show whether it has one.
    pub administrator: Option<Tries>,
    /// What a person wrote into the bundle. Not proven.
    pub note: Option<String>,
}

/// How much is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The keys are in the TPM and ask for the PIN; its limit and its unblocking are the maker's word.
    L1,
    /// The limit and the ways of unblocking are proven too.
    L2,
}

impl Level {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::L1 => 1,
            Self::L2 => 2,
        }
    }
}

/// Who vouches for an attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Whoever issued its certificate.
    Certificate {
        /// The issuer's name.
        issuer: String,
        /// The TPM, if the certificate names it.
        tpm: Option<TpmIdentity>,
        /// How the authority knew the TPM, if the certificate says so.
        ek: Option<EkOrigin>,
    },
    /// The verifier itself, which has the key's Name.
    Pinned,
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many wrong tries in a row are possible.
    pub limit: u32,
    /// How many there were.
    pub wrong: u32,
}

/// A key of the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyClaim {
    /// Its Name in the TPM.
    pub name: Name,
    /// The key.
    pub public_key: PublicKey,
    /// Where it was made.
    pub origin: Origin,
    /// When it asks for the PIN.
    pub class: KeyClass,
    /// The Names of the keys by which it can be recovered; none for a key that cannot leave the TPM.
    pub recovery: Vec<Name>,
    /// How it was made, if the bundle shows it.
    pub creation: Option<CreationClaim>,
}

/// How a key was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationClaim {
    /// What the maker gave along: a nonce of the authority shows that the key is younger than the nonce.
    pub outside_info: Vec<u8>,
    /// The state of the computer at that moment, as far as PCRs were chosen.
    pub pcr_digest: Vec<u8>,
}

impl Claims {
    /// What can unblock the PIN, where it is proven.
    #[must_use]
    pub fn unblocking(&self) -> Option<&'static [Role]> {
        (self.level == Level::L2).then_some(match (&self.puk, &self.administrator) {
            (Some(_), _) => &[Role::Puk],
            (None, Some(_)) => &[Role::Adm],
            (None, None) => &[],
        })
    }

    fn write_key(&self, f: &mut fmt::Formatter<'_>, key: &KeyClaim) -> fmt::Result {
        match key.origin {
            Origin::Generated => f.write_str("The private key was made in ")?,
            Origin::Imported => f.write_str("The private key was imported into ")?,
        }
        match &self.authority {
            Authority::Certificate { issuer, tpm, .. } => {
                f.write_str("a TPM")?;
                if let Some(tpm) = tpm {
                    write!(f, " of {}, {}", tame(&tpm.manufacturer), tame(&tpm.model))?;
                }
                write!(f, ", vouched for by {}", tame(issuer))?;
            }
            Authority::Pinned => f.write_str("the TPM that the verifier has pinned")?,
        }
        match (key.origin, key.recovery.len()) {
            (Origin::Imported, _) => {
                f.write_str(" and cannot be taken out of it; copies of it may exist elsewhere. ")?;
            }
            (Origin::Generated, 0) => f.write_str(" and cannot be taken out of it. ")?,
            (Origin::Generated, holders) => write!(
                f,
                "; it can be recovered with each of {holders} recovery keys, and in no other way. "
            )?,
        }
        match key.class {
            KeyClass::Always => f.write_str("Every use follows the correct PIN for that use. "),
            KeyClass::Session => {
                f.write_str("Every use follows a correct PIN since that TPM's last reset. ")
            }
        }
    }

    fn write_card(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tries { limit, wrong } = self.pin;
        if self.level == Level::L1 {
            return write!(
                f,
                "The PIN counter stands at {wrong} of {limit} wrong tries now. That this limit lasts, and how a \
                 blocked PIN can be unblocked, is the word of the software that made the card."
            );
        }
        write!(
            f,
            "At most {limit} wrong PINs in a row are possible, permanently; nobody can raise that. \
             The PIN counter stands at {wrong} now. "
        )?;
        let (by, changes) = match (&self.puk, &self.administrator) {
            (Some(puk), _) => (
                format!("the PUK ({} tries)", puk.limit),
                "The PIN's owner, or whoever has the PUK,",
            ),
            (None, Some(administrator)) => (
                format!("the administrator ({} tries)", administrator.limit),
                "The PIN's owner, or the administrator,",
            ),
            (None, None) => ("nobody".to_owned(), "The PIN's owner alone"),
        };
        write!(f, "A blocked PIN can be unblocked by {by}")?;
        if by != "nobody" {
            f.write_str(", and by nothing else")?;
        }
        write!(
            f,
            ". {changes} can change it. This holds even against the administrator of the computer on which the card \
             was made."
        )
    }
}

/// The sentences that a verifier may say: a paragraph for each key, and one for the card.
impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.keys {
            self.write_key(f, key)?;
            writeln!(f)?;
        }
        self.write_card(f)
    }
}
