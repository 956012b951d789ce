//! The administrator of the software token: the key lies in memory.

use cardea_card::record::{TpmRecord, Vault};
use cardea_card::secret::AdminKeyBytes;
use cardea_card::token::{
    AdminAnswer, AdminAuthority, AdminError, AdminForm, Rng, TokenError, TokenErrorKind,
    TokenRecord,
};
use cardea_tpm::AdminKey;

use super::{SeededRng, SoftwareToken};

/// The administrator's part of a chip.
#[derive(Debug, Default)]
pub(super) struct Admin {
    key: Option<AdminKey>,
    asked: Vec<Vec<u8>>,
    proved: bool,
}

impl Admin {
    pub(super) fn is_proved(&self) -> bool {
        self.proved
    }

    pub(super) fn set_key(&mut self, key: [u8; 24]) {
        self.key = AdminKey::new(&key).ok();
    }

    fn answer(
        &mut self,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
        rng: &mut SeededRng,
    ) -> Result<Option<[u8; 40]>, AdminError> {
        self.proved = false;
        let key = self.key.as_ref().ok_or_else(not_configured)?;
        let position = self
            .asked
            .iter()
            .position(|asked| asked == challenge)
            .ok_or(TokenError::from(TokenErrorKind::NotAuthenticated))?;
        let cryptogram = match answer {
            AdminAnswer::External(answer) => {
                let mut expected = challenge.to_vec();
                key.encrypt(&mut expected);
                if expected != answer {
                    return Err(AdminError::Wrong);
                }
                None
            }
            AdminAnswer::Mutual { host, cryptogram } => {
                let card = challenge.try_into().map_err(|_| AdminError::Wrong)?;
                let mut fill = |buffer: &mut [u8]| rng.fill(buffer);
                let answer = key.answer_mutual(card, host, cryptogram, &mut fill);
                Some(answer.ok_or(AdminError::Wrong)?)
            }
        };
        self.asked.swap_remove(position);
        self.proved = true;
        Ok(cryptogram)
    }
}

fn not_configured() -> TokenError {
    TokenErrorKind::NotConfigured.into()
}

/// What tells the engine that there is an administrator.
fn with_vault(record: &TpmRecord) -> TpmRecord {
    TpmRecord {
        vault: Some(empty_vault()),
        ..record.clone()
    }
}

/// A vault that says no more than that there is an administrator.
#[must_use]
pub(crate) fn empty_vault() -> Vault {
    Vault {
        rounds: 1,
        entries: Vec::new(),
        tag: [0; 32],
    }
}

impl AdminAuthority for SoftwareToken {
    fn challenge(&mut self, _record: &TpmRecord, form: AdminForm) -> Result<Vec<u8>, TokenError> {
        let mut chip = self.chip();
        chip.fault()?;
        if chip.admin.key.is_none() {
            return Err(not_configured());
        }
        let mut challenge = vec![
            0;
            match form {
                AdminForm::External => 8,
                AdminForm::Mutual => 16,
            }
        ];
        chip.rng.fill(&mut challenge);
        chip.admin.asked.push(challenge.clone());
        Ok(challenge)
    }

    fn answer(
        &mut self,
        _record: &mut dyn TokenRecord,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<Option<[u8; 40]>, AdminError> {
        let mut chip = self.chip();
        chip.fault()?;
        let super::Chip { admin, rng, .. } = &mut *chip;
        admin.answer(challenge, answer, rng)
    }

    fn replace_key(
        &mut self,
        record: &mut dyn TokenRecord,
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        let mut chip = self.chip();
        chip.fault()?;
        if !chip.admin.proved {
            return Err(TokenError::from(TokenErrorKind::NotAuthenticated).into());
        }
        record.save(with_vault(record.current()))?;
        chip.admin.set_key(**key);
        Ok(())
    }

    fn initialise_key(
        &mut self,
        record: &mut dyn TokenRecord,
        _first_value: &[u8; 32],
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        let mut chip = self.chip();
        chip.fault()?;
        record.save(with_vault(record.current()))?;
        chip.admin.set_key(**key);
        Ok(())
    }

    fn replace_first_value(
        &mut self,
        _record: &mut dyn TokenRecord,
        _first_value: &[u8; 32],
    ) -> Result<(), AdminError> {
        Ok(self.chip().fault()?)
    }

    fn end_administration(&mut self) {
        let mut chip = self.chip();
        chip.admin.proved = false;
        chip.puk_proved = false;
    }

    fn expire_administration(&mut self) {
        self.chip().tally.administration_looks += 1;
    }
}
