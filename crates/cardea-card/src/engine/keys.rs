//! Keys and certificates as doors other than APDUs see them, and keys taking their place in the record.
//!
//! Whatever is changed here is one write, together with the Windows tables and the counters of `cardcf`.

use zeroize::Zeroizing;

use super::security::Role;
use super::{Card, CardError, Connection, Failure};
use crate::event::Event;
use crate::gids::filesystem::{self, FileSystemError};
use crate::gids::{self, KEY_REFERENCES, KeyUsage};
use crate::record::{CardRecord, KeyRecord};
use crate::secret::PrivateKey;
use crate::token::{
    KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, PendingResult, PrivateOperation, TokenErrorKind,
};

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Name shown to people, 1 to 127 bytes without control characters; `None` = a random one.
    pub label: Option<String>,
    /// What RSA keys are offered for; elliptic-curve keys sign and agree on secrets.
    pub usage: KeyUsage,
    /// PIN once or every time.
    pub class: KeyClass,
    /// Identifier that a client chose for it, 1 to 255 bytes; `None` = the index of its container.
    pub id: Option<Vec<u8>>,
}

fn name_certificate(record: &mut CardRecord, reference: u8, label: Option<&str>) {
    let mut keys = record.keys.iter_mut();
    if let Some(key) = keys.find(|key| key.reference == reference) {
        key.certificate_label = label.map(str::to_owned);
    }
}

/// An operation of [`Card::begin_use`].
pub struct PendingOperation(PendingResult);

impl PendingOperation {
    /// Does it, and waits for its turn in the token.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`], to be told to [`Card::finish_use`].
    pub fn run(self) -> Result<Zeroizing<Vec<u8>>, CardError> {
        Ok((self.0)()?)
    }
}

impl From<FileSystemError> for CardError {
    fn from(error: FileSystemError) -> Self {
        match error {
            FileSystemError::Absent => Self::Conflict(error.to_string()),
            FileSystemError::Full => TokenErrorKind::Full.into(),
        }
    }
}

impl Card {
    /// Makes a key in the token; needs the PIN verified on this connection. Gives its reference.
    ///
    /// RSA keys get a container, so that every client sees them. Elliptic-curve keys, which no client can
    /// use through GIDS, are taken from the upper end of the references and stay out of the tables.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `Full` when 30 keys are there, `Unsupported`, and others;
    /// [`CardError::Conflict`] on a blank card; [`CardError::Store`].
    pub fn generate_key(
        &mut self,
        connection: &mut Connection,
        algorithm: KeyAlgorithm,
        new: &NewKey,
    ) -> Result<u8, CardError> {
        self.need_user(connection)?;
        let reference = self.free_reference(algorithm, new)?;
        if !self.token.supports(algorithm) {
            return Err(TokenErrorKind::Unsupported.into());
        }
        let key = self.token.generate(reference, algorithm, new.class)?;
        self.add_key(key, algorithm, new)
    }

    /// Takes a key that was made elsewhere; it is shown as imported for ever.
    ///
    /// # Errors
    ///
    /// As [`generate_key`](Self::generate_key); `BadData` when the key's parts do not fit each other.
    pub fn import_key(
        &mut self,
        connection: &mut Connection,
        key: &PrivateKey,
        new: &NewKey,
    ) -> Result<u8, CardError> {
        self.need_user(connection)?;
        let algorithm = key.algorithm();
        let reference = self.free_reference(algorithm, new)?;
        if !self.token.supports(algorithm) {
            return Err(TokenErrorKind::Unsupported.into());
        }
        let key = self.token.import(reference, key, new.class)?;
        self.add_key(key, algorithm, new)
    }

