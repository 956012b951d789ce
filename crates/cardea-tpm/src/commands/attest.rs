//! What a TPM says about itself (TPM 2.0 Part 3 §12.5, §18, §31.16).

use zeroize::Zeroizing;

use crate::code;
use crate::error::TpmError;
use crate::policy::cc;
use crate::session::{Session, Use, attribute};
use crate::tpm::{Command, Handle, Response, Tpm};
use crate::wire::Writer;

const ALG_NULL: u16 = 0x0010;

/// What a TPM says, as it has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// What a witness is allowed by, or the empty value of an attestation key.
pub(crate) enum Signing<'a> {
    Open,
    Policy(&'a mut Session),
}

impl<'a> Signing<'a> {
    fn authorisation(self) -> Use<'a> {
        match self {
            Self::Open => Use::empty_password(),
            Self::Policy(session) => Use::session(session, &[], attribute::CONTINUE),
        }
    }
}

impl Tpm {
    /// TPM2_Certify of a loaded object, whose authorisation value is empty, by a signing key with its own scheme.
    pub(crate) fn certify(
        &mut self,
        object: Handle<'_>,
        signer: Handle<'_>,
        qualifying: &[u8],
    ) -> Result<Statement, TpmError> {
        let response = self.with(
            Command {
                name: "Certify",
                code: code::CERTIFY,
                handles: &[object, signer],
                parameters: Writer::new().sized(qualifying).u16(ALG_NULL),
            },
            &mut [Use::empty_password(), Use::empty_password()],
        )?;
        statement(&response)
    }

    /// TPM2_CertifyCreation of a loaded object.
    pub(crate) fn certify_creation(
        &mut self,
        object: Handle<'_>,
        signer: Handle<'_>,
        qualifying: &[u8],
        (creation_hash, creation_ticket): (&[u8], &[u8]),
    ) -> Result<Statement, TpmError> {
        let response = self.with(
            Command {
                name: "CertifyCreation",
                code: code::CERTIFY_CREATION,
                handles: &[signer, object],
                parameters: Writer::new()
                    .sized(qualifying)
                    .sized(creation_hash)
                    .u16(ALG_NULL)
                    .raw(creation_ticket),
            },
            &mut [Use::empty_password()],
        )?;
        statement(&response)
    }

    /// TPM2_NV_Certify of a whole index: by its policy session, which it ends, or by its empty authorisation.
    pub(crate) fn nv_certify(
        &mut self,
        (signer, signing): (Handle<'_>, Signing<'_>),
        (index, name, size): (u32, &[u8; 34], u16),
        session: Option<&mut Session>,
        qualifying: &[u8],
    ) -> Result<Statement, TpmError> {
        let reading = match session {
            Some(session) => Use::session(session, &[], 0),
            None => Use::empty_password(),
        };
        let response = self.with(
            Command {
                name: "NV_Certify",
                code: cc::NV_CERTIFY,
                handles: &[
                    signer,
                    Handle::named(index, name),
                    Handle::named(index, name),
                ],
                parameters: Writer::new()
                    .sized(qualifying)
                    .u16(ALG_NULL)
                    .u16(size)
                    .u16(0),
            },
            &mut [signing.authorisation(), reading],
        )?;
        statement(&response)
    }

    /// TPM2_ActivateCredential: the secret that somebody has encrypted to an endorsement key for this attestation key.
    /// It comes encrypted. The endorsement key's policy session ends, or its value is empty.
    pub(crate) fn activate_credential(
        &mut self,
        attestation: Handle<'_>,
        (endorsement, session): (Handle<'_>, Option<&mut Session>),
        channel: &mut Session,
        (blob, seed): (&[u8], &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let endorsed = match session {
            Some(session) => Use::session(session, &[], 0),
            None => Use::empty_password(),
        };
        let response = self.with(
            Command {
                name: "ActivateCredential",
                code: code::ACTIVATE_CREDENTIAL,
                handles: &[attestation, endorsement],
                parameters: Writer::new().sized(blob).sized(seed),
            },
            &mut [
                Use::empty_password(),
                endorsed,
                Use::session(channel, &[], attribute::CONTINUE | attribute::ENCRYPT),
            ],
        )?;
        let mut reader = response.reader();
        let secret = Zeroizing::new(reader.sized()?.to_vec());
        reader.finish()?;
        Ok(secret)
    }
}

/// TPM2B_ATTEST and TPMT_SIGNATURE.
fn statement(response: &Response) -> Result<Statement, TpmError> {
    let mut reader = response.reader();
    let attest = reader.sized()?.to_vec();
    let signature = reader.rest().to_vec();
    Ok(Statement { attest, signature })
}
