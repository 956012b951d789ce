//! The manager: cards are made, destroyed and found; agents register.

use std::sync::Arc;

use cardea_client::message::{
    self, CardDetails, CardRequest, CreateCard, NewContent, SecretBytes, TpmRequest,
};
use cardea_terms::CounterMode;
use cardea_terms::tpmvsc::Status;
use zbus::ObjectPath;

use super::error::{BusError, Name};
use super::guid::parse_guid;
use super::link::{Link, path};
use super::objects::{card_path, policy_bytes};
use super::operation::{Operation, Outcome, Report};
use super::options::Options;
use super::request::{Answer, Request, arguments, one, secret_of};
use crate::doors::bus::Bus;
use cardea_host::HostedCard;
use cardea_host::Visitor;
use cardea_host::check_name;
use cardea_host::reader_name;
use cardea_terms::tpmvsc::{DEFAULT_ADMIN_KEY, DEFAULT_PIN};

/// An admin key's length in bytes.
const ADMIN_KEY: usize = 24;

/// What is to be made, once the first PIN is known.
struct Order {
    name: String,
    pin: Option<SecretBytes>,
    puk: Option<SecretBytes>,
    admin_key: Option<SecretBytes>,
    policy: [u8; 32],
    generate: bool,
    card_id: Option<[u8; 16]>,
    owner: u32,
    owner_auth: Option<SecretBytes>,
    counter_mode: CounterMode,
    attests: bool,
}

pub(super) fn create_card(bus: &Arc<Bus>, request: &Request<'_>) -> Result<Answer, BusError> {
    let (name, owner, options) = new_card(request)?;
    let order = order(name, options, owner)?;
    let visitor = request.visitor();
    bus.begin(request, "create", move |bus, link, operation| {
        let made = make(bus, link, operation, &visitor, order);
        if let Err(error) = &made {
            report(link, operation, error, Report::CardCreate);
        }
        made
    })
}

/// Name and owner of the card that a call of CreateCard is about, for the question whether the caller may. What else
/// it brings is let go before that is asked, its descriptors unread.
pub(super) fn name_and_owner(request: &Request<'_>) -> Result<(String, u32), BusError> {
    new_card(request).map(|(name, owner, _)| (name, owner))
}

fn new_card(request: &Request<'_>) -> Result<(String, u32, Options), BusError> {
    let (name, mut options): (String, Options) = arguments(request.message)?;
    check_name(&name)?;
    let owner = options.take_number("owner")?;
    let owner = owner.unwrap_or(request.client.caller.uid());
    Ok((name, owner, options))
}

pub(super) fn destroy_card(bus: &Arc<Bus>, request: &Request<'_>) -> Result<Answer, BusError> {
    let (instance, mut options): (String, Options) = arguments(request.message)?;
    let owner_auth = take_secret(&mut options, "owner-auth-fd")?;
    options.nothing_left()?;
    let caller = request.client.caller;
    // Whoever may destroy a card of others sees it here.
    let granted = |card: &HostedCard| {
        let grant = request.grant.and_then(|grant| grant.card);
        grant.is_some() && grant == card.id
    };
    let card = by_instance(bus, &instance)
        .filter(|card| caller.may_see(card.owner) || granted(card))
        .ok_or_else(|| BusError::new(Name::NotFound, "there is no card with this instance id"))?;
    let mut visitor = request.visitor();
    bus.begin(request, "destroy", move |bus, link, operation| {
        operation.check()?;
        let outcome = Outcome {
            instance_id: card.instance_id(),
            card_id: card.selector(),
            ..Outcome::default()
        };
        let mut progress = |step| operation.step(link, Status::while_destroying(step));
        let destroy = CardRequest::Destroy { owner_auth };
        let counter = &bus.counter;
        if let Err(failure) = counter.serve_card(&mut visitor, &card, destroy, &mut progress) {
            operation.report(link, Report::CardDestroy);
            return Err(failure.into());
        }
        operation.step(link, Status::CardDestroyed);
        Ok(outcome)
    })
}