    /// Deletes a key, its file, its container and its certificate.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured` for an unknown reference;
    /// [`CardError::Store`].
    pub fn delete_key(
        &mut self,
        connection: &mut Connection,
        reference: u8,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        let index = self.index_of(reference)?;
        let key = self.key(reference).cloned();
        let mut record = self.record.clone();
        record.keys.retain(|key| key.reference != reference);
        let id = gids::files::key_file_id(reference);
        record.gids.files.retain(|file| file.id != id);
        filesystem::remove_certificate(&mut record.gids, index);
        filesystem::clear_container(&mut record.gids, index)?;
        self.commit(record)?;
        self.happened(Event::KeyDeleted(reference));
        if let Some(key) = key {
            self.token.forget(&key);
        }
        Ok(())
    }

    /// Uses a key; needs the PIN verified on this connection, for keys that want it every time just before.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured` for an unknown reference, `BadData`,
    /// `KeyUse` and others.
    pub fn use_key(
        &mut self,
        connection: &mut Connection,
        reference: u8,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        self.index_of(reference)?;
        self.need_user(connection)?;
        self.operate(connection, reference, operation)
            .map_err(|failure| match failure {
                Failure::Token(error) => {
                    if error.kind() == TokenErrorKind::NotAuthenticated {
                        self.end_all_verifications();
                    }
                    CardError::Token(error)
                }
                _ => TokenErrorKind::NotAuthenticated.into(),
            })
    }

