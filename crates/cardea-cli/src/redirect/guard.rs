//! What a remote machine may request of the cards that are redirected to it: uses by their holder, nothing else.
//!
//! The remote machine is not trusted. Whatever its daemon is, no PIN, PUK or admin key is taken from it, nothing on
//! a card is changed for it, and no try is spent by it: only a person here types PINs.

use cardea_card::{Guest, Verdict};
use cardea_client::message::Request;

/// How a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// By the daemon, at once.
    Asks,
    /// With a PIN that is typed here, for APDUs.
    EnterPin,
    /// With a PIN that is typed here.
    Login,
    /// By the daemon, after consent where that is wanted.
    UsesKey,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The card is not redirected, or no longer: that may be a matter of time.
    Absent,
    /// No version of Cardea sends this; the text says what it is.
    Never(&'static str),
}

/// Judges a request of the remote machine. `guest` knows which application its commands are for, `offered` tells the
/// cards by their ids.
pub(crate) fn judge(
    request: &Request,
    guest: &Guest,
    offered: impl Fn(&str) -> bool,
    reader: bool,
) -> Result<Allowed, Refused> {
    let allowed = match request {
        Request::CardContents { .. }
        | Request::CardStatus { .. }
        | Request::Logout { .. }
        | Request::ReadCertificate { .. }
        | Request::ReadObject { .. } => Allowed::Asks,
        Request::UseKey { pin: None, .. } => Allowed::UsesKey,
        Request::LoginByAgent { .. } => Allowed::Login,
        Request::PowerCard { .. } if reader => Allowed::Asks,
        Request::EnterPin { .. } if reader => Allowed::EnterPin,
        Request::TransmitCard { apdu, .. } if reader => match guest.judge(apdu.expose()) {
            Verdict::Passes => Allowed::Asks,
            Verdict::UsesKey => Allowed::UsesKey,
            Verdict::Refused(_) => {
                return Err(Refused::Never(
                    "a command with a PIN, or one that changes the card",
                ));
            }
        },
        Request::PowerCard { .. } | Request::EnterPin { .. } | Request::TransmitCard { .. } => {
            return Err(Refused::Never("commands of a card reader"));
        }
        Request::ChangePin { .. }
        | Request::ChangePinByAgent { .. }
        | Request::JoinLogins { .. }
        | Request::Login { .. }
        | Request::ShareLogins
        | Request::UnblockPin { .. }
        | Request::UseKey { pin: Some(_), .. }
        | Request::VerifyPin { .. } => return Err(Refused::Never("work with PINs")),
        Request::AdminChallenge { .. }
        | Request::AdoptCard { .. }
        | Request::AskConsent { .. }
        | Request::ChangeAdminKey { .. }
        | Request::ConfigureCard { .. }
        | Request::CreateCard(_)
        | Request::CreationDefaults
        | Request::DestroyCard { .. }
        | Request::ListIndices
        | Request::ReadAudit { .. }
        | Request::RemoveIndex { .. }
        | Request::ResetLockout { .. }
        | Request::SetHierarchyAuth { .. }
        | Request::SetLockoutParameters { .. }
        | Request::TryRoom
        | Request::VerifyAdmin { .. }
        | Request::VerifyAdminKey { .. } => {
            return Err(Refused::Never("an administrator's work"));
        }
        Request::DeleteCertificate { .. }
        | Request::DeleteKey { .. }
        | Request::DeleteObject { .. }
        | Request::GenerateKey { .. }
        | Request::ImportKey { .. }
        | Request::Rename { .. }
        | Request::StoreCertificate { .. }
        | Request::StoreObject { .. } => return Err(Refused::Never("a change of a card")),
        Request::Answered { .. }
        | Request::AttachDrive { .. }
        | Request::CardStates
        | Request::Control { .. }
        | Request::DetachDrive { .. }
        | Request::HoldDrive { .. }
        | Request::ListCards
        | Request::Offer { .. }
        | Request::OnBehalf { .. }
        | Request::Power { .. }
        | Request::Random
        | Request::ReaderInfo
        | Request::Redirect { .. }
        | Request::ShowCard { .. }
        | Request::SlotStates
        | Request::TpmStatus
        | Request::Transmit { .. }
        | Request::WaitCardStates { .. }
        | Request::WaitSlotStates { .. } => {
            return Err(Refused::Never("more than the cards"));
        }
    };
    // By its id only: a name could be that of another card.
    match request.card() {
        Some(card) if offered(card) => Ok(allowed),
        _ => Err(Refused::Absent),
    }
}

