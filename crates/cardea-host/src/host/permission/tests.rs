//! Every message, and who may send it.

use cardea_client::message::{
    AdminAnswer, Authority, CreateCard, Hierarchy, NewContent, NewKey, NewObject, ObjectKind,
    Operation, PowerAction, PrivateKey, Reference, SecretBytes, SessionKeyMaterial, Thing,
};

use super::*;

const OWNER: u32 = 1000;

/// Every message, with its name and who may send it:
/// administrator, owner of the card, another user, reader.
/// The closed match below makes a new message fail to compile here.
fn table() -> Vec<(Request, [bool; 4])> {
    let card = || String::from("card");
    let secret = || SecretBytes::new(b"123456".to_vec());
    let create = CreateCard::new(card(), NewContent::with_pin(secret()));
    let answer = || AdminAnswer {
        challenge: vec![0; 8],
        response: secret(),
    };
    let new_key = || NewKey {
        label: None,
        class: cardea_client::message::KeyClass::Session,
        sign_only: false,
        id: None,
    };
    let (pin, reference) = (secret, 0x81);
    let rows = vec![
        (
            Request::Cards(CardsRequest::List { from: None }),
            [true, true, true, true],
        ),
        (
            Request::card(card(), CardRequest::Show),
            [true, true, false, false],
        ),
        (
            Request::Cards(CardsRequest::Create(Box::new(create))),
            [true, false, false, false],
        ),
        (
            Request::card(card(), CardRequest::Destroy { owner_auth: None }),
            [true, false, false, false],
        ),
        (
            Request::card(
                card(),
                CardRequest::ChangePin {
                    old: secret(),
                    new: secret(),
                    reference: Reference::Pin,
                },
            ),
            [true, true, false, false],
        ),
        (Request::Tpm(TpmRequest::Status), [true, true, true, true]),
        (
            Request::Reader(ReaderRequest::Info),
            [true, true, true, true],
        ),
        (
            Request::Cards(CardsRequest::States { from: None }),
            [true, true, true, true],
        ),
        (
            Request::Cards(CardsRequest::WaitStates {
                generation: 0,
                timeout_ms: 0,
            }),
            [true, true, true, true],
        ),
        (Request::Tpm(TpmRequest::Random), [true, true, true, true]),
        (
            Request::Drive(DriveRequest::Attach { place: card() }),
            [true, true, true, true],
        ),
        (
            Request::Drive(DriveRequest::Hold { timeout_ms: 0 }),
            [true, true, true, true],
        ),
        (
            Request::Connection(ConnectionRequest::ShareLogins),
            [true, true, true, true],
        ),
        (
            Request::Connection(ConnectionRequest::JoinLogins { ticket: secret() }),
            [true, true, true, true],
        ),
        (
            Request::Redirection(RedirectionRequest::Begin {
                from: String::new(),
                reader: true,
            }),
            [true, true, true, true],
        ),
        (
            Request::Redirection(RedirectionRequest::Offer { cards: Vec::new() }),
            [true, true, true, true],
        ),
        (
            Request::Redirection(RedirectionRequest::Answered {
                program: 1,
                reply: secret(),
            }),
            [true, true, true, true],
        ),
        (
            Request::Connection(ConnectionRequest::OnBehalf {
                whom: String::new(),
            }),
            [true, true, true, true],
        ),
        (
            Request::Connection(ConnectionRequest::OnBehalfOfCaller {
                principal: String::new(),
                address: String::new(),
            }),
            [true, false, false, false],
        ),
        (
            Request::Reader(ReaderRequest::States),
            [true, true, true, true],
        ),
        (
            Request::Reader(ReaderRequest::WaitStates {
                generation: 0,
                timeout_ms: 0,
            }),
            [true, true, true, true],
        ),
        (
            Request::slot(
                0,
                SlotRequest::Power {
                    action: PowerAction::Up,
                },
            ),
            [false, false, false, true],
        ),
        (
            Request::slot(0, SlotRequest::Transmit { apdu: secret() }),
            [false, false, false, true],
        ),
        (
            Request::slot(
                0,
                SlotRequest::Control {
                    code: 0,
                    data: Vec::new(),
                },
            ),
            [false, false, false, true],
        ),
    ];
    let owners = [
        Request::card(
            card(),
            CardRequest::VerifyPin {
                value: secret(),
                reference: Reference::Puk,
            },
        ),
        Request::card(
            card(),
            CardRequest::UnblockPin {
                by: Authority::Puk(secret()),
                new: secret(),
            },
        ),
        Request::card(card(), CardRequest::AdminChallenge),
        Request::card(card(), CardRequest::VerifyAdmin { answer: answer() }),
        Request::card(
            card(),
            CardRequest::ChangeAdminKey {
                answer: answer(),
                new: secret(),
            },
        ),
        Request::card(
            card(),
            CardRequest::GenerateKey {
                pin: Some(pin()),
                key: new_key(),
                algorithm: cardea_terms::KeyAlgorithm::P256,
            },
        ),
        Request::card(
            card(),
            CardRequest::GenerateRecoverableKey {
                pin: Some(pin()),
                key: new_key(),
                algorithm: cardea_terms::KeyAlgorithm::P256,
                certificates: Vec::new(),
            },
        ),
        Request::card(card(), CardRequest::ReadFile { offset: 0 }),
        Request::card(
            card(),
            CardRequest::Evidence {
                nonce: Vec::new(),
                keys: None,
            },
        ),
        Request::card(
            card(),
            CardRequest::CertifyKey {
                reference: 0x81,
                qualifying: Vec::new(),
            },
        ),
        Request::card(
            card(),
            CardRequest::ImportKey {
                pin: Some(pin()),
                key: new_key(),
                material: PrivateKey::Rsa {
                    modulus: Vec::new(),
                    prime: secret(),
                },
            },
        ),
        Request::card(
            card(),
            CardRequest::DeleteKey {
                pin: Some(pin()),
                reference,
            },
        ),
        Request::card(
            card(),
            CardRequest::UseKey {
                pin: Some(pin()),
                reference,
                operation: Operation::SignEcdsa { digest: Vec::new() },
            },
        ),
        Request::card(card(), CardRequest::ReadCertificate { reference }),
        Request::card(
            card(),
            CardRequest::StoreCertificate {
                pin: Some(pin()),
                reference,
                der: Vec::new(),
                label: None,
            },
        ),
        Request::card(
            card(),
            CardRequest::DeleteCertificate {
                pin: Some(pin()),
                reference,
            },
        ),
        Request::card(card(), CardRequest::Login { pin: pin() }),
        Request::card(card(), CardRequest::Logout),
        Request::card(card(), CardRequest::Status),
        Request::card(card(), CardRequest::Contents { known: 0 }),
        Request::card(card(), CardRequest::ReadObject { number: 1 }),
        Request::card(
            card(),
            CardRequest::StoreObject {
                pin: None,
                object: NewObject {
                    kind: ObjectKind::Data,
                    label: String::new(),
                    id: Vec::new(),
                    application: String::new(),
                    value: Vec::new(),
                },
            },
        ),
        Request::card(
            card(),
            CardRequest::Rename {
                pin: None,
                thing: Thing::Key(reference),
                label: None,
                id: None,
            },
        ),
        Request::card(
            card(),
            CardRequest::DeleteObject {
                pin: None,
                number: 1,
            },
        ),
        Request::card(card(), CardRequest::VerifyAdminKey { key: secret() }),
        Request::card(
            card(),
            CardRequest::AskConsent {
                action: String::new(),
            },
        ),
        Request::card(
            card(),
            CardRequest::Power {
                action: PowerAction::Up,
            },
        ),
        Request::card(card(), CardRequest::Transmit { apdu: secret() }),
        Request::card(card(), CardRequest::EnterPin { seconds: 1 }),
        Request::card(card(), CardRequest::LoginByAgent),
        Request::card(card(), CardRequest::DetachDrive),
        Request::card(
            card(),
            CardRequest::MakeSessionKey {
                class: cardea_terms::KeyClass::Session,
                material: SessionKeyMaterial::Generated(cardea_terms::KeyAlgorithm::P256),
            },
        ),
        Request::card(
            card(),
            CardRequest::UseSessionKey {
                key: 1,
                operation: Operation::SignEcdsa { digest: Vec::new() },
            },
        ),
        Request::card(card(), CardRequest::DeleteSessionKey { key: 1 }),
        Request::card(
            card(),
            CardRequest::KeepSessionKey {
                key: 1,
                new: new_key(),
            },
        ),
        Request::card(
            card(),
            CardRequest::ChangePinByAgent {
                reference: Reference::Pin,
            },
        ),
    ];
    let owners = owners.map(|request| (request, [true, true, false, false]));
    let administrators = [
        Request::Tpm(TpmRequest::SetHierarchyAuth {
            hierarchy: Hierarchy::Owner,
            old: secret(),
            new: secret(),
        }),
        Request::Tpm(TpmRequest::ResetLockout { auth: secret() }),
        Request::Tpm(TpmRequest::SetLockoutParameters {
            auth: secret(),
            max_tries: 1,
            recovery: 1,
            lockout_recovery: 1,
        }),
        Request::Tpm(TpmRequest::ListIndices { from: None }),
        Request::Tpm(TpmRequest::EndorsementKeys),
        Request::Tpm(TpmRequest::TryRoom),
        Request::Cards(CardsRequest::Defaults),
        Request::Cards(CardsRequest::ReadAudit { offset: 0, most: 1 }),
        Request::card(
            card(),
            CardRequest::Configure {
                pin_pad: None,
                visibility: None,
            },
        ),
        Request::card(
            card(),
            CardRequest::RenameCard {
                name: "other".into(),
            },
        ),
        Request::Tpm(TpmRequest::RemoveIndex {
            handle: 0,
            owner_auth: None,
        }),
        Request::card(card(), CardRequest::Adopt { owner: None }),
        Request::Cards(CardsRequest::CreateAttested(Box::new(CreateCard::new(
            "card",
            NewContent::Uninitialised { puk: false },
        )))),
        Request::card(card(), CardRequest::MakeAttestationKey),
        Request::card(card(), CardRequest::RequestAttestation),
        Request::card(
            card(),
            CardRequest::AnswerAttestation {
                challenge: Vec::new(),
            },
        ),
        Request::card(
            card(),
            CardRequest::StoreAttestation {
                certificates: Vec::new(),
            },
        ),
    ];
    let administrators = administrators.map(|request| (request, [true, false, false, false]));
    let rows: Vec<_> = rows
        .into_iter()
        .chain(owners)
        .chain(administrators)
        .collect();
    let mut seen: Vec<usize> = rows.iter().map(|(request, _)| variant(request)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>(), "one row each");
    rows
}

