//! Maps every error of the layers below to the failure that a client gets. One place for each of them.
//!
//! The cause goes to the log as a chain; the client gets a kind to act on and a text that says what to do.

use std::error::Error;
use std::io;

use cardea_card::CardError;
use cardea_card::token::{AdminError, PinError, TokenErrorKind};
use cardea_client::message::{Failure, FailureKind};
use cardea_store::StoreError;
use cardea_tpm::{CardFault, ResponseCode, TpmError};

/// A failure without tries.
pub fn fail(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
        tries_left: None,
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        // Transparent errors repeat their cause's text.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = source.source();
    }
    text
}

/// The store failed.
pub(crate) fn of_store(error: &StoreError) -> Failure {
    let cause = chain(error);
    tracing::error!(error = cause, "state folder");
    fail(FailureKind::Failed, cause)
}

/// A fault of a drive is for its owner to fix, and not an error of the daemon.
pub(crate) fn of_drive_store(error: &StoreError) -> Failure {
    let cause = chain(error);
    tracing::info!(error = cause, "drive not usable");
    let kind = match error {
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            FailureKind::Denied
        }
        StoreError::Unusable { .. } => FailureKind::Invalid,
        _ => FailureKind::Failed,
    };
    fail(kind, cause)
}

/// The TPM, in creation, destruction or status.
pub(crate) fn of_tpm(error: &TpmError) -> Failure {
    let cause = chain(error);
    tracing::warn!(error = cause, "TPM");
    match error {
        TpmError::CountReset => fail(FailureKind::UnsafeTpm, resetting_tpm(&cause)),
        TpmError::FailureMode | TpmError::Protocol { .. } => fail(FailureKind::Broken, cause),
        TpmError::Lost(_) => fail(FailureKind::Lost, cause),
        TpmError::NoEvidence(_) => fail(FailureKind::NotSupported, cause),
        TpmError::Response { code, .. } if code.base() == ResponseCode::HIERARCHY => {
            fail(FailureKind::SwitchedOff, SWITCHED_OFF)
        }
        // Other attributes than those of a card's index were never asked for (docs/design/tpm.md section 9).
        // Library revisions before 1.38 know this type of index as reserved bits only.
        TpmError::NvFull(refused)
            if matches!(
                refused.code(),
                Some(ResponseCode::ATTRIBUTES | ResponseCode::RESERVED_BITS)
            ) =>
        {
            fail(
                FailureKind::Full,
                format!("this TPM has no counters for PINs ({cause}); {IN_OBJECT_MODE}"),
            )
        }
        TpmError::NvFull(_) => {
            let failure = full(&cause);
            fail(
                failure.kind,
                format!("{}; or {IN_OBJECT_MODE}", failure.message),
            )
        }
        TpmError::Stopped | TpmError::Transport { .. } => fail(
            FailureKind::NoTpm,
            format!("the TPM cannot be reached: {cause}"),
        ),
        error if error.refuses_owner() => {
            fail(FailureKind::Denied, format!("{} ({cause})", OWNER_MISSING))
        }
        TpmError::AuthMissing(_) => fail(FailureKind::Denied, cause),
        TpmError::AuthNotSet(_) | TpmError::RootAsTarget => fail(FailureKind::Invalid, cause),
        TpmError::Response { code, .. } if code.base() == ResponseCode::LOCKOUT => lockout(&cause),
        TpmError::Response { code, .. } if code.out_of_slots() || code.asks_for_retry() => {
            fail(FailureKind::Busy, cause)
        }
        TpmError::Response {
            code: ResponseCode::FAILURE,
            ..
        } => fail(FailureKind::Broken, cause),
        error if error.breaks_connection() => fail(FailureKind::Broken, cause),
        TpmError::ChangeUnknown(_) => fail(FailureKind::ChangeUnknown, cause),
        TpmError::Mismatch => fail(FailureKind::BadData, cause),
        _ => fail(FailureKind::Failed, cause),
    }
}

/// Of a card that was in use a moment ago.
pub(crate) fn of_fault(fault: &CardFault) -> Failure {
    let text = fault.to_string();
    match fault {
        CardFault::Tpm(error) => of_tpm(error),
        CardFault::CountReset => fail(FailureKind::UnsafeTpm, resetting_tpm(&text)),
        CardFault::Foreign | CardFault::Lost(_) => fail(FailureKind::Lost, text),
        CardFault::SwitchedOff => fail(FailureKind::SwitchedOff, SWITCHED_OFF),
        _ => fail(FailureKind::Failed, text),
    }
}

