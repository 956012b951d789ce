//! Cards as the clients see them.

use std::sync::Arc;

use cardea_card::record::{
    CardId, CardRecord, IndexRole, ReaderVisibility, RecoveryTarget, VaultKind,
};
use cardea_card::token::{KeyInfo, KeyOrigin, PinReference, PinStatus, TokenErrorKind};
use cardea_card::{Card, CardError, KeyNumber, KeyUsage};
use cardea_client::message::{
    Attestation, CardDetails, CardOverview, CardState, CardSummary, CounterMode, KeySummary,
    LockoutRoom, RecoverySummary, TpmStatus, Tries,
};
use cardea_pki::Certificate;
use cardea_pki::recovery::Point;
use cardea_tpm::TpmError;
use cardea_tpm::policy::recovery_target;
use sha2::{Digest, Sha256};

use crate::failure::{COUNTED_HERE, token_kind};
use crate::host::Host;
use crate::host::admission::{ask_again, calls_for_recheck, recheck};
use crate::host::hosted::{Body, HostedCard, View, has_reference};
use crate::host::prompt::{UnblockMode, unblock_mode};
use crate::host::slots::reader_name;

/// An owner that cannot be read, as the kernel writes "no user".
const NO_OWNER: u32 = u32::MAX;

/// Longest subject of a recovery key's certificate in a list.
const MAX_SUBJECT: usize = 200;

/// A vault with fewer unused entries of a kind cannot serve many more administrators (docs/design/tpm.md section 7).
pub(crate) const FEW_VAULT_ENTRIES: usize = 16;

/// Cards in a list. Does not wait for a card at work: its last known state is shown.
pub(crate) fn summaries(
    host: &Host,
    cards: &[Arc<HostedCard>],
) -> impl Iterator<Item = CardSummary> {
    let mut away = false;
    cards.iter().map(move |card| {
        // One card that waits for an absent TPM is enough.
        if !away && let Some(mut body) = card.try_body() {
            refresh(host, card, &mut body);
            away = matches!(&*body, Body::Live(_)) && card.view().state == CardState::TpmAway;
        }
        summary(host, card)
    })
}

/// One card in full. Waits until it is free.
pub fn details(host: &Host, card: &Arc<HostedCard>) -> CardDetails {
    let mut body = card.body();
    let pin = refresh(host, card, &mut body);
    let mut puk = None;
    let mut keys: Vec<KeySummary> = Vec::new();
    let mut warnings = Vec::new();
    let record = match &mut *body {
        Body::Live(live) => {
            if has_reference(live.record(), PinReference::Puk) {
                let read = live.pin_status(PinReference::Puk);
                puk = tries(live, PinReference::Puk, read);
            }
            match live.keys() {
                Ok(known) => {
                    keys = known.iter().map(|key| key_summary(live, key)).collect();
                }
                Err(error) => warnings.push(format!(
                    "the keys cannot be read: {}",
                    crate::failure::chain(&error)
                )),
            }
            Some(live.record().clone())
        }
        Body::Refused(refused) => refused.record.as_deref().cloned(),
        Body::Waiting(record) => Some((**record).clone()),
        Body::Away | Body::Elsewhere | Body::Gone => None,
    };
    drop(body);
    if let Some(record) = &record {
        warnings.extend(warning_of_vault(record));
        if pin.is_some_and(|tries| tries.left.is_none()) {
            warnings.push(HIDDEN.to_owned());
        }
    }
    if card.is_counted_here() {
        warnings.push(counted_here());
    }
    warnings.extend(keys.iter().filter(|key| key.import_exposed).map(exposed));
    let lockout = match card.mode {
        Some(CounterMode::Object) => lockout_room(host),
        Some(CounterMode::Nv | CounterMode::NvOwner) | None => None,
    };
    warnings.extend(lockout.zip(pin).and_then(warning_of_lockout));
    CardDetails {
        summary: summary(host, card),
        created: card.created,
        pin,
        puk,
        administrator: !card.gone().has(IndexRole::Adm)
            && record
                .as_ref()
                .is_some_and(|record| record.tpm.vault.is_some()),
        keys,
        counter_mode: card.mode,
        lockout,
        warnings,
        pin_policy: record
            .as_ref()
            .and_then(|record| record.settings.pin_policy),
        session_limit: record
            .as_ref()
            .map(|record| record.settings.session_limit)
            .unwrap_or_default(),
        idle_limit: record
            .as_ref()
            .map(|record| record.settings.idle_limit)
            .unwrap_or_default(),
        uninitialised: record
            .as_ref()
            .is_some_and(|record| record.provisional.is_some()),
        pin_pad: record
            .as_ref()
            .is_some_and(|record| record.settings.pin_pad),
        visibility: record.as_ref().map_or(ReaderVisibility::Always, |record| {
            record.settings.visibility
        }),
        attestation: record.as_ref().and_then(|record| attestation(host, record)),
    }
}

