//! A PKCS#11 module loaded at run time, as far as the benchmark needs it.

#![expect(
    unsafe_code,
    reason = "the interface is C; what it is given here is valid for each call"
)]

use std::ptr::null_mut;

use cryptoki_sys::*;

/// SHA-256 in a DigestInfo (RFC 8017 §9.2).
pub(crate) const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A loaded and initialised module.
pub(crate) struct Module {
    _library: Pkcs11,
    functions: CK_FUNCTION_LIST,
}

// Modules are told that threads will call them.
unsafe impl Send for Module {}
unsafe impl Sync for Module {}

macro_rules! call {
    ($module:expr, $name:ident($($argument:expr),*)) => {{
        let function = $module.functions.$name.unwrap();
        // SAFETY: the arguments are valid for the call; that each is of its type, the list says.
        match unsafe { function($($argument),*) } {
            CKR_OK => Ok(()),
            value => Err(value),
        }
    }};
}

type Result<T = ()> = std::result::Result<T, CK_RV>;

impl Module {
    /// Loads it and gets its functions.
    pub(crate) fn load(path: &str) -> Self {
        // SAFETY: whoever runs the benchmark trusts the module.
        let library = unsafe { Pkcs11::new(path) }.unwrap();
        let mut list = null_mut();
        // SAFETY: the place is valid.
        let value = unsafe { library.C_GetFunctionList(&raw mut list) };
        assert_eq!(value, CKR_OK);
        // SAFETY: a module's list is there as long as the module.
        let functions = unsafe { *list };
        Self {
            _library: library,
            functions,
        }
    }

