//! The only way in, for every door: whether the caller may, which card is meant, the work, and the audit.
//!
//! A door makes a [`Visitor`] of whoever is there, and translates what they say into a request. Permission is
//! decided here and by `permission` alone; a card that a person names is found once, and carried as itself.

mod card;
mod cards;
mod connection;
mod elsewhere;
mod management;
mod slot;
mod tpm;
mod visitor;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cardea_client::ServerEnd;
use cardea_client::message::{Failure, FailureKind, RedirectionRequest, Reply, Request};
use cardea_terms::Step;

use crate::failure::fail;
use crate::holder::CardVisit;
use crate::host::Host;
use crate::host::audit::{Actor, Door, Kind};
use crate::host::drive::Reading;
use crate::host::hosted::HostedCard;
use crate::host::logins::LoginGroups;
use crate::host::permission::{About, Audience, Caller, Need};
use crate::host::redirected::Redirections;
use crate::lifecycle::redirection::Redirection;

pub use self::visitor::Visitor;

/// The host behind its one way in, and what it keeps for the doors.
#[derive(Debug)]
pub struct Counter {
    host: Arc<Host>,
    login_groups: LoginGroups,
    /// Who has a drive read.
    reading: Reading,
    redirections: Redirections,
}

impl Counter {
    /// The counter of a host.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            login_groups: LoginGroups::default(),
            reading: Reading::default(),
            redirections: Redirections::default(),
        }
    }

    /// The host, for what doors show without being asked by anybody: which cards there are, and the slots.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// What a user may do. Asks the name service, which may take its time.
    #[must_use]
    pub fn caller(&self, uid: u32) -> Caller {
        self.host.roles.of(uid)
    }

    /// Answers somebody, and then does what is due at the TPM, if nobody else waits for it.
    pub fn then_idle_work<R>(&self, answer: impl FnOnce() -> R) -> R {
        self.host.tpm.then_idle_work(answer)
    }

    /// Records that a door itself has refused something.
    pub fn note_denied(&self, card: Option<&HostedCard>, actor: &Actor, door: Door) {
        self.host.audit.event(card, actor, door, Kind::Denied);
    }

    /// Answers one request, which may have come with an open folder; long work reports its steps.
    ///
    /// # Errors
    ///
    /// The failure for the visitor; the cause is in the log.
    pub fn serve(
        &self,
        visitor: &mut Visitor,
        request: Request,
        folder: Option<OwnedFd>,
        step: &mut dyn FnMut(Step),
    ) -> Result<Reply, Failure> {
        let about = About::of(&request, visitor.caller);
        self.require(visitor, about, Need::of(&request))?;
        let reply = match request {
            Request::Card { card, request } => self
                .find(visitor, card.as_str())
                .and_then(|card| self.about_card(visitor, &card, request, step)),
            Request::Cards(request) => self.about_cards(visitor, request, folder, step),
            Request::Connection(request) => self.about_connection(visitor, request),
            Request::Drive(request) => self.about_drive(visitor, request, folder),
            Request::Reader(request) => Ok(self.about_reader(request)),
            Request::Redirection(_) => {
                Err(fail(FailureKind::Protocol, "there is no redirection here"))
            }
            Request::Slot { slot, request } => self.about_slot(visitor, slot, request),
            Request::Tpm(request) => self.about_tpm(visitor, request),
        };
        self.noted(visitor, reply)
    }

    /// The visitor's connection brings cards of another machine along, until its end.
    ///
    /// # Errors
    ///
    /// The failure for the visitor.
    pub fn redirect<'a>(
        &'a self,
        visitor: &'a Visitor,
        client: &ServerEnd<Arc<UnixStream>>,
        request: Request,
    ) -> Result<Redirection<'a>, Failure> {
        let about = About::of(&request, visitor.caller);
        self.require(visitor, about, Need::of(&request))?;
        let Request::Redirection(RedirectionRequest::Begin { from, reader }) = request else {
            return Err(fail(FailureKind::Protocol, "there is no redirection here"));
        };
        let from = (from, reader);
        let registry = &self.redirections;
        Redirection::begin(
            &self.host,
            registry,
            client,
            visitor.caller,
            &visitor.actor,
            from,
        )
    }

    /// The card that a person names, found once.
    fn find(&self, visitor: &Visitor, name: &str) -> Result<Arc<HostedCard>, Failure> {
        self.host.find(name, visitor.caller).inspect_err(|failure| {
            // Told to the audit alone.
            if failure.kind == FailureKind::NotFound
                && let Some(hidden) = self.host.hidden(name, visitor.caller)
            {
                self.note(visitor, Some(&hidden), Kind::Denied);
            }
        })
    }

    /// Refuses, with a record, what the visitor may not do.
    fn require(&self, visitor: &Visitor, about: About, need: Need) -> Result<(), Failure> {
        self.decide(visitor, None, about, need)
    }

    /// Like [`Counter::require`], about a card, which the record then names.
    fn require_of(&self, visitor: &Visitor, card: &HostedCard, need: Need) -> Result<(), Failure> {
        let (id, owner) = (card.id, card.owner);
        self.decide(visitor, Some(card), About::Card { id, owner }, need)
    }

    fn decide(
        &self,
        visitor: &Visitor,
        card: Option<&HostedCard>,
        about: About,
        need: Need,
    ) -> Result<(), Failure> {
        if need.is_met(visitor.caller, visitor.grant.as_ref(), about) {
            return Ok(());
        }
        tracing::info!(uid = visitor.caller.uid(), audience = ?need.audience, refused = true, "denied");
        self.note(visitor, card, Kind::Denied);
        Err(denied(need.audience))
    }

    /// Records what a failure says of the TPM.
    fn noted<R>(&self, visitor: &Visitor, result: Result<R, Failure>) -> Result<R, Failure> {
        result.inspect_err(|failure| {
            let audit = &self.host.audit;
            audit.trouble(&visitor.actor, visitor.door, failure.kind);
        })
    }

    fn note(&self, visitor: &Visitor, card: Option<&HostedCard>, kind: Kind) {
        let audit = &self.host.audit;
        audit.event(card, &visitor.actor, visitor.door, kind);
    }

    /// By the engine, so that there is one PIN truth for all doors.
    fn visit<'a>(&'a self, visitor: &'a Visitor, card: &Arc<HostedCard>) -> CardVisit<'a> {
        CardVisit {
            host: &self.host,
            caller: visitor.caller,
            actor: &visitor.actor,
            door: visitor.door,
            card: Arc::clone(card),
            logins: &visitor.logins,
            gone: visitor.gone.as_ref(),
        }
    }
}

fn denied(audience: Audience) -> Failure {
    let who = match audience {
        Audience::Administrator => "only root and members of the administrators' group may do this",
        Audience::Reader => "only root and pcscd may do this",
        Audience::Anyone | Audience::Owner => "you are not allowed to do this",
    };
    fail(FailureKind::Denied, who)
}
