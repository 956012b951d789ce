//! The card's keys: which there are, how new ones take their places, how they go.
//!
//! A key comes and goes in one write, with whatever applications keep about it.

use super::Card;
use super::error::CardError;
use crate::event::Event;
use crate::key_number::KeyNumber;
use crate::record::{CardRecord, KeyRecord};
use crate::secret::PrivateKey;
use crate::token::{
    KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, RecoveryKey, TokenError, TokenErrorKind,
};

/// What a new key is made of.
#[derive(Clone, Copy)]
pub(crate) enum Material<'a> {
    /// By the token itself.
    Generated(KeyAlgorithm),
    /// Elsewhere; it is shown as imported for as long as it is there.
    Imported(&'a PrivateKey),
    /// By the token, which makes copies of it for the holders of these keys.
    Recoverable(KeyAlgorithm, &'a [RecoveryKey]),
}

impl Material<'_> {
    pub(crate) fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Generated(algorithm) | Self::Recoverable(algorithm, _) => algorithm,
            Self::Imported(key) => key.algorithm(),
        }
    }
}

impl Card {
    /// The card's keys, by number.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`] if the token does not accept a key's public area.
    pub fn keys(&self) -> Result<Vec<(KeyNumber, KeyInfo)>, CardError> {
        self.record
            .keys
            .iter()
            .map(|key| Ok((key.number(), self.token.describe(key)?)))
            .collect()
    }

    pub(crate) fn describe(&self, key: &KeyRecord) -> Result<KeyInfo, CardError> {
        Ok(self.token.describe(key)?)
    }

    pub(crate) fn supports(&self, algorithm: KeyAlgorithm) -> bool {
        self.token.supports(algorithm)
    }

    /// The algorithms of keys that the token makes and takes.
    #[must_use]
    pub fn algorithms(&self) -> Vec<KeyAlgorithm> {
        let all = KeyAlgorithm::ALL.into_iter();
        all.filter(|algorithm| self.supports(*algorithm)).collect()
    }

    /// The refusal of a key that the token can neither make nor take: it names those that it can.
    fn unsupported(&self, algorithm: KeyAlgorithm) -> TokenError {
        let others: Vec<_> = self.algorithms().iter().map(|it| it.word()).collect();
        match others.as_slice() {
            // The token cannot be asked at the moment.
            [] => TokenErrorKind::Unsupported.into(),
            others => TokenError::new(
                TokenErrorKind::Unsupported,
                format!("no {} keys, only {}", algorithm.word(), others.join(", ")),
            ),
        }
    }

    /// Makes a key, in place of an earlier one of this number, which works until the new one is saved.
    /// Who may is decided by the caller. `arrange` changes what else of the record belongs to it.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`], [`CardError::Store`], and those of `arrange`; the card is as before then.
    pub(crate) fn make_key(
        &mut self,
        number: KeyNumber,
        material: Material<'_>,
        class: KeyClass,
        arrange: impl FnOnce(&mut CardRecord) -> Result<(), CardError>,
    ) -> Result<KeyInfo, CardError> {
        let key = self.make_object(number.get(), material, class)?;
        self.keep_key(&key, arrange)
            .inspect_err(|_| self.token.forget(&key))
    }

    /// Makes a key in the token, which is not yet anybody's: whoever does not keep it has the token forget it.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`].
    pub(super) fn make_object(
        &mut self,
        number: u8,
        material: Material<'_>,
        class: KeyClass,
    ) -> Result<KeyRecord, CardError> {
        if !self.supports(material.algorithm()) {
            return Err(self.unsupported(material.algorithm()).into());
        }
        Ok(match material {
            Material::Generated(algorithm) => self.token.generate(number, algorithm, class)?,
            Material::Imported(key) => self.token.import(number, key, class)?,
            Material::Recoverable(algorithm, keys) => self
                .token
                .generate_recoverable(number, algorithm, class, keys)?,
        })
    }

    /// Makes a TPM object one of the card's keys, in place of an earlier one of its number.
    ///
    /// # Errors
    ///
    /// As [`make_key`](Self::make_key).
    pub(crate) fn keep_key(
        &mut self,
        key: &KeyRecord,
        arrange: impl FnOnce(&mut CardRecord) -> Result<(), CardError>,
    ) -> Result<KeyInfo, CardError> {
        let number = key.number();
        let replaced = self.record.key(number).cloned();
        let info = self.place_key(key, arrange)?;
        self.happened(match info.origin {
            KeyOrigin::Generated => Event::KeyGenerated(number),
            KeyOrigin::Imported => Event::KeyImported(number),
        });
        if let Some(old) = replaced {
            self.token.forget(&old);
        }
        Ok(info)
    }

    fn place_key(
        &mut self,
        key: &KeyRecord,
        arrange: impl FnOnce(&mut CardRecord) -> Result<(), CardError>,
    ) -> Result<KeyInfo, CardError> {
        let info = self.token.describe(key)?;
        let mut record = self.record.clone();
        record.keys.retain(|old| old.number() != key.number());
        record.keys.push(key.clone());
        arrange(&mut record)?;
        self.commit(record)?;
        Ok(info)
    }

    /// Removes keys. Who may is decided by the caller. `arrange` changes what else of the record goes with them; it
    /// is called even when there is no such key.
    ///
    /// # Errors
    ///
    /// [`CardError::Store`], and those of `arrange`; the card is as before then.
    pub(crate) fn remove_keys(
        &mut self,
        which: impl Fn(KeyNumber) -> bool,
        arrange: impl FnOnce(&mut CardRecord) -> Result<(), CardError>,
    ) -> Result<(), CardError> {
        let mut record = self.record.clone();
        let keys = std::mem::take(&mut record.keys);
        let (gone, kept): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| which(key.number()));
        record.keys = kept;
        arrange(&mut record)?;
        self.commit(record)?;
        for key in gone {
            self.happened(Event::KeyDeleted(key.number()));
            self.token.forget(&key);
        }
        Ok(())
    }
}
