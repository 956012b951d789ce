//! The slots that are open, by the logical unit number that pcscd gave them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::codes::{Dword, Error};
use crate::device::{Device, MAX_SLOTS};
use crate::lock::{self, Lock};
use crate::log::{self, log};
use crate::slot::Slot;

/// Held for a look into the table only.
const SHORT: Duration = Duration::from_secs(1);

static SLOTS: Lock<BTreeMap<Dword, Arc<Slot>>> = Lock::new(BTreeMap::new());

/// Opens a slot; one that is open already is opened anew.
pub(crate) fn open(lun: Dword, device: Device) -> Result<(), Error> {
    lock::process();
    let number = slot_number(lun).ok_or(Error::Failed)?;
    log!(
        "lun={lun:#x} open socket={:?} slots={:?}",
        device.socket,
        device.slots
    );
    let slot = Slot::new(number, device).map_err(|error| {
        log!("lun={lun:#x} error={error}");
        Error::Failed
    })?;
    let mut slots = SLOTS.lock(SHORT).ok_or(Error::Failed)?;
    let old = slots.insert(lun, Arc::new(slot));
    drop(slots);
    if let Some(old) = old {
        old.stop();
    }
    Ok(())
}

/// Closes a slot; a wait in it ends.
pub(crate) fn close(lun: Dword) -> Result<(), Error> {
    lock::process();
    log!("lun={lun:#x} close");
    let mut slots = SLOTS.lock(SHORT).ok_or(Error::Failed)?;
    let slot = slots.remove(&lun);
    let last = slots.is_empty();
    if last {
        // The library may be unloaded, and an empty map is not without memory.
        *slots = BTreeMap::new();
    }
    drop(slots);
    let slot = slot.ok_or(Error::Failed)?;
    slot.stop();
    if last {
        log::finish();
    }
    Ok(())
}

/// An open slot. A child process gets its own instead of the parent's.
pub(crate) fn slot(lun: Dword) -> Result<Arc<Slot>, Error> {
    let process = lock::process();
    let mut slots = SLOTS.lock(SHORT).ok_or(Error::Failed)?;
    let slot = slots.get_mut(&lun).ok_or(Error::Failed)?;
    if !slot.is_of(process) {
        let fresh = Slot::new(slot.number(), slot.device().clone());
        *slot = Arc::new(fresh.map_err(|_| Error::Failed)?);
    }
    Ok(Arc::clone(slot))
}

/// The lower half of the logical unit number; the upper one is the reader's (`ifdhandler.h`).
fn slot_number(lun: Dword) -> Option<u8> {
    u8::try_from(lun & 0xFFFF)
        .ok()
        .filter(|&number| number < MAX_SLOTS)
}
