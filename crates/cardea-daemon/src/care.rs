//! Care of the TPM: its authorisations, its lockout, and whose its indices are.

use std::path::PathBuf;

use cardea_card::record::IndexRole;
use cardea_client::message::{Failure, FailureKind, Hierarchy, IndexSummary, Reply, SecretBytes};
use cardea_tpm::{HierarchyAuth, LockoutParameters, ResponseCode, Service, TpmError};
use zeroize::Zeroizing;

use crate::failure::{fail, of_tpm};
use crate::host::{Host, lock};
use crate::startup::indices as intent_indices;

/// Name of the service credential with the owner authorisation (systemd.exec(5), `LoadCredentialEncrypted=`).
const CREDENTIAL: &str = "owner-auth";

/// The TPM, with the owner's authorisation at hand for the work that needs it: the one given, else that of the
/// service's credential, else none.
pub(crate) fn as_owner(host: &Host, given: Option<&SecretBytes>) -> Result<Service, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    let owner = match given {
        Some(given) => Some(auth(given)?),
        None => credential(),
    };
    Ok(service.with_owner(owner))
}

/// The owner authorisation that the service manager keeps for the daemon.
pub(crate) fn credential() -> Option<HierarchyAuth> {
    let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let path = folder.join(CREDENTIAL);
    let bytes = Zeroizing::new(std::fs::read(&path).ok()?);
    match HierarchyAuth::new(&bytes) {
        Ok(auth) => Some(auth),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "credential not used");
            None
        }
    }
}

fn auth(bytes: &SecretBytes) -> Result<HierarchyAuth, Failure> {
    HierarchyAuth::new(bytes.expose())
        .map_err(|error| fail(FailureKind::Invalid, error.to_string()))
}

pub(crate) fn set_hierarchy_auth(
    host: &Host,
    hierarchy: Hierarchy,
    old: &SecretBytes,
    new: &SecretBytes,
) -> Result<Reply, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    let (old, new) = (auth(old)?, auth(new)?);
    let (which, word) = match hierarchy {
        Hierarchy::Lockout => (cardea_tpm::Hierarchy::Lockout, "lockout"),
        Hierarchy::Owner => (cardea_tpm::Hierarchy::Owner, "owner"),
    };
    service
        .set_hierarchy_auth(which, &old, &new)
        .map_err(|error| refused(word, &error))?;
    tracing::info!(hierarchy = word, "authorisation set");
    Ok(Reply::Done)
}

pub(crate) fn reset_lockout(host: &Host, given: &SecretBytes) -> Result<Reply, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    service
        .reset_lockout(&auth(given)?)
        .map_err(|error| refused("lockout", &error))?;
    tracing::info!("lockout reset");
    Ok(Reply::Done)
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
        .map_err(|error| refused("lockout", &error))?;
    tracing::info!(?parameters, "lockout parameters set");
    Ok(Reply::Done)
}

/// What a TPM says to an authorisation that is wrong or missing.
fn refused(word: &str, error: &TpmError) -> Failure {
    match error.code() {
        Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => fail(
            FailureKind::Denied,
            format!(
                "the {word} authorisation is wrong{}",
                if word == "lockout" {
                    "; the TPM now refuses it for the time that `cardea tpm status` shows"
                } else {
                    ""
                }
            ),
        ),
        Some(ResponseCode::LOCKOUT) if word == "lockout" => fail(
            FailureKind::Lockout,
            "the TPM refuses the lockout authorisation after a wrong one; wait for the time that \
             `cardea tpm status` shows, or restart the machine where that is 0",
        ),
        _ => of_tpm(error),
    }
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
            name: claimant.map(|(card, _)| card.name.clone()),
            role: claimant.map(|(_, role)| {
                match role {
                    IndexRole::Pin => "pin",
                    IndexRole::Adm => "adm",
                    IndexRole::Puk => "puk",
                }
                .to_owned()
            }),
            unfinished: intents
                .iter()
                .flat_map(intent_indices)
                .any(|named| named.handle == index.handle),
        }
    };
    Ok(defined.iter().map(summary).collect())
}

/// Removes an index that nobody here claims. It may be that of a card on a drive that is away: the caller has
/// named it.
pub(crate) fn remove_index(
    host: &Host,
    handle: u32,
    owner_auth: Option<&SecretBytes>,
) -> Result<Reply, Failure> {
    let _guard = host.provision(&mut |_| {});
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
                "{name} belongs to card {card}; `cardea card destroy` removes it with its card"
            ),
        ));
    }
    if index.unfinished {
        return Err(fail(
            FailureKind::Denied,
            format!("{name} belongs to an unfinished operation, which the daemon ends by itself"),
        ));
    }
    as_owner(host, owner_auth)?
        .undefine_index(handle)
        .map_err(|error| of_tpm(&error))?;
    tracing::warn!(handle = name, "unknown index removed");
    Ok(Reply::Done)
}