    /// [`use_key`](Self::use_key) in two steps: who may is decided here, the work is done without the card, so
    /// that other connections are not kept waiting, and its end is told to [`finish_use`](Self::finish_use).
    ///
    /// # Errors
    ///
    /// As [`use_key`](Self::use_key), as far as it can be told without the TPM.
    pub fn begin_use(
        &mut self,
        connection: &mut Connection,
        reference: u8,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingOperation, CardError> {
        self.index_of(reference)?;
        self.need_user(connection)?;
        let key = self
            .record
            .keys
            .iter()
            .find(|key| key.reference == reference)
            .ok_or(TokenErrorKind::NotConfigured)?;
        if self.token.describe(key)?.class == KeyClass::Always {
            if !self.security.is_armed_by(&connection.mark) {
                return Err(TokenErrorKind::NotAuthenticated.into());
            }
            self.security.disarm();
        }
        let pending = self.token.begin(key, operation)?;
        self.happened(Event::KeyUsed(reference));
        Ok(PendingOperation(pending))
    }

    /// What a failed operation means for who is verified.
    pub fn finish_use(&mut self, error: &CardError) {
        if let CardError::Token(error) = error
            && error.kind() == TokenErrorKind::NotAuthenticated
        {
            self.end_all_verifications();
        }
    }

    /// Name of a key for people: its own label, else its container's.
    #[must_use]
    pub fn key_label(&self, reference: u8) -> Option<String> {
        let key = self.key(reference)?;
        key.label.clone().or_else(|| {
            let index = self.index_of(reference).ok()?;
            Some(filesystem::container(&self.record.gids, index)?.name)
        })
    }

    /// Identifier of a key for PKCS#11 clients: one of their own, else the index of its container, which
    /// OpenSC shows.
    #[must_use]
    pub fn key_id(&self, reference: u8) -> Option<Vec<u8>> {
        let key = self.key(reference)?;
        let index = self.index_of(reference).ok()?;
        Some(key.client_id.clone().unwrap_or_else(|| vec![index]))
    }

    /// What the Windows tables offer a key for; elliptic-curve keys, which are not in them, for all they can.
    #[must_use]
    pub fn key_usage(&self, reference: u8) -> KeyUsage {
        self.index_of(reference)
            .ok()
            .and_then(|index| filesystem::usage(&self.record.gids, index))
            .unwrap_or(KeyUsage::Exchange)
    }

    /// Gives a key another name (1 to 127 bytes without control characters) or identifier (1 to 255 bytes).
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`; [`CardError::Store`].
    pub fn rename_key(
        &mut self,
        connection: &mut Connection,
        reference: u8,
        label: Option<&str>,
        id: Option<&[u8]>,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        let index = self.index_of(reference)?;
        let mut record = self.record.clone();
        let contained = filesystem::container(&record.gids, index).is_some();
        if let Some(label) = label
            && contained
        {
            filesystem::rename_container(&mut record.gids, index, label)?;
        }
        if let Some(key) = record
            .keys
            .iter_mut()
            .find(|key| key.reference == reference)
        {
            if let Some(label) = label {
                let whole = contained && filesystem::fits_container(label);
                key.label = (!whole).then(|| label.to_owned());
            }
            if let Some(id) = id {
                key.client_id = (*id != [index]).then(|| id.to_vec());
            }
        }
        Ok(self.commit(record)?)
    }

    /// The certificate of a key, DER, whoever stored it; none when the file is not a certificate.
    #[must_use]
    pub fn certificate(&self, reference: u8) -> Option<Vec<u8>> {
        filesystem::certificate(&self.record.gids, self.index_of(reference).ok()?)
    }

    /// Stores the certificate of a key, DER of at most 64 KiB, in place of an earlier one. That it belongs to
    /// the key is the caller's to check. Without a name (1 to 127 bytes without control characters) it has the key's.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`, `Full`; [`CardError::Conflict`] on a blank
    /// card; [`CardError::Store`].
    pub fn store_certificate(
        &mut self,
        connection: &mut Connection,
        reference: u8,
        der: &[u8],
        label: Option<&str>,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        let index = self.index_of(reference)?;
        let mut record = self.record.clone();
        filesystem::store_certificate(&mut record.gids, index, der)?;
        name_certificate(&mut record, reference, label);
        record.certificates_written = record.certificates_written.saturating_add(1);
        Ok(self.commit(record)?)
    }

    /// Removes the certificate of a key. False: there was none.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`; [`CardError::Store`].
    pub fn delete_certificate(
        &mut self,
        connection: &mut Connection,
        reference: u8,
    ) -> Result<bool, CardError> {
        self.need_user(connection)?;
        let index = self.index_of(reference)?;
        let mut record = self.record.clone();
        let removed = filesystem::remove_certificate(&mut record.gids, index);
        name_certificate(&mut record, reference, None);
        self.commit(record)?;
        Ok(removed)
    }

    /// Name that a client gave a key's certificate; `None` = it has the key's.
    #[must_use]
    pub fn certificate_label(&self, reference: u8) -> Option<&str> {
        self.key(reference)?.certificate_label.as_deref()
    }

    /// Gives a key's certificate another name.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`; [`CardError::Store`].
    pub fn rename_certificate(
        &mut self,
        connection: &mut Connection,
        reference: u8,
        label: &str,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        self.index_of(reference)?;
        let mut record = self.record.clone();
        name_certificate(&mut record, reference, Some(label));
        Ok(self.commit(record)?)
    }

    pub(super) fn need_user(&mut self, connection: &Connection) -> Result<(), CardError> {
        self.expire();
        if !self.has_role(connection, Role::User) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        self.touch(connection);
        Ok(())
    }

    /// Container index of a key that is there.
    fn index_of(&self, reference: u8) -> Result<u8, CardError> {
        let first = *KEY_REFERENCES.start();
        self.key(reference)
            .and_then(|_| reference.checked_sub(first))
            .ok_or_else(|| TokenErrorKind::NotConfigured.into())
    }

    /// The one whose index is the client's identifier, if it can be: then all doors show the same.
    fn free_reference(&self, algorithm: KeyAlgorithm, new: &NewKey) -> Result<u8, CardError> {
        let free = |reference: &u8| {
            let index = reference - KEY_REFERENCES.start();
            gids::files::find(self, gids::files::key_file_id(*reference)).is_none()
                && self.key(*reference).is_none()
                && filesystem::container(&self.record.gids, index).is_none()
        };
        if let Some(&[index]) = new.id.as_deref()
            && let Some(reference) = KEY_REFERENCES.start().checked_add(index)
            && KEY_REFERENCES.contains(&reference)
            && free(&reference)
        {
            return Ok(reference);
        }
        match algorithm {
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => KEY_REFERENCES.rev().find(free),
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => KEY_REFERENCES.clone().find(free),
        }
        .ok_or_else(|| TokenErrorKind::Full.into())
    }

    fn add_key(
        &mut self,
        mut key: KeyRecord,
        algorithm: KeyAlgorithm,
        new: &NewKey,
    ) -> Result<u8, CardError> {
        let reference = key.reference;
        let name = match &new.label {
            Some(label) => label.clone(),
            None => self.random_name(),
        };
        // One truth: where the container's name says it all, it alone does.
        let curve = matches!(algorithm, KeyAlgorithm::P256 | KeyAlgorithm::P384);
        key.label = new
            .label
            .clone()
            .filter(|label| curve || !filesystem::fits_container(label));
        key.client_id = new
            .id
            .clone()
            .filter(|id| *id != [reference - KEY_REFERENCES.start()]);
        let file = gids::key_file::new_key_file(reference, algorithm, new.usage, new.class);
        let usage = new.usage;
        self.place_key(key, |record| {
            record.gids.files.push(file);
            if !curve {
                let index = reference - KEY_REFERENCES.start();
                filesystem::set_container(&mut record.gids, index, &name, algorithm, usage)?;
            }
            Ok(())
        })?;
        Ok(reference)
    }

    /// As Windows names containers: a random GUID (RFC 9562 §5.4).
    fn random_name(&mut self) -> String {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        let number = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
        let digits = format!("{number:032x}");
        let part = |range| digits.get(range).unwrap_or_default();
        [
            part(0..8),
            part(8..12),
            part(12..16),
            part(16..20),
            part(20..32),
        ]
        .join("-")
    }

    /// A key that was just made takes its place. The one before works until the new one is saved.
    pub(crate) fn install_key(&mut self, key: KeyRecord) -> Result<KeyInfo, Failure> {
        Ok(self.place_key(key, |_| Ok(()))?)
    }

    fn place_key(
        &mut self,
        key: KeyRecord,
        arrange: impl FnOnce(&mut CardRecord) -> Result<(), CardError>,
    ) -> Result<KeyInfo, CardError> {
        let replaced = self.key(key.reference).cloned();
        let placed = self
            .token
            .describe(&key)
            .map_err(CardError::from)
            .and_then(|info| {
                let mut record = self.record.clone();
                record.keys.retain(|old| old.reference != key.reference);
                record.keys.push(key.clone());
                gids::life_cycle::key_loaded(&mut record.gids, key.reference);
                arrange(&mut record)?;
                self.commit(record)?;
                Ok(info)
            });
        if let Ok(info) = &placed {
            self.happened(match info.origin {
                KeyOrigin::Generated => Event::KeyGenerated(key.reference),
                KeyOrigin::Imported => Event::KeyImported(key.reference),
            });
        }
        match (&placed, replaced) {
            (Ok(_), Some(old)) => self.token.forget(&old),
            (Ok(_), None) => {}
            (Err(_), _) => self.token.forget(&key),
        }
        placed
    }

    /// The key goes, its file stays.
    pub(crate) fn erase_key(&mut self, reference: u8) -> Result<(), Failure> {
        let Some(key) = self.key(reference).cloned() else {
            return Ok(());
        };
        let mut record = self.record.clone();
        record.keys.retain(|old| old.reference != reference);
        gids::life_cycle::key_erased(&mut record.gids, reference);
        self.commit(record)?;
        self.happened(Event::KeyDeleted(reference));
        self.token.forget(&key);
        Ok(())
    }

    /// The administrator's key file has its key.
    pub(crate) fn admin_key_loaded(&mut self) -> Result<(), Failure> {
        let mut record = self.record.clone();
        gids::life_cycle::key_loaded(&mut record.gids, gids::ADMIN_KEY);
        Ok(self.commit(record)?)
    }
}