/// By what a card can prove something.
fn attestation(host: &Host, record: &CardRecord) -> Option<Attestation> {
    let key = record.tpm.attestation_key.as_ref()?;
    let sealed = record.tpm.sealed_policies.as_ref();
    let certificates = record.tpm.attestation_chain.clone();
    Some(Attestation {
        public: key.public.clone(),
        certificates: certificates.unwrap_or_default(),
        sealed: sealed.is_some(),
        complete: sealed.and_then(|sealed| {
            let time = host.tpm.chip().and_then(|chip| chip.time());
            time.ok().map(|time| time.resets != sealed.made_at_reset)
        }),
    })
}

/// Asks a live card's TPM for the PIN counter and keeps what follows from it.
fn refresh(host: &Host, card: &Arc<HostedCard>, body: &mut Body) -> Option<Tries> {
    ask_again(host, card, body);
    let Body::Live(live) = &mut *body else {
        return None;
    };
    match live.pin_status(PinReference::Pin) {
        Ok(status) => {
            card.set_view(View::of_status(status));
            tries(live, PinReference::Pin, Ok(status))
        }
        // Not blocked, as far as is known.
        Err(error) if error.is_hidden_count() => {
            card.set_view(View::ready());
            tries(live, PinReference::Pin, Err(error))
        }
        Err(error) => {
            match token_kind(&error) {
                Some(TokenErrorKind::Unavailable) => card.set_view(View::away()),
                Some(kind) if calls_for_recheck(kind) => recheck(host, card, body, kind),
                _ => {
                    tracing::warn!(card = %card.selector(), error = crate::failure::chain(&error), "PIN counter not read")
                }
            }
            None
        }
    }
}

fn summary(host: &Host, card: &Arc<HostedCard>) -> CardSummary {
    let view = card.view();
    let slot = host.slots.slot_of(card);
    CardSummary {
        card_id: card.selector(),
        instance_id: card.instance_id(),
        name: card.name(),
        owner: card.owner.unwrap_or(NO_OWNER),
        state: view.state,
        reason: view.reason,
        slot,
        reader: slot.map(reader_name),
        from: card.carrier().map(|carrier| carrier.from.clone()),
        drive: card.place(),
        gone: card.gone().parts(),
        counter_mode: card.mode,
        counted_here: card.is_counted_here(),
    }
}

/// How near the TPM is to its lockout, if it can be reached.
fn lockout_room(host: &Host) -> Option<LockoutRoom> {
    let room = host.tpm.chip().and_then(|chip| chip.lockout_room());
    let room = room
        .inspect_err(|error| {
            tracing::debug!(error = crate::failure::chain(error), "lockout not read")
        })
        .ok()?;
    Some(LockoutRoom {
        left: room.left,
        limit: room.limit,
        wait: room.wait,
    })
}

