//! What an administrator does to a card as a whole: name, settings, file system.

use cardea_card::{Card, CardError};
use cardea_client::message::{Failure, Reply, Visibility};

use crate::holder::CardVisit;
use crate::host::audit::Kind;
use crate::host::hosted::Body;
use crate::names::check_name;

impl CardVisit<'_> {
    /// Changes settings of a card, in initialisation state too.
    pub(crate) fn configure(
        &self,
        pin_pad: Option<bool>,
        visibility: Option<Visibility>,
    ) -> Result<Reply, Failure> {
        self.change(|card| card.configure(pin_pad, visibility))?;
        if let Some(visibility) = visibility {
            self.card.set_visibility(visibility);
            self.host.wake_keeper();
        }
        log_done!(self, "card configured");
        Ok(Reply::Done)
    }

    /// Gives a card another name.
    pub(crate) fn rename_card(&self, name: &str) -> Result<Reply, Failure> {
        check_name(name)?;
        self.change(|card| card.rename(name))?;
        self.card.set_name(name);
        self.host.cards_changed();
        log_done!(self, "card renamed");
        Ok(Reply::Done)
    }

    fn change(&self, work: impl FnOnce(&mut Card) -> Result<(), CardError>) -> Result<(), Failure> {
        let card = &self.card;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(card.unusable());
        };
        let done = work(live);
        drop(body);
        done.map_err(|error| self.explained(&error))?;
        let audit = &self.host.audit;
        audit.event(Some(card), self.actor, self.door, Kind::CardConfigured);
        Ok(())
    }
}
