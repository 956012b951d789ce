//! Keys: new ones, their names and identifiers, and their end.

use crate::engine::{
    Card, CardError, Catalogue, Connection, KeyUsage, Material, NewKey, SessionKeyId,
};
use crate::key_number::KeyNumber;
use crate::record::{CardRecord, KeyRecord};
use crate::secret::PrivateKey;
use crate::token::{KeyAlgorithm, RecoveryKey, TokenErrorKind};

impl Card {
    /// Makes a key in the token; needs the PIN verified on this connection. Gives its number.
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
    ) -> Result<KeyNumber, CardError> {
        self.add_key(connection, Material::Generated(algorithm), new)
    }

    /// Like [`generate_key`](Self::generate_key), with copies for the holders of these keys.
    ///
    /// # Errors
    ///
    /// As [`generate_key`](Self::generate_key); `BadData` without such keys, with more than 7, and for one twice.
    pub fn generate_recoverable_key(
        &mut self,
        connection: &mut Connection,
        algorithm: KeyAlgorithm,
        new: &NewKey,
        keys: &[RecoveryKey],
    ) -> Result<KeyNumber, CardError> {
        self.add_key(connection, Material::Recoverable(algorithm, keys), new)
    }

    /// Takes a key that was made elsewhere; it is permanently shown as imported.
    ///
    /// # Errors
    ///
    /// As [`generate_key`](Self::generate_key); `BadData` when the key's parts do not fit each other.
    pub fn import_key(
        &mut self,
        connection: &mut Connection,
        key: &PrivateKey,
        new: &NewKey,
    ) -> Result<KeyNumber, CardError> {
        self.add_key(connection, Material::Imported(key), new)
    }

    /// Makes a session key one of the card's keys, too. Gives its number.
    ///
    /// # Errors
    ///
    /// As [`generate_key`](Self::generate_key); `NotConfigured` if there is no such session key.
    pub fn keep_session_key(
        &mut self,
        connection: &mut Connection,
        key: SessionKeyId,
        new: &NewKey,
    ) -> Result<KeyNumber, CardError> {
        self.need_user(connection)?;
        let object = self.session_key_object(key)?.clone();
        let algorithm = self.describe(&object)?.algorithm;
        let (number, name) = self.place_of(algorithm, new)?;
        let object = KeyRecord {
            reference: number.get(),
            ..object
        };
        self.keep_key(
            &object,
            entry(self.catalogue(), number, algorithm, new, &name),
        )?;
        Ok(number)
    }

    fn add_key(
        &mut self,
        connection: &Connection,
        material: Material<'_>,
        new: &NewKey,
    ) -> Result<KeyNumber, CardError> {
        self.need_user(connection)?;
        let algorithm = material.algorithm();
        let (number, name) = self.place_of(algorithm, new)?;
        let entry = entry(self.catalogue(), number, algorithm, new, &name);
        self.make_key(number, material, new.class, entry)?;
        Ok(number)
    }

    /// A free number and the name of a new key.
    fn place_of(
        &mut self,
        algorithm: KeyAlgorithm,
        new: &NewKey,
    ) -> Result<(KeyNumber, String), CardError> {
        let number = self
            .catalogue()
            .free_number(self.record(), algorithm, new.id.as_deref())
            .ok_or(TokenErrorKind::Full)?;
        let name = match &new.label {
            Some(label) => label.clone(),
            None => self.random_name(),
        };
        Ok((number, name))
    }

    /// Deletes a key, its entry in the catalogue and its certificate.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured` for an unknown number;
    /// [`CardError::Store`].
    pub fn delete_key(
        &mut self,
        connection: &mut Connection,
        number: KeyNumber,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        self.need_key(number)?;
        let catalogue = self.catalogue();
        self.remove_keys(
            |key| key == number,
            |record| catalogue.remove(record, number),
        )
    }

    /// Name of a key for people: its own label, else the catalogue's.
    #[must_use]
    pub fn key_label(&self, number: KeyNumber) -> Option<String> {
        let key = self.record().key(number)?;
        let label = key.label.clone();
        label.or_else(|| self.catalogue().name(self.record(), number))
    }

    /// Identifier of a key for PKCS#11 clients: one of their own, else the catalogue's.
    #[must_use]
    pub fn key_id(&self, number: KeyNumber) -> Option<Vec<u8>> {
        let key = self.record().key(number)?;
        let id = key.client_id.clone();
        id.or_else(|| self.catalogue().id(number))
    }

    /// What a key is offered for; one that is not in the tables, for all it can.
    #[must_use]
    pub fn key_usage(&self, number: KeyNumber) -> KeyUsage {
        self.record()
            .key(number)
            .and_then(|_| self.catalogue().usage(self.record(), number))
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
        number: KeyNumber,
        label: Option<&str>,
        id: Option<&[u8]>,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        self.need_key(number)?;
        let catalogue = self.catalogue();
        let mut record = self.record().clone();
        if let Some(label) = label {
            let whole = catalogue.rename(&mut record, number, label)?;
            if let Some(key) = record.key_mut(number) {
                key.label = (!whole).then(|| label.to_owned());
            }
        }
        if let Some(id) = id
            && let Some(key) = record.key_mut(number)
        {
            key.client_id = (catalogue.id(number).as_deref() != Some(id)).then(|| id.to_vec());
        }
        Ok(self.commit(record)?)
    }

    pub(super) fn need_key(&self, number: KeyNumber) -> Result<(), CardError> {
        match self.record().key(number) {
            Some(_) => Ok(()),
            None => Err(TokenErrorKind::NotConfigured.into()),
        }
    }

    /// A name for a key that was given none: a random GUID (RFC 9562 §5.4), as Windows names containers.
    fn random_name(&mut self) -> String {
        let mut bytes = [0; 16];
        self.fill_random(&mut bytes);
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
}

/// What else of the record belongs to a new key.
fn entry<'a>(
    catalogue: &'static dyn Catalogue,
    number: KeyNumber,
    algorithm: KeyAlgorithm,
    new: &'a NewKey,
    name: &'a str,
) -> impl FnOnce(&mut CardRecord) -> Result<(), CardError> + 'a {
    move |record| {
        let whole = catalogue.add(record, number, algorithm, new, name)?;
        if let Some(key) = record.key_mut(number) {
            // One truth: where the catalogue has the whole name, it alone has.
            key.label = new.label.clone().filter(|_| !whole);
            key.client_id = new
                .id
                .clone()
                .filter(|id| catalogue.id(number).as_ref() != Some(id));
        }
        Ok(())
    }
}
