//! Certificates of keys.

use crate::engine::{Card, CardError, Connection};
use crate::key_number::KeyNumber;
use crate::record::CardRecord;

impl Card {
    /// The certificate of a key, DER, whoever stored it; none when the file is not a certificate.
    #[must_use]
    pub fn certificate(&self, number: KeyNumber) -> Option<Vec<u8>> {
        self.record().key(number)?;
        self.catalogue().certificate(self.record(), number)
    }

    /// Stores the certificate of a key in place of an earlier one: DER of at most 65,535 bytes, and 16 KiB when it is
    /// compressed. That it belongs to the key is the caller's to check. Without a name (1 to 127 bytes without control characters) it has the key's.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`, `Full`; [`CardError::Conflict`] on a blank
    /// card and for one that is too long; [`CardError::Store`].
    pub fn store_certificate(
        &mut self,
        connection: &mut Connection,
        number: KeyNumber,
        der: &[u8],
        label: Option<&str>,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        self.need_key(number)?;
        let mut record = self.record().clone();
        self.catalogue()
            .store_certificate(&mut record, number, der)?;
        name_certificate(&mut record, number, label);
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
        number: KeyNumber,
    ) -> Result<bool, CardError> {
        self.need_user(connection)?;
        self.need_key(number)?;
        let mut record = self.record().clone();
        let removed = self.catalogue().remove_certificate(&mut record, number);
        name_certificate(&mut record, number, None);
        self.commit(record)?;
        Ok(removed)
    }

    /// Name that a client gave a key's certificate; `None` = it has the key's.
    #[must_use]
    pub fn certificate_label(&self, number: KeyNumber) -> Option<&str> {
        self.record().key(number)?.certificate_label.as_deref()
    }

    /// Gives a key's certificate another name.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured`; [`CardError::Store`].
    pub fn rename_certificate(
        &mut self,
        connection: &mut Connection,
        number: KeyNumber,
        label: &str,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        self.need_key(number)?;
        let mut record = self.record().clone();
        name_certificate(&mut record, number, Some(label));
        Ok(self.commit(record)?)
    }
}

fn name_certificate(record: &mut CardRecord, number: KeyNumber, label: Option<&str>) {
    if let Some(key) = record.key_mut(number) {
        key.certificate_label = label.map(str::to_owned);
    }
}
