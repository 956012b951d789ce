//! Who may send what: one table for every message of the private socket.
//!
//! Every door of the daemon asks [`audience`]; a handler never decides by itself.

mod roles;

use cardea_client::message::Request;

pub(crate) use self::roles::Roles;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// root or a member of the administrators' group.
    Administrator,
    /// Every local user.
    Anyone,
    /// The card's owner, or an administrator.
    Owner,
    /// root or the user that pcscd runs as.
    Reader,
}

/// The table.
///
/// `ListCards` and `CardStates` are for anyone because the answer is filtered: who is no administrator sees
/// own cards only. A ticket of `JoinLogins` opens only what a connection of the same user has opened.
/// The states of the slots are no secret: pcscd tells them to every user.
/// `Redirect` makes cards for nobody but the caller, unless the administrator lets them into the reader.
/// `AttachDrive` takes of a drive the caller's cards only, and `HoldDrive` is about what the same connection has
/// attached.
#[must_use]
pub(crate) fn audience(request: &Request) -> Audience {
    match request {
        Request::ListCards => Audience::Anyone,
        Request::ShowCard { .. } => Audience::Owner,
        Request::CreateCard(_) => Audience::Administrator,
        Request::DestroyCard { .. } => Audience::Administrator,
        Request::ChangePin { .. } => Audience::Owner,
        Request::TpmStatus => Audience::Anyone,
        Request::ReaderInfo => Audience::Anyone,
        Request::SlotStates => Audience::Anyone,
        Request::WaitSlotStates { .. } => Audience::Anyone,
        Request::Power { .. } => Audience::Reader,
        Request::Transmit { .. } => Audience::Reader,
        Request::VerifyPin { .. } => Audience::Owner,
        Request::UnblockPin { .. } => Audience::Owner,
        Request::AdminChallenge { .. } => Audience::Owner,
        Request::VerifyAdmin { .. } => Audience::Owner,
        Request::ChangeAdminKey { .. } => Audience::Owner,
        Request::GenerateKey { .. } => Audience::Owner,
        Request::ImportKey { .. } => Audience::Owner,
        Request::DeleteKey { .. } => Audience::Owner,
        Request::UseKey { .. } => Audience::Owner,
        Request::ReadCertificate { .. } => Audience::Owner,
        Request::StoreCertificate { .. } => Audience::Owner,
        Request::DeleteCertificate { .. } => Audience::Owner,
        Request::Login { .. } => Audience::Owner,
        Request::Logout { .. } => Audience::Owner,
        Request::SetHierarchyAuth { .. } => Audience::Administrator,
        Request::ResetLockout { .. } => Audience::Administrator,
        Request::SetLockoutParameters { .. } => Audience::Administrator,
        Request::ListIndices => Audience::Administrator,
        Request::RemoveIndex { .. } => Audience::Administrator,
        Request::CardStates => Audience::Anyone,
        Request::WaitCardStates { .. } => Audience::Anyone,
        Request::CardStatus { .. } => Audience::Owner,
        Request::CardContents { .. } => Audience::Owner,
        Request::ReadObject { .. } => Audience::Owner,
        Request::StoreObject { .. } => Audience::Owner,
        Request::Rename { .. } => Audience::Owner,
        Request::DeleteObject { .. } => Audience::Owner,
        Request::Random => Audience::Anyone,
        Request::ShareLogins => Audience::Anyone,
        Request::JoinLogins { .. } => Audience::Anyone,
        Request::VerifyAdminKey { .. } => Audience::Owner,
        Request::ReadAudit { .. } => Audience::Administrator,
        Request::Control { .. } => Audience::Reader,
        Request::LoginByAgent { .. } => Audience::Owner,
        Request::ChangePinByAgent { .. } => Audience::Owner,
        Request::ConfigureCard { .. } => Audience::Administrator,
        Request::Redirect { .. } => Audience::Anyone,
        Request::Offer { .. } => Audience::Anyone,
        Request::Answered { .. } => Audience::Anyone,
        Request::OnBehalf { .. } => Audience::Anyone,
        Request::AskConsent { .. } => Audience::Owner,
        Request::PowerCard { .. } => Audience::Owner,
        Request::TransmitCard { .. } => Audience::Owner,
        Request::EnterPin { .. } => Audience::Owner,
        Request::TryRoom => Audience::Administrator,
        Request::CreationDefaults => Audience::Administrator,
        Request::AttachDrive { .. } => Audience::Anyone,
        Request::HoldDrive { .. } => Audience::Anyone,
        Request::DetachDrive { .. } => Audience::Owner,
        Request::AdoptCard { .. } => Audience::Administrator,
    }
}

/// What the daemon knows of the process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// User id, from the kernel.
    pub(crate) uid: u32,
    /// root or a member of the administrators' group.
    pub(crate) administrator: bool,
    /// root or the user that pcscd runs as.
    pub(crate) reader: bool,
}

