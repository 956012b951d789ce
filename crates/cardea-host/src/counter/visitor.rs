//! Whoever is at a door.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::host::audit::{Actor, Door};
use crate::host::logins::LoginGroup;
use crate::host::permission::{Caller, Grant};
use crate::host::prompt::CallerGone;
use crate::host::slot_connection::{CardConnection, SlotConnection};
use crate::lifecycle::drive::Held;

/// Whoever is at a door: what they may do, and what they have begun. What was begun ends with this value.
#[derive(Debug)]
pub struct Visitor {
    pub(crate) caller: Caller,
    pub(crate) actor: Actor,
    pub(crate) door: Door,
    /// What the system's policy has granted beyond the caller's own rights, for one request.
    pub(crate) grant: Option<Grant>,
    pub(crate) logins: Arc<LoginGroup>,
    /// Tells that the caller has gone, where that is known.
    pub(crate) gone: Option<Arc<CallerGone>>,
    /// The caller's end of the socket, for noticing that it has gone.
    pub(super) stream: Option<Arc<UnixStream>>,
    /// By `SlotRequest::Power`: to the card of a slot.
    pub(super) slot: Option<SlotConnection>,
    /// By `CardRequest::Power`: to a card of the caller's.
    pub(super) own: Option<CardConnection>,
    /// By `DriveRequest::Attach`.
    pub(super) drive: Option<Held>,
}

impl Visitor {
    /// A caller that has just come.
    #[must_use]
    pub fn new(caller: Caller, actor: Actor, door: Door) -> Self {
        Self {
            caller,
            actor,
            door,
            grant: None,
            logins: LoginGroup::new(caller.uid()),
            gone: None,
            stream: None,
            slot: None,
            own: None,
            drive: None,
        }
    }

    /// With what the system's policy has granted for the next request.
    #[must_use]
    pub fn with_grant(self, grant: Option<Grant>) -> Self {
        Self { grant, ..self }
    }

    /// With what tells that the caller has gone.
    #[must_use]
    pub fn with_gone(self, gone: Arc<CallerGone>) -> Self {
        Self {
            gone: Some(gone),
            ..self
        }
    }

    /// With the caller's end of the socket.
    #[must_use]
    pub fn with_stream(self, stream: Arc<UnixStream>) -> Self {
        Self {
            stream: Some(stream),
            ..self
        }
    }

    /// Whether something ends with this value: a login, the power of a card, a drive.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        let connected = self.slot.is_some() || self.own.is_some();
        connected || self.drive.is_some() || self.logins.has_any()
    }
}
