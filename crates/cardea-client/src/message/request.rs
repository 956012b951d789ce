//! What clients ask, in groups.

use std::fmt;

use minicbor::{Decode, Encode};

use super::{
    CardRequest, CardsRequest, ConnectionRequest, DriveRequest, ReaderRequest, RedirectionRequest,
    SlotRequest, TpmRequest,
};

/// What a client may ask.
#[derive(Debug, Encode, Decode)]
pub enum Request {
    /// About one card.
    #[n(0)]
    Card {
        /// Which card.
        #[n(0)]
        card: CardName,
        /// What.
        #[n(1)]
        request: CardRequest,
    },
    /// About all cards.
    #[n(1)]
    Cards(#[n(0)] CardsRequest),
    /// About this connection.
    #[n(2)]
    Connection(#[n(0)] ConnectionRequest),
    /// About the drive that this connection keeps attached.
    #[n(3)]
    Drive(#[n(0)] DriveRequest),
    /// About the reader.
    #[n(4)]
    Reader(#[n(0)] ReaderRequest),
    /// About cards that this connection redirects to this machine.
    #[n(5)]
    Redirection(#[n(0)] RedirectionRequest),
    /// About one slot of the reader.
    #[n(6)]
    Slot {
        /// Slot number from 0.
        #[n(0)]
        slot: u8,
        /// What.
        #[n(1)]
        request: SlotRequest,
    },
    /// About the TPM.
    #[n(7)]
    Tpm(#[n(0)] TpmRequest),
}

impl Request {
    /// A request about one card.
    pub fn card(card: impl Into<CardName>, request: CardRequest) -> Self {
        let card = card.into();
        Self::Card { card, request }
    }

    /// A request about one slot.
    #[must_use]
    pub fn slot(slot: u8, request: SlotRequest) -> Self {
        Self::Slot { slot, request }
    }

    /// The card that it is about.
    #[must_use]
    pub fn named_card(&self) -> Option<&CardName> {
        match self {
            Self::Card { card, .. } => Some(card),
            Self::Cards(_)
            | Self::Connection(_)
            | Self::Drive(_)
            | Self::Reader(_)
            | Self::Redirection(_)
            | Self::Slot { .. }
            | Self::Tpm(_) => None,
        }
    }

    /// Whether sending it twice does the same as sending it once.
    pub(crate) fn only_asks(&self) -> bool {
        match self {
            Self::Card { request, .. } => request.only_asks(),
            Self::Cards(request) => request.only_asks(),
            Self::Reader(_) => true,
            Self::Tpm(request) => request.only_asks(),
            Self::Connection(_) | Self::Drive(_) | Self::Redirection(_) | Self::Slot { .. } => {
                false
            }
        }
    }
}

/// How a client names a card: its card id, an unambiguous beginning of it, its instance id or its name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct CardName(#[n(0)] String);

impl CardName {
    /// As the client has written it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CardName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&String> for CardName {
    fn from(name: &String) -> Self {
        Self(name.clone())
    }
}

impl From<String> for CardName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
