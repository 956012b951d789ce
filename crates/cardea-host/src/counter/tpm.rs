//! Requests about the TPM.

use std::hash::{DefaultHasher, Hash, Hasher};

use cardea_client::message::{EndorsementKey, Failure, Page, Reply, SecretBytes, TpmRequest};

use super::{Counter, Visitor};
use crate::failure::of_tpm;
use crate::host::audit::Kind;
use crate::host::describe;
use crate::lifecycle::tpm_admin;

impl Counter {
    pub(super) fn about_tpm(
        &self,
        visitor: &Visitor,
        request: TpmRequest,
    ) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            TpmRequest::ListIndices { from } => {
                let indices = tpm_admin::indices(host)?;
                let mut hasher = DefaultHasher::new();
                for index in &indices {
                    index.handle.hash(&mut hasher);
                }
                Ok(Reply::Indices(Page::cut(hasher.finish(), from, |first| {
                    indices.into_iter().skip(first)
                })))
            }
            TpmRequest::EndorsementKeys => {
                let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
                let keys = chip.endorsement_keys().map_err(|error| of_tpm(&error))?;
                let told = |key: cardea_tpm::EndorsementKey| EndorsementKey {
                    public: key.public,
                    certificate: key.certificate,
                };
                Ok(Reply::EndorsementKeys(keys.into_iter().map(told).collect()))
            }
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
                self.note(visitor, None, Kind::LockoutReset);
                Ok(reply)
            }
            TpmRequest::SetHierarchyAuth {
                hierarchy,
                old,
                new,
            } => {
                let reply = tpm_admin::set_hierarchy_auth(host, hierarchy, &old, &new)?;
                self.note(visitor, None, Kind::AuthorisationChanged);
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
                self.note(visitor, None, Kind::LockoutParametersChanged);
                Ok(reply)
            }
            TpmRequest::Status => {
                let status = describe::tpm(host).map_err(|error| of_tpm(&error))?;
                Ok(Reply::Tpm(Box::new(status)))
            }
            TpmRequest::TryRoom => tpm_admin::try_room(host),
        }
    }
}
