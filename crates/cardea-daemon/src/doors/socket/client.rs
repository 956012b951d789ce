//! One client from its greeting to its end: permission, then the work of each message.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_card::Event;
use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{
    AuditHead, Failure, FailureKind, PowerAction, Reply, Request, SecretBytes,
};
use zeroize::Zeroizing;

use crate::doors::redirect;
use crate::failure::{fail, of_tpm};
use crate::holder::{CardVisit, pin_pad};
use crate::host::audit::{Actor, Door, Head, Kind};
use crate::host::hosted::HostedCard;
use crate::host::logins::LoginGroup;
use crate::host::permission::{Audience, Caller, audience};
use crate::host::prompt::ConsentRequest;
use crate::host::redirected::{Carrier, RedirectedClient, only_there};
use crate::host::slot_connection::{CardConnection, SlotConnection, Way, empty_slot};
use crate::host::slots::SlotStates;
use crate::host::{Host, describe};
use crate::lifecycle::drive::{self, Held};
use crate::lifecycle::{create, destroy, tpm_admin};
use crate::names::is_name;

/// The longest that one `WaitSlotStates` may keep its thread after the client went away.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Most bytes of records in one answer.
const MOST_AUDIT: usize = 96 * 1024;

/// How long a card's state may differ before those who wait for a change are told. Coming and going is told
/// at once.
const STATE_INTERVAL: Duration = Duration::from_millis(500);

/// What one connection may do and has done.
#[derive(Debug)]
pub(crate) struct SocketClient {
    host: Arc<Host>,
    caller: Caller,
    actor: Actor,
    /// By `Power`: to the card of a slot.
    slot: Option<SlotConnection>,
    /// By `PowerCard`: to a card of the caller's.
    own: Option<CardConnection>,
    logins: Arc<LoginGroup>,
    /// The client's end, for noticing that it has gone.
    stream: Arc<UnixStream>,
    drive: Option<Held>,
}

impl SocketClient {
    pub(crate) fn new(
        host: Arc<Host>,
        caller: Caller,
        actor: Actor,
        stream: Arc<UnixStream>,
    ) -> Self {
        Self {
            host,
            caller,
            actor,
            stream,
            drive: None,
            slot: None,
            own: None,
            logins: LoginGroup::new(caller.uid),
        }
    }

    /// Answers one message, which may have come with an open folder; long work tells its steps to `progress`.
    pub(crate) fn answer(
        &mut self,
        request: Request,
        folder: Option<OwnedFd>,
        progress: &mut dyn FnMut(&str),
    ) -> Reply {
        let audience = audience(&request);
        if !self.caller.may_send(audience) {
            tracing::info!(uid = self.caller.uid, ?audience, "denied");
            self.note(None, Kind::Denied);
            return Reply::Failed(denied(audience));
        }
        let named = request.card().map(str::to_owned);
        let reply = self.work(request, folder, progress);
        if let Err(failure) = &reply {
            let audit = &self.host.audit;
            audit.trouble(&self.actor, Door::Socket, failure.kind);
        }
        if let (Err(failure), Some(named)) = (&reply, named)
            && failure.kind == FailureKind::Denied
            && let Some(hidden) = self.host.hidden(&named, self.caller)
        {
            self.note(Some(&hidden), Kind::Denied);
        }
        reply.unwrap_or_else(Reply::Failed)
    }

    /// The connection brings cards of another machine along, until its end.
    pub(crate) fn redirect(
        &self,
        client: &mut ServerEnd<Arc<UnixStream>>,
        from: String,
        reader: bool,
    ) -> Result<(), FrameError> {
        redirect::carry(&self.host, client, self.caller, &self.actor, (from, reader))
    }

    /// The redirected card that a request is about. What its list says of it is here.
    fn elsewhere(&self, request: &Request) -> Option<(Arc<HostedCard>, Arc<Carrier>)> {
        if !self.host.redirections.any() || matches!(request, Request::ShowCard { .. }) {
            return None;
        }
        let card = self.host.find(request.card()?, self.caller).ok()?;
        let carrier = Arc::clone(card.carrier()?);
        Some((card, carrier))
    }

