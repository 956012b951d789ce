//! Care of the TPM: its authorisations, its lockout, and whose its indices are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cardea_card::record::IndexRole;
use cardea_client::message::{
    self, CardState, Failure, FailureKind, IndexSummary, Reply, SecretBytes,
};
use cardea_client::{MAX_AUTHORISATION_FILE, parse_authorisation};
use cardea_tpm::{
    Hierarchy, HierarchyAuth, HierarchyPolicy, LockoutParameters, ResponseCode, Service, TpmError,
};
use zeroize::Zeroizing;

use crate::create;
use crate::failure::{SWITCHED_OFF, chain, fail, of_tpm};
use crate::host::{Host, lock};
use crate::startup::{finish_intents, indices as intent_indices};

/// Name of the service credential with the owner authorisation (systemd.exec(5), `LoadCredentialEncrypted=`).
const CREDENTIAL: &str = "owner-auth";

/// The TPM for work that takes the owner's authorisation where one is set.
pub(crate) struct Owner {
    /// With the authorisation at hand, if there is one.
    pub(crate) service: Service,
    at_hand: AtHand,
}

/// Where the authorisation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtHand {
    Credential,
    Given,
    Nothing,
}

impl Owner {
    /// The authorisation that was given, else that of the service's credential where the TPM has one, else none.
    pub(crate) fn new(host: &Host, given: Option<&SecretBytes>) -> Result<Self, Failure> {
        let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
        let set = || {
            service
                .is_set(Hierarchy::Owner)
                .map_err(|error| of_tpm(&error))
        };
        let (owner, at_hand) = match given {
            Some(given) if !set()? => {
                drop(auth(given)?);
                return Err(not_set(Hierarchy::Owner));
            }
            Some(given) => (Some(auth(given)?), AtHand::Given),
            None => match credential() {
                Some(credential) if set()? => (Some(credential), AtHand::Credential),
                _ => (None, AtHand::Nothing),
            },
        };
        Ok(Self {
            service: service.with_owner(owner),
            at_hand,
        })
    }

    /// Refuses before anything is begun where the owner hierarchy is switched off.
    pub(crate) fn require_on(&self) -> Result<(), Failure> {
        match self.service.is_owner_on() {
            Ok(true) => Ok(()),
            Ok(false) => Err(fail(FailureKind::SwitchedOff, SWITCHED_OFF)),
            Err(error) => Err(of_tpm(&error)),
        }
    }

    /// The same, and where an authorisation is set and none is at hand.
    pub(crate) fn require(&self) -> Result<(), Failure> {
        self.require_on()?;
        let missing = self.at_hand == AtHand::Nothing
            && self
                .service
                .is_set(Hierarchy::Owner)
                .map_err(|error| of_tpm(&error))?;
        if missing {
            return Err(self.failure(&TpmError::AuthMissing(Hierarchy::Owner)));
        }
        Ok(())
    }

    /// What is told of an error of its work.
    pub(crate) fn failure(&self, error: &TpmError) -> Failure {
        if !error.refuses_owner() {
            return of_tpm(error);
        }
        tracing::warn!(error = chain(error), at_hand = ?self.at_hand, "owner authorisation refused");
        let text = match self.at_hand {
            AtHand::Credential => {
                "the owner authorisation in the daemon's service credential `owner-auth` is not the TPM's; \
                 correct the credential and restart the daemon, or give the right one with --owner-auth-file"
            }
            AtHand::Given => {
                "the owner authorisation that was given is not the TPM's; nothing was changed and no try is \
                 counted: give the right one with --owner-auth-file or --owner-auth-fd"
            }
            AtHand::Nothing => OWNER_MISSING,
        };
        fail(FailureKind::Denied, text)
    }

    /// Ends what waited for this authorisation. The caller holds the provisioning lock.
    pub(crate) fn finish_pending(&self, host: &Host) {
        if self.at_hand == AtHand::Given {
            finish_intents(host, &self.service);
            host.counters.catch_up(host, &self.service);
            host.seat_cards();
        }
    }
}

/// What is told where the owner's authorisation is set and nobody gave it.
pub(crate) const OWNER_MISSING: &str = "the TPM's owner authorisation is set, and making and deleting cards takes it: give it with \
     --owner-auth-file or --owner-auth-fd, or keep it as the daemon's service credential `owner-auth`";

