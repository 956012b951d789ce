//! Slots, tokens and their mechanisms (PKCS#11 2.40 §5.5).

use cardea_client::message::CardState;
use cryptoki_sys::*;

use crate::general::{LIBRARY, MANUFACTURER, padded};
use crate::module::Module;
use crate::rv::{Result, Rv};

/// Longest PIN.
const MAX_PIN: CK_ULONG = 127;
/// Shortest PIN of a card without policy.
const MIN_PIN: CK_ULONG = 4;

const RSA: (CK_ULONG, CK_ULONG) = (2048, 3072);
const EC: (CK_ULONG, CK_ULONG) = (256, 384);
const EC_FLAGS: CK_FLAGS = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS;

/// Every mechanism, the sizes of its keys and what it does.
pub(crate) const MECHANISMS: &[(CK_MECHANISM_TYPE, (CK_ULONG, CK_ULONG), CK_FLAGS)] = &[
    (
        CKM_RSA_PKCS_KEY_PAIR_GEN,
        RSA,
        CKF_HW | CKF_GENERATE_KEY_PAIR,
    ),
    (CKM_RSA_PKCS, RSA, CKF_HW | CKF_SIGN | CKF_DECRYPT),
    (CKM_RSA_X_509, RSA, CKF_HW | CKF_SIGN | CKF_DECRYPT),
    (CKM_RSA_PKCS_OAEP, RSA, CKF_HW | CKF_DECRYPT),
    (CKM_RSA_PKCS_PSS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA1_RSA_PKCS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA256_RSA_PKCS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA384_RSA_PKCS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA512_RSA_PKCS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA1_RSA_PKCS_PSS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA256_RSA_PKCS_PSS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA384_RSA_PKCS_PSS, RSA, CKF_HW | CKF_SIGN),
    (CKM_SHA512_RSA_PKCS_PSS, RSA, CKF_HW | CKF_SIGN),
    (
        CKM_EC_KEY_PAIR_GEN,
        EC,
        CKF_HW | CKF_GENERATE_KEY_PAIR | EC_FLAGS,
    ),
    (CKM_ECDSA, EC, CKF_HW | CKF_SIGN | EC_FLAGS),
    (CKM_ECDSA_SHA1, EC, CKF_HW | CKF_SIGN | EC_FLAGS),
    (CKM_ECDSA_SHA256, EC, CKF_HW | CKF_SIGN | EC_FLAGS),
    (CKM_ECDSA_SHA384, EC, CKF_HW | CKF_SIGN | EC_FLAGS),
    (CKM_ECDSA_SHA512, EC, CKF_HW | CKF_SIGN | EC_FLAGS),
    (CKM_ECDH1_DERIVE, EC, CKF_HW | CKF_DERIVE | EC_FLAGS),
    (CKM_SHA_1, (0, 0), CKF_DIGEST),
    (CKM_SHA256, (0, 0), CKF_DIGEST),
    (CKM_SHA384, (0, 0), CKF_DIGEST),
    (CKM_SHA512, (0, 0), CKF_DIGEST),
];

impl Module {
    /// C_GetSlotList. Slots are made when their number is asked for, as the standard wants it.
    pub(crate) fn slot_list(&mut self, with_token: bool, refresh: bool) -> Vec<CK_SLOT_ID> {
        if refresh || self.slots.is_empty() {
            self.refresh_slots();
            self.events.clear();
        }
        let slots = self.slots.iter();
        let listed = slots.filter(|(_, slot)| slot.present || !with_token);
        listed.map(|(id, _)| *id).collect()
    }

    /// C_GetSlotInfo.
    pub(crate) fn slot_info(&mut self, id: CK_SLOT_ID) -> Result<CK_SLOT_INFO> {
        let slot = self.slot(id)?;
        let present = if slot.present { CKF_TOKEN_PRESENT } else { 0 };
        Ok(CK_SLOT_INFO {
            slotDescription: padded(&format!("Cardea {}", slot.name)),
            manufacturerID: padded(MANUFACTURER),
            flags: CKF_REMOVABLE_DEVICE | CKF_HW_SLOT | present,
            hardwareVersion: LIBRARY,
            firmwareVersion: LIBRARY,
        })
    }