fn variant(request: &Request) -> usize {
    match request {
        Request::Cards(CardsRequest::List { .. }) => 0,
        Request::Card {
            request: CardRequest::Show,
            ..
        } => 1,
        Request::Cards(CardsRequest::Create(_)) => 2,
        Request::Card {
            request: CardRequest::Destroy { .. },
            ..
        } => 3,
        Request::Card {
            request: CardRequest::ChangePin { .. },
            ..
        } => 4,
        Request::Tpm(TpmRequest::Status) => 5,
        Request::Reader(ReaderRequest::Info) => 6,
        Request::Reader(ReaderRequest::States) => 7,
        Request::Reader(ReaderRequest::WaitStates { .. }) => 8,
        Request::Slot {
            request: SlotRequest::Power { .. },
            ..
        } => 9,
        Request::Slot {
            request: SlotRequest::Transmit { .. },
            ..
        } => 10,
        Request::Card {
            request: CardRequest::VerifyPin { .. },
            ..
        } => 11,
        Request::Card {
            request: CardRequest::UnblockPin { .. },
            ..
        } => 12,
        Request::Card {
            request: CardRequest::AdminChallenge,
            ..
        } => 13,
        Request::Card {
            request: CardRequest::VerifyAdmin { .. },
            ..
        } => 14,
        Request::Card {
            request: CardRequest::ChangeAdminKey { .. },
            ..
        } => 15,
        Request::Card {
            request: CardRequest::GenerateKey { .. },
            ..
        } => 16,
        Request::Card {
            request: CardRequest::ImportKey { .. },
            ..
        } => 17,
        Request::Card {
            request: CardRequest::DeleteKey { .. },
            ..
        } => 18,
        Request::Card {
            request: CardRequest::UseKey { .. },
            ..
        } => 19,
        Request::Card {
            request: CardRequest::ReadCertificate { .. },
            ..
        } => 20,
        Request::Card {
            request: CardRequest::StoreCertificate { .. },
            ..
        } => 21,
        Request::Card {
            request: CardRequest::DeleteCertificate { .. },
            ..
        } => 22,
        Request::Tpm(TpmRequest::SetHierarchyAuth { .. }) => 23,
        Request::Tpm(TpmRequest::ResetLockout { .. }) => 24,
        Request::Tpm(TpmRequest::SetLockoutParameters { .. }) => 25,
        Request::Tpm(TpmRequest::ListIndices { .. }) => 26,
        Request::Tpm(TpmRequest::RemoveIndex { .. }) => 27,
        Request::Card {
            request: CardRequest::Login { .. },
            ..
        } => 28,
        Request::Card {
            request: CardRequest::Logout,
            ..
        } => 29,
        Request::Cards(CardsRequest::States { .. }) => 30,
        Request::Cards(CardsRequest::WaitStates { .. }) => 31,
        Request::Card {
            request: CardRequest::Status,
            ..
        } => 32,
        Request::Card {
            request: CardRequest::Contents { .. },
            ..
        } => 33,
        Request::Card {
            request: CardRequest::ReadObject { .. },
            ..
        } => 34,
        Request::Card {
            request: CardRequest::StoreObject { .. },
            ..
        } => 35,
        Request::Card {
            request: CardRequest::Rename { .. },
            ..
        } => 36,
        Request::Card {
            request: CardRequest::DeleteObject { .. },
            ..
        } => 37,
        Request::Tpm(TpmRequest::Random) => 38,
        Request::Connection(ConnectionRequest::ShareLogins) => 39,
        Request::Connection(ConnectionRequest::JoinLogins { .. }) => 40,
        Request::Card {
            request: CardRequest::VerifyAdminKey { .. },
            ..
        } => 41,
        Request::Cards(CardsRequest::ReadAudit { .. }) => 42,
        Request::Slot {
            request: SlotRequest::Control { .. },
            ..
        } => 43,
        Request::Card {
            request: CardRequest::LoginByAgent,
            ..
        } => 44,
        Request::Card {
            request: CardRequest::ChangePinByAgent { .. },
            ..
        } => 45,
        Request::Card {
            request: CardRequest::Configure { .. },
            ..
        } => 46,
        Request::Redirection(RedirectionRequest::Begin { .. }) => 47,
        Request::Redirection(RedirectionRequest::Offer { .. }) => 48,
        Request::Redirection(RedirectionRequest::Answered { .. }) => 49,
        Request::Connection(ConnectionRequest::OnBehalf { .. }) => 50,
        Request::Connection(ConnectionRequest::OnBehalfOfCaller { .. }) => 76,
        Request::Card {
            request: CardRequest::AskConsent { .. },
            ..
        } => 51,
        Request::Card {
            request: CardRequest::Power { .. },
            ..
        } => 52,
        Request::Card {
            request: CardRequest::Transmit { .. },
            ..
        } => 53,
        Request::Card {
            request: CardRequest::EnterPin { .. },
            ..
        } => 54,
        Request::Tpm(TpmRequest::TryRoom) => 55,
        Request::Tpm(TpmRequest::EndorsementKeys) => 68,
        Request::Cards(CardsRequest::Defaults) => 56,
        Request::Drive(DriveRequest::Attach { .. }) => 57,
        Request::Drive(DriveRequest::Hold { .. }) => 58,
        Request::Card {
            request: CardRequest::DetachDrive,
            ..
        } => 59,
        Request::Card {
            request: CardRequest::Adopt { .. },
            ..
        } => 60,
        Request::Card {
            request: CardRequest::MakeSessionKey { .. },
            ..
        } => 61,
        Request::Card {
            request: CardRequest::UseSessionKey { .. },
            ..
        } => 62,
        Request::Card {
            request: CardRequest::DeleteSessionKey { .. },
            ..
        } => 63,
        Request::Card {
            request: CardRequest::KeepSessionKey { .. },
            ..
        } => 64,
        Request::Card {
            request: CardRequest::RenameCard { .. },
            ..
        } => 65,
        Request::Card {
            request: CardRequest::GenerateRecoverableKey { .. },
            ..
        } => 66,
        Request::Card {
            request: CardRequest::ReadFile { .. },
            ..
        } => 67,
        Request::Cards(CardsRequest::CreateAttested(_)) => 69,
        Request::Card {
            request: CardRequest::MakeAttestationKey,
            ..
        } => 70,
        Request::Card {
            request: CardRequest::RequestAttestation,
            ..
        } => 71,
        Request::Card {
            request: CardRequest::AnswerAttestation { .. },
            ..
        } => 72,
        Request::Card {
            request: CardRequest::StoreAttestation { .. },
            ..
        } => 73,
        Request::Card {
            request: CardRequest::Evidence { .. },
            ..
        } => 74,
        Request::Card {
            request: CardRequest::CertifyKey { .. },
            ..
        } => 75,
    }
}