    pub(crate) fn initialize(&self) {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: null_mut(),
        };
        let arguments = (&raw mut arguments).cast();
        call!(self, C_Initialize(arguments)).unwrap();
    }

    pub(crate) fn finalize(&self) {
        call!(self, C_Finalize(null_mut())).unwrap();
    }

    /// The slot of the token with this label, as programs look for it.
    pub(crate) fn slot(&self, label: &str) -> CK_SLOT_ID {
        let mut count = 0;
        call!(self, C_GetSlotList(CK_TRUE, null_mut(), &raw mut count)).unwrap();
        let mut slots = vec![0; count as usize];
        let list = slots.as_mut_ptr();
        call!(self, C_GetSlotList(CK_TRUE, list, &raw mut count)).unwrap();
        slots
            .into_iter()
            .find(|slot| {
                let mut info = std::mem::MaybeUninit::<CK_TOKEN_INFO>::zeroed();
                let place = info.as_mut_ptr();
                call!(self, C_GetTokenInfo(*slot, place)).is_ok() && {
                    // SAFETY: numbers and bytes, all of which zeros are too.
                    let info = unsafe { info.assume_init() };
                    info.label.starts_with(label.as_bytes())
                }
            })
            .unwrap()
    }

    pub(crate) fn open(&self, slot: CK_SLOT_ID) -> CK_SESSION_HANDLE {
        let mut session = 0;
        let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
        let place = &raw mut session;
        call!(self, C_OpenSession(slot, flags, null_mut(), None, place)).unwrap();
        session
    }

    pub(crate) fn login(
        &self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: &str,
    ) -> Result {
        let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
        call!(self, C_Login(session, user, start, length))
    }

    pub(crate) fn logout(&self, session: CK_SESSION_HANDLE) -> Result {
        call!(self, C_Logout(session))
    }

    /// Makes a token that has none, with this PIN for user and security officer.
    pub(crate) fn personalise(&self, label: &str, pin: &str) {
        let mut count = 0;
        call!(self, C_GetSlotList(CK_FALSE, null_mut(), &raw mut count)).unwrap();
        let mut slots = vec![0; count as usize];
        let list = slots.as_mut_ptr();
        call!(self, C_GetSlotList(CK_FALSE, list, &raw mut count)).unwrap();
        let mut name = [b' '; 32];
        name[..label.len()].copy_from_slice(label.as_bytes());
        let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
        call!(
            self,
            C_InitToken(slots[0], start, length, name.as_mut_ptr())
        )
        .unwrap();
        let session = self.open(self.slot(label));
        self.login(session, CKU_SO, pin).unwrap();
        call!(self, C_InitPIN(session, start, length)).unwrap();
        self.logout(session).unwrap();
        call!(self, C_CloseSession(session)).unwrap();
    }

    pub(crate) fn generate(&self, session: CK_SESSION_HANDLE, label: &str, rsa: bool) {
        let (mut yes, mut bits, mut exponent): (CK_BBOOL, CK_ULONG, _) = (1, 2048, [1u8, 0, 1]);
        let mut curve = [6u8, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
        let mut name = label.as_bytes().to_vec();
        let token = attribute(CKA_TOKEN, std::slice::from_mut(&mut yes));
        let label = attribute(CKA_LABEL, &mut name);
        let mut public = vec![token, label];
        let mut kind = CKM_EC_KEY_PAIR_GEN;
        if rsa {
            kind = CKM_RSA_PKCS_KEY_PAIR_GEN;
            public.push(attribute(CKA_MODULUS_BITS, std::slice::from_mut(&mut bits)));
            public.push(attribute(CKA_PUBLIC_EXPONENT, &mut exponent));
        } else {
            public.push(attribute(CKA_EC_PARAMS, &mut curve));
        }
        let mut private = vec![token, label];
        let (mut first, mut second) = (0, 0);
        let mut mechanism = mechanism(kind);
        let (public, public_count) = (public.as_mut_ptr(), public.len() as CK_ULONG);
        let (private, private_count) = (private.as_mut_ptr(), private.len() as CK_ULONG);
        call!(
            self,
            C_GenerateKeyPair(
                session,
                &raw mut mechanism,
                public,
                public_count,
                private,
                private_count,
                &raw mut first,
                &raw mut second
            )
        )
        .unwrap();
    }

    /// The private key with this label.
    pub(crate) fn key(&self, session: CK_SESSION_HANDLE, label: &str) -> Result<CK_OBJECT_HANDLE> {
        let mut class = CKO_PRIVATE_KEY;
        let mut name = label.as_bytes().to_vec();
        let mut template = [
            attribute(CKA_CLASS, std::slice::from_mut(&mut class)),
            attribute(CKA_LABEL, &mut name),
        ];
        let (mut key, mut count) = (0, 0);
        call!(self, C_FindObjectsInit(session, template.as_mut_ptr(), 2))?;
        call!(
            self,
            C_FindObjects(session, &raw mut key, 1, &raw mut count)
        )?;
        call!(self, C_FindObjectsFinal(session))?;
        assert_eq!(count, 1, "no key {label}");
        Ok(key)
    }

    /// C_SignInit and C_Sign of a digest of 32 bytes.
    pub(crate) fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        rsa: bool,
    ) -> Result {
        let mut mechanism = mechanism(if rsa { CKM_RSA_PKCS } else { CKM_ECDSA });
        let mut data = vec![0x5A; 32];
        if rsa {
            data = [&DIGEST_INFO[..], &data].concat();
        }
        let mut signature = [0; 512];
        let mut length = signature.len() as CK_ULONG;
        call!(self, C_SignInit(session, &raw mut mechanism, key))?;
        let (start, size) = (data.as_mut_ptr(), data.len() as CK_ULONG);
        let place = signature.as_mut_ptr();
        call!(self, C_Sign(session, start, size, place, &raw mut length))
    }
}

fn mechanism(kind: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: kind,
        pParameter: null_mut(),
        ulParameterLen: 0,
    }
}

fn attribute<T>(kind: CK_ATTRIBUTE_TYPE, value: &mut [T]) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: size_of_val(value) as CK_ULONG,
    }
}