/// The owner authorisation that the service manager keeps for the daemon, in any form that the command takes.
pub(crate) fn credential() -> Option<HierarchyAuth> {
    let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let path = folder.join(CREDENTIAL);
    let read = || {
        let content = match read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| error.to_string())?,
        };
        let value = parse_authorisation(message::Hierarchy::Owner, &content)
            .map_err(|error| error.to_string())?;
        HierarchyAuth::new(value.expose())
            .map(Some)
            .map_err(|error| error.to_string())
    };
    read().unwrap_or_else(|error: String| {
        tracing::warn!(path = %path.display(), error, "service credential not used");
        None
    })
}

/// Filled in place, so that no grown allocation leaves a copy behind.
fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(vec![0; MAX_AUTHORISATION_FILE + 1]);
    let mut file = File::open(path)?;
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    if length > MAX_AUTHORISATION_FILE {
        return Err(io::Error::other("it is too long for an authorisation"));
    }
    content.truncate(length);
    Ok(content)
}

fn auth(bytes: &SecretBytes) -> Result<HierarchyAuth, Failure> {
    HierarchyAuth::new(bytes.expose())
        .map_err(|error| fail(FailureKind::Invalid, error.to_string()))
}

pub(crate) fn set_hierarchy_auth(
    host: &Host,
    hierarchy: message::Hierarchy,
    old: &SecretBytes,
    new: &SecretBytes,
) -> Result<Reply, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    let (old, new) = (auth(old)?, auth(new)?);
    let which = match hierarchy {
        message::Hierarchy::Lockout => Hierarchy::Lockout,
        message::Hierarchy::Owner => Hierarchy::Owner,
    };
    let policy = service
        .set_hierarchy_auth(which, &old, &new)
        .map_err(|error| match error {
            TpmError::AuthMissing(_) => fail(
                FailureKind::Denied,
                format!(
                    "the TPM's {which} authorisation is set already and was not given; nothing was tried: \
                     --old-{which}-auth-file gives it"
                ),
            ),
            error => refused(which, &error),
        })?;
    tracing::info!(hierarchy = %which, "authorisation set");
    let policy = match policy {
        HierarchyPolicy::Emptied => None,
        HierarchyPolicy::Left(error) => Some(left(which, &error)),
    };
    let endorsement = HierarchyAuth::new(&[])
        .ok()
        .and_then(|empty| service.empty_policy(Hierarchy::Endorsement, &empty).err())
        .map(|error| left(Hierarchy::Endorsement, &error));
    Ok(Reply::AuthorisationSet {
        policy,
        endorsement,
    })
}

/// Why a policy was not emptied.
fn left(which: Hierarchy, error: &TpmError) -> String {
    let reason = match error {
        TpmError::AuthMissing(_) => {
            format!(
                "the TPM's {which} authorisation is set by other software, and only who has it empties the policy"
            )
        }
        _ => chain(error),
    };
    tracing::warn!(hierarchy = %which, error = reason, "policy not emptied");
    reason
}

pub(crate) fn reset_lockout(host: &Host, given: &SecretBytes) -> Result<Reply, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    service
        .reset_lockout(&auth(given)?)
        .map_err(|error| refused(Hierarchy::Lockout, &error))?;
    tracing::info!("lockout reset");
    Ok(Reply::Done)
}

/// How long a lockout lasts at most, in seconds; 0 without one. The TPM forgets one failure in each period of
/// recovery, and one is enough (TPM 2.0 Part 1 §19.8.3).
pub(crate) fn lockout_seconds(status: &cardea_tpm::Status) -> u32 {
    if status.in_lockout {
        status.lockout_recovery
    } else {
        0
    }
}

pub(crate) fn set_lockout_parameters(
    host: &Host,
    given: &SecretBytes,
    parameters: LockoutParameters,
) -> Result<Reply, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    if parameters.max_tries == 0 {
        return Err(fail(
            FailureKind::Invalid,
            "a TPM that locks at no failure is locked for ever",
        ));
    }
    service
        .set_lockout_parameters(&auth(given)?, parameters)
        .map_err(|error| refused(Hierarchy::Lockout, &error))?;
    tracing::info!(?parameters, "lockout parameters set");
    Ok(Reply::Done)
}

