//! Cards that a connection brings along from another machine: taken over as they are offered, gone with it.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{CardOverview, Failure, FailureKind, MAX_REDIRECTED, Reply};

use crate::failure::fail;
use crate::host::Host;
use crate::host::audit::{Actor, Door, Kind};
use crate::host::hosted::{HostedCard, View};
use crate::host::permission::Caller;
use crate::host::redirected::{Carrier, Redirections};
use crate::names::is_name;

/// Ends when dropped, and its cards are gone.
pub struct Redirection<'a> {
    host: &'a Arc<Host>,
    registry: &'a Redirections,
    /// Whose it is, for the limits.
    account: u32,
    carrier: Arc<Carrier>,
    actor: &'a Actor,
    /// Until it is refused or ends.
    offers: Cell<bool>,
}

impl<'a> Redirection<'a> {
    pub(crate) fn begin(
        host: &'a Arc<Host>,
        registry: &'a Redirections,
        client: &ServerEnd<Arc<UnixStream>>,
        caller: Caller,
        actor: &'a Actor,
        (from, reader): (String, bool),
    ) -> Result<Self, Failure> {
        if !is_name(&from) {
            return Err(fail(
                FailureKind::Invalid,
                "the name of the machine is empty, too long or has control characters",
            ));
        }
        let account = host.accounts().of(caller.uid());
        registry.enter(account, caller)?;
        let in_reader = reader && host.redirect_to_reader;
        let carrier = Arc::new(Carrier::new(from, caller.uid(), in_reader, client));
        Ok(Self {
            host,
            registry,
            account,
            carrier,
            actor,
            offers: Cell::new(true),
        })
    }

    /// Its cards are removed before that is reported: a new redirection finds nothing of them in the way.
    pub fn refuse(&self, failure: Failure) -> Result<(), FrameError> {
        self.withdraw();
        self.carrier.refuse(failure)
    }

    fn withdraw(&self) {
        if !self.offers.replace(false) {
            return;
        }
        for card in self.own() {
            self.remove(&card);
        }
        self.registry.leave(self.account);
        // A card of this machine may have waited for the slot.
        self.host.wake_keeper();
    }

    fn own(&self) -> Vec<Arc<HostedCard>> {
        let cards = self.host.cards().into_iter();
        cards
            .filter(|card| card.is_carried_by(&self.carrier))
            .collect()
    }

    /// Where the cards are, for people.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.carrier.from
    }

    /// Whether the cards may be in the reader.
    #[must_use]
    pub fn is_in_reader(&self) -> bool {
        self.carrier.in_reader
    }

    /// The answer for a program has come.
    pub fn answered(&self, program: u32, reply: Reply) {
        self.carrier.answered(program, reply);
    }

    /// Takes over what there is now.
    ///
    /// # Errors
    ///
    /// The failure that the other machine gets, as its last message.
    pub fn offer(&self, cards: &[CardOverview]) -> Result<(), Failure> {
        if cards.len() > MAX_REDIRECTED {
            let text = format!("at most {MAX_REDIRECTED} cards are redirected at once");
            return Err(fail(FailureKind::Full, text));
        }
        let mut offered = Vec::with_capacity(cards.len());
        for card in cards {
            let id = card
                .card_id
                .parse()
                .map_err(|_| fail(FailureKind::Invalid, "not the id of a card"))?;
            if !is_name(&card.name) {
                return Err(fail(FailureKind::Invalid, "not the name of a card"));
            }
            if card.is_usable() {
                offered.push((id, card));
            }
        }
        let own = self.own();
        for card in &own {
            let stays = offered
                .iter()
                .any(|(id, offer)| card.id == Some(*id) && card.name() == offer.name);
            if !stays {
                self.remove(card);
            }
        }
        for (id, offer) in offered {
            let reason = if is_name(&offer.reason) {
                offer.reason.as_str()
            } else {
                ""
            };
            let view = View::new(offer.state, reason);
            let known = own
                .iter()
                .find(|card| card.id == Some(id) && card.name() == offer.name);
            if let Some(card) = known {
                card.set_view(view);
                continue;
            }
            let card = Arc::new(HostedCard::redirected(
                id,
                &offer.name,
                self.carrier.owner,
                &self.carrier,
                view,
            ));
            if !self.host.add_guest(&card) {
                return Err(fail(
                    FailureKind::Invalid,
                    format!("you already have card {id} on this machine"),
                ));
            }
            tracing::info!(card = %id, from = self.carrier.from, uid = self.carrier.owner, "card redirected to here");
            self.note(&card, Kind::CardRedirected);
            if self.carrier.in_reader {
                // Not here: whoever makes a card has the reader for a minute.
                self.host.wake_keeper();
            }
        }
        self.host.cards_changed();
        Ok(())
    }

    fn remove(&self, card: &Arc<HostedCard>) {
        self.host.slots.remove(card);
        self.host.forget(card);
        tracing::info!(card = %card.selector(), from = self.carrier.from, "redirected card withdrawn");
        self.note(card, Kind::CardWithdrawn);
    }

    fn note(&self, card: &HostedCard, kind: Kind) {
        let audit = &self.host.audit;
        audit.event(Some(card), self.actor, Door::Socket, kind);
    }
}

impl Drop for Redirection<'_> {
    fn drop(&mut self) {
        self.carrier.close();
        self.withdraw();
    }
}