/// The card with this instance id, whoever's it is.
pub(super) fn by_instance(bus: &Bus, instance: &str) -> Option<Arc<HostedCard>> {
    let mut cards = bus.host().present_cards().into_iter();
    cards.find(|card| card.instance.is_some() && card.instance_id().eq_ignore_ascii_case(instance))
}

pub(super) fn get_card_by_card_id(
    bus: &Arc<Bus>,
    request: &Request<'_>,
) -> Result<Answer, BusError> {
    let text: String = arguments(request.message)?;
    let id = parse_guid(&text)?;
    card_where(bus, request, |card| card.shown_id() == Some(id))
}

pub(super) fn get_card_by_instance_id(
    bus: &Arc<Bus>,
    request: &Request<'_>,
) -> Result<Answer, BusError> {
    let text: String = arguments(request.message)?;
    card_where(bus, request, |card| {
        card.instance.is_some() && card.instance_id().eq_ignore_ascii_case(&text)
    })
}

pub(super) fn get_card_by_reader(
    bus: &Arc<Bus>,
    request: &Request<'_>,
) -> Result<Answer, BusError> {
    let text: String = arguments(request.message)?;
    let readers = bus.host().slots();
    card_where(bus, request, |card| {
        let mut slots = 0..readers.count();
        slots.any(|slot| {
            let inside = readers.card(slot);
            reader_name(slot) == text
                && inside.is_some_and(|(_, inside)| Arc::ptr_eq(&inside, card))
        })
    })
}

pub(super) fn register_agent(bus: &Arc<Bus>, request: &Request<'_>) -> Result<Answer, BusError> {
    let path: ObjectPath<'static> = object_path(request)?;
    bus.agents.register(request.client, path.to_string())?;
    Ok(Answer::Nothing)
}

pub(super) fn reset_tpm_lockout(bus: &Arc<Bus>, request: &Request<'_>) -> Result<Answer, BusError> {
    let auth = secret_of(arguments(request.message)?)?;
    let reset = message::Request::Tpm(TpmRequest::ResetLockout { auth });
    bus.counter
        .serve(&mut request.visitor(), reset, None, &mut |_| {})?;
    Ok(Answer::Nothing)
}

pub(super) fn unregister_agent(bus: &Arc<Bus>, request: &Request<'_>) -> Result<Answer, BusError> {
    let path: ObjectPath<'static> = object_path(request)?;
    bus.agents.unregister(request.client, path.as_str())?;
    Ok(Answer::Nothing)
}

fn card_where(
    bus: &Bus,
    request: &Request<'_>,
    fits: impl Fn(&Arc<HostedCard>) -> bool,
) -> Result<Answer, BusError> {
    let cards = bus.host().present_cards();
    let mut seen = cards
        .iter()
        .filter(|card| request.client.caller.may_see(card.owner));
    let card = seen.find(|card| card.id.is_some() && fits(card));
    match card.and_then(|card| card_path(card)) {
        Some(found) => one(path(Some(found))),
        None => Err(BusError::new(Name::NotFound, "there is no such card")),
    }
}

/// Makes the card; one that was cancelled meanwhile is taken away again.
fn make(
    bus: &Bus,
    link: &Link,
    operation: &Operation,
    visitor: &Visitor,
    order: Order,
) -> Result<Outcome, BusError> {
    operation.step(link, Status::CardInitializing);
    let counter = &bus.counter;
    let pin = match order.pin {
        Some(pin) => pin,
        None => counter.ask_first_pin(visitor, order.owner, &order.name, &order.policy)?,
    };
    operation.check()?;
    let content = NewContent::Personalised {
        pin,
        puk: order.puk,
        admin_key: order.admin_key,
        blank: !order.generate,
    };
    let (owner_auth, attests) = (order.owner_auth.clone(), order.attests);
    let creation = CreateCard {
        owner: Some(order.owner),
        pin_policy: Some(order.policy),
        owner_auth: order.owner_auth,
        card_id: order.card_id,
        counter_mode: Some(order.counter_mode),
        ..CreateCard::new(order.name, content)
    };
    let mut progress = |step| operation.step(link, Status::while_creating(step));
    let (card, details) = counter.create_card(visitor, creation, attests, &mut progress)?;
    if let Err(cancelled) = operation.check() {
        counter.undo_creation(visitor, &card, owner_auth.as_ref())?;
        return Err(cancelled);
    }
    operation.step(link, Status::ReaderCreating);
    operation.step(link, Status::CardCreated);
    Ok(outcome(&details, &card))
}

