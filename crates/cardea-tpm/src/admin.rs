//! The administrator of a card, who is known by answers alone: the vault, its rotation, a new admin key.
//!
//! The steps that touch the TPM and the card file keep this order: the file with the old and the new vault,
//! the TPM, the file with the new vault. After an interruption the TPM has one of the two values, and both
//! vaults can be asked.

use std::time::Instant;

use cardea_card::record::{IndexRole, ObjectBlob, TpmRecord, Vault, VaultKind};
use cardea_card::secret::{AdminKeyBytes, Held};
use cardea_card::token::{
    AdminAnswer, AdminAuthority, AdminError, AdminForm, PinError, TokenError, TokenErrorKind,
    TokenRecord, Unblocker,
};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::auth::AuthValue;
use crate::counter_object;
use crate::error::TpmError;
use crate::operate;
use crate::policy::ApprovalId;
use crate::proof::{self, AdminWork, Proof};
use crate::random::random;
use crate::seal::seal;
use crate::token::CardToken;
use crate::vault::{self, AdminKey};
use crate::verdict::Verdict;

/// A vault that may be the TPM's, with the sealed key that belongs to it.
struct Candidate {
    vault: Vault,
    sealed: Option<ObjectBlob>,
}

/// The vaults to try, the newest first.
fn candidates(record: &TpmRecord) -> Vec<Candidate> {
    let newest = record.vault.iter().map(|vault| Candidate {
        vault: vault.clone(),
        sealed: record.sealed_key.clone(),
    });
    let previous = record.previous_vault.iter().map(|vault| Candidate {
        vault: vault.clone(),
        sealed: record
            .previous_sealed_key
            .clone()
            .or_else(|| record.sealed_key.clone()),
    });
    newest.chain(previous).collect()
}

/// Challenges of a form that every vault in the file has: whichever the TPM has, it can judge the answer.
fn common_challenges(vaults: &[Candidate], kind: VaultKind) -> Vec<Vec<u8>> {
    let Some((first, others)) = vaults.split_first() else {
        return Vec::new();
    };
    first
        .vault
        .entries
        .iter()
        .filter(|entry| {
            entry.kind == kind
                && others
                    .iter()
                    .all(|other| other.vault.has(kind, &entry.challenge))
        })
        .map(|entry| entry.challenge.clone())
        .collect()
}

fn kind_of(form: AdminForm) -> VaultKind {
    match form {
        AdminForm::External => VaultKind::External,
        AdminForm::Mutual => VaultKind::Mutual,
    }
}

fn random_value() -> AuthValue {
    let mut value = AuthValue::zeroed();
    random(&mut *value);
    value
}

fn refused(kind: TokenErrorKind) -> AdminError {
    AdminError::Token(kind.into())
}

impl AdminAuthority for CardToken {
    fn challenge(&mut self, record: &TpmRecord, form: AdminForm) -> Result<Vec<u8>, TokenError> {
        if record.vault.is_none() {
            return Err(TokenErrorKind::NotConfigured.into());
        }
        let mut pool = common_challenges(&candidates(record), kind_of(form));
        if pool.is_empty() {
            return Err(TokenErrorKind::Full.into());
        }
        let mut draw = [0; 4];
        random(&mut draw);
        let position = u32::from_be_bytes(draw) as usize % pool.len();
        Ok(pool.swap_remove(position))
    }

