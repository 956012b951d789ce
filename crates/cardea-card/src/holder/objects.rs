//! Objects that PKCS#11 clients keep beside the keys: certificates of keys that are elsewhere, and data.

use crate::engine::{Card, CardError, Connection};
use crate::record::{ObjectKind, ObjectRecord};
use crate::token::TokenErrorKind;

/// Objects of one card.
const MAX_OBJECTS: usize = 64;
/// Bytes of all their values.
const MAX_TOTAL: usize = 1024 * 1024;

/// What a new object is to be; lengths as in [`ObjectRecord`], of which it has all but the number.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Name shown to people.
    pub label: String,
    /// `CKA_ID` or `CKA_OBJECT_ID`.
    pub id: Vec<u8>,
    /// `CKA_APPLICATION`.
    pub application: String,
    /// The content.
    pub value: Vec<u8>,
}

impl Card {
    /// The objects that belong to no key.
    #[must_use]
    pub fn objects(&self) -> &[ObjectRecord] {
        self.record().objects.as_deref().unwrap_or_default()
    }

    /// Keeps an object; needs the PIN verified on this connection. Gives its number.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `Full` (64 objects, 1 MiB); [`CardError::Store`].
    pub fn add_object(
        &mut self,
        connection: &mut Connection,
        new: NewObject,
    ) -> Result<u32, CardError> {
        self.need_user(connection)?;
        let objects = self.objects();
        let total: usize = objects.iter().map(|object| object.value.len()).sum();
        if objects.len() >= MAX_OBJECTS || total + new.value.len() > MAX_TOTAL {
            return Err(TokenErrorKind::Full.into());
        }
        let number = self.new_object_number();
        let mut record = self.record().clone();
        record.objects.get_or_insert_default().push(ObjectRecord {
            number,
            kind: new.kind,
            label: new.label,
            id: new.id,
            application: new.application,
            value: new.value,
        });
        self.commit(record)?;
        Ok(number)
    }

    /// A number that no object has, and none that was deleted is likely to have had: programs know objects by it.
    /// Less than half of all, because earlier versions count on from the highest one.
    fn new_object_number(&mut self) -> u32 {
        loop {
            let mut bytes = [0; 4];
            self.fill_random(&mut bytes);
            let number = u32::from_be_bytes(bytes) >> 1;
            let mut objects = self.objects().iter();
            if number != 0 && objects.all(|object| object.number != number) {
                return number;
            }
        }
    }

    /// Gives an object another name or identifier.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured` for an unknown number; [`CardError::Store`].
    pub fn rename_object(
        &mut self,
        connection: &mut Connection,
        number: u32,
        label: Option<&str>,
        id: Option<&[u8]>,
    ) -> Result<(), CardError> {
        self.need_user(connection)?;
        let mut record = self.record().clone();
        let mut objects = record.objects.iter_mut().flatten();
        let object = objects
            .find(|object| object.number == number)
            .ok_or(TokenErrorKind::NotConfigured)?;
        if let Some(label) = label {
            label.clone_into(&mut object.label);
        }
        if let Some(id) = id {
            object.id = id.to_vec();
        }
        Ok(self.commit(record)?)
    }

    /// Deletes an object. False: there was none of this number.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`; [`CardError::Store`].
    pub fn delete_object(
        &mut self,
        connection: &mut Connection,
        number: u32,
    ) -> Result<bool, CardError> {
        self.need_user(connection)?;
        let mut record = self.record().clone();
        let before = self.objects().len();
        if let Some(objects) = &mut record.objects {
            objects.retain(|object| object.number != number);
        }
        self.commit(record)?;
        Ok(self.objects().len() < before)
    }
}
