//! Making a card, so that a crash at any moment leaves either the whole card or nothing.
//!
//! Order (docs/design/tpm.md section 8): intent on disk, indices in the TPM, card
//! file, intent removed, slot, answer. What a crash leaves is undone at the next start from the intent.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cardea_card::gids;
use cardea_card::record::{CardId, CardRecord, ReaderVisibility, SecretLengths, Settings};
use cardea_card::secret::Pin;
use cardea_card::token::Rng;
use cardea_client::message::{
    CardDetails, CreateCard, Failure, FailureKind, NewContent, SecretBytes, Visibility,
};
use cardea_client::slot_number::slot_number;
use cardea_store::{DriveFolder, Intent, IntentKind, StoreError};
use cardea_terms::PinPolicy;
use cardea_terms::{CounterMode, NO_SESSION_LIMIT, Step};
use cardea_tpm::{Chip, NewCard, NewSecrets, PIN_LIMIT, PUK_LIMIT, TpmError};

use crate::failure::{self, fail, of_drive_store, of_store};
use crate::fault;
use crate::host::Host;
use crate::host::admission::open;
use crate::host::describe;
use crate::host::hosted::{Body, HostedCard, Place, View};
use crate::host::permission::Caller;
use crate::host::presence::{Admission, is_person};
use crate::lifecycle::admin_key::admin_key;
use crate::lifecycle::drive;
use crate::lifecycle::intents::{indices, is_made, remove_made};
use crate::lifecycle::owner::Owner;
use crate::names::check_name;
use crate::sync::lock;
use crate::system::{SystemRng, unix_time};

/// Longest PIN that OpenSC 0.23 sends to a GIDS card.
const OPENSC_MAX_PIN: usize = 15;

/// Most tries that can be chosen for PIN or PUK.
const MAX_TRIES: u32 = 255;

/// A request whose values were all checked.
struct Order {
    name: String,
    owner: u32,
    gids: Gids,
    lengths: SecretLengths,
    settings: Settings,
    secrets: NewCard,
    owner_auth: Option<SecretBytes>,
    /// Id that the card is to have.
    card_id: Option<CardId>,
    warnings: Vec<String>,
}

/// What the card application begins with.
#[derive(Clone, Copy)]
enum Gids {
    Blank,
    Created,
    Uninitialised,
}

/// Makes a card, and describes it.
pub(crate) fn create(
    host: &Host,
    caller: Caller,
    request: CreateCard,
    attests: bool,
    folder: Option<OwnedFd>,
    progress: &mut dyn FnMut(Step),
) -> Result<(Arc<HostedCard>, CardDetails), Failure> {
    let drive = request.drive;
    let order = attesting(check(caller, request)?, attests)?;
    // Before the lock: a drive takes its time.
    let folder = match drive {
        true => Some(drive::open_for_new(host, folder)?),
        false => None,
    };
    let _guard = host.provision(progress);
    let mut warnings = order.warnings.clone();
    if host.cards().iter().any(|card| card.name() == order.name) {
        warnings.push("another card has this name: use the card id to distinguish them".to_owned());
    }
    let card = match &folder {
        Some(folder) => make_on_drive(host, order, folder, progress)?,
        None => {
            let card = make(host, order, progress)?;
            host.add(Arc::clone(&card));
            card
        }
    };
    host.seat_cards();
    warnings.extend(why_in_no_reader(host, &card));
    tracing::info!(card = %card.selector(), name = card.name(), owner = card.owner, by = caller.uid(), "card created");
    fault::point("create-seated");
    let mut details = describe::details(host, &card);
    if details.counter_mode == Some(CounterMode::NvOwner) {
        warnings.push(READ_BY_OWNER.to_owned());
    }
    warnings.append(&mut details.warnings);
    details.warnings = warnings;
    Ok((card, details))
}