/// A TPM that locks itself early has a card wait before its own tries are spent.
fn warning_of_lockout((room, pin): (LockoutRoom, Tries)) -> Option<String> {
    (room.limit < pin.limit).then(|| {
        format!(
            "the TPM locks itself after few wrong PINs of all cards and programs together: after {} of them cards in \
             object mode have to wait; `cardea tpm provision --max-tries 32` sets another number",
            room.limit
        )
    })
}

/// A card as last known.
pub(crate) fn overview(card: &HostedCard) -> CardOverview {
    // Its view may not say yet that the drive is away.
    let view = match card.is_here() {
        true => card.view(),
        false => View::drive_away(),
    };
    // A card at work is asked the next time.
    if let Some(body) = card.try_body()
        && let Body::Live(live) = &*body
    {
        card.set_uninitialised(live.record().provisional.is_some());
    }
    CardOverview {
        card_id: card.selector(),
        name: card.name(),
        state: view.state,
        reason: view.reason,
        uninitialised: card.is_uninitialised(),
    }
}

/// What is said of a card whose tries cannot be counted out.
const HIDDEN: &str = "the number of tries left is not known: the TPM shows it to its owner alone, whose authorisation is set; keep it as the daemon's service credential `owner-auth` to have the number shown";

/// What is said of a key that was imported without an inner wrap.
fn exposed(key: &KeySummary) -> String {
    format!(
        "key {:02X} was imported by an older version: whoever recorded the TPM's bus at that moment can recover this \
         key; replace it",
        key.reference
    )
}

/// What is said of a card whose TPM sets its counts back.
fn counted_here() -> String {
    format!("{}: {COUNTED_HERE}", TpmError::CountReset)
}

fn warning_of_vault(record: &CardRecord) -> Option<String> {
    let vault = record.tpm.vault.as_ref()?;
    let kinds = [VaultKind::External, VaultKind::Mutual];
    let least = kinds
        .iter()
        .map(|kind| {
            vault
                .entries
                .iter()
                .filter(|entry| entry.kind == *kind)
                .count()
        })
        .min()
        .unwrap_or(0);
    (least < FEW_VAULT_ENTRIES).then(|| {
        format!("only {least} challenges for the administrator are left; a mutual authentication creates new ones")
    })
}

/// A counter as it was read; without the number if that is hidden.
pub(crate) fn tries(
    live: &Card,
    reference: PinReference,
    read: Result<PinStatus, CardError>,
) -> Option<Tries> {
    match read {
        Ok(status) => Some(Tries {
            left: Some(status.left),
            limit: status.limit,
        }),
        Err(error) if error.is_hidden_count() => {
            let limit = live.pin_limit(reference)?;
            Some(Tries { left: None, limit })
        }
        Err(_) => None,
    }
}

/// A key as the list shows it.
pub(crate) fn key_summary(card: &Card, (number, key): &(KeyNumber, KeyInfo)) -> KeySummary {
    KeySummary {
        reference: number.get(),
        algorithm: key.algorithm,
        origin: key.origin,
        class: key.class,
        label: card.key_label(*number).unwrap_or_default(),
        public: key.public.clone(),
        certificate: card.certificate(*number).is_some(),
        id: card.key_id(*number).unwrap_or_default(),
        certificate_label: card.certificate_label(*number).map(str::to_owned),
        sign_only: card.key_usage(*number) == KeyUsage::Signature,
        import_exposed: key.origin == KeyOrigin::Imported && !is_inner_wrapped(card, *number),
        recovery: key.is_recoverable.then(|| recovery(card, *number)),
    }
}

/// Who can bring a key back, as far as the record's certificates tell.
fn recovery(card: &Card, number: KeyNumber) -> Vec<RecoverySummary> {
    let key = card.record().key(number);
    let targets = key.and_then(|key| key.recovery.as_deref());
    targets.unwrap_or_default().iter().map(of_target).collect()
}