fn outcome(details: &CardDetails, card: &HostedCard) -> Outcome {
    Outcome {
        instance_id: details.summary.instance_id.clone(),
        card_id: details.summary.card_id.clone(),
        card: card_path(card),
        reader: details.summary.reader.clone().unwrap_or_default(),
    }
}

/// What MS-TPMVSC has its listener told before the end.
fn report(link: &Link, operation: &Operation, error: &BusError, summary: Report) {
    match error {
        BusError::Own(Name::PinPolicy, _) => operation.report(link, Report::PinComplexity),
        BusError::Own(Name::LimitReached, _) => operation.report(link, Report::ReaderCountLimit),
        _ => {}
    }
    operation.report(link, summary);
}

/// The options of CreateCard, all checked, secrets read.
fn order(name: String, mut options: Options, owner: u32) -> Result<Order, BusError> {
    let options = &mut options;
    let admin_key = match options.take_text("admin-key")?.as_deref() {
        Some("default") => Some(SecretBytes::new(DEFAULT_ADMIN_KEY.to_vec())),
        Some("random") => None,
        Some("supplied") => Some(
            take_secret(options, "admin-key-fd")?
                .ok_or_else(|| BusError::invalid("admin-key-fd is missing"))?,
        ),
        Some(other) => return Err(BusError::invalid(format!("unknown admin-key {other}"))),
        None => return Err(BusError::invalid("admin-key is missing")),
    };
    if let Some(key) = &admin_key
        && key.expose().len() != ADMIN_KEY
    {
        let length = key.expose().len();
        return Err(BusError::invalid(format!(
            "an admin key must have {ADMIN_KEY} bytes, not {length}"
        )));
    }
    if let Some(kcv) = options.take_bytes("admin-kcv")? {
        check_kcv(&kcv, admin_key.as_ref())?;
    }
    let keyword = |on: bool, given: Option<SecretBytes>, what: &str| match (on, given) {
        (true, Some(_)) => Err(BusError::invalid(format!("{what} is given twice"))),
        (true, None) => Ok(Some(SecretBytes::new(DEFAULT_PIN.to_vec()))),
        (false, given) => Ok(given),
    };
    let default_pin = options.take_flag("use-default-pin")?.unwrap_or(false);
    let pin = keyword(default_pin, take_secret(options, "pin-fd")?, "the PIN")?;
    let default_puk = options.take_flag("use-default-puk")?.unwrap_or(false);
    let puk = keyword(default_puk, take_secret(options, "puk-fd")?, "the PUK")?;
    let policy = options.take_group("pin-policy")?.unwrap_or_default();
    let policy = policy_bytes(policy)?;
    let attests = match options.take_text("attestation")?.as_deref() {
        None | Some("none") => false,
        Some("aik-only") => true,
        // Its certificate comes from an authority on the network, which the daemon does not have.
        Some("aik-and-certificate") => {
            return Err(BusError::new(
                Name::NotSupported,
                "a certificate for the attestation key comes from an attestation authority: create the card with \
                 aik-only, and request the certificate afterwards with `cardea attest request`",
            ));
        }
        Some(other) => {
            return Err(BusError::invalid(format!("unknown attestation {other}")));
        }
    };
    let counter_mode = match options.take_text("counter-mode")?.as_deref() {
        None | Some("nv") => CounterMode::Nv,
        Some("nv-owner") => CounterMode::NvOwner,
        Some("object") => CounterMode::Object,
        Some(other) => {
            return Err(BusError::invalid(format!("unknown counter-mode {other}")));
        }
    };
    let card_id = options.take_text("card-id")?;
    let card_id = card_id.map(|text| parse_guid(&text)).transpose()?;
    let order = Order {
        name,
        pin,
        puk,
        admin_key,
        policy,
        generate: options.take_flag("generate")?.unwrap_or(true),
        card_id: card_id.map(|id| *id.as_bytes()),
        owner,
        owner_auth: take_secret(options, "owner-auth-fd")?,
        counter_mode,
        attests,
    };
    options.nothing_left()?;
    Ok(order)
}