/// The message if the owner's authorisation is set and was not given.
pub(crate) const OWNER_MISSING: &str = "the TPM's owner authorisation is set, and creating and destroying cards needs it: pass it with \
     --owner-auth-file or --owner-auth-fd, or keep it as the daemon's service credential `owner-auth`";

/// What can be done where the TPM has no counters for PINs, or no room for them, by whichever door the card is made,
/// and its price.
const IN_OBJECT_MODE: &str = "create the card in object mode (`--counter-mode object` of `cardea card create`, \
     `/countermode OBJECT` of `tpmvscmgr`, option `counter-mode` over D-Bus), which needs none and promises less: an \
     older copy of its file works with the PIN that was valid then, and whoever has its file and this TPM can guess \
     PINs as fast as the TPM's lockout allows";

/// The owner hierarchy is off: nothing is lost, and nothing can be done but wait for the restart.
pub(crate) const SWITCHED_OFF: &str = "the TPM's owner hierarchy is switched off until the computer is restarted; nothing is lost, and the cards are available again after the restart";

/// The TPM does not do what cards count on. `cause` says what.
pub(crate) fn unsafe_tpm(cause: &str) -> String {
    format!(
        "{cause}, so that PINs could be guessed without limit; no cards are created or used until the TPM's firmware is updated (ask the manufacturer of the TPM or the computer)"
    )
}

/// A policy that reads a counter sets it back: what that means for cards. `cause` says the first.
pub(crate) fn resetting_tpm(cause: &str) -> String {
    format!(
        "{cause}, so that PINs could be guessed without limit where anybody may read it; new cards have counters that only the TPM's owner can read; {COUNTED_HERE}"
    )
}

/// What it means for cards that were made before it was known.
pub(crate) const COUNTED_HERE: &str = "wrong PINs of a card made before this was known are counted in its file, and \
     whoever has an older copy of that file and this TPM can guess the PIN without limit: create a new card, and \
     destroy the old one while its keys can still be used";

/// Whether it is only that the TPM cannot be reached at the moment.
pub(crate) fn is_away(error: &TpmError) -> bool {
    matches!(error, TpmError::Stopped | TpmError::Transport { .. })
}

/// A card, through the engine.
pub(crate) fn of_card(error: &CardError) -> Failure {
    match error {
        CardError::Pin(PinError::Blocked) => blocked(),
        CardError::Pin(PinError::Wrong { left: Some(0) }) => Failure {
            tries_left: Some(0),
            ..blocked()
        },
        CardError::Pin(PinError::Wrong { left }) => Failure {
            kind: FailureKind::PinWrong,
            message: format!("wrong PIN; {}", tries_left(*left)),
            tries_left: *left,
        },
        CardError::PinForm { rule, left } => Failure {
            kind: FailureKind::PinWrong,
            message: format!("{rule}; this one was not tried, {}", tries_left(*left)),
            tries_left: *left,
        },
        CardError::Admin(AdminError::Delayed { seconds }) => fail(
            FailureKind::AdminDelayed,
            format!(
                "too many wrong responses from the administrator: this one was not looked at; give it again in \
                 {seconds} s"
            ),
        ),
        CardError::Admin(_) => fail(
            FailureKind::AdminWrong,
            "wrong response; it must be for a challenge of this card that has not been answered yet",
        ),
        CardError::Conflict(what) => fail(FailureKind::Invalid, what.clone()),
        CardError::Rule(rule) => fail(FailureKind::Rule, rule.to_string()),
        other => {
            let cause = chain(other);
            tracing::warn!(error = cause, "card");
            match token_kind(other) {
                Some(kind) => of_kind(kind, &cause),
                None => fail(FailureKind::Failed, cause),
            }
        }
    }
}