/// Why a card that works is in no reader, for whoever made it.
fn why_in_no_reader(host: &Host, card: &Arc<HostedCard>) -> Option<String> {
    if !card.is_here() || host.slots.slot_of(card).is_some() {
        return None;
    }
    Some(match host.presence.admission(card) {
        Admission::Admitted => format!(
            "no reader: all {} slots are taken (setting `slots`)",
            host.slots.count()
        ),
        Admission::OwnerAway => "no reader yet: the card is shown in one while its owner is signed in (unless it has `--reader always`)"
            .to_owned(),
        Admission::Unknown => "no reader yet: it is not known yet who is signed in".to_owned(),
    })
}

fn make(
    host: &Host,
    order: Order,
    progress: &mut dyn FnMut(Step),
) -> Result<Arc<HostedCard>, Failure> {
    let (record, chip) = write(host, order, &NewFile::Here, progress)?;
    let id = record.id;
    let instance = host
        .store
        .instance(id)
        .inspect_err(|error| {
            tracing::warn!(card = %id, error = failure::chain(error), "no instance number");
        })
        .ok();
    let place = Place {
        id: Some(id),
        path: host.store.path(id),
        instance,
    };
    let body = Body::Waiting(Box::new(record.clone()));
    let card = HostedCard::new(place, &record, body, View::away());
    match open(host, &card, &record, &chip) {
        Ok(live) => {
            *card.body() = Body::Live(Box::new(live));
            card.set_view(View::ready());
            Ok(Arc::new(card))
        }
        Err(reason) => {
            // The card is on disk and in the TPM; the keeper shows it with the reason.
            host.add(Arc::new(card));
            host.wake_keeper();
            Err(fail(
                FailureKind::Failed,
                format!("card {id} was created but cannot be used: {reason}"),
            ))
        }
    }
}

/// Creates a card on a drive, which is attached afterwards.
fn make_on_drive(
    host: &Host,
    order: Order,
    folder: &DriveFolder,
    progress: &mut dyn FnMut(Step),
) -> Result<Arc<HostedCard>, Failure> {
    if matches!(order.gids, Gids::Uninitialised) {
        return Err(fail(
            FailureKind::Invalid,
            "a card in initialisation state has its first values in its file, which must not leave this machine; create it with a PIN",
        ));
    }
    let (record, _) = write(host, order, &NewFile::On(folder), progress)?;
    Ok(drive::list_known(host, drive::known(&record)))
}

/// What can be done where the TPM makes no card that proves what it promises.
const WITHOUT_ATTEST: &str = "; create the card without --attest, and give it an attestation key with `cardea attest enable`";

/// What a card cannot tell whose counts the owner alone reads.
const READ_BY_OWNER: &str = "this card's counters can be read with the TPM's owner authorisation only: if that is set and the daemon does not have it, the number of tries left is not shown, and a changed limit of tries is not noticed";

/// Where a new card's file goes.
enum NewFile<'a> {
    Here,
    On(&'a DriveFolder),
}

impl NewFile<'_> {
    /// When it returns, the card survives a power cut, and so does this host's knowledge of it.
    fn write(&self, host: &Host, record: &CardRecord) -> Result<(), StoreError> {
        match self {
            Self::Here => host.store.create(record).map(drop),
            Self::On(folder) => {
                folder.create(record)?;
                fault::point("create-on-drive");
                host.store.write_known(&drive::known(record))
            }
        }
    }

    /// Refuses an id that a file has already, which need not be a card of this host: nothing is begun then.
    fn require_free(&self, host: &Host, id: CardId) -> Result<(), Failure> {
        host.store
            .require_free(id)
            .map_err(|error| NewFile::Here.failure(&error))?;
        match self {
            Self::Here => Ok(()),
            Self::On(folder) => folder
                .require_free(id)
                .map_err(|error| self.failure(&error)),
        }
    }

    fn failure(&self, error: &StoreError) -> Failure {
        match (error, self) {
            (StoreError::Exists(id), _) => exists(*id),
            (_, Self::Here) => of_store(error),
            (_, Self::On(_)) => of_drive_store(error),
        }
    }
}