    fn answer(
        &mut self,
        record: &mut dyn TokenRecord,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<Option<[u8; 40]>, AdminError> {
        if record.current().vault.is_some() {
            // Before anything: an answer that comes too soon costs nothing, neither itself nor an earlier one.
            self.wait_for_turn(record.current())?;
        }
        self.end_administration();
        let answered = self.judge_and_rotate(record, challenge, answer);
        match &answered {
            Ok((proof, _)) => self.administration.proof = Some(*proof),
            Err(_) => {
                self.administration.value = None;
                self.drop_grants();
            }
        }
        answered.map(|(_, reply)| reply)
    }

    fn replace_key(
        &mut self,
        record: &mut dyn TokenRecord,
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        if !self.administration.is_fresh() {
            return Err(refused(TokenErrorKind::NotAuthenticated));
        }
        let before = record.current().clone();
        let vaults = candidates(&before);
        let unused =
            [VaultKind::External, VaultKind::Mutual].map(|kind| common_challenges(&vaults, kind));
        let value = random_value();
        let (vault, sealed) = self.make_vault(key, &value, &unused)?;
        if let Some(present) = self.administration.value.clone() {
            let changed = TpmRecord {
                vault: Some(vault),
                sealed_key: Some(sealed),
                ..before
            };
            self.replace_in_object(record, changed, &present, value.clone())?;
            self.administration.value = Some(value);
            return Ok(());
        }
        record.save(TpmRecord {
            vault: Some(vault),
            previous_vault: before.vault.clone(),
            sealed_key: Some(sealed),
            previous_sealed_key: before.sealed_key.clone(),
            ..before.clone()
        })?;
        let replaced = self.run(move |core, card, anchor| {
            proof::replace_value(core, card, anchor, ApprovalId::A0, &value)
        });
        if let Err(error) = replaced {
            if error.kind() == TokenErrorKind::NotAuthenticated {
                // The TPM was not asked: it has the old value, and the file need not doubt it.
                record.save(before)?;
            }
            return Err(error.into());
        }
        self.forget_previous(record);
        Ok(())
    }

    fn initialise_key(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        let first = AuthValue::copy_of(first_value);
        let proved = self.prove_first(&first)?;
        self.drop_grants();
        if proved.is_err() {
            // An activation was interrupted after the TPM had its new value.
            self.forget_previous(record);
            return Err(AdminError::Wrong);
        }
        let (vault, sealed) = self.make_vault(key, &first, &[Vec::new(), Vec::new()])?;
        record.save(TpmRecord {
            vault: Some(vault),
            previous_vault: None,
            sealed_key: Some(sealed),
            previous_sealed_key: None,
            ..record.current().clone()
        })?;
        Ok(())
    }

    fn replace_first_value(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
    ) -> Result<(), AdminError> {
        let first = AuthValue::copy_of(first_value);
        if self.prove_first(&first)?.is_err() {
            // Interrupted after the TPM had its new value.
            self.forget_previous(record);
            return Ok(());
        }
        let value = random_value();
        let before = record.current().clone();
        // Interrupted before the TPM had its new value, the vault is for that one, and the previous one for the first.
        let vaults = [&before.vault, &before.previous_vault];
        let rotated = vaults.into_iter().flatten().find_map(|vault| {
            let rotated = vault::rotate(vault, |_| true, &first, &value, &mut random).ok()?;
            Some((rotated, vault.clone()))
        });
        let (vault, previous_vault) = match rotated {
            Some((rotated, accepted)) => (Some(rotated), Some(accepted)),
            None if before.vault.is_none() => (None, None),
            None => {
                tracing::error!(
                    "the card has no administrator: its vault was changed by another program"
                );
                (Some(vault::closed()), before.vault.clone())
            }
        };
        if self.anchor.has_objects() {
            let changed = TpmRecord { vault, ..before };
            return self.replace_in_object(record, changed, &first, value);
        }
        record.save(TpmRecord {
            vault,
            previous_vault,
            ..before
        })?;
        self.run(move |core, card, anchor| {
            proof::replace_value(core, card, anchor, ApprovalId::A0, &value)
        })?;
        self.forget_previous(record);
        Ok(())
    }

    fn end_administration(&mut self) {
        self.administration.value = None;
        let administrator = self.administration.proof.take();
        let puk = self.puk_proof.take();
        if administrator.is_some() || puk.is_some() {
            self.drop_grants();
        }
    }

    fn expire_administration(&mut self) {
        self.administration.expire();
    }
}

impl CardToken {
    /// The whole of an answer: judged, its value replaced by another, the card's reply made.
    fn judge_and_rotate(
        &mut self,
        record: &mut dyn TokenRecord,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<(Proof, Option<[u8; 40]>), AdminError> {
        let (kind, response) = match &answer {
            AdminAnswer::External(answer) => (VaultKind::External, answer.as_slice()),
            AdminAnswer::Mutual { cryptogram, .. } => {
                (VaultKind::Mutual, cryptogram.split_at(16).0)
            }
        };
        let vaults = candidates(record.current());
        if vaults.is_empty() {
            return Err(refused(TokenErrorKind::NotConfigured));
        }
        if !common_challenges(&vaults, kind)
            .iter()
            .any(|known| known == challenge)
        {
            return Err(refused(TokenErrorKind::NotAuthenticated));
        }
        let (position, value, proof) =
            self.judge_answer(record, &vaults, kind, challenge, response)?;
        let Some(accepted) = vaults.get(position) else {
            return Err(refused(TokenErrorKind::Internal));
        };
        // With the mutual form the admin key is at hand for a moment: to check the host's part, to answer,
        // and to refill the vault.
        let mut mutual = match &answer {
            AdminAnswer::External(_) => Ok(None),
            AdminAnswer::Mutual { host, cryptogram } => self
                .unseal_key(accepted, challenge, response)
                .map(|(key, mask)| {
                    let card = challenge.try_into().ok();
                    let reply = card
                        .and_then(|card| key.answer_mutual(card, host, cryptogram, &mut random));
                    Some((key, mask, reply))
                }),
        };
        let at_hand = match &mut mutual {
            Ok(Some((key, mask, Some(_)))) => Some((&*key, &*mask)),
            _ => None,
        };
        self.rotate(record, &vaults, position, challenge, &value, at_hand)?;
        let reply = match mutual? {
            None => None,
            Some((_, _, Some(reply))) => Some(reply),
            // The first block was right and the rest was not: the entry is spent.
            Some((_, _, None)) => return Err(AdminError::Wrong),
        };
        Ok((proof, reply))
    }

    /// Refuses an answer that comes too soon after wrong ones. The count is the TPM's, so that a restart
    /// does not help.
    fn wait_for_turn(&mut self, record: &TpmRecord) -> Result<(), AdminError> {
        if self.administration.failures.is_none() {
            self.count_failures(record)?;
        }
        let left = self
            .administration
            .next
            .map(|next| next.saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero());
        match left {
            None => Ok(()),
            Some(left) => Err(AdminError::Delayed {
                seconds: u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX),
            }),
        }
    }

