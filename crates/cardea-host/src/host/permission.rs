//! Who may send what: one table for every message of the private socket.
//!
//! Every door of the daemon asks [`audience`]; a handler never decides by itself.

mod roles;
#[cfg(test)]
mod tests;

use cardea_card::record::CardId;
use cardea_client::message::{
    Authority, CardRequest, CardsRequest, ConnectionRequest, CreateCard, DriveRequest,
    ReaderRequest, RedirectionRequest, Request, SlotRequest, TpmRequest,
};

pub use self::roles::Roles;

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
/// `CardsRequest::List` and `States` are for anyone because the answer is filtered: non-administrators see
/// only their own cards. A ticket of `JoinLogins` opens only what a connection of the same user has opened.
/// The states of the slots are not secret: pcscd shows them to every user.
/// `RedirectionRequest::Begin` makes cards for nobody but the caller, unless the administrator lets them into the reader.
/// `DriveRequest::Attach` takes of a drive the caller's cards only, and `Hold` is about what the same connection has
/// attached.
#[must_use]
pub(crate) fn audience(request: &Request) -> Audience {
    match request {
        Request::Card { request, .. } => of_card(request),
        Request::Cards(request) => of_cards(request),
        Request::Connection(
            ConnectionRequest::JoinLogins { .. }
            | ConnectionRequest::OnBehalf { .. }
            | ConnectionRequest::ShareLogins,
        ) => Audience::Anyone,
        // It is believed, and stands in the audit.
        Request::Connection(ConnectionRequest::OnBehalfOfCaller { .. }) => Audience::Administrator,
        Request::Drive(DriveRequest::Attach { .. } | DriveRequest::Hold { .. }) => Audience::Anyone,
        Request::Reader(
            ReaderRequest::Info | ReaderRequest::States | ReaderRequest::WaitStates { .. },
        ) => Audience::Anyone,
        Request::Redirection(
            RedirectionRequest::Answered { .. }
            | RedirectionRequest::Begin { .. }
            | RedirectionRequest::Offer { .. },
        ) => Audience::Anyone,
        Request::Slot {
            request:
                SlotRequest::Control { .. } | SlotRequest::Power { .. } | SlotRequest::Transmit { .. },
            ..
        } => Audience::Reader,
        Request::Tpm(request) => of_tpm(request),
    }
}

fn of_card(request: &CardRequest) -> Audience {
    match request {
        CardRequest::Adopt { .. } => Audience::Administrator,
        CardRequest::Configure { .. } => Audience::Administrator,
        CardRequest::AnswerAttestation { .. } => Audience::Administrator,
        CardRequest::Destroy { .. } => Audience::Administrator,
        CardRequest::MakeAttestationKey => Audience::Administrator,
        CardRequest::RequestAttestation => Audience::Administrator,
        CardRequest::StoreAttestation { .. } => Audience::Administrator,
        CardRequest::RenameCard { .. } => Audience::Administrator,
        CardRequest::AdminChallenge => Audience::Owner,
        CardRequest::AskConsent { .. } => Audience::Owner,
        CardRequest::ChangeAdminKey { .. } => Audience::Owner,
        CardRequest::ChangePin { .. } => Audience::Owner,
        CardRequest::ChangePinByAgent { .. } => Audience::Owner,
        CardRequest::CertifyKey { .. } => Audience::Owner,
        CardRequest::Contents { .. } => Audience::Owner,
        CardRequest::DeleteCertificate { .. } => Audience::Owner,
        CardRequest::DeleteKey { .. } => Audience::Owner,
        CardRequest::DeleteObject { .. } => Audience::Owner,
        CardRequest::DeleteSessionKey { .. } => Audience::Owner,
        CardRequest::DetachDrive => Audience::Owner,
        CardRequest::EnterPin { .. } => Audience::Owner,
        CardRequest::Evidence { .. } => Audience::Owner,
        CardRequest::GenerateKey { .. } => Audience::Owner,
        CardRequest::GenerateRecoverableKey { .. } => Audience::Owner,
        CardRequest::ImportKey { .. } => Audience::Owner,
        CardRequest::KeepSessionKey { .. } => Audience::Owner,
        CardRequest::Login { .. } => Audience::Owner,
        CardRequest::LoginByAgent => Audience::Owner,
        CardRequest::Logout => Audience::Owner,
        CardRequest::MakeSessionKey { .. } => Audience::Owner,
        CardRequest::Power { .. } => Audience::Owner,
        CardRequest::ReadCertificate { .. } => Audience::Owner,
        CardRequest::ReadFile { .. } => Audience::Owner,
        CardRequest::ReadObject { .. } => Audience::Owner,
        CardRequest::Rename { .. } => Audience::Owner,
        CardRequest::Show => Audience::Owner,
        CardRequest::Status => Audience::Owner,
        CardRequest::StoreCertificate { .. } => Audience::Owner,
        CardRequest::StoreObject { .. } => Audience::Owner,
        CardRequest::Transmit { .. } => Audience::Owner,
        CardRequest::UnblockPin { .. } => Audience::Owner,
        CardRequest::UseKey { .. } => Audience::Owner,
        CardRequest::UseSessionKey { .. } => Audience::Owner,
        CardRequest::VerifyAdmin { .. } => Audience::Owner,
        CardRequest::VerifyAdminKey { .. } => Audience::Owner,
        CardRequest::VerifyPin { .. } => Audience::Owner,
    }
}