fn allowed(caller: Caller, request: &Request) -> bool {
    let audience = audience(request);
    caller.may_send(audience) && (audience != Audience::Owner || caller.may_see(Some(OWNER)))
}

#[test]
fn every_message_is_for_exactly_the_roles_of_the_table() {
    let nobody = Caller {
        uid: 4711,
        administrator: false,
        reader: false,
    };
    let roles = [
        Caller {
            administrator: true,
            ..nobody
        },
        Caller {
            uid: OWNER,
            ..nobody
        },
        nobody,
        Caller {
            reader: true,
            ..nobody
        },
    ];
    for (request, expected) in table() {
        for (role, expected) in roles.iter().zip(expected) {
            assert_eq!(allowed(*role, &request), expected, "{role:?} {request:?}");
        }
    }
}

#[test]
fn root_may_send_everything() {
    let root = Caller {
        uid: 0,
        administrator: true,
        reader: true,
    };
    for (request, _) in table() {
        assert!(allowed(root, &request), "{request:?}");
    }
}

#[test]
fn card_without_readable_owner_is_the_administrators() {
    let user = Caller {
        uid: OWNER,
        administrator: false,
        reader: true,
    };
    assert!(!user.may_see(None));
    assert!(
        Caller {
            administrator: true,
            ..user
        }
        .may_see(None)
    );
}