    /// Ends what authorities have approved. Waits: when it returns, nothing is left of it.
    pub(crate) fn drop_grants(&self) {
        drop(self.run(|core, card, _| {
            core.drop_grants(card);
            Ok(())
        }));
    }

    fn prove_first(&self, first: &AuthValue) -> Result<Result<Proof, Verdict>, TokenError> {
        let first = first.clone();
        self.run(move |core, card, anchor| {
            core.drop_grants(card);
            proof::prove_admin(core, card, anchor, &first, AdminWork::Replacement)
        })
    }

    /// Replaces the administrator's object by one with another value, and with it what else of the record belongs to
    /// that value, in one write.
    fn replace_in_object(
        &mut self,
        record: &mut dyn TokenRecord,
        changed: TpmRecord,
        present: &AuthValue,
        new: AuthValue,
    ) -> Result<(), AdminError> {
        let present = present.clone();
        let object = self.run(move |core, card, anchor| {
            let adm = anchor
                .index(IndexRole::Adm)
                .ok_or_else(|| TpmError::Lost("the card has no administrator".into()))?;
            counter_object::change(core, card, anchor, adm, &present, &new)
        })?;
        let object = object.map_err(|_| AdminError::Wrong)?;
        let changed = counter_object::with_counter(&changed, IndexRole::Adm, 0, Some(object));
        record.save(changed)?;
        self.take_objects(record.current());
        Ok(())
    }

