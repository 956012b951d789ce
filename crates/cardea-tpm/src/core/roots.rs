//! Which storage root key is in use.

use cardea_card::record::SrkRecord;

use super::Core;
use crate::error::{ResponseCode, TpmError};
use crate::policy::name_of;
use crate::srk::{self, RecordedRoot};

impl Core {
    /// Makes the storage root key of new cards the one in use; makes it where there is none.
    pub(crate) fn use_new_srk(&mut self) -> Result<(), TpmError> {
        let index = match self.link()?.new_srk {
            Some(index) => index,
            None => {
                self.unload_all();
                let recorded = self.recorded.clone();
                let link = self.link()?;
                let found = srk::for_new_cards(&mut link.tpm, &recorded)?;
                let index = link.remember(found);
                link.new_srk = Some(index);
                index
            }
        };
        self.select_srk(index)
    }

    /// Makes a storage root key for what belongs to no card the one in use.
    pub(crate) fn use_found_srk(&mut self) -> Result<(), TpmError> {
        let link = self.link()?;
        if link.srk.is_none() {
            self.unload_all();
            let link = self.link()?;
            let found = srk::for_others(&mut link.tpm)?;
            let index = link.remember(found);
            self.select_srk(index)?;
        }
        Ok(())
    }

    /// Makes the storage root key with this Name the one in use.
    pub(crate) fn use_srk(&mut self, name: &[u8; 34], template: &[u8]) -> Result<(), TpmError> {
        let link = self.link()?;
        let index = match link.srks.iter().position(|srk| srk.name == *name) {
            Some(index) => index,
            None => {
                self.unload_all();
                let link = self.link()?;
                let may_be_made = !link.foreign.contains(name);
                match srk::of_card(&mut link.tpm, name, template, may_be_made) {
                    Ok(found) => link.remember(found),
                    Err(error) => {
                        if matches!(error, TpmError::Foreign) && may_be_made {
                            link.foreign.push(*name);
                        }
                        return Err(error);
                    }
                }
            }
        };
        self.link()?.recorded_srk = Some(index);
        if self.recorded.iter().all(|root| root.name != *name) {
            let template = template.to_vec();
            self.recorded.push(RecordedRoot {
                name: *name,
                template,
            });
        }
        self.select_srk(index)
    }

    /// Whether an error says that a storage root key in use is not at its handle.
    pub(super) fn misses_root(&self, error: &TpmError) -> bool {
        let TpmError::Response {
            handle: Some(handle),
            ..
        } = error
        else {
            return false;
        };
        error.code() == Some(ResponseCode::HANDLE)
            && self
                .link
                .as_ref()
                .is_some_and(|link| link.srks.iter().any(|srk| srk.handle == *handle))
    }

    /// Storage root keys are looked for again when they are needed.
    pub(super) fn forget_roots(&mut self) {
        let Some(link) = &mut self.link else { return };
        let transient = link.srks.iter().filter(|srk| srk.is_transient);
        let transient: Vec<u32> = transient.map(|srk| srk.handle).collect();
        link.srks.clear();
        link.srk = None;
        link.new_srk = None;
        link.recorded_srk = None;
        let channel = link.channel.take().map(|channel| channel.handle);
        for handle in transient.into_iter().chain(channel) {
            self.flush(handle);
        }
    }

    /// The channel belongs to one storage root key: what a card's values travel in is salted to the key
    /// that the card has recorded. Two of them in one TPM are rare, and changing costs one command.
    fn select_srk(&mut self, index: usize) -> Result<(), TpmError> {
        let link = self.link()?;
        if link.srk != Some(index) {
            link.srk = Some(index);
            if let Some(channel) = link.channel.take() {
                self.flush(channel.handle);
            }
        }
        Ok(())
    }

    /// The storage root key of new cards, for their records.
    pub(crate) fn srk_record(&mut self) -> Result<SrkRecord, TpmError> {
        self.use_new_srk()?;
        self.unload_all();
        let link = self.link()?;
        let srk = link.srk.and_then(|index| link.srks.get_mut(index));
        srk.ok_or(TpmError::Stopped)?.record(&mut link.tpm)
    }

    /// TPMT_PUBLIC of the storage root key in use.
    pub(crate) fn root_public(&mut self) -> Result<Vec<u8>, TpmError> {
        let link = self.link()?;
        let (handle, name) = {
            let srk = link.srk()?;
            (srk.handle, srk.name)
        };
        let public = link.tpm.read_public(handle)?;
        match name_of(&public) == name {
            true => Ok(public),
            false => Err(TpmError::Foreign),
        }
    }
}