    /// C_GetTokenInfo.
    pub(crate) fn token_info(&mut self, id: CK_SLOT_ID) -> Result<CK_TOKEN_INFO> {
        self.slot(id)?;
        self.refresh_slots();
        let details = self.details(id)?;
        if matches!(
            details.summary.state,
            CardState::NotTrusted | CardState::Unreadable
        ) {
            return Err(Rv(CKR_TOKEN_NOT_RECOGNIZED));
        }
        let mut flags = CKF_RNG | CKF_LOGIN_REQUIRED | CKF_TOKEN_INITIALIZED;
        if !details.uninitialised {
            flags |= CKF_USER_PIN_INITIALIZED;
        }
        if let Some(tries) = details.pin {
            flags |= match tries.left {
                0 => CKF_USER_PIN_LOCKED,
                1 => CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW,
                left if left < tries.limit => CKF_USER_PIN_COUNT_LOW,
                _ => 0,
            };
        }
        if let Some(tries) = details.puk {
            flags |= match tries.left {
                0 => CKF_SO_PIN_LOCKED,
                1 => CKF_SO_PIN_FINAL_TRY | CKF_SO_PIN_COUNT_LOW,
                left if left < tries.limit => CKF_SO_PIN_COUNT_LOW,
                _ => 0,
            };
        }
        let (min, max) = pin_lengths(details.pin_policy.as_ref());
        let count = |read_write: bool| {
            let sessions = self.sessions.values();
            let of_slot = sessions.filter(|session| session.slot == id);
            let counted = of_slot.filter(|session| !read_write || session.read_write);
            CK_ULONG::try_from(counted.count()).unwrap_or(CK_ULONG::MAX)
        };
        // The first 16 of the card id's 32 digits.
        let serial = details.summary.card_id.get(..16).unwrap_or_default();
        Ok(CK_TOKEN_INFO {
            label: padded(&details.summary.name),
            manufacturerID: padded(MANUFACTURER),
            model: padded("TPM card"),
            serialNumber: padded(serial),
            flags,
            ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
            ulSessionCount: count(false),
            ulMaxRwSessionCount: CK_EFFECTIVELY_INFINITE,
            ulRwSessionCount: count(true),
            ulMaxPinLen: max,
            ulMinPinLen: min,
            ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
            hardwareVersion: LIBRARY,
            firmwareVersion: LIBRARY,
            utcTime: [b'0'; 16],
        })
    }

    /// C_GetMechanismList and C_GetMechanismInfo need the token to be there.
    pub(crate) fn require_token(&mut self, id: CK_SLOT_ID) -> Result {
        if self.slot(id)?.present {
            Ok(())
        } else {
            Err(Rv(CKR_TOKEN_NOT_PRESENT))
        }
    }

    /// C_GetMechanismInfo.
    pub(crate) fn mechanism_info(
        &mut self,
        id: CK_SLOT_ID,
        mechanism: CK_MECHANISM_TYPE,
    ) -> Result<CK_MECHANISM_INFO> {
        self.require_token(id)?;
        let known = MECHANISMS.iter().find(|(kind, ..)| *kind == mechanism);
        let (_, (min, max), flags) = known.ok_or(Rv(CKR_MECHANISM_INVALID))?;
        Ok(CK_MECHANISM_INFO {
            ulMinKeySize: *min,
            ulMaxKeySize: *max,
            flags: *flags,
        })
    }
}

/// Second and third field of the policy (MS-TPMVSC: PIN policy).
fn pin_lengths(policy: Option<&[u8; 32]>) -> (CK_ULONG, CK_ULONG) {
    let Some(policy) = policy else {
        return (MIN_PIN, MAX_PIN);
    };
    let field = |at: usize| {
        let bytes = policy.get(at..at + 4)?;
        Some(CK_ULONG::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    (field(4).unwrap_or(MIN_PIN), field(8).unwrap_or(MAX_PIN))
}