/// What [`of_card`] says of cards as a whole means something else for what is on one.
pub(crate) fn on_card(error: &CardError) -> Failure {
    let failure = of_card(error);
    match token_kind(error) {
        Some(TokenErrorKind::Full) => fail(
            FailureKind::Full,
            "the card has no room for this; delete a key or a certificate first",
        ),
        Some(TokenErrorKind::WeakKey) => fail(
            FailureKind::Failed,
            "this RSA key follows the pattern of faulty TPM firmware (CVE-2017-15361), from which anyone can compute the private key; it was not kept. Update the TPM's firmware (from the computer's manufacturer) before a new RSA key is made, or use an elliptic-curve key",
        ),
        Some(TokenErrorKind::Unsupported) => fail(
            FailureKind::Failed,
            format!(
                "{}; `cardea tpm status` shows what the TPM has",
                chain(error)
            ),
        ),
        _ => failure,
    }
}

/// In words.
pub(crate) fn tries_left(tries: Option<u32>) -> String {
    match tries {
        None => "how many tries are left is not known".to_owned(),
        Some(1) => "1 try left".to_owned(),
        Some(tries) => format!("{tries} tries left"),
    }
}

fn blocked() -> Failure {
    fail(
        FailureKind::Blocked,
        "the PIN is blocked; unblock it with the PUK or the admin key, depending on how the card was created",
    )
}

/// Nothing is known by the name that was given.
pub(crate) fn no_such_card() -> Failure {
    fail(
        FailureKind::NotFound,
        "there is no such card; `cardea card list` shows yours",
    )
}

/// What the token said, if it was the token.
pub(crate) fn token_kind(error: &CardError) -> Option<TokenErrorKind> {
    match error {
        CardError::Token(error) | CardError::Pin(PinError::Token(error)) => Some(error.kind()),
        _ => None,
    }
}

fn of_kind(kind: TokenErrorKind, cause: &str) -> Failure {
    match kind {
        TokenErrorKind::BadData => fail(FailureKind::BadData, cause),
        TokenErrorKind::Busy => fail(FailureKind::Busy, cause),
        TokenErrorKind::ChangeUnknown => fail(FailureKind::ChangeUnknown, change_unknown("PIN")),
        TokenErrorKind::Full => full(cause),
        TokenErrorKind::Internal => fail(FailureKind::Broken, cause),
        TokenErrorKind::KeyUse => fail(FailureKind::KeyUse, cause),
        TokenErrorKind::Lockout => lockout(cause),
        TokenErrorKind::Lost => fail(FailureKind::Lost, cause),
        TokenErrorKind::NotAuthenticated => fail(FailureKind::NotLoggedIn, cause),
        TokenErrorKind::NotConfigured => fail(FailureKind::Invalid, cause),
        TokenErrorKind::Unavailable => fail(FailureKind::NoTpm, cause),
        TokenErrorKind::Unsafe => fail(FailureKind::UnsafeTpm, resetting_tpm(cause)),
        TokenErrorKind::CountHidden
        | TokenErrorKind::Damaged
        | TokenErrorKind::Gone
        | TokenErrorKind::Unsupported
        | TokenErrorKind::WeakKey => fail(FailureKind::Failed, cause),
    }
}

/// What to do if it is not known which value is valid. The new one comes first: if that fails it costs a try, which
/// the old one restores.
pub(crate) fn change_unknown(what: &str) -> String {
    format!(
        "the TPM's response was lost: it is not known whether the old or the new {what} is valid; try the new one once, then the old one"
    )
}

fn full(cause: &str) -> Failure {
    fail(
        FailureKind::Full,
        format!(
            "the TPM has no room for another card: remove what was left behind (`cardea tpm indices` lists it), or \
             destroy a card that is not needed (`cardea card destroy`, which cannot be undone) ({cause})"
        ),
    )
}

fn lockout(cause: &str) -> Failure {
    fail(
        FailureKind::Lockout,
        format!(
            "the TPM is in lockout or near it (the PIN is not blocked, and was not compared): `cardea tpm status` shows the longest wait, `cardea tpm reset-lockout` ends it ({cause})"
        ),
    )
}

#[cfg(test)]
mod tests {
    use cardea_card::token::TokenError;

    use super::*;

    /// TPM_RH_OWNER (TPM 2.0 Part 2 §7.4).
    const OWNER: u32 = 0x4000_0001;

    fn response(handle: Option<u32>, code: u32) -> TpmError {
        TpmError::Response {
            command: "NV_DefineSpace",
            handle,
            code: ResponseCode(code),
        }
    }