fn of_cards(request: &CardsRequest) -> Audience {
    match request {
        CardsRequest::Create(_) => Audience::Administrator,
        CardsRequest::CreateAttested(_) => Audience::Administrator,
        CardsRequest::Defaults => Audience::Administrator,
        CardsRequest::ReadAudit { .. } => Audience::Administrator,
        CardsRequest::List { .. } => Audience::Anyone,
        CardsRequest::States { .. } => Audience::Anyone,
        CardsRequest::WaitStates { .. } => Audience::Anyone,
    }
}

fn of_tpm(request: &TpmRequest) -> Audience {
    match request {
        TpmRequest::EndorsementKeys => Audience::Administrator,
        TpmRequest::ListIndices { .. } => Audience::Administrator,
        TpmRequest::RemoveIndex { .. } => Audience::Administrator,
        TpmRequest::ResetLockout { .. } => Audience::Administrator,
        TpmRequest::SetHierarchyAuth { .. } => Audience::Administrator,
        TpmRequest::SetLockoutParameters { .. } => Audience::Administrator,
        TpmRequest::TryRoom => Audience::Administrator,
        TpmRequest::Random => Audience::Anyone,
        TpmRequest::Status => Audience::Anyone,
    }
}

/// What somebody may be granted who is not an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Changing a card's PIN, or unblocking it with the PUK.
    ChangePin,
    /// Making a card.
    CreateCard,
    /// Destroying a card.
    DestroyCard,
    /// The administrator's challenge of a card, by which it is set up.
    Provision,
    /// Giving a card another name.
    RenameCard,
    /// Setting a PIN anew by the administrator's answer.
    ResetPin,
    /// Ending the TPM's lockout.
    ResetTpmLockout,
}

impl Right {
    /// Whether the owner of a card needs nobody's leave: there the PIN, the PUK or the response is the authority.
    fn is_the_owners(self) -> bool {
        matches!(self, Self::ChangePin | Self::ResetPin)
    }
}

/// What a request is about, as far as it decides who may make it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// A card that was found.
    Card {
        id: Option<CardId>,
        owner: Option<u32>,
    },
    /// Nothing that belongs to a user; or a card that is found later.
    Machine,
    /// A card that is going to be this user's.
    NewCard(Option<u32>),
}

impl About {
    /// What a message is about; the card that it names is found later.
    pub(crate) fn of(request: &Request, caller: Caller) -> Self {
        match request {
            Request::Cards(CardsRequest::Create(order) | CardsRequest::CreateAttested(order)) => {
                Self::new_card(order, caller)
            }
            _ => Self::Machine,
        }
    }