/// The first three bytes of zeros enciphered by the key: whether it came over whole.
fn check_kcv(kcv: &[u8], key: Option<&SecretBytes>) -> Result<(), BusError> {
    use des::TdesEde3;
    use des::cipher::{BlockCipherEncrypt, KeyInit};
    let key: Option<[u8; ADMIN_KEY]> = key.and_then(|key| key.expose().try_into().ok());
    let Some(key) = key.map(zeroize::Zeroizing::new) else {
        return Err(BusError::invalid("admin-kcv needs admin-key supplied"));
    };
    let mut block = [0; 8];
    TdesEde3::new((&*key).into()).encrypt_block((&mut block).into());
    if block.get(..3) != Some(kcv) {
        return Err(BusError::invalid("the admin key does not match admin-kcv"));
    }
    Ok(())
}

fn take_secret(options: &mut Options, name: &str) -> Result<Option<SecretBytes>, BusError> {
    let descriptor = options.take_descriptor(name)?;
    descriptor.map(super::secret::take).transpose()
}

fn object_path(request: &Request<'_>) -> Result<ObjectPath<'static>, BusError> {
    let path: zbus::OwnedObjectPath = arguments(request.message)?;
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zbus::Variant;

    use super::*;
    use crate::doors::bus::options::tests::{arrived, option};

    const UID: u32 = 1000;

    fn refused(options: HashMap<&str, Variant<'_>>) -> String {
        match order("card".into(), arrived(options).unwrap(), UID) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.name(),
        }
    }

    #[test]
    fn options_of_other_names_types_and_values_are_refused() {
        let key = || option("admin-key", "random");
        let own = |options: Vec<_>| options.into_iter().collect::<HashMap<_, _>>();
        for options in [
            own(vec![]),
            own(vec![option("admin-key", "strong")]),
            own(vec![option("admin-key", 1_u32)]),
            own(vec![option("admin-key", "supplied")]),
            own(vec![key(), option("pin", "123456")]),
            own(vec![key(), option("pin-fd", b"123456".to_vec())]),
            own(vec![key(), option("use-default-pin", "yes")]),
            own(vec![key(), option("card-id", "card")]),
            own(vec![key(), option("owner", "root")]),
            own(vec![key(), option("attestation", "full")]),
            own(vec![key(), option("admin-kcv", vec![1_u8, 2, 3])]),
            own(vec![key(), option("pin-policy", "strict")]),
        ] {
            assert!(refused(options).ends_with(".InvalidArgument"));
        }
        let attested = own(vec![key(), option("attestation", "aik-and-certificate")]);
        assert!(refused(attested).ends_with(".NotSupported"));
    }

    #[test]
    fn check_value_belongs_to_the_key() {
        // ms-tpmvsc §5.1: the default key's check value.
        let with = |kcv: [u8; 3]| {
            let options = [
                option("admin-key", "default"),
                option("admin-kcv", kcv.to_vec()),
            ];
            order("card".into(), arrived(options.into()).unwrap(), UID)
        };
        assert!(with([0xB0, 0x73, 0xDC]).is_ok());
        assert!(with([0xB0, 0x73, 0xDD]).is_err());
    }
}