/// Indices in the TPM, then the file.
fn write(
    host: &Host,
    order: Order,
    file: &NewFile<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<(CardRecord, Arc<dyn Chip>), Failure> {
    let owner = Owner::new(host, order.owner_auth.as_ref())?;
    owner.require()?;
    // What waits for the authorisation takes room until it is undone.
    owner.finish_pending(host);
    let chip = &owner.chip;
    let id = match order.card_id {
        Some(id) => free(host, id)?,
        None => new_id(&slot_numbers(host), &mut SystemRng),
    };
    file.require_free(host, id)?;

    let asked = order.secrets.mode;
    if let Some(reason) = host.counters.unsafe_reason(asked) {
        return Err(fail(FailureKind::UnsafeTpm, reason));
    }
    progress(Step::PrepareCard);
    let prepared = chip
        .prepare_card(&host.claimed_handles(), order.secrets)
        .map_err(|error| unprepared(host, &owner, asked, &error))?;
    note_counters(host, chip, asked, prepared.mode());
    let provisional = prepared.provisional().cloned();
    let intent = Intent {
        card: id,
        kind: IntentKind::Create,
        indices: prepared
            .intent()
            .iter()
            .map(|index| (index.handle, index.policy))
            .collect(),
    };
    fault::point("create-prepared");
    host.store
        .write_intent(&intent)
        .map_err(|error| of_store(&error))?;
    fault::point("create-intent");
    let mut steps = 0;
    let created = chip.create_card(prepared, &mut |step| {
        steps += 1;
        fault::point(&format!("create-tpm-{steps}"));
        progress(step);
    });
    let tpm = match created {
        Ok(tpm) => tpm,
        Err(error) => {
            abandon(host, chip, intent);
            return Err(owner.failure(&error));
        }
    };
    fault::point("create-tpm");
    progress(Step::WriteFile);
    let record = CardRecord {
        id,
        name: order.name,
        owner: order.owner,
        created: unix_time(),
        settings: order.settings,
        lengths: order.lengths,
        tpm,
        keys: Vec::new(),
        gids: match order.gids {
            Gids::Blank => gids::blank_card(),
            Gids::Created => gids::created_card(id),
            Gids::Uninitialised => gids::uninitialised_card(),
        },
        certificates_written: 0,
        objects: None,
        provisional,
    };
    if let Err(error) = file.write(host, &record) {
        match error {
            // Somebody has put it there meanwhile: nothing was written.
            StoreError::Exists(_) => abandon(host, chip, intent),
            _ => take_back(host, chip, file, intent),
        }
        return Err(file.failure(&error));
    }
    fault::point("create-file");
    if let Err(error) = host.store.remove_intent(id) {
        // Harmless: at the next start the file wins.
        tracing::warn!(card = %id, error = failure::chain(&error), "intent not removed");
    }
    fault::point("create-intent-removed");
    Ok((record, Arc::clone(&owner.chip)))
}

/// Why a card cannot be prepared, of which the daemon learns what counters the TPM has.
fn unprepared(host: &Host, owner: &Owner, asked: CounterMode, error: &TpmError) -> Failure {
    host.counters.found(host, error);
    if asked.is_in_nv() {
        // Whoever asks what cards the TPM takes is told from now on.
        host.counters.examine(host, &owner.chip);
    }
    let failure = owner.failure(error);
    match error {
        TpmError::NoEvidence(_) => fail(failure.kind, failure.message + WITHOUT_ATTEST),
        _ => failure,
    }
}

/// What the preparation has found of the TPM's counters.
fn note_counters(host: &Host, chip: &Arc<dyn Chip>, asked: CounterMode, made: CounterMode) {
    match (asked, made) {
        (CounterMode::Nv, CounterMode::Nv) => host.counters.tried(host, chip),
        (CounterMode::Nv, _) => host.counters.found_resets(host, Some(chip)),
        _ => {}
    }
}

/// The file of a creation that failed may be there all the same (a folder that could not be synced): it goes first,
/// because a file without indices is a lost card and indices without a file are named by the intent.
fn take_back(host: &Host, chip: &Arc<dyn Chip>, file: &NewFile<'_>, intent: Intent) {
    if let NewFile::On(folder) = file
        && let Err(error) = folder.remove_made(intent.card, &|record| is_made(&intent, record))
    {
        // The drive may never come back, and the file is of no use without its indices.
        tracing::warn!(card = %intent.card, error = failure::chain(&error), "card file not removed");
    }
    match remove_made(host, &intent) {
        Ok(()) => abandon(host, chip, intent),
        Err(error) => {
            tracing::warn!(card = %intent.card, error = failure::chain(&error), "card file not removed, to be retried");
            lock(&host.intents).push(intent);
            host.wake_keeper();
        }
    }
}

/// An id that no card of this host has, nor an operation that is not finished.
fn free(host: &Host, id: CardId) -> Result<CardId, Failure> {
    let taken =
        host.own_card(id).is_some() || lock(&host.intents).iter().any(|intent| intent.card == id);
    if taken {
        return Err(exists(id));
    }
    if slot_numbers(host).contains(&slot_number(id.as_bytes())) {
        let text = format!(
            "the card with the id {id} would have the PKCS#11 slot number of another card; choose another id"
        );
        return Err(fail(FailureKind::Invalid, text));
    }
    Ok(id)
}

fn exists(id: CardId) -> Failure {
    let text = format!("a card with the id {id} already exists");
    fail(FailureKind::Invalid, text)
}

/// The numbers that the cards of this host have in PKCS#11, whosever they are.
fn slot_numbers(host: &Host) -> BTreeSet<u32> {
    let cards = host.cards();
    // Nobody keeps an id away by bringing a card with an invented one.
    let own = cards.iter().filter(|card| !card.is_guest());
    let ids = own.filter_map(|card| card.id);
    ids.map(|id| slot_number(id.as_bytes())).collect()
}

/// A random id whose number in PKCS#11 no card has: programs keep the number, and send a PIN with it.
fn new_id(taken: &BTreeSet<u32>, random: &mut dyn Rng) -> CardId {
    let mut id = [0; 16];
    loop {
        random.fill(&mut id);
        if !taken.contains(&slot_number(&id)) {
            return CardId::new(id);
        }
    }
}

/// Creation failed: undefines what is left of it now, or leaves that to the keeper.
fn abandon(host: &Host, chip: &Arc<dyn Chip>, intent: Intent) {
    let undone = chip
        .undo_intent(&indices(&intent))
        .map_err(|error| failure::chain(&error))
        .and_then(|()| {
            host.store
                .remove_intent(intent.card)
                .map_err(|error| failure::chain(&error))
        });
    if let Err(error) = undone {
        tracing::warn!(card = %intent.card, error, "interrupted creation is undone later");
        lock(&host.intents).push(intent);
        host.wake_keeper();
    }
}

fn check(caller: Caller, request: CreateCard) -> Result<Order, Failure> {
    let invalid = |text: String| fail(FailureKind::Invalid, text);
    let name = request.name;
    check_name(&name)?;
    let owner = request.owner.unwrap_or(caller.uid());
    if owner == u32::MAX {
        return Err(invalid(format!("{owner} is not a user id")));
    }
    let policy = match &request.pin_policy {
        None => PinPolicy::default(),
        Some(bytes) => PinPolicy::parse(bytes).map_err(|error| invalid(error.to_string()))?,
    };
    let tries = |what: &str, given: Option<u32>, usual: u32| match given {
        None => Ok(usual),
        Some(tries) if (1..=MAX_TRIES).contains(&tries) => Ok(tries),
        Some(tries) => Err(invalid(format!(
            "a {what} must have 1 to {MAX_TRIES} tries, not {tries}"
        ))),
    };
    let (pin_limit, puk_limit) = (
        tries("PIN", request.pin_tries, PIN_LIMIT)?,
        tries("PUK", request.puk_tries, PUK_LIMIT)?,
    );
    let usual = Settings::default();
    let settings = Settings {
        pin_policy: request.pin_policy,
        session_limit: match request.session_limit {
            Some(limit) => limit,
            // Nobody is there to enter the PIN of a service again. Root's cards are an administrator's.
            None if !is_person(owner) && owner != 0 => NO_SESSION_LIMIT,
            None => usual.session_limit,
        },
        idle_limit: request.idle_limit.unwrap_or(usual.idle_limit),
        pin_pad: request.pin_pad,
        visibility: match request.visibility {
            Some(Visibility::Always) => ReaderVisibility::Always,
            Some(Visibility::OwnerSession) => ReaderVisibility::OwnerSession,
            // A system account has no session in which its card could be seen.
            None if is_person(owner) => ReaderVisibility::OwnerSession,
            None => ReaderVisibility::Always,
        },
    };
    if settings.session_limit == 0
        || settings.session_limit > NO_SESSION_LIMIT
        || settings.idle_limit > NO_SESSION_LIMIT
    {
        return Err(invalid(
            "a session must last at least a second, and the maximum of a limit is ten years".into(),
        ));
    }
    let mut warnings = Vec::new();
    let (secrets, lengths, gids) = first_values(request.content, &policy, &mut warnings)?;
    Ok(Order {
        name,
        owner,
        gids,
        lengths,
        settings,
        secrets: NewCard {
            secrets,
            pin_limit,
            puk_limit,
            mode: request.counter_mode.unwrap_or(CounterMode::Nv),
            attests: false,
        },
        owner_auth: request.owner_auth,
        card_id: request.card_id.map(CardId::new),
        warnings,
    })
}

/// The order of a card that can prove what it promises, if it is to be one.
fn attesting(order: Order, attests: bool) -> Result<Order, Failure> {
    if attests && order.secrets.mode != CounterMode::Nv {
        return Err(fail(
            FailureKind::Invalid,
            "evidence is about counters in NV that everybody may read: create the card without --counter-mode, or \
             without --attest",
        ));
    }
    let secrets = NewCard {
        attests,
        ..order.secrets
    };
    Ok(Order { secrets, ..order })
}

fn first_values(
    content: NewContent,
    policy: &PinPolicy,
    warnings: &mut Vec<String>,
) -> Result<(NewSecrets, SecretLengths, Gids), Failure> {
    let (pin, puk, key, blank) = match content {
        NewContent::Uninitialised { puk } => {
            let gids = Gids::Uninitialised;
            return Ok((NewSecrets::Random { puk }, SecretLengths::default(), gids));
        }
        NewContent::Personalised {
            pin,
            puk,
            admin_key,
            blank,
        } => (pin, puk, admin_key, blank),
    };
    let pin = secret("PIN", &pin, policy, warnings)?;
    let puk = puk
        .map(|puk| secret("PUK", &puk, &PinPolicy::puk(), warnings))
        .transpose()?;
    let admin_key = key.map(|key| admin_key(&key, warnings)).transpose()?;
    let lengths = SecretLengths {
        pin: vec![pin.len()],
        puk: puk.iter().map(Pin::len).collect(),
    };
    let secrets = NewSecrets::Given {
        pin,
        puk,
        admin_key,
    };
    let gids = if blank { Gids::Blank } else { Gids::Created };
    Ok((secrets, lengths, gids))
}

fn secret(
    what: &str,
    bytes: &SecretBytes,
    policy: &PinPolicy,
    warnings: &mut Vec<String>,
) -> Result<Pin, Failure> {
    let length = bytes.expose().len();
    if length > OPENSC_MAX_PIN {
        warnings.push(format!(
            "OpenSC cannot enter a {what} of more than {OPENSC_MAX_PIN} bytes"
        ));
    }
    let pin =
        Pin::new(bytes.expose()).map_err(|error| fail(FailureKind::Invalid, error.to_string()))?;
    policy
        .check(pin.expose())
        .map_err(|error| fail(FailureKind::Rule, format!("{what}: {error}")))?;
    Ok(pin)
}

#[cfg(test)]
mod tests {
    use cardea_tpm::Address;

    use super::*;
    use crate::host::always_away::AlwaysAway;
    use crate::host::presence::ActiveUsers;
    use crate::lifecycle::load::tests::host_with;

    fn request() -> CreateCard {
        CreateCard::new(
            "card",
            NewContent::with_pin(SecretBytes::new(b"123456".to_vec())),
        )
    }

    fn with(pin: &[u8], puk: Option<&[u8]>, key: Option<&[u8]>) -> CreateCard {
        let secret = |bytes: &[u8]| SecretBytes::new(bytes.to_vec());
        CreateCard {
            content: NewContent::Personalised {
                pin: secret(pin),
                puk: puk.map(secret),
                admin_key: key.map(secret),
                blank: false,
            },
            ..request()
        }
    }

    fn caller() -> Caller {
        Caller::for_test(1000, true, false)
    }

    fn kind(request: CreateCard) -> Option<FailureKind> {
        check(caller(), request).err().map(|failure| failure.kind)
    }

    #[test]
    fn names_have_1_to_127_bytes_without_control_characters() {
        for (name, good) in [
            ("", false),
            ("x", true),
            ("Käthe's card", true),
            (&*"x".repeat(127), true),
            (&*"x".repeat(128), false),
            (&*"ä".repeat(64), false),
            ("a\nb", false),
            ("a\u{85}b", false),
            ("\0", false),
        ] {
            let name = name.to_owned();
            let result = kind(CreateCard {
                name: name.clone(),
                ..request()
            });
            assert_eq!(result.is_none(), good, "{name:?}");
        }
    }

    #[test]
    fn card_of_a_system_account_has_no_session_limit_unless_one_is_given() {
        let limit = |owner, session_limit| {
            let request = CreateCard {
                owner: Some(owner),
                session_limit,
                ..request()
            };
            let caller = Caller::for_test(0, true, false);
            check(caller, request).unwrap().settings.session_limit
        };
        assert_eq!(limit(33, None), NO_SESSION_LIMIT);
        assert_eq!(limit(33, Some(60)), 60);
        for owner in [0, 1000] {
            assert_eq!(limit(owner, None), 8 * 60 * 60, "{owner}");
        }
    }

    #[test]
    fn each_reason_for_no_reader_has_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Simulator(None);
        let connect = Box::new(move || Ok(Arc::new(AlwaysAway(address.clone())) as Arc<_>));
        let host = host_with(folder.path(), connect);
        let named = |name| Arc::new(HostedCard::for_test(None, None, name, Some(1000)));
        let (card, other) = (named("card"), named("other"));
        card.set_visibility(ReaderVisibility::OwnerSession);
        host.slots.insert(&other).unwrap();
        for (sessions, words) in [
            (
                ActiveUsers::Known([1001].into()),
                "while its owner is signed in",
            ),
            (ActiveUsers::Awaited, "it is not known yet who is signed in"),
            (ActiveUsers::Known([1000].into()), "all 1 slots are taken"),
        ] {
            host.presence.set(sessions);
            let why = why_in_no_reader(&host, &card).unwrap();
            assert!(why.contains(words), "{why}");
            assert_eq!(why.contains("taken"), words.contains("taken"), "{why}");
        }
        assert_eq!(why_in_no_reader(&host, &other), None);
    }

    /// Random numbers that are known beforehand.
    struct Known(Vec<u8>);

    impl Rng for Known {
        fn fill(&mut self, buffer: &mut [u8]) {
            let byte = self.0.pop().unwrap();
            buffer.fill(byte);
        }
    }

    #[test]
    fn new_card_does_not_have_the_slot_number_of_another() {
        let taken = BTreeSet::from([slot_number(&[7; 16])]);
        assert_eq!(
            new_id(&taken, &mut Known(vec![9, 7, 7])),
            CardId::new([9; 16])
        );
    }

    #[test]
    fn pins_have_4_to_127_bytes_puks_8_to_127_and_long_ones_warn() {
        for (length, pin_good, puk_good) in [
            (0, false, false),
            (3, false, false),
            (4, true, false),
            (7, true, false),
            (8, true, true),
            (127, true, true),
            (128, false, false),
        ] {
            let value = vec![b'1'; length];
            assert_eq!(
                kind(with(&value, None, None)).is_none(),
                pin_good,
                "PIN of {length}"
            );
            let puk = with(b"123456", Some(&value), None);
            assert_eq!(kind(puk).is_none(), puk_good, "PUK of {length}");
        }
        for (length, warnings) in [(15, 0), (16, 1)] {
            let order = check(caller(), with(&vec![b'1'; length], None, None));
            assert_eq!(order.ok().unwrap().warnings.len(), warnings);
        }
    }

    #[test]
    fn the_first_pin_obeys_the_policy_and_impossible_policies_and_limits_are_refused() {
        let mut policy = [0; 32];
        for (field, value) in [1, 6, 8, 0, 0, 1, 0, 0].into_iter().enumerate() {
            policy[4 * field] = value;
        }
        let of = |pin: &[u8]| {
            kind(CreateCard {
                pin_policy: Some(policy),
                ..with(pin, None, None)
            })
        };
        assert_eq!(of(b"12345"), Some(FailureKind::Rule));
        assert_eq!(of(b"abcdef"), Some(FailureKind::Rule));
        assert_eq!(of(b"abcde1"), None);
        assert_eq!(of(b"123456789"), Some(FailureKind::Rule));
        policy[0] = 0;
        assert_eq!(
            kind(CreateCard {
                pin_policy: Some(policy),
                ..request()
            }),
            Some(FailureKind::Invalid)
        );
        for (pin_tries, puk_tries, good) in [
            (Some(0), None, false),
            (Some(1), Some(255), true),
            (None, Some(256), false),
        ] {
            let limits = CreateCard {
                pin_tries,
                puk_tries,
                ..request()
            };
            assert_eq!(kind(limits).is_none(), good);
        }
        for (session_limit, good) in [(0, false), (1, true), (u32::MAX, false)] {
            let limits = CreateCard {
                session_limit: Some(session_limit),
                ..request()
            };
            assert_eq!(kind(limits).is_none(), good);
        }
    }

    #[test]
    fn a_card_for_others_to_personalise_has_no_secret_of_ours() {
        let order = check(
            caller(),
            CreateCard {
                content: NewContent::Uninitialised { puk: true },
                ..request()
            },
        );
        let order = order.ok().unwrap();
        assert!(order.lengths.pin.is_empty());
        assert!(matches!(
            order.secrets.secrets,
            NewSecrets::Random { puk: true }
        ));
    }

    #[test]
    fn owner_is_the_caller_unless_another_is_named() {
        assert_eq!(check(caller(), request()).ok().unwrap().owner, 1000);
        let named = CreateCard {
            owner: Some(7),
            ..request()
        };
        assert_eq!(check(caller(), named).ok().unwrap().owner, 7);
        let nobody = CreateCard {
            owner: Some(u32::MAX),
            ..request()
        };
        assert_eq!(kind(nobody), Some(FailureKind::Invalid));
    }
}