    fn count_failures(&mut self, record: &TpmRecord) -> Result<(), TokenError> {
        let status = match self.anchor.is_counted_in_file() {
            true => self.tries(record, IndexRole::Adm),
            false => self.run(|core, card, anchor| {
                operate::read_counter(core, card, anchor, IndexRole::Adm)
            }),
        };
        let failures = match status {
            Err(error) if error.kind() == TokenErrorKind::CountHidden => {
                self.administration.hidden_failures()
            }
            status => status.map(|status| status.limit.saturating_sub(status.left))?,
        };
        #[cfg(feature = "weakened")]
        let failures = if weakened::has(Weakness::ForgottenFailures) {
            self.administration.failures.map_or(0, |known| known + 1)
        } else {
            failures
        };
        self.administration.count(failures);
        Ok(())
    }

    /// Every answer gives a candidate for the admin value, and the TPM decides and counts.
    fn judge_answer(
        &mut self,
        record: &mut dyn TokenRecord,
        vaults: &[Candidate],
        kind: VaultKind,
        challenge: &[u8],
        response: &[u8],
    ) -> Result<(usize, AuthValue, Proof), AdminError> {
        let work = match kind {
            VaultKind::External => AdminWork::Answer,
            VaultKind::Mutual => AdminWork::MutualAnswer,
        };
        for (position, candidate) in vaults.iter().enumerate() {
            let entry = candidate.vault.entry(kind, challenge);
            let value = entry.and_then(|entry| vault::candidate(&candidate.vault, entry, response));
            let Some(value) = value else {
                continue;
            };
            match self.prove_administrator(record, &value, work)? {
                Ok(proof) => {
                    self.administration.count(0);
                    self.administration.value = self.anchor.has_objects().then(|| value.clone());
                    return Ok((position, value, proof));
                }
                Err(Verdict::Blocked) => {
                    tracing::error!("the administrator is shut out for good by wrong answers");
                    break;
                }
                Err(Verdict::Right | Verdict::Wrong) => {}
            }
        }
        self.count_failures(record.current())?;
        Err(AdminError::Wrong)
    }

    fn prove_administrator(
        &mut self,
        record: &mut dyn TokenRecord,
        value: &AuthValue,
        work: AdminWork,
    ) -> Result<Result<Proof, Verdict>, AdminError> {
        let shown = value.clone();
        let prove = move |token: &mut Self| {
            token
                .run(move |core, card, anchor| proof::prove_admin(core, card, anchor, &shown, work))
        };
        if !self.anchor.is_counted_in_file() {
            return Ok(prove(self)?);
        }
        match self.compare_counted(record, IndexRole::Adm, prove) {
            Ok(proof) => Ok(Ok(proof)),
            Err(PinError::Blocked) => Ok(Err(Verdict::Blocked)),
            Err(PinError::Wrong { .. }) => Ok(Err(Verdict::Wrong)),
            Err(PinError::Store(error)) => Err(error.into()),
            Err(PinError::Token(error)) => Err(error.into()),
            Err(_) => Err(refused(TokenErrorKind::Internal)),
        }
    }

    /// The admin key, from what the TPM has sealed and what only this answer opens.
    fn unseal_key(
        &self,
        accepted: &Candidate,
        challenge: &[u8],
        response: &[u8],
    ) -> Result<(AdminKey, Held<24>), AdminError> {
        let entry = accepted.vault.entry(VaultKind::Mutual, challenge);
        let mask = entry.and_then(|entry| vault::mask(&accepted.vault, entry, response));
        let (Some(mask), Some(sealed)) = (mask, accepted.sealed.clone()) else {
            return Err(refused(TokenErrorKind::Internal));
        };
        let masked =
            self.run(move |core, card, anchor| proof::unseal(core, card, anchor, &sealed))?;
        Ok((AdminKey::unmasked(&masked, &mask), mask))
    }