/// A certificate of another key tells nothing.
fn of_target(target: &RecoveryTarget) -> RecoverySummary {
    let der = target.certificate.as_deref().unwrap_or_default();
    let certificate = Certificate::parse(der).ok().filter(|certificate| {
        let point = certificate.public_key().ok().and_then(Point::of);
        point.is_some_and(|point| recovery_target(&point.x, &point.y) == target.public)
    });
    match certificate {
        Some(certificate) => {
            let mut subject = certificate.subject().to_string();
            while subject.len() > MAX_SUBJECT {
                subject.pop();
            }
            let fingerprint = certificate.fingerprint();
            RecoverySummary {
                subject,
                fingerprint,
            }
        }
        None => RecoverySummary {
            subject: String::new(),
            fingerprint: Sha256::digest(&target.public).into(),
        },
    }
}

/// Whether the record says of a key that it came in under an inner wrap.
fn is_inner_wrapped(card: &Card, number: KeyNumber) -> bool {
    let key = card.record().key(number);
    key.is_some_and(|key| key.inner_wrapped == Some(true))
}

/// The TPM's state.
pub(crate) fn tpm(host: &Host) -> Result<TpmStatus, TpmError> {
    let chip = host.tpm.chip()?;
    let status = chip.status()?;
    host.counters.recall(host, &chip);
    Ok(tpm_status(host, chip.address().to_string(), status))
}

/// The TPM's state in the words of the socket.
fn tpm_status(host: &Host, address: String, status: cardea_tpm::Status) -> TpmStatus {
    let cards = host.cards();
    let known = |handle: &&u32| cards.iter().any(|card| card.claims(**handle));
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let (counters, counters_reason) = host.counters.told();
    TpmStatus {
        address,
        manufacturer: status.manufacturer,
        vendor: status.vendor,
        firmware: status.firmware,
        revision: status.revision,
        transient_slots: status.transient_slots,
        lockout_count: status.lockout_count,
        lockout_max: status.lockout_max,
        lockout_recovery: status.lockout_recovery,
        session_slots: status.session_slots,
        nv_indices: status.nv_indices,
        clock_deviation: host.tpm.clock_deviation(status.time),
        hierarchy_policies: status.hierarchy_policies,
        owner_enabled: status.owner_enabled,
        counters,
        counters_reason,
        known_indices: number(status.card_indices.iter().filter(known).count()),
        card_indices: number(status.card_indices.len()),
        lockout_auth_recovery: status.lockout_auth_recovery,
        endorsement_auth_set: status.endorsement_auth_set,
        in_lockout: status.in_lockout,
        owner_auth_set: status.owner_auth_set,
        lockout_auth_set: status.lockout_auth_set,
        algorithms: status.algorithms,
        lacking: host.counters.examination().map(|found| {
            let lacking = found.lacking.iter();
            lacking.map(|command| command.name().to_owned()).collect()
        }),
        context_gap: status.context_gap,
        persistent_left: status.persistent_left,
        date: status.date,
        cards: host.counters.cards(),
    }
}

/// What is known only of a card in use.
pub struct InUse {
    /// Whether its administrator can no longer authenticate.
    pub admin_blocked: bool,
    /// The id that the card application tells.
    pub card_id: Option<CardId>,
    /// Certificates written over its life.
    pub certificates_issued: u32,
    /// How its PIN is unblocked.
    pub unblock: UnblockMode,
}

impl Default for InUse {
    fn default() -> Self {
        Self {
            admin_blocked: false,
            card_id: None,
            certificates_issued: 0,
            unblock: UnblockMode::None,
        }
    }
}

impl InUse {
    /// Waits until the card is free.
    pub fn of(hosted: &HostedCard) -> Self {
        let Body::Live(card) = &*hosted.body() else {
            return Self::default();
        };
        let record = card.record();
        let vault = record.tpm.vault.as_ref();
        Self {
            // Without a challenge left nobody can be its administrator.
            admin_blocked: vault.is_some_and(|vault| vault.left(VaultKind::External) == 0),
            card_id: card.card_id(),
            certificates_issued: record.certificates_written,
            unblock: unblock_mode(card, hosted.gone()),
        }
    }
}