#[cfg(test)]
mod tests {
    use cardea_client::message::{Operation, PowerAction, Reference, SecretBytes};

    use super::*;

    fn card() -> String {
        "0011".to_owned()
    }

    fn apdu(bytes: &[u8]) -> Request {
        Request::TransmitCard {
            card: card(),
            apdu: SecretBytes::new(bytes.to_vec()),
        }
    }

    fn use_key(pin: Option<&[u8]>) -> Request {
        Request::UseKey {
            card: card(),
            pin: pin.map(|pin| SecretBytes::new(pin.to_vec())),
            reference: 0x81,
            operation: Operation::SignEcdsa {
                digest: vec![0; 32],
            },
        }
    }

    fn judged(request: &Request) -> Result<Allowed, Refused> {
        judge(request, &Guest::default(), |id| id == "0011", true)
    }

    #[test]
    fn holder_uses_the_cards_that_are_redirected() {
        for (request, allowed) in [
            (Request::CardStatus { card: card() }, Allowed::Asks),
            (Request::LoginByAgent { card: card() }, Allowed::Login),
            (use_key(None), Allowed::UsesKey),
            (apdu(&[0, 0xA4, 4, 0]), Allowed::Asks),
            (apdu(&[0, 0x2A, 0x9E, 0x9A, 1, 7, 0]), Allowed::UsesKey),
            (
                Request::EnterPin {
                    card: card(),
                    seconds: 30,
                },
                Allowed::EnterPin,
            ),
        ] {
            assert_eq!(judged(&request), Ok(allowed), "{request:?}");
            let absent = judge(&request, &Guest::default(), |_| false, true);
            assert_eq!(absent, Err(Refused::Absent));
        }
    }

    #[test]
    fn remote_machine_can_spend_no_try() {
        let secret = || SecretBytes::new(b"000000".to_vec());
        for request in [
            Request::Login {
                card: card(),
                pin: secret(),
            },
            Request::VerifyPin {
                card: card(),
                value: secret(),
                reference: Reference::Pin,
            },
            use_key(Some(b"000000")),
            apdu(&[0, 0x20, 0, 0x80, 6, 48, 48, 48, 48, 48, 48]),
            apdu(&[0x10, 0x20, 0, 0x80, 1, 48]),
            apdu(&[0, 0x24, 0, 0x80, 2, 48, 49]),
            Request::GenerateKey {
                card: card(),
                pin: None,
                key: cardea_client::message::NewKey {
                    label: None,
                    always: false,
                    sign_only: false,
                    id: None,
                },
                algorithm: "p-256".into(),
            },
            Request::DestroyCard {
                card: card(),
                owner_auth: None,
            },
            Request::JoinLogins { ticket: secret() },
            Request::ListCards,
        ] {
            assert!(
                matches!(judged(&request), Err(Refused::Never(_))),
                "{request:?}"
            );
        }
    }

    #[test]
    fn without_the_reader_no_apdu_passes() {
        for request in [
            apdu(&[0, 0xA4, 4, 0]),
            Request::PowerCard {
                card: card(),
                action: PowerAction::Up,
            },
        ] {
            let judged = judge(&request, &Guest::default(), |_| true, false);
            assert!(matches!(judged, Err(Refused::Never(_))), "{request:?}");
        }
    }
}