    #[test]
    fn tpm_errors_have_their_kinds() {
        let away = TpmError::Transport {
            command: "connect",
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(is_away(&away) && !is_away(&response(None, 0x921)));
        for (error, kind) in [
            (away, FailureKind::NoTpm),
            (TpmError::Stopped, FailureKind::NoTpm),
            (TpmError::Lost("x".into()), FailureKind::Lost),
            (
                TpmError::NvFull(Box::new(response(None, 0x14B))),
                FailureKind::Full,
            ),
            (response(None, 0x921), FailureKind::Lockout),
            (response(None, 0x922), FailureKind::Busy),
            (response(None, 0x902), FailureKind::Busy),
            (response(None, 0x101), FailureKind::Broken),
            // A code that no TPM has.
            (response(None, 0x7FF), FailureKind::Broken),
            (response(None, 0x143), FailureKind::Failed),
            (TpmError::FailureMode, FailureKind::Broken),
            (
                TpmError::Protocol {
                    command: "Sign",
                    what: "the HMAC is invalid",
                },
                FailureKind::Broken,
            ),
            (TpmError::Mismatch, FailureKind::BadData),
            (TpmError::RootAsTarget, FailureKind::Invalid),
            (response(Some(OWNER), 0x185), FailureKind::SwitchedOff),
            (TpmError::CountReset, FailureKind::UnsafeTpm),
            (TpmError::Damaged("x".into()), FailureKind::Failed),
        ] {
            assert_eq!(of_tpm(&error).kind, kind, "{error}");
        }
        let owner = of_tpm(&response(Some(OWNER), 0x9A2));
        assert!(owner.message.contains("owner authorisation"), "{owner:?}");
    }

    #[test]
    fn every_kind_of_the_token_has_a_kind_of_failure() {
        for (token, kind) in [
            (TokenErrorKind::BadData, FailureKind::BadData),
            (TokenErrorKind::Busy, FailureKind::Busy),
            (TokenErrorKind::ChangeUnknown, FailureKind::ChangeUnknown),
            (TokenErrorKind::CountHidden, FailureKind::Failed),
            (TokenErrorKind::Damaged, FailureKind::Failed),
            (TokenErrorKind::Full, FailureKind::Full),
            (TokenErrorKind::Gone, FailureKind::Failed),
            (TokenErrorKind::Internal, FailureKind::Broken),
            (TokenErrorKind::KeyUse, FailureKind::KeyUse),
            (TokenErrorKind::Lockout, FailureKind::Lockout),
            (TokenErrorKind::Lost, FailureKind::Lost),
            (TokenErrorKind::NotAuthenticated, FailureKind::NotLoggedIn),
            (TokenErrorKind::NotConfigured, FailureKind::Invalid),
            (TokenErrorKind::Unavailable, FailureKind::NoTpm),
            (TokenErrorKind::Unsafe, FailureKind::UnsafeTpm),
            (TokenErrorKind::Unsupported, FailureKind::Failed),
            (TokenErrorKind::WeakKey, FailureKind::Failed),
        ] {
            let error = CardError::Token(TokenError::from(token));
            assert_eq!(of_card(&error).kind, kind, "{token:?}");
        }
    }

    #[test]
    fn pin_failures_tell_the_tries() {
        let wrong = of_card(&CardError::Pin(PinError::Wrong { left: Some(3) }));
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(3))
        );
        assert!(wrong.message.contains("3 tries left"));
        let last = of_card(&CardError::Pin(PinError::Wrong { left: Some(0) }));
        assert_eq!(
            (last.kind, last.tries_left),
            (FailureKind::Blocked, Some(0))
        );
        let blocked = of_card(&CardError::Pin(PinError::Blocked));
        assert_eq!(blocked.kind, FailureKind::Blocked);
    }

    #[test]
    fn chain_names_every_cause_once() {
        let error = CardError::Token(TokenError::new(
            TokenErrorKind::Lost,
            response(Some(0x01C2_0000), 0x18B),
        ));
        let text = chain(&error);
        assert_eq!(
            text.matches("the card's TPM objects are gone").count(),
            1,
            "{text}"
        );
        assert!(text.contains("NV_DefineSpace of 0x01C20000"), "{text}");
    }
}
