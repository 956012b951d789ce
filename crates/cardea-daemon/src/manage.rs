//! What an administrator does to a card as a whole: name, settings, file system.

use std::sync::Arc;

use cardea_card::record::ReaderVisibility;
use cardea_card::{Card, CardError};
use cardea_client::message::{Failure, Reply, Visibility};

use crate::audit::Kind;
use crate::create::check_name;
use crate::hosted::{Body, HostedCard};
use crate::personal::Desk;

impl Desk<'_> {
    /// Changes settings of a card, in initialisation state too.
    pub(crate) fn configure(
        &self,
        pin_pad: Option<bool>,
        visibility: Option<Visibility>,
    ) -> Result<Reply, Failure> {
        let visibility = visibility.map(|visibility| match visibility {
            Visibility::Always => ReaderVisibility::Always,
            Visibility::OwnerSession => ReaderVisibility::OwnerSession,
        });
        let card = self.change(|card| card.configure(pin_pad, visibility))?;
        if let Some(visibility) = visibility {
            card.set_visibility(visibility);
            self.host.wake_keeper();
        }
        self.log("card configured");
        Ok(Reply::Done)
    }

    /// Gives a card another name.
    pub(crate) fn rename_card(&self, name: &str) -> Result<Reply, Failure> {
        check_name(name)?;
        let card = self.change(|card| card.rename(name))?;
        card.set_name(name);
        self.host.cards_changed();
        self.log("card renamed");
        Ok(Reply::Done)
    }

    fn change(
        &self,
        work: impl FnOnce(&mut Card) -> Result<(), CardError>,
    ) -> Result<Arc<HostedCard>, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(crate::session::unusable(&card));
        };
        let done = work(live);
        drop(body);
        done.map_err(|error| self.explained(&card, &error))?;
        let audit = &self.host.audit;
        audit.event(Some(&card), self.actor, self.door, Kind::CardConfigured);
        Ok(card)
    }
}
