//! Weaknesses on purpose: an attack test that cannot succeed against any of them shows nothing.
//!
//! Only the feature `weakened` brings them in, which release builds refuse and `cargo xtask deps` looks for in
//! the products. A build has all of them; none works until a test has chosen it for its process.

use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(not(debug_assertions))]
compile_error!("weakened cards are for tests and never released");

/// Bytes by which a program that has weaknesses is known.
pub const MARKER: &str = "cardea: weakened on purpose, never release this";

/// What an engine of a careless maker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weakness {
    /// The first write of an index is approved for whoever comes.
    ApprovedFirstWrite = 1,
    /// The PIN index is changed under PolicyAuthValue.
    AuthValuePolicy,
    /// Records are believed without asking the TPM.
    BelievedRecords,
    /// Decrypted and unsealed data are sent unencrypted.
    ClearAnswers,
    /// The PIN's value goes in a password session.
    ClearPin,
    /// New values of indices are sent unencrypted.
    ClearValues,
    /// PIN tickets have no end.
    EndlessTickets,
    /// Wrong answers of administrators are forgotten with the process.
    ForgottenFailures,
    /// Copies of PINs stay in memory.
    KeptPins,
    /// Keys that want the PIN every time have the policy of the others.
    LaxPolicy,
    /// PINs are in the log.
    LoggedPins,
    /// Any number of card files may claim an index.
    ManyClaimants,
    /// External answers open the mask of the admin key too.
    MaskForAll,
    /// Every card file is taken for this host's.
    NoHostHmac,
    /// The admin value never changes.
    NoRotation,
    /// The vault is encrypted again whoever wrote it.
    NoVaultTag,
    /// What unblocks a PIN is approved for whoever comes.
    OpenUnblocking,
    /// PINs are guarded by ordinary indices.
    OrdinaryIndices,
    /// Where a key comes from is what the card file says.
    OriginFromFlag,
    /// Policy sessions have no key.
    UnsaltedSessions,
    /// Counters and the limits in them are believed without an HMAC.
    BelievedCounters,
    /// A creation that failed is repeated with the same birth key, over sessions that were not proven.
    BirthKeyUsedAgain,
    /// Imported keys have no inner wrap.
    NoInnerWrap,
    /// PolicySecret names the session's nonce only where it names a time.
    NoNonces,
    /// The storage root key of new cards is the first suitable one that is found.
    PlantedRoot,
    /// PUK and administrator are proven with tickets, which anybody's session takes.
    ProofTickets,
    /// An operation that has compared a value is repeated.
    RepeatedSecrets,
    /// What a hierarchy that is switched off hides is taken for deleted.
    SwitchedOffIsLost,
    /// The TPM is not asked whether reading a counter sets it back.
    UncheckedCounters,
    /// Policy sessions are used without proof that they are ours.
    UnprovenSessions,
    /// Provisioning leaves the hierarchies' policies as they were.
    OpenHierarchies,
    /// The birth key is one that everybody knows, as if its maker had kept it.
    KnownBirthKey,
    /// The same, and sealed policies can be written in any boot.
    OpenGate,
    /// Whom a key is recoverable by is what the card file says.
    BelievedTargets,
    /// Recoverable keys can be duplicated to anybody.
    OpenDuplication,
    /// The storage root key may be a recovery key.
    RootAsTarget,
}

/// The private half of the birth key that everybody knows.
pub const KNOWN_BIRTH_KEY: [u8; 32] = [0x42; 32];

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Makes this process weak in one way, or strong again.
pub fn choose(weakness: Option<Weakness>) {
    CHOSEN.store(weakness.map_or(0, |chosen| chosen as u8), Ordering::SeqCst);
}

/// Whether the process is weak in this way.
#[must_use]
pub fn has(weakness: Weakness) -> bool {
    // Whatever is weak must bear the mark.
    black_box(MARKER);
    CHOSEN.load(Ordering::SeqCst) == weakness as u8
}
