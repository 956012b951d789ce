//! Requests about all cards: lists, creation, the audit.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_client::message::{
    AuditHead, CardDetails, CardOverview, CardsRequest, CreateCard, Cursor, Failure, FailureKind,
    Page, Reply,
};
use cardea_terms::Step;

use super::{Counter, Visitor};
use crate::failure::fail;
use crate::host::audit::{Head, Kind};
use crate::host::describe;
use crate::host::hosted::HostedCard;
use crate::host::permission::Caller;
use crate::lifecycle::create;

/// The longest that one request may keep its thread after the client went away.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Most bytes of records in one answer.
const MOST_AUDIT: usize = 96 * 1024;

/// How long a card's state may differ before those who wait for a change are notified. Insertions and removals are
/// reported at once.
const STATE_INTERVAL: Duration = Duration::from_millis(500);

impl Counter {
    pub(super) fn about_cards(
        &self,
        visitor: &Visitor,
        request: CardsRequest,
        folder: Option<OwnedFd>,
        step: &mut dyn FnMut(Step),
    ) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            CardsRequest::Create(order) => {
                let (_, details) = self.create(visitor, *order, false, folder, step)?;
                Ok(Reply::Card(Box::new(details)))
            }
            CardsRequest::CreateAttested(order) => {
                let (_, details) = self.create(visitor, *order, true, folder, step)?;
                Ok(Reply::Card(Box::new(details)))
            }
            CardsRequest::Defaults => Ok(Reply::Defaults {
                admin_key: host.admin_key.clone(),
            }),
            CardsRequest::List { from } => {
                let mut cards = host.cards();
                cards.retain(|card| visitor.caller.may_see(card.owner));
                // This host's own come first, and they alone make the generation: whatever users bring and take away
                // meanwhile, an administrator's list is read to its end.
                cards.sort_by_key(|card| card.is_guest());
                let mut hasher = DefaultHasher::new();
                for card in cards.iter().filter(|card| !card.is_guest()) {
                    (card.selector(), card.name()).hash(&mut hasher);
                }
                Ok(Reply::Cards(Page::cut(hasher.finish(), from, |first| {
                    describe::summaries(host, cards.get(first..).unwrap_or_default())
                })))
            }
            CardsRequest::ReadAudit { offset, most } => self.read_audit(offset, most),
            CardsRequest::States { from } => {
                Ok(Reply::Overview(self.card_states(visitor.caller, from)))
            }
            CardsRequest::WaitStates {
                generation,
                timeout_ms,
            } => Ok(self.wait_card_states(
                visitor.caller,
                generation,
                Duration::from_millis(timeout_ms.into()),
            )),
        }
    }

    /// Makes a card, with a record of it.
    pub(super) fn create(
        &self,
        visitor: &Visitor,
        order: CreateCard,
        attests: bool,
        folder: Option<OwnedFd>,
        step: &mut dyn FnMut(Step),
    ) -> Result<(Arc<HostedCard>, CardDetails), Failure> {
        let made = create::create(&self.host, visitor.caller, order, attests, folder, step)?;
        self.note(visitor, Some(&made.0), Kind::CardCreated);
        Ok(made)
    }

    fn read_audit(&self, offset: u64, most: u32) -> Result<Reply, Failure> {
        let audit = &self.host.audit;
        let most = usize::try_from(most).unwrap_or(MOST_AUDIT).min(MOST_AUDIT);
        let (records, next) = audit.read(offset, most).map_err(|error| {
            let text = format!("the audit log cannot be read: {error}");
            fail(FailureKind::Failed, text)
        })?;
        let told = |head: Head| AuditHead {
            sequence: head.sequence,
            hash: head.hash.to_vec(),
        };
        Ok(Reply::Audit {
            records,
            next,
            head: told(audit.head()),
            stored: audit.stored_head().map(told),
        })
    }

    /// The caller's cards and those that the caller may use, and a number that differs when they do.
    fn card_states(&self, caller: Caller, from: Option<Cursor>) -> Page<CardOverview> {
        let mut cards = self.host.cards();
        // A card whose drive is away has a slot without a token.
        cards.retain(|card| card.is_here() || card.known().is_some());
        cards.retain(|card| {
            let own = card.owner == Some(caller.uid());
            // What users have brought along that nobody can use is not an administrator's to choose from.
            own || caller.may_see(card.owner) && card.serves(caller.uid()) && card.may_be_used()
        });
        let homes = cards.iter().filter(|card| !card.is_guest());
        let is_home = |id| homes.clone().any(|home| home.id == id);
        let cards = cards
            .iter()
            .filter(|card| !card.is_guest() || !is_home(card.id));
        let cards: Vec<_> = cards.map(|card| describe::overview(card)).collect();
        let mut hasher = DefaultHasher::new();
        for card in &cards {
            (
                &card.card_id,
                &card.name,
                card.state as u8,
                card.uninitialised,
            )
                .hash(&mut hasher);
        }
        Page::cut(hasher.finish() | 1, from, |first| {
            cards.into_iter().skip(first)
        })
    }

    fn wait_card_states(&self, caller: Caller, known: u64, limit: Duration) -> Reply {
        let deadline = Instant::now() + limit.min(LONGEST_WAIT);
        loop {
            let states = self.card_states(caller, None);
            let left = deadline.saturating_duration_since(Instant::now());
            if states.generation != known || left.is_zero() {
                return Reply::Overview(states);
            }
            self.host.await_cards(left.min(STATE_INTERVAL));
        }
    }
}
