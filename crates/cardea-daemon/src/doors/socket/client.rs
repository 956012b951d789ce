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
    AuditHead, CardRequest, CardsRequest, ConnectionRequest, DriveRequest, Failure, FailureKind,
    PowerAction, ReaderRequest, Reply, Request, SecretBytes, SlotRequest, TpmRequest,
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

/// The longest that one `ReaderRequest::WaitStates` may keep its thread after the client went away.
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
    /// By `SlotRequest::Power`: to the card of a slot.
    slot: Option<SlotConnection>,
    /// By `CardRequest::Power`: to a card of the caller's.
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
        let named = request.named_card().cloned();
        let reply = self.work(request, folder, progress);
        if let Err(failure) = &reply {
            let audit = &self.host.audit;
            audit.trouble(&self.actor, Door::Socket, failure.kind);
        }
        if let (Err(failure), Some(named)) = (&reply, named)
            && failure.kind == FailureKind::Denied
            && let Some(hidden) = self.host.hidden(named.as_str(), self.caller)
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
        let shows = |request: &CardRequest| matches!(request, CardRequest::Show);
        let card = match request {
            Request::Card { card, request } if self.host.redirections.any() && !shows(request) => {
                card.as_str()
            }
            _ => return None,
        };
        let card = self.host.find(card, self.caller).ok()?;
        let carrier = Arc::clone(card.carrier()?);
        Some((card, carrier))
    }

    fn work(
        &mut self,
        request: Request,
        folder: Option<OwnedFd>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reply, Failure> {
        if let Some((card, carrier)) = self.elsewhere(&request)
            && let Request::Card { request, .. } = request
        {
            let client = || self.logins.elsewhere(&carrier);
            return elsewhere(&card, &carrier, self.caller, client, request);
        }
        match request {
            Request::Card { card, request } => self.about_card(card.as_str(), request, progress),
            Request::Cards(request) => self.about_cards(request, folder, progress),
            Request::Connection(request) => self.about_connection(request),
            Request::Drive(request) => self.about_drive(request, folder),
            Request::Reader(request) => Ok(self.about_reader(request)),
            Request::Redirection(_) => {
                Err(fail(FailureKind::Protocol, "there is no redirection here"))
            }
            Request::Slot { slot, request } => match request {
                SlotRequest::Power { action } => self.power(slot, action),
                SlotRequest::Transmit { apdu } => self.transmit(slot, &apdu),
                SlotRequest::Control { code, data } => self.control(slot, code, &data),
            },
            Request::Tpm(request) => self.about_tpm(request),
        }
    }

    fn about_card(
        &mut self,
        name: &str,
        request: CardRequest,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reply, Failure> {
        let visit = || self.visit(name);
        match request {
            CardRequest::AdminChallenge => visit()?.admin_challenge(),
            CardRequest::Adopt { owner } => {
                let details = drive::adopt(&self.host, self.caller, &self.actor, name, owner)?;
                Ok(Reply::Card(Box::new(details)))
            }
            CardRequest::AskConsent { action } => self.ask_consent(name, &action),
            CardRequest::ChangeAdminKey { answer, new } => visit()?.change_admin_key(&answer, &new),
            CardRequest::ChangePin {
                old,
                new,
                reference,
            } => visit()?.change_pin(reference, &old, &new),
            CardRequest::ChangePinByAgent { reference } => visit()?.change_pin_by_agent(reference),
            CardRequest::Configure {
                pin_pad,
                visibility,
            } => visit()?.configure(pin_pad, visibility),
            CardRequest::Contents { known } => visit()?.contents(known),
            CardRequest::DeleteCertificate { pin, reference } => {
                visit()?.delete_certificate(pin.as_ref(), reference)
            }
            CardRequest::DeleteKey { pin, reference } => {
                visit()?.delete_key(pin.as_ref(), reference)
            }
            CardRequest::DeleteObject { pin, number } => {
                visit()?.delete_object(pin.as_ref(), number)
            }
            CardRequest::Destroy { owner_auth } => {
                let card = self.host.find(name, self.caller)?;
                destroy::destroy(&self.host, self.caller, name, owner_auth.as_ref(), progress)?;
                self.note(Some(&card), Kind::CardDestroyed);
                Ok(Reply::Done)
            }
            CardRequest::DetachDrive => drive::detach(&self.host, self.caller, name),
            CardRequest::EnterPin { seconds } => self.enter_pin(name, seconds),
            CardRequest::GenerateKey {
                pin,
                key,
                algorithm,
            } => visit()?.generate_key(pin.as_ref(), &key, &algorithm),
            CardRequest::ImportKey { pin, key, material } => {
                visit()?.import_key(pin.as_ref(), &key, &material)
            }
            CardRequest::Login { pin } => visit()?.login(&pin),
            CardRequest::LoginByAgent => visit()?.login_by_agent(),
            CardRequest::Logout => visit()?.logout(),
            CardRequest::Power { action } => self.power_own(name, action),
            CardRequest::ReadCertificate { reference } => visit()?.read_certificate(reference),
            CardRequest::ReadObject { number } => visit()?.read_object(number),
            CardRequest::Rename {
                pin,
                thing,
                label,
                id,
            } => visit()?.rename(pin.as_ref(), thing, label.as_deref(), id.as_deref()),
            CardRequest::Show => {
                let card = self.host.find(name, self.caller)?;
                Ok(Reply::Card(Box::new(describe::details(&self.host, &card))))
            }
            CardRequest::Status => visit()?.status(),
            CardRequest::StoreCertificate {
                pin,
                reference,
                der,
                label,
            } => visit()?.store_certificate(pin.as_ref(), reference, &der, label.as_deref()),
            CardRequest::StoreObject { pin, object } => {
                visit()?.store_object(pin.as_ref(), &object)
            }
            CardRequest::Transmit { apdu } => self.transmit_own(name, &apdu),
            CardRequest::UnblockPin { by, new } => visit()?.unblock(&by, &new),
            CardRequest::UseKey {
                pin,
                reference,
                operation,
            } => visit()?.use_key(pin.as_ref(), reference, &operation),
            CardRequest::VerifyAdmin { answer } => visit()?.verify_admin(&answer),
            CardRequest::VerifyAdminKey { key } => visit()?.verify_admin_key(&key),
            CardRequest::VerifyPin { value, reference } => visit()?.verify_pin(reference, &value),
        }
    }

    fn ask_consent(&self, name: &str, action: &str) -> Result<Reply, Failure> {
        let card = self.host.find(name, self.caller)?;
        self.host.consent(&ConsentRequest {
            card: &card,
            user: self.caller.uid,
            actor: &self.actor,
            door: Door::Socket,
            action,
        })?;
        Ok(Reply::Done)
    }

    fn about_cards(
        &self,
        request: CardsRequest,
        folder: Option<OwnedFd>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            CardsRequest::Create(order) => {
                let details = create::create(host, self.caller, *order, folder, progress)?;
                if let Ok(card) = host.find(&details.summary.card_id, self.caller) {
                    self.note(Some(&card), Kind::CardCreated);
                }
                Ok(Reply::Card(Box::new(details)))
            }
            CardsRequest::Defaults => Ok(Reply::Defaults {
                admin_key: host.admin_key.clone(),
            }),
            CardsRequest::List => {
                let mut cards = host.cards();
                cards.retain(|card| self.caller.may_see(card.owner));
                Ok(Reply::Cards(describe::summaries(host, &cards)))
            }
            CardsRequest::ReadAudit { offset, most } => self.read_audit(offset, most),
            CardsRequest::States => Ok(self.card_states()),
            CardsRequest::WaitStates {
                generation,
                timeout_ms,
            } => Ok(self.wait_card_states(generation, Duration::from_millis(timeout_ms.into()))),
        }
    }

    fn about_connection(&mut self, request: ConnectionRequest) -> Result<Reply, Failure> {
        let login_groups = &self.host.login_groups;
        match request {
            ConnectionRequest::JoinLogins { ticket } => {
                self.logins = login_groups.find(&ticket, self.caller.uid)?;
                Ok(Reply::Done)
            }
            ConnectionRequest::OnBehalf { whom } => {
                if !is_name(&whom) {
                    return Err(fail(FailureKind::Invalid, "not a name that could be shown"));
                }
                self.actor.on_behalf_of = whom;
                Ok(Reply::Done)
            }
            ConnectionRequest::ShareLogins => {
                let ticket = login_groups.ticket(&self.logins)?;
                Ok(Reply::Result(ticket))
            }
        }
    }

    fn about_drive(
        &mut self,
        request: DriveRequest,
        folder: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            DriveRequest::Attach { place } => {
                if self.drive.is_some() {
                    let text = "one drive for each connection";
                    return Err(fail(FailureKind::Invalid, text));
                }
                let folder = folder.ok_or_else(drive::no_folder)?;
                let (reply, held) = drive::attach(host, self.caller, &self.actor, &place, folder)?;
                self.drive = Some(held);
                Ok(reply)
            }
            DriveRequest::Hold { timeout_ms } => match &self.drive {
                Some(held) => {
                    let limit = Duration::from_millis(timeout_ms.into());
                    Ok(held.hold(folder, Some(&self.stream), limit))
                }
                None => Err(fail(
                    FailureKind::NotFound,
                    "this connection holds no drive",
                )),
            },
        }
    }

    fn about_reader(&self, request: ReaderRequest) -> Reply {
        let slots = &self.host.slots;
        match request {
            ReaderRequest::Info => Reply::Reader {
                slots: slots.count(),
            },
            ReaderRequest::States => slot_states(slots.states()),
            ReaderRequest::WaitStates {
                generation,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
                slot_states(slots.wait(generation, limit))
            }
        }
    }

    fn about_tpm(&self, request: TpmRequest) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            TpmRequest::ListIndices => Ok(Reply::Indices(tpm_admin::indices(host)?)),
            TpmRequest::Random => {
                let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
                let bytes = chip.random().map_err(|error| of_tpm(&error))?;
                Ok(Reply::Result(SecretBytes::new(bytes.to_vec())))
            }
            TpmRequest::RemoveIndex { handle, owner_auth } => {
                tpm_admin::remove_index(host, handle, owner_auth.as_ref())
            }
            TpmRequest::ResetLockout { auth } => {
                let reply = tpm_admin::reset_lockout(host, &auth)?;
                self.note(None, Kind::LockoutReset);
                Ok(reply)
            }
            TpmRequest::SetHierarchyAuth {
                hierarchy,
                old,
                new,
            } => {
                let reply = tpm_admin::set_hierarchy_auth(host, hierarchy, &old, &new)?;
                self.note(None, Kind::AuthorisationChanged);
                Ok(reply)
            }
            TpmRequest::SetLockoutParameters {
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
            TpmRequest::Status => {
                let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
                let status = chip.status().map_err(|error| of_tpm(&error))?;
                let address = chip.address().to_string();
                let status = describe::tpm_status(host, address, status);
                Ok(Reply::Tpm(Box::new(status)))
            }
            TpmRequest::TryRoom => tpm_admin::try_room(host),
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
    fn power_own(&mut self, name: &str, action: PowerAction) -> Result<Reply, Failure> {
        let card = self.host.find(name, self.caller)?;
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

    /// An APDU to a card of the caller that has power.
    fn transmit_own(&mut self, name: &str, apdu: &SecretBytes) -> Result<Reply, Failure> {
        let card = self.host.find(name, self.caller)?;
        self.with_own(&card, |_, binding| {
            binding.transmit(apdu.expose()).ok_or_else(empty_slot)
        })
    }

    /// VERIFY with a PIN from the caller's agent, to a card of the caller that has power.
    fn enter_pin(&mut self, name: &str, seconds: u32) -> Result<Reply, Failure> {
        let card = self.host.find(name, self.caller)?;
        let limit = Duration::from_secs(seconds.into());
        self.with_own(&card, |session, binding| {
            let asked = (session.caller.uid, &session.actor);
            pin_pad::enter_at(&session.host, binding, asked, limit)
        })
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

fn slot_states(states: SlotStates) -> Reply {
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
    request: CardRequest,
) -> Result<Reply, Failure> {
    if card.owner != Some(caller.uid) {
        return Err(fail(
            FailureKind::Denied,
            "this card is redirected from another machine, for its user alone",
        ));
    }
    match request {
        CardRequest::Contents { .. }
        | CardRequest::LoginByAgent
        | CardRequest::Logout
        | CardRequest::ReadCertificate { .. }
        | CardRequest::ReadObject { .. }
        | CardRequest::Status
        | CardRequest::UseKey { pin: None, .. } => {}
        CardRequest::Login { .. } | CardRequest::UseKey { .. } | CardRequest::VerifyPin { .. } => {
            return Err(fail(
                FailureKind::Denied,
                format!(
                    "the PIN of this card is typed at {}, where it is, and never here",
                    carrier.from
                ),
            ));
        }
        _ => return Err(only_there(carrier)),
    }
    match client()?.ask(card.selector(), request)? {
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
