//! What a remote machine may request of the cards that are redirected to it: uses by their holder, nothing else.
//!
//! The remote machine is not trusted. Whatever its daemon is, no PIN, PUK or admin key is taken from it, nothing on
//! a card is changed for it, and no try is spent by it: only a person here types PINs.

use cardea_card::{Guest, Verdict};
use cardea_client::message::{CardRequest, CardsRequest, ConnectionRequest, Request, TpmRequest};

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
    let Request::Card { card, request } = request else {
        return Err(Refused::Never(match request {
            Request::Connection(
                ConnectionRequest::JoinLogins { .. } | ConnectionRequest::ShareLogins,
            ) => "work with PINs",
            Request::Cards(
                CardsRequest::Create(_) | CardsRequest::Defaults | CardsRequest::ReadAudit { .. },
            ) => ADMINISTRATION,
            Request::Tpm(request) => match request {
                TpmRequest::Random | TpmRequest::Status => OTHERS,
                _ => ADMINISTRATION,
            },
            _ => OTHERS,
        }));
    };
    let allowed = match request {
        CardRequest::Contents { .. }
        | CardRequest::Logout
        | CardRequest::ReadCertificate { .. }
        | CardRequest::ReadObject { .. }
        | CardRequest::Status => Allowed::Asks,
        CardRequest::UseKey { pin: None, .. } => Allowed::UsesKey,
        CardRequest::LoginByAgent => Allowed::Login,
        CardRequest::Power { .. } if reader => Allowed::Asks,
        CardRequest::EnterPin { .. } if reader => Allowed::EnterPin,
        CardRequest::Transmit { apdu } if reader => match guest.judge(apdu.expose()) {
            Verdict::Passes => Allowed::Asks,
            Verdict::UsesKey => Allowed::UsesKey,
            Verdict::Refused(_) => {
                return Err(Refused::Never(
                    "a command with a PIN, or one that changes the card",
                ));
            }
        },
        CardRequest::Power { .. } | CardRequest::EnterPin { .. } | CardRequest::Transmit { .. } => {
            return Err(Refused::Never("commands of a card reader"));
        }
        CardRequest::ChangePin { .. }
        | CardRequest::ChangePinByAgent { .. }
        | CardRequest::Login { .. }
        | CardRequest::UnblockPin { .. }
        | CardRequest::UseKey { pin: Some(_), .. }
        | CardRequest::VerifyPin { .. } => return Err(Refused::Never("work with PINs")),
        CardRequest::AdminChallenge
        | CardRequest::Adopt { .. }
        | CardRequest::AnswerAttestation { .. }
        | CardRequest::AskConsent { .. }
        | CardRequest::ChangeAdminKey { .. }
        | CardRequest::Configure { .. }
        | CardRequest::Destroy { .. }
        | CardRequest::MakeAttestationKey
        | CardRequest::RequestAttestation
        | CardRequest::StoreAttestation { .. }
        | CardRequest::RenameCard { .. }
        | CardRequest::VerifyAdmin { .. }
        | CardRequest::VerifyAdminKey { .. } => return Err(Refused::Never(ADMINISTRATION)),
        CardRequest::DeleteCertificate { .. }
        | CardRequest::DeleteKey { .. }
        | CardRequest::DeleteObject { .. }
        | CardRequest::DeleteSessionKey { .. }
        | CardRequest::GenerateKey { .. }
        | CardRequest::GenerateRecoverableKey { .. }
        | CardRequest::ImportKey { .. }
        | CardRequest::KeepSessionKey { .. }
        | CardRequest::MakeSessionKey { .. }
        | CardRequest::Rename { .. }
        | CardRequest::StoreCertificate { .. }
        | CardRequest::StoreObject { .. }
        | CardRequest::UseSessionKey { .. } => return Err(Refused::Never("a change of a card")),
        CardRequest::CertifyKey { .. }
        | CardRequest::DetachDrive
        | CardRequest::Evidence { .. }
        | CardRequest::ReadFile { .. }
        | CardRequest::Show => return Err(Refused::Never(OTHERS)),
    };
    // By its id only: a name could be that of another card.
    if offered(card.as_str()) {
        Ok(allowed)
    } else {
        Err(Refused::Absent)
    }
}

const ADMINISTRATION: &str = "an administrator's work";

const OTHERS: &str = "more than the cards";

#[cfg(test)]
mod tests {
    use cardea_client::message::{Operation, PowerAction, Reference, SecretBytes};

    use super::*;

    fn card() -> String {
        "0011".to_owned()
    }

    fn apdu(bytes: &[u8]) -> Request {
        Request::card(
            card(),
            CardRequest::Transmit {
                apdu: SecretBytes::new(bytes.to_vec()),
            },
        )
    }

    fn use_key(pin: Option<&[u8]>) -> Request {
        Request::card(
            card(),
            CardRequest::UseKey {
                pin: pin.map(|pin| SecretBytes::new(pin.to_vec())),
                reference: 0x81,
                operation: Operation::SignEcdsa {
                    digest: vec![0; 32],
                },
            },
        )
    }

    fn judged(request: &Request) -> Result<Allowed, Refused> {
        judge(request, &Guest::default(), |id| id == "0011", true)
    }

    #[test]
    fn holder_uses_the_cards_that_are_redirected() {
        for (request, allowed) in [
            (Request::card(card(), CardRequest::Status), Allowed::Asks),
            (
                Request::card(card(), CardRequest::LoginByAgent),
                Allowed::Login,
            ),
            (use_key(None), Allowed::UsesKey),
            (apdu(&[0, 0xA4, 4, 0]), Allowed::Asks),
            (apdu(&[0, 0x2A, 0x9E, 0x9A, 1, 7, 0]), Allowed::UsesKey),
            (
                Request::card(card(), CardRequest::EnterPin { seconds: 30 }),
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
            Request::card(card(), CardRequest::Login { pin: secret() }),
            Request::card(
                card(),
                CardRequest::VerifyPin {
                    value: secret(),
                    reference: Reference::Pin,
                },
            ),
            use_key(Some(b"000000")),
            apdu(&[0, 0x20, 0, 0x80, 6, 48, 48, 48, 48, 48, 48]),
            apdu(&[0x10, 0x20, 0, 0x80, 1, 48]),
            apdu(&[0, 0x24, 0, 0x80, 2, 48, 49]),
            Request::card(
                card(),
                CardRequest::GenerateKey {
                    pin: None,
                    key: cardea_client::message::NewKey {
                        label: None,
                        class: cardea_client::message::KeyClass::Session,
                        sign_only: false,
                        id: None,
                    },
                    algorithm: cardea_terms::KeyAlgorithm::P256,
                },
            ),
            Request::card(
                card(),
                CardRequest::MakeSessionKey {
                    class: cardea_client::message::KeyClass::Session,
                    material: cardea_client::message::SessionKeyMaterial::Generated(
                        cardea_terms::KeyAlgorithm::P256,
                    ),
                },
            ),
            Request::card(card(), CardRequest::Destroy { owner_auth: None }),
            Request::Connection(ConnectionRequest::JoinLogins { ticket: secret() }),
            Request::Cards(CardsRequest::List { from: None }),
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
            Request::card(
                card(),
                CardRequest::Power {
                    action: PowerAction::Up,
                },
            ),
        ] {
            let judged = judge(&request, &Guest::default(), |_| true, false);
            assert!(matches!(judged, Err(Refused::Never(_))), "{request:?}");
        }
    }
}