    fn work(
        &mut self,
        request: Request,
        folder: Option<OwnedFd>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reply, Failure> {
        if let Some((card, carrier)) = self.elsewhere(&request) {
            let client = || self.logins.elsewhere(&carrier);
            return elsewhere(&card, &carrier, self.caller, client, request);
        }
        let host = &self.host;
        match request {
            Request::OnBehalf { whom } => {
                if !is_name(&whom) {
                    return Err(fail(FailureKind::Invalid, "not a name that could be shown"));
                }
                self.actor.on_behalf_of = whom;
                Ok(Reply::Done)
            }
            Request::AskConsent { card, action } => {
                let card = host.find(&card, self.caller)?;
                host.consent(&ConsentRequest {
                    card: &card,
                    user: self.caller.uid,
                    actor: &self.actor,
                    door: Door::Socket,
                    action: &action,
                })?;
                Ok(Reply::Done)
            }
            Request::PowerCard { card, action } => {
                let card = host.find(&card, self.caller)?;
                self.power_own(card, action)
            }
            Request::TransmitCard { card, apdu } => {
                let card = host.find(&card, self.caller)?;
                self.with_own(&card, |_, binding| {
                    binding.transmit(apdu.expose()).ok_or_else(empty_slot)
                })
            }
            Request::EnterPin { card, seconds } => {
                let card = host.find(&card, self.caller)?;
                let limit = Duration::from_secs(seconds.into());
                self.with_own(&card, |session, binding| {
                    let asked = (session.caller.uid, &session.actor);
                    pin_pad::enter_at(&session.host, binding, asked, limit)
                })
            }
            Request::Redirect { .. } | Request::Offer { .. } | Request::Answered { .. } => {
                Err(fail(FailureKind::Protocol, "there is no redirection here"))
            }
            Request::CardStates => Ok(self.card_states()),
            Request::WaitCardStates {
                generation,
                timeout_ms,
            } => Ok(self.wait_card_states(generation, Duration::from_millis(timeout_ms.into()))),
            Request::CardStatus { card } => self.visit(&card)?.status(),
            Request::CardContents { card, known } => self.visit(&card)?.contents(known),
            Request::ReadObject { card, number } => self.visit(&card)?.read_object(number),
            Request::StoreObject { card, pin, object } => {
                self.visit(&card)?.store_object(pin.as_ref(), &object)
            }
            Request::Rename {
                card,
                pin,
                thing,
                label,
                id,
            } => self
                .visit(&card)?
                .rename(pin.as_ref(), thing, label.as_deref(), id.as_deref()),
            Request::DeleteObject { card, pin, number } => {
                self.visit(&card)?.delete_object(pin.as_ref(), number)
            }
            Request::VerifyAdminKey { card, key } => self.visit(&card)?.verify_admin_key(&key),
            Request::ShareLogins => {
                let ticket = host.login_groups.ticket(&self.logins)?;
                Ok(Reply::Result(ticket))
            }
            Request::JoinLogins { ticket } => {
                self.logins = host.login_groups.find(&ticket, self.caller.uid)?;
                Ok(Reply::Done)
            }
            Request::Random => {
                let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
                let bytes = chip.random().map_err(|error| of_tpm(&error))?;
                Ok(Reply::Result(SecretBytes::new(bytes.to_vec())))
            }
            Request::ListCards => {
                let mut cards = host.cards();
                cards.retain(|card| self.caller.may_see(card.owner));
                Ok(Reply::Cards(describe::summaries(host, &cards)))
            }
            Request::ShowCard { card } => {
                let card = host.find(&card, self.caller)?;
                Ok(Reply::Card(Box::new(describe::details(host, &card))))
            }
            Request::CreateCard(order) => {
                let details = create::create(host, self.caller, order, folder, progress)?;
                if let Ok(card) = host.find(&details.summary.card_id, self.caller) {
                    self.note(Some(&card), Kind::CardCreated);
                }
                Ok(Reply::Card(Box::new(details)))
            }
            Request::DestroyCard { card, owner_auth } => {
                let named = host.find(&card, self.caller)?;
                destroy::destroy(host, self.caller, &card, owner_auth.as_ref(), progress)?;
                self.note(Some(&named), Kind::CardDestroyed);
                Ok(Reply::Done)
            }
            Request::Login { card, pin } => self.visit(&card)?.login(&pin),
            Request::Logout { card } => self.visit(&card)?.logout(),
            Request::LoginByAgent { card } => self.visit(&card)?.login_by_agent(),
            Request::ChangePinByAgent { card, reference } => {
                self.visit(&card)?.change_pin_by_agent(reference)
            }
            Request::ConfigureCard {
                card,
                pin_pad,
                visibility,
            } => self.visit(&card)?.configure(pin_pad, visibility),
            Request::SetHierarchyAuth {
                hierarchy,
                old,
                new,
            } => {
                let reply = tpm_admin::set_hierarchy_auth(host, hierarchy, &old, &new)?;
                self.note(None, Kind::AuthorisationChanged);
                Ok(reply)
            }
            Request::ResetLockout { auth } => {
                let reply = tpm_admin::reset_lockout(host, &auth)?;
                self.note(None, Kind::LockoutReset);
                Ok(reply)
            }
            Request::ReadAudit { offset, most } => self.read_audit(offset, most),
            Request::SetLockoutParameters {
                auth,
                max_tries,
                recovery,
                lockout_recovery,
            } => {
                let parameters = (max_tries, recovery, lockout_recovery);
                let reply = tpm_admin::set_lockout_parameters(host, &auth, parameters)?;
                self.note(None, Kind::LockoutParametersChanged);
                Ok(reply)
            }
            Request::ListIndices => Ok(Reply::Indices(tpm_admin::indices(host)?)),
            Request::RemoveIndex { handle, owner_auth } => {
                tpm_admin::remove_index(host, handle, owner_auth.as_ref())
            }
            Request::ChangePin {
                card,
                old,
                new,
                reference,
            } => self.visit(&card)?.change_pin(reference, &old, &new),
            Request::VerifyPin {
                card,
                value,
                reference,
            } => self.visit(&card)?.verify_pin(reference, &value),
            Request::UnblockPin { card, by, new } => self.visit(&card)?.unblock(&by, &new),
            Request::AdminChallenge { card } => self.visit(&card)?.admin_challenge(),
            Request::VerifyAdmin { card, answer } => self.visit(&card)?.verify_admin(&answer),
            Request::ChangeAdminKey { card, answer, new } => {
                self.visit(&card)?.change_admin_key(&answer, &new)
            }
            Request::GenerateKey {
                card,
                pin,
                key,
                algorithm,
            } => self
                .visit(&card)?
                .generate_key(pin.as_ref(), &key, &algorithm),
            Request::ImportKey {
                card,
                pin,
                key,
                material,
            } => self.visit(&card)?.import_key(pin.as_ref(), &key, &material),
            Request::DeleteKey {
                card,
                pin,
                reference,
            } => self.visit(&card)?.delete_key(pin.as_ref(), reference),
            Request::UseKey {
                card,
                pin,
                reference,
                operation,
            } => self
                .visit(&card)?
                .use_key(pin.as_ref(), reference, &operation),
            Request::ReadCertificate { card, reference } => {
                self.visit(&card)?.read_certificate(reference)
            }
            Request::StoreCertificate {
                card,
                pin,
                reference,
                der,
                label,
            } => self.visit(&card)?.store_certificate(
                pin.as_ref(),
                reference,
                &der,
                label.as_deref(),
            ),
            Request::DeleteCertificate {
                card,
                pin,
                reference,
            } => self
                .visit(&card)?
                .delete_certificate(pin.as_ref(), reference),
            Request::TpmStatus => {
                let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
                let status = chip.status().map_err(|error| of_tpm(&error))?;
                let address = chip.address().to_string();
                let status = describe::tpm_status(host, address, status);
                Ok(Reply::Tpm(Box::new(status)))
            }
            Request::TryRoom => tpm_admin::try_room(host),
            Request::CreationDefaults => Ok(Reply::Defaults {
                admin_key: host.admin_key.clone(),
            }),
            Request::ReaderInfo => Ok(Reply::Reader {
                slots: host.slots.count(),
            }),
            Request::SlotStates => Ok(slots(host.slots.states())),
            Request::WaitSlotStates {
                generation,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
                Ok(slots(host.slots.wait(generation, limit)))
            }
            Request::AttachDrive { place } => {
                if self.drive.is_some() {
                    let text = "one drive for each connection";
                    return Err(fail(FailureKind::Invalid, text));
                }
                let folder = folder.ok_or_else(drive::no_folder)?;
                let (reply, held) = drive::attach(host, self.caller, &self.actor, &place, folder)?;
                self.drive = Some(held);
                Ok(reply)
            }
            Request::HoldDrive { timeout_ms } => match &self.drive {
                Some(held) => {
                    let limit = Duration::from_millis(timeout_ms.into());
                    Ok(held.hold(folder, Some(&self.stream), limit))
                }
                None => Err(fail(
                    FailureKind::NotFound,
                    "this connection holds no drive",
                )),
            },
            Request::DetachDrive { card } => drive::detach(host, self.caller, &card),
            Request::AdoptCard { card, owner } => {
                let details = drive::adopt(host, self.caller, &self.actor, &card, owner)?;
                Ok(Reply::Card(Box::new(details)))
            }
            Request::Power { slot, action } => self.power(slot, action),
            Request::Transmit { slot, apdu } => self.transmit(slot, &apdu),
            Request::Control { slot, code, data } => self.control(slot, code, &data),
        }
    }

    fn note(&self, card: Option<&HostedCard>, kind: Kind) {
        let audit = &self.host.audit;
        audit.event(card, &self.actor, Door::Socket, kind);
    }

    fn read_audit(&self, offset: u64, most: u32) -> Result<Reply, Failure> {
        let audit = &self.host.audit;
        let most = usize::try_from(most).unwrap_or(MOST_AUDIT).min(MOST_AUDIT);
        let (records, next) = audit.read(offset, most).map_err(|error| {
            let text = format!("the audit cannot be read: {error}");
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

    /// The caller's cards, and a number that differs when they do.
    fn card_states(&self) -> Reply {
        let cards = self.host.present_cards();
        let cards = cards
            .iter()
            .filter(|card| self.caller.may_see(card.owner) && card.serves(self.caller.uid));
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
        Reply::Overview {
            generation: hasher.finish() | 1,
            cards,
        }
    }

    fn wait_card_states(&self, known: u64, limit: Duration) -> Reply {
        let deadline = Instant::now() + limit.min(LONGEST_WAIT);
        loop {
            let states = self.card_states();
            let left = deadline.saturating_duration_since(Instant::now());
            match &states {
                Reply::Overview { generation, .. } if *generation == known && !left.is_zero() => {}
                _ => return states,
            }
            self.host.await_cards(left.min(STATE_INTERVAL));
        }
    }

    /// By the engine, so that there is one PIN truth for all doors.
    fn visit(&self, selector: &str) -> Result<CardVisit<'_>, Failure> {
        Ok(CardVisit {
            host: &self.host,
            caller: self.caller,
            actor: &self.actor,
            door: Door::Socket,
            card: self.host.find(selector, self.caller)?,
            logins: &self.logins,
            gone: None,
        })
    }

    fn power(&mut self, slot: u8, action: PowerAction) -> Result<Reply, Failure> {
        let (insertion, card) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        let connected = self.slot.as_ref();
        if !connected.is_some_and(|connection| connection.is(slot, insertion)) {
            // The old one first: what it had verified must end before anything new begins.
            self.slot = None;
            self.slot = Some(SlotConnection::new(slot, insertion, card)?);
        }
        let connection = self.slot.as_mut().ok_or_else(empty_slot)?;
        let atr = match &mut connection.way {
            Way::Here(connection) => connection.reset().ok_or_else(empty_slot)?,
            Way::Redirected(connection) => return connection.power(action),
        };
        tracing::trace!(slot, ?action, "power");
        match action {
            PowerAction::Down => Ok(Reply::Done),
            PowerAction::Reset | PowerAction::Up => Ok(Reply::Atr(atr.to_vec())),
        }
    }

    /// A control code of the reader.
    fn control(&mut self, slot: u8, code: u32, data: &[u8]) -> Result<Reply, Failure> {
        let (_, card) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        if code == pin_pad::GET_FEATURES {
            let features = pin_pad::features(&card);
            return Ok(Reply::Response(SecretBytes::new(features)));
        }
        let connection = match powered(&mut self.slot, &self.host, slot)? {
            Way::Here(connection) => connection,
            Way::Redirected(connection) => {
                return match pin_pad::time_for_pin(code, data) {
                    Some(limit) => connection.enter_pin(limit),
                    None => Err(fail(
                        FailureKind::Invalid,
                        "a redirected card takes its PIN at its own machine, and is changed there",
                    )),
                };
            }
        };
        let (response, events) = pin_pad::enter(&self.host, connection, &self.actor, code, data)?;
        let audit = &self.host.audit;
        audit.card(connection.card(), &self.actor, Door::Reader, &events);
        self.host.look_into(connection.card(), &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }

    /// Power for a card of the caller's own.
    fn power_own(&mut self, card: Arc<HostedCard>, action: PowerAction) -> Result<Reply, Failure> {
        if !self.own.as_ref().is_some_and(|own| own.is_to(&card)) {
            self.own = None;
            self.own = CardConnection::new(Arc::clone(&card));
        }
        let atr = self.own.as_mut().and_then(CardConnection::reset);
        let atr = atr.ok_or_else(|| card.unusable())?;
        match action {
            PowerAction::Down => {
                self.own = None;
                Ok(Reply::Done)
            }
            PowerAction::Reset | PowerAction::Up => Ok(Reply::Atr(atr.to_vec())),
        }
    }

    /// A command to a card of the caller's own that has power.
    fn with_own(
        &mut self,
        card: &Arc<HostedCard>,
        work: impl FnOnce(
            &Self,
            &mut CardConnection,
        ) -> Result<(Zeroizing<Vec<u8>>, Vec<Event>), Failure>,
    ) -> Result<Reply, Failure> {
        let own = self.own.take().filter(|own| own.is_to(card));
        let mut own = own.ok_or_else(|| {
            fail(
                FailureKind::NotFound,
                "the card is not powered on this connection",
            )
        })?;
        let answer = work(self, &mut own);
        self.own = Some(own);
        let (response, events) = answer?;
        let audit = &self.host.audit;
        audit.card(card, &self.actor, Door::Socket, &events);
        self.host.look_into(card, &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }

    fn transmit(&mut self, slot: u8, apdu: &SecretBytes) -> Result<Reply, Failure> {
        let connection = match powered(&mut self.slot, &self.host, slot)? {
            Way::Here(connection) => connection,
            Way::Redirected(connection) => return connection.transmit(apdu),
        };
        let (response, events) = connection.transmit(apdu.expose()).ok_or_else(empty_slot)?;
        let audit = &self.host.audit;
        audit.card(connection.card(), &self.actor, Door::Reader, &events);
        self.host.look_into(connection.card(), &response);
        trace(slot, apdu.expose(), &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }
}

/// The card in a slot, as the connection has powered it.
fn powered<'a>(
    connection: &'a mut Option<SlotConnection>,
    host: &Host,
    slot: u8,
) -> Result<&'a mut Way, Failure> {
    let (insertion, _) = host.slots.card(slot).ok_or_else(empty_slot)?;
    connection
        .as_mut()
        .filter(|connection| connection.is(slot, insertion))
        .map(|connection| &mut connection.way)
        .ok_or_else(|| {
            fail(
                FailureKind::NotFound,
                "the card in this slot is not powered",
            )
        })
}

/// Never more than the header's public part, lengths and the status word: data may be a PIN.
fn trace(slot: u8, apdu: &[u8], response: &[u8]) {
    let header = apdu.get(1..4).unwrap_or_default();
    let status = response
        .split_last_chunk::<2>()
        .map(|(_, status)| u16::from_be_bytes(*status));
    tracing::trace!(
        slot,
        ins_p1_p2 = format_args!("{header:02X?}"),
        command_length = apdu.len(),
        response_length = response.len(),
        sw = format_args!("{:04X}", status.unwrap_or_default()),
        "APDU"
    );
}

fn slots(states: SlotStates) -> Reply {
    Reply::Slots {
        generation: states.generation,
        inserted: states.inserted,
    }
}

/// What a user's program asks of a redirected card, over its own way there.
fn elsewhere(
    card: &HostedCard,
    carrier: &Carrier,
    caller: Caller,
    client: impl FnOnce() -> Result<Arc<RedirectedClient>, Failure>,
    request: Request,
) -> Result<Reply, Failure> {
    if card.owner != Some(caller.uid) {
        return Err(fail(
            FailureKind::Denied,
            "this card is redirected from another machine, for its user alone",
        ));
    }
    let card = card.selector();
    let request = match request {
        Request::CardContents { known, .. } => Request::CardContents { card, known },
        Request::CardStatus { .. } => Request::CardStatus { card },
        Request::LoginByAgent { .. } => Request::LoginByAgent { card },
        Request::Logout { .. } => Request::Logout { card },
        Request::ReadCertificate { reference, .. } => Request::ReadCertificate { card, reference },
        Request::ReadObject { number, .. } => Request::ReadObject { card, number },
        Request::UseKey {
            pin: None,
            reference,
            operation,
            ..
        } => Request::UseKey {
            card,
            pin: None,
            reference,
            operation,
        },
        Request::Login { .. } | Request::UseKey { .. } | Request::VerifyPin { .. } => {
            return Err(fail(
                FailureKind::Denied,
                format!(
                    "the PIN of this card is typed at {}, where it is, and never here",
                    carrier.from
                ),
            ));
        }
        _ => return Err(only_there(carrier)),
    };
    match client()?.ask(&request)? {
        // Whoever logs in leaves the question for the PIN to the other machine.
        Reply::Status(mut status) => {
            status.pin_pad = true;
            Ok(Reply::Status(status))
        }
        reply => Ok(reply),
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