/// What a TPM says to an authorisation that is wrong or missing.
fn refused(which: Hierarchy, error: &TpmError) -> Failure {
    match (error, error.code(), which) {
        (TpmError::AuthNotSet(which), ..) => not_set(*which),
        (TpmError::AuthMissing(_), ..) => fail(
            FailureKind::Denied,
            "the TPM's lockout authorisation is set and was not given; nothing was tried: \
             --lockout-auth-file or --lockout-auth-fd gives it",
        ),
        (_, Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL), Hierarchy::Lockout) => fail(
            FailureKind::Denied,
            "the lockout authorisation is wrong; the TPM now refuses it, the right one too, for the time that \
             `cardea tpm status` shows",
        ),
        (_, Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL), Hierarchy::Owner) => fail(
            FailureKind::Denied,
            "the owner authorisation is wrong; nothing was changed and no try is counted: \
             --old-owner-auth-file gives the present one",
        ),
        (_, Some(ResponseCode::LOCKOUT), Hierarchy::Lockout) => fail(
            FailureKind::Lockout,
            "the TPM refuses the lockout authorisation after a wrong one; wait for the time that \
             `cardea tpm status` shows, or restart the machine where that is 0",
        ),
        _ => of_tpm(error),
    }
}

fn not_set(which: Hierarchy) -> Failure {
    fail(
        FailureKind::Invalid,
        format!(
            "the TPM has no {which} authorisation, and the one given was not tried; leave it out, or, if one \
             was set before, find out who cleared the TPM"
        ),
    )
}

/// Every index in the cards' range, and whose it is.
pub(crate) fn indices(host: &Host) -> Result<Vec<IndexSummary>, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    let defined = service.indices().map_err(|error| of_tpm(&error))?;
    let cards = host.cards();
    let intents = lock(&host.intents).clone();
    let summary = |index: &cardea_tpm::DefinedIndex| {
        let claimant = cards
            .iter()
            .find_map(|card| Some((card, card.role_of(index.handle)?)));
        IndexSummary {
            handle: index.handle,
            written: index.written,
            card: claimant.map(|(card, _)| card.selector()),
            name: claimant.map(|(card, _)| card.name()),
            role: claimant.map(|(_, role)| {
                match role {
                    IndexRole::Pin => "pin",
                    IndexRole::Adm => "adm",
                    IndexRole::Puk => "puk",
                }
                .to_owned()
            }),
            card_form: index.policy.is_some(),
            unfinished: intents
                .iter()
                .flat_map(intent_indices)
                .any(|named| named.handle == index.handle),
        }
    };
    Ok(defined.iter().map(summary).collect())
}

/// Whether one more card has room in the TPM.
pub(crate) fn try_room(host: &Host) -> Result<Reply, Failure> {
    let _guard = host.provision(&mut |_| {});
    let owner = Owner::new(host, None)?;
    owner.require()?;
    let tried = owner.service.room_for_card(&create::taken(host));
    tried.map_err(|error| owner.failure(&error))?;
    Ok(Reply::Done)
}

/// Removes an index that nobody here claims. It may be that of a card on a drive that is away: the caller has
/// named it.
pub(crate) fn remove_index(
    host: &Host,
    handle: u32,
    owner_auth: Option<&SecretBytes>,
) -> Result<Reply, Failure> {
    let _guard = host.provision(&mut |_| {});
    let owner = Owner::new(host, owner_auth)?;
    owner.require()?;
    owner.finish_pending(host);
    let listed = indices(host)?;
    let name = format!("0x{handle:08X}");
    let Some(index) = listed.iter().find(|index| index.handle == handle) else {
        return Err(fail(
            FailureKind::NotFound,
            format!("there is no index {name}; `cardea tpm indices` lists them"),
        ));
    };
    if let Some(card) = &index.card {
        return Err(fail(
            FailureKind::Denied,
            format!(
                "{name} belongs to card {card}; `cardea card destroy` removes it with its card, which cannot be \
                 undone"
            ),
        ));
    }
    if index.unfinished {
        return Err(fail(
            FailureKind::Denied,
            format!("{name} belongs to an unfinished operation, which the daemon ends by itself"),
        ));
    }
    // Such a file does not tell which indices are its card's; a newer version may read it.
    if let Some(card) = host
        .cards()
        .iter()
        .find(|card| card.view().state == CardState::Unreadable && card.handles.is_empty())
    {
        return Err(fail(
            FailureKind::Denied,
            format!(
                "{name} may belong to card {}, whose file cannot be read; put that file back from a \
                 backup, or install the version that wrote it; only then give its card up with `cardea card destroy`, \
                 which cannot be undone",
                card.selector()
            ),
        ));
    }
    owner
        .service
        .undefine_index(handle)
        .map_err(|error| owner.failure(&error))?;
    tracing::warn!(handle = name, "unknown index removed");
    Ok(Reply::Done)
}
