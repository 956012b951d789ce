//! What a relying party asks for besides the truth (step 10).

use cardea_terms::{KeyClass, Origin};

use super::Checks;
use crate::{Authority, Claims, Code, Level, Name, Refusal, TpmIdentity};

/// What evidence must show. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The most wrong PINs in a row.
    pub pin_limit: Option<u32>,
    /// The lowest level.
    pub level: Option<Level>,
    /// Refuses cards that have an administrator. Only level 2 shows it, and is asked for with it.
    pub no_administrator: bool,
    /// SHA-256 of certificates of authorities: one of them must be in the attestation key's path.
    pub authorities: Option<Vec<[u8; 32]>>,
    /// Firmware that is not accepted. A TPM that its certificate does not name is refused with it.
    pub bad_firmware: Vec<BadFirmware>,
    /// Refuses keys that were imported.
    pub generated_only: bool,
    /// Refuses keys that do not ask for the PIN before each use.
    pub always_only: bool,
    /// The Names of the recovery keys that are accepted; none accepts no recoverable key, absence accepts all.
    pub recovery: Option<Vec<Name>>,
}

/// TPMs that are not accepted; what is absent is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFirmware {
    /// The maker: `id:` and eight hexadecimal digits.
    pub manufacturer: String,
    /// The maker's name for it.
    pub model: Option<String>,
    /// The firmware: `id:` and hexadecimal digits.
    pub version: Option<String>,
}

impl Requirements {
    pub(super) fn check(
        &self,
        claims: &Claims,
        issuers: &[[u8; 32]],
        checks: &Checks<'_>,
    ) -> Result<(), Refusal> {
        let is_within = self.pin_limit.is_none_or(|most| claims.pin.limit <= most);
        checks.require(is_within, Code::PinLimit)?;
        let level = self.level.max(self.no_administrator.then_some(Level::L2));
        checks.require(level <= Some(claims.level), Code::Level)?;
        let is_alone = !self.no_administrator || claims.administrator.is_none();
        checks.require(is_alone, Code::NoAdministrator)?;
        let accepted = self.authorities.as_ref();
        let is_accepted =
            accepted.is_none_or(|accepted| issuers.iter().any(|one| accepted.contains(one)));
        checks.require(is_accepted, Code::Authority)?;
        checks.require(!self.is_bad_firmware(&claims.authority), Code::Firmware)?;
        for (number, key) in claims.keys.iter().enumerate() {
            let at_key = |holds, code| {
                checks.require(holds, code).map_err(|refusal| Refusal {
                    key: Some(number),
                    ..refusal
                })
            };
            let is_made_here = key.origin == Origin::Generated;
            at_key(is_made_here || !self.generated_only, Code::KeyOrigin)?;
            let asks_always = key.class == KeyClass::Always;
            at_key(asks_always || !self.always_only, Code::KeyClass)?;
            let accepted = self.recovery.as_ref();
            let is_accepted = accepted
                .is_none_or(|accepted| key.recovery.iter().all(|name| accepted.contains(name)));
            at_key(is_accepted, Code::KeyRecovery)?;
        }
        Ok(())
    }

    fn is_bad_firmware(&self, authority: &Authority) -> bool {
        if self.bad_firmware.is_empty() {
            return false;
        }
        let Authority::Certificate { tpm: Some(tpm), .. } = authority else {
            return true;
        };
        self.bad_firmware.iter().any(|bad| bad.is(tpm))
    }
}

impl BadFirmware {
    /// Whether a TPM is one of those.
    pub(crate) fn is(&self, tpm: &TpmIdentity) -> bool {
        let is = |wanted: &Option<String>, found: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.manufacturer == tpm.manufacturer
            && is(&self.model, &tpm.model)
            && is(&self.version, &tpm.version)
    }
}