    /// The caller's card, unless the order names another user.
    pub(crate) fn new_card(order: &CreateCard, caller: Caller) -> Self {
        Self::NewCard(order.owner.or(Some(caller.uid)))
    }
}

/// One right of one user, about one card or none, as the system's policy has decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The right.
    pub right: Right,
    /// Whose it is.
    pub uid: u32,
    /// The card that it is about; absent where the right is not about one card.
    pub card: Option<CardId>,
    /// The user whose card may be made; absent where none is.
    pub new_owner: Option<u32>,
}

impl Grant {
    /// Whether it is for this and nothing else.
    fn is_about(&self, about: About) -> bool {
        match about {
            // A grant about no card is good for none.
            About::Card { id, .. } => id.is_some() && self.card == id,
            About::Machine => self.card.is_none() && self.new_owner.is_none(),
            About::NewCard(owner) => owner.is_some() && self.new_owner == owner,
        }
    }
}

/// What a request needs: the table, and the right by which others may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Whom it is for.
    pub(crate) audience: Audience,
    /// The right that lets others do it too.
    pub(crate) right: Option<Right>,
}

impl Need {
    /// Of a message of the socket.
    pub(crate) fn of(request: &Request) -> Self {
        let right = match request {
            Request::Card { request, .. } => right_on_card(request),
            Request::Cards(CardsRequest::Create(_) | CardsRequest::CreateAttested(_)) => {
                Some(Right::CreateCard)
            }
            Request::Tpm(TpmRequest::ResetLockout { .. }) => Some(Right::ResetTpmLockout),
            _ => None,
        };
        Self {
            audience: audience(request),
            right,
        }
    }

    /// Of a request about a card that was found.
    pub(crate) fn on_card(request: &CardRequest) -> Self {
        Self {
            audience: of_card(request),
            right: right_on_card(request),
        }
    }

    /// Of what only administrators do with a card, and those who are granted it.
    pub(crate) fn administration(right: Right) -> Self {
        Self {
            audience: Audience::Administrator,
            right: Some(right),
        }
    }

    /// Whether the caller, or a grant of theirs, is enough.
    pub(crate) fn is_met(self, caller: Caller, grant: Option<&Grant>, about: About) -> bool {
        let sees = match about {
            About::Card { owner, .. } | About::NewCard(owner) => caller.may_see(owner),
            About::Machine => true,
        };
        let by_right = |right: Right| {
            grant.is_some_and(|grant| {
                grant.right == right && grant.uid == caller.uid && grant.is_about(about)
            })
        };
        caller.may_send(self.audience) && sees || self.right.is_some_and(by_right)
    }
}

fn right_on_card(request: &CardRequest) -> Option<Right> {
    match request {
        CardRequest::ChangePin { .. }
        | CardRequest::ChangePinByAgent { .. }
        | CardRequest::UnblockPin {
            by: Authority::Puk(_),
            ..
        } => Some(Right::ChangePin),
        CardRequest::Destroy { .. } => Some(Right::DestroyCard),
        CardRequest::UnblockPin {
            by: Authority::Admin(_),
            ..
        } => Some(Right::ResetPin),
        _ => None,
    }
}

/// What the daemon knows of the process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id, from the kernel.
    uid: u32,
    /// root or a member of the administrators' group.
    administrator: bool,
    /// root or the user that pcscd runs as.
    reader: bool,
}

impl Caller {
    #[cfg(test)]
    pub(crate) fn for_test(uid: u32, administrator: bool, reader: bool) -> Self {
        Self {
            uid,
            administrator,
            reader,
        }
    }

    /// User id, from the kernel.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Whether it is root or a member of the administrators' group.
    pub(crate) fn is_administrator(self) -> bool {
        self.administrator
    }

    /// Whether the caller has a right without being granted it. `owner`: of the card that it is about.
    #[must_use]
    pub fn has(self, right: Right, owner: Option<u32>) -> bool {
        self.administrator || right.is_the_owners() && owner == Some(self.uid)
    }

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
    pub fn may_see(self, owner: Option<u32>) -> bool {
        self.administrator || owner == Some(self.uid)
    }
}