    /// Replaces the admin value, so that an older file with the answer just given opens nothing.
    fn rotate(
        &mut self,
        record: &mut dyn TokenRecord,
        vaults: &[Candidate],
        position: usize,
        challenge: &[u8],
        value: &AuthValue,
        at_hand: Option<(&AdminKey, &Held<24>)>,
    ) -> Result<(), AdminError> {
        let Some(accepted) = vaults.get(position) else {
            return Err(refused(TokenErrorKind::Internal));
        };
        let common = |kind, known: &[u8]| vaults.iter().all(|other| other.vault.has(kind, known));
        // Another value would not take an object's present one from an older file.
        let in_object = self.anchor.has_objects();
        let new = if in_object {
            value.clone()
        } else {
            random_value()
        };
        #[cfg(feature = "weakened")]
        let new = if weakened::has(Weakness::NoRotation) {
            value.clone()
        } else {
            new
        };
        let rotated = vault::rotate(
            &accepted.vault,
            |entry| entry.challenge != challenge && common(entry.kind, &entry.challenge),
            value,
            &new,
            &mut random,
        );
        let mut damaged = false;
        let vault = match (rotated, at_hand) {
            (Ok(mut vault), Some((key, mask))) => {
                vault::refill(&mut vault, key, &new, mask, &mut random);
                Some(vault)
            }
            (Ok(vault), None) => Some(vault),
            (Err(error), Some((key, mask))) => {
                tracing::error!(error = %error, "the admin vault is made anew");
                Some(vault::make_vault(key, &new, mask, &[], &mut random))
            }
            (Err(error), None) => {
                // Re-encrypting would hand the new value to whoever changed the vault.
                tracing::error!(error = %error, "the card no longer has an administrator");
                damaged = true;
                None
            }
        };
        record.save(TpmRecord {
            vault: vault.or_else(|| Some(vault::closed())),
            previous_vault: (!in_object).then(|| accepted.vault.clone()),
            sealed_key: accepted.sealed.clone(),
            previous_sealed_key: None,
            ..record.current().clone()
        })?;
        if !in_object {
            self.run(move |core, card, anchor| {
                proof::replace_value(core, card, anchor, ApprovalId::A0, &new)
            })?;
            self.forget_previous(record);
        }
        if damaged {
            return Err(refused(TokenErrorKind::Lost));
        }
        Ok(())
    }

    /// The TPM has the new value. If the file cannot be written now, it names both, and the next answer
    /// finds out.
    fn forget_previous(&self, record: &mut dyn TokenRecord) {
        let saved = record.save(TpmRecord {
            previous_vault: None,
            previous_sealed_key: None,
            ..record.current().clone()
        });
        if let Err(error) = saved {
            tracing::warn!(error = %error, "the previous admin vault is still in the card file");
        }
    }

    /// A vault for this key and value, and the key sealed. Challenges that are not answered yet are taken
    /// over: whichever key the host uses, the answer is judged by the value that the TPM has.
    fn make_vault(
        &self,
        key: &AdminKeyBytes,
        value: &AuthValue,
        unused: &[Vec<Vec<u8>>; 2],
    ) -> Result<(Vault, ObjectBlob), AdminError> {
        let key = AdminKey::new(&**key).map_err(|_| refused(TokenErrorKind::BadData))?;
        let mut mask = Held::zeroed();
        random(&mut *mask);
        let unused: Vec<_> = unused.iter().flatten().map(Vec::as_slice).collect();
        let vault = vault::make_vault(&key, value, &mask, &unused, &mut random);
        let masked = key.masked(&mask);
        let sealed = self.run(move |core, _, anchor| {
            operate::require_own_tpm(core, anchor)?;
            let adm = anchor
                .index(IndexRole::Adm)
                .ok_or_else(|| TpmError::Lost("the card has no administrator".into()))?;
            seal(core, &adm.name, &masked)
        })?;
        Ok((vault, sealed))
    }

    /// Whether this authority was proven less than a minute ago.
    pub(crate) fn is_proven(&self, by: Unblocker) -> bool {
        match by {
            Unblocker::Admin => self.administration.is_fresh(),
            Unblocker::Puk => self.puk_proof.is_some_and(Proof::is_fresh),
        }
    }
}