impl Caller {
    /// Whether a message for this audience may come from this caller at all.
    /// For [`Audience::Owner`] the card decides: [`Caller::may_see`].
    #[must_use]
    pub(crate) fn may_send(self, audience: Audience) -> bool {
        match audience {
            Audience::Administrator => self.administrator,
            Audience::Anyone | Audience::Owner => true,
            Audience::Reader => self.reader,
        }
    }

    /// Whether a card of this owner is the caller's business.
    /// A card whose owner cannot be read is the administrator's only.
    #[must_use]
    pub(crate) fn may_see(self, owner: Option<u32>) -> bool {
        self.administrator || owner == Some(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use cardea_client::message::{
        AdminAnswer, Authority, CreateCard, Hierarchy, NewContent, NewKey, NewObject, ObjectKind,
        Operation, PowerAction, PrivateKey, Reference, SecretBytes, Thing,
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
            always: false,
            sign_only: false,
            id: None,
        };
        let (pin, reference) = (secret, 0x81);
        let rows = vec![
            (Request::ListCards, [true, true, true, true]),
            (
                Request::ShowCard { card: card() },
                [true, true, false, false],
            ),
            (Request::CreateCard(create), [true, false, false, false]),
            (
                Request::DestroyCard {
                    card: card(),
                    owner_auth: None,
                },
                [true, false, false, false],
            ),
            (
                Request::ChangePin {
                    card: card(),
                    old: secret(),
                    new: secret(),
                    reference: Reference::Pin,
                },
                [true, true, false, false],
            ),
            (Request::TpmStatus, [true, true, true, true]),
            (Request::ReaderInfo, [true, true, true, true]),
            (Request::CardStates, [true, true, true, true]),
            (
                Request::WaitCardStates {
                    generation: 0,
                    timeout_ms: 0,
                },
                [true, true, true, true],
            ),
            (Request::Random, [true, true, true, true]),
            (
                Request::AttachDrive { place: card() },
                [true, true, true, true],
            ),
            (
                Request::HoldDrive { timeout_ms: 0 },
                [true, true, true, true],
            ),
            (Request::ShareLogins, [true, true, true, true]),
            (
                Request::JoinLogins { ticket: secret() },
                [true, true, true, true],
            ),
            (
                Request::Redirect {
                    from: String::new(),
                    reader: true,
                },
                [true, true, true, true],
            ),
            (
                Request::Offer { cards: Vec::new() },
                [true, true, true, true],
            ),
            (
                Request::Answered {
                    program: 1,
                    reply: secret(),
                },
                [true, true, true, true],
            ),
            (
                Request::OnBehalf {
                    whom: String::new(),
                },
                [true, true, true, true],
            ),
            (Request::SlotStates, [true, true, true, true]),
            (
                Request::WaitSlotStates {
                    generation: 0,
                    timeout_ms: 0,
                },
                [true, true, true, true],
            ),
            (
                Request::Power {
                    slot: 0,
                    action: PowerAction::Up,
                },
                [false, false, false, true],
            ),
            (
                Request::Transmit {
                    slot: 0,
                    apdu: secret(),
                },
                [false, false, false, true],
            ),
            (
                Request::Control {
                    slot: 0,
                    code: 0,
                    data: Vec::new(),
                },
                [false, false, false, true],
            ),
        ];
        let owners = [
            Request::VerifyPin {
                card: card(),
                value: secret(),
                reference: Reference::Puk,
            },
            Request::UnblockPin {
                card: card(),
                by: Authority::Puk(secret()),
                new: secret(),
            },
            Request::AdminChallenge { card: card() },
            Request::VerifyAdmin {
                card: card(),
                answer: answer(),
            },
            Request::ChangeAdminKey {
                card: card(),
                answer: answer(),
                new: secret(),
            },
            Request::GenerateKey {
                card: card(),
                pin: Some(pin()),
                key: new_key(),
                algorithm: "p-256".into(),
            },
            Request::ImportKey {
                card: card(),
                pin: Some(pin()),
                key: new_key(),
                material: PrivateKey::Rsa {
                    modulus: Vec::new(),
                    prime: secret(),
                },
            },
            Request::DeleteKey {
                card: card(),
                pin: Some(pin()),
                reference,
            },
            Request::UseKey {
                card: card(),
                pin: Some(pin()),
                reference,
                operation: Operation::SignEcdsa { digest: Vec::new() },
            },
            Request::ReadCertificate {
                card: card(),
                reference,
            },
            Request::StoreCertificate {
                card: card(),
                pin: Some(pin()),
                reference,
                der: Vec::new(),
                label: None,
            },
            Request::DeleteCertificate {
                card: card(),
                pin: Some(pin()),
                reference,
            },
            Request::Login {
                card: card(),
                pin: pin(),
            },
            Request::Logout { card: card() },
            Request::CardStatus { card: card() },
            Request::CardContents {
                card: card(),
                known: 0,
            },
            Request::ReadObject {
                card: card(),
                number: 1,
            },
            Request::StoreObject {
                card: card(),
                pin: None,
                object: NewObject {
                    kind: ObjectKind::Data,
                    label: String::new(),
                    id: Vec::new(),
                    application: String::new(),
                    value: Vec::new(),
                },
            },
            Request::Rename {
                card: card(),
                pin: None,
                thing: Thing::Key(reference),
                label: None,
                id: None,
            },
            Request::DeleteObject {
                card: card(),
                pin: None,
                number: 1,
            },
            Request::VerifyAdminKey {
                card: card(),
                key: secret(),
            },
            Request::AskConsent {
                card: card(),
                action: String::new(),
            },
            Request::PowerCard {
                card: card(),
                action: PowerAction::Up,
            },
            Request::TransmitCard {
                card: card(),
                apdu: secret(),
            },
            Request::EnterPin {
                card: card(),
                seconds: 1,
            },
            Request::LoginByAgent { card: card() },
            Request::DetachDrive { card: card() },
            Request::ChangePinByAgent {
                card: card(),
                reference: Reference::Pin,
            },
        ];
        let owners = owners.map(|request| (request, [true, true, false, false]));
        let administrators = [
            Request::SetHierarchyAuth {
                hierarchy: Hierarchy::Owner,
                old: secret(),
                new: secret(),
            },
            Request::ResetLockout { auth: secret() },
            Request::SetLockoutParameters {
                auth: secret(),
                max_tries: 1,
                recovery: 1,
                lockout_recovery: 1,
            },
            Request::ListIndices,
            Request::TryRoom,
            Request::CreationDefaults,
            Request::ReadAudit { offset: 0, most: 1 },
            Request::ConfigureCard {
                card: card(),
                pin_pad: None,
                visibility: None,
            },
            Request::RemoveIndex {
                handle: 0,
                owner_auth: None,
            },
            Request::AdoptCard {
                card: card(),
                owner: None,
            },
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
            Request::ListCards => 0,
            Request::ShowCard { .. } => 1,
            Request::CreateCard(_) => 2,
            Request::DestroyCard { .. } => 3,
            Request::ChangePin { .. } => 4,
            Request::TpmStatus => 5,
            Request::ReaderInfo => 6,
            Request::SlotStates => 7,
            Request::WaitSlotStates { .. } => 8,
            Request::Power { .. } => 9,
            Request::Transmit { .. } => 10,
            Request::VerifyPin { .. } => 11,
            Request::UnblockPin { .. } => 12,
            Request::AdminChallenge { .. } => 13,
            Request::VerifyAdmin { .. } => 14,
            Request::ChangeAdminKey { .. } => 15,
            Request::GenerateKey { .. } => 16,
            Request::ImportKey { .. } => 17,
            Request::DeleteKey { .. } => 18,
            Request::UseKey { .. } => 19,
            Request::ReadCertificate { .. } => 20,
            Request::StoreCertificate { .. } => 21,
            Request::DeleteCertificate { .. } => 22,
            Request::SetHierarchyAuth { .. } => 23,
            Request::ResetLockout { .. } => 24,
            Request::SetLockoutParameters { .. } => 25,
            Request::ListIndices => 26,
            Request::RemoveIndex { .. } => 27,
            Request::Login { .. } => 28,
            Request::Logout { .. } => 29,
            Request::CardStates => 30,
            Request::WaitCardStates { .. } => 31,
            Request::CardStatus { .. } => 32,
            Request::CardContents { .. } => 33,
            Request::ReadObject { .. } => 34,
            Request::StoreObject { .. } => 35,
            Request::Rename { .. } => 36,
            Request::DeleteObject { .. } => 37,
            Request::Random => 38,
            Request::ShareLogins => 39,
            Request::JoinLogins { .. } => 40,
            Request::VerifyAdminKey { .. } => 41,
            Request::ReadAudit { .. } => 42,
            Request::Control { .. } => 43,
            Request::LoginByAgent { .. } => 44,
            Request::ChangePinByAgent { .. } => 45,
            Request::ConfigureCard { .. } => 46,
            Request::Redirect { .. } => 47,
            Request::Offer { .. } => 48,
            Request::Answered { .. } => 49,
            Request::OnBehalf { .. } => 50,
            Request::AskConsent { .. } => 51,
            Request::PowerCard { .. } => 52,
            Request::TransmitCard { .. } => 53,
            Request::EnterPin { .. } => 54,
            Request::TryRoom => 55,
            Request::CreationDefaults => 56,
            Request::AttachDrive { .. } => 57,
            Request::HoldDrive { .. } => 58,
            Request::DetachDrive { .. } => 59,
            Request::AdoptCard { .. } => 60,
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
}
