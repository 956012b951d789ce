//! A PKCS#11 module behind safe calls: what goes in is owned, what comes out is copied.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use cryptoki_sys::*;

pub(crate) type Result<T = ()> = std::result::Result<T, CK_RV>;

/// An attribute of a template.
pub(crate) type Attribute = (CK_ATTRIBUTE_TYPE, Vec<u8>);

/// A loaded module.
pub(crate) struct Module {
    library: Pkcs11,
    pub(crate) raw: CK_FUNCTION_LIST,
}

// SAFETY: C_Initialize is told that threads will call.
unsafe impl Sync for Module {}

/// A mechanism and what its parameter points to.
#[derive(Clone, Default)]
pub(crate) struct Mechanism {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) parameter: Vec<u8>,
    /// Kept for the parameter's own pointer.
    _behind: Vec<u8>,
}

impl Mechanism {
    pub(crate) fn new(kind: CK_MECHANISM_TYPE) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    pub(crate) fn with(kind: CK_MECHANISM_TYPE, parameter: Vec<u8>) -> Self {
        Self {
            kind,
            parameter,
            _behind: Vec::new(),
        }
    }

    pub(crate) fn pss(
        kind: CK_MECHANISM_TYPE,
        hash: CK_ULONG,
        mgf: CK_ULONG,
        salt: CK_ULONG,
    ) -> Self {
        Self::with(kind, longs(&[hash, mgf, salt]))
    }

    pub(crate) fn oaep(hash: CK_ULONG, mgf: CK_ULONG, label: &[u8]) -> Self {
        let behind = label.to_vec();
        let source = if label.is_empty() {
            0
        } else {
            behind.as_ptr() as CK_ULONG
        };
        let length = label.len() as CK_ULONG;
        Self {
            kind: CKM_RSA_PKCS_OAEP,
            parameter: longs(&[hash, mgf, CKZ_DATA_SPECIFIED, source, length]),
            _behind: behind,
        }
    }

    pub(crate) fn ecdh(point: &[u8]) -> Self {
        let behind = point.to_vec();
        let parameter = longs(&[
            CKD_NULL,
            0,
            0,
            behind.len() as CK_ULONG,
            behind.as_ptr() as CK_ULONG,
        ]);
        Self {
            kind: CKM_ECDH1_DERIVE,
            parameter,
            _behind: behind,
        }
    }

    fn c(&self) -> CK_MECHANISM {
        CK_MECHANISM {
            mechanism: self.kind,
            pParameter: if self.parameter.is_empty() {
                null_mut()
            } else {
                self.parameter.as_ptr().cast_mut().cast()
            },
            ulParameterLen: self.parameter.len() as CK_ULONG,
        }
    }
}

fn longs(values: &[CK_ULONG]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

fn template(attributes: &[Attribute]) -> Vec<CK_ATTRIBUTE> {
    attributes
        .iter()
        .map(|(kind, value)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_ptr().cast_mut().cast(),
            ulValueLen: value.len() as CK_ULONG,
        })
        .collect()
}

pub(crate) fn result(value: CK_RV) -> Result {
    if value == CKR_OK { Ok(()) } else { Err(value) }
}

/// Calls a function of the list; the value as it comes.
macro_rules! raw {
    ($module:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $module.raw.$name.expect("the list is complete");
        // SAFETY: the arguments are valid for the call, or wrong on purpose.
        unsafe { function($($argument),*) }
    }};
}
pub(crate) use raw;

macro_rules! call {
    ($module:expr, $name:ident($($argument:expr),* $(,)?)) => {
        result(raw!($module, $name($($argument),*)))
    };
}

/// Defines a call that gives bytes: asked for the length first, then with a buffer of that length.
macro_rules! bytes {
    ($($safe:ident $sized:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result<Vec<u8>> {
            let length = self.$sized(session, data, None).map(|(length, _)| length)?;
            self.$sized(session, data, Some(length)).map(|(_, bytes)| bytes)
        }

        /// With a buffer of this size, or none; gives the length told and the bytes. A length is told with an error
        /// too, which is not kept: see `sizes`.
        pub(crate) fn $sized(
            &self,
            session: CK_SESSION_HANDLE,
            data: &[u8],
            size: Option<usize>,
        ) -> Result<(usize, Vec<u8>)> {
            let mut buffer = vec![0; size.unwrap_or(0)];
            let mut length = buffer.len() as CK_ULONG;
            let place = if size.is_some() { buffer.as_mut_ptr() } else { null_mut() };
            let (start, count) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
            call!(self, $name(session, start, count, place, &raw mut length))?;
            buffer.truncate(length as usize);
            Ok((length as usize, buffer))
        }
    )+};
}

macro_rules! finals {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, session: CK_SESSION_HANDLE) -> Result<Vec<u8>> {
            let mut buffer = vec![0; 1024];
            let mut length = buffer.len() as CK_ULONG;
            call!(self, $name(session, buffer.as_mut_ptr(), &raw mut length))?;
            buffer.truncate(length as usize);
            Ok(buffer)
        }
    )+};
}

macro_rules! updates {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
            call!(self, $name(session, data.as_ptr().cast_mut(), data.len() as CK_ULONG))
        }
    )+};
}

macro_rules! begins {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(
            &self,
            session: CK_SESSION_HANDLE,
            mechanism: &Mechanism,
            key: CK_OBJECT_HANDLE,
        ) -> Result {
            let mut mechanism = mechanism.c();
            call!(self, $name(session, &raw mut mechanism, key))
        }
    )+};
}

impl Module {
    pub(crate) fn load(path: &str) -> Self {
        // SAFETY: whoever runs the suite trusts the module.
        let library = unsafe { Pkcs11::new(path) }.expect("the module loads");
        let mut list = null_mut();
        // SAFETY: the place is valid.
        let value = unsafe { library.C_GetFunctionList(&raw mut list) };
        assert_eq!(value, CKR_OK, "C_GetFunctionList");
        // SAFETY: the list is there as long as the module.
        let raw = unsafe { *list };
        Self { library, raw }
    }

    /// Names and versions of the interfaces of version 3; none where the module has not the function.
    pub(crate) fn interfaces(&self) -> Option<Vec<(String, (u8, u8))>> {
        self.library.C_GetInterfaceList.as_ref().ok()?;
        let mut count = 0;
        // SAFETY: the places are valid.
        let value = unsafe { self.library.C_GetInterfaceList(null_mut(), &raw mut count) };
        assert_eq!(value, CKR_OK);
        let mut list = Vec::with_capacity(count as usize);
        // SAFETY: the buffer has room for so many.
        let value = unsafe {
            self.library
                .C_GetInterfaceList(list.as_mut_ptr(), &raw mut count)
        };
        assert_eq!(value, CKR_OK);
        // SAFETY: so many were written.
        unsafe { list.set_len(count as usize) };
        let told = list.iter().map(|interface: &CK_INTERFACE| {
            // SAFETY: names end with a zero byte.
            let name = unsafe { std::ffi::CStr::from_ptr(interface.pInterfaceName.cast()) };
            // SAFETY: lists begin with their version.
            let version = unsafe { *interface.pFunctionList.cast::<CK_VERSION>() };
            let name = name.to_string_lossy().into_owned();
            (name, (version.major, version.minor))
        });
        Some(told.collect())
    }

    pub(crate) fn initialize(&self) -> Result {
        self.initialize_with(CKF_OS_LOCKING_OK, null_mut())
    }

    pub(crate) fn initialize_with(&self, flags: CK_FLAGS, reserved: *mut c_void) -> Result {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags,
            pReserved: reserved,
        };
        call!(self, C_Initialize((&raw mut arguments).cast()))
    }

    pub(crate) fn finalize(&self) -> Result {
        call!(self, C_Finalize(null_mut()))
    }

    pub(crate) fn info(&self) -> Result<CK_INFO> {
        let mut info = MaybeUninit::zeroed();
        call!(self, C_GetInfo(info.as_mut_ptr()))?;
        // SAFETY: numbers and bytes.
        Ok(unsafe { info.assume_init() })
    }

    pub(crate) fn slots(&self, with_token: bool) -> Result<Vec<CK_SLOT_ID>> {
        let (flag, mut count) = (CK_BBOOL::from(with_token), 0);
        call!(self, C_GetSlotList(flag, null_mut(), &raw mut count))?;
        let mut slots = vec![0; count as usize];
        call!(
            self,
            C_GetSlotList(flag, slots.as_mut_ptr(), &raw mut count)
        )?;
        slots.truncate(count as usize);
        Ok(slots)
    }

    pub(crate) fn slot_info(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_INFO> {
        let mut info = MaybeUninit::zeroed();
        call!(self, C_GetSlotInfo(slot, info.as_mut_ptr()))?;
        // SAFETY: numbers and bytes.
        Ok(unsafe { info.assume_init() })
    }

    pub(crate) fn token_info(&self, slot: CK_SLOT_ID) -> Result<CK_TOKEN_INFO> {
        let mut info = MaybeUninit::zeroed();
        call!(self, C_GetTokenInfo(slot, info.as_mut_ptr()))?;
        // SAFETY: numbers and bytes.
        Ok(unsafe { info.assume_init() })
    }

    pub(crate) fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>> {
        let mut count = 0;
        call!(self, C_GetMechanismList(slot, null_mut(), &raw mut count))?;
        let mut kinds = vec![0; count as usize];
        call!(
            self,
            C_GetMechanismList(slot, kinds.as_mut_ptr(), &raw mut count)
        )?;
        Ok(kinds)
    }

    pub(crate) fn mechanism_info(
        &self,
        slot: CK_SLOT_ID,
        kind: CK_MECHANISM_TYPE,
    ) -> Result<CK_MECHANISM_INFO> {
        let mut info = MaybeUninit::zeroed();
        call!(self, C_GetMechanismInfo(slot, kind, info.as_mut_ptr()))?;
        // SAFETY: numbers.
        Ok(unsafe { info.assume_init() })
    }

    pub(crate) fn open(&self, slot: CK_SLOT_ID, flags: CK_FLAGS) -> Result<CK_SESSION_HANDLE> {
        let mut session = 0;
        call!(
            self,
            C_OpenSession(slot, flags, null_mut(), None, &raw mut session)
        )?;
        Ok(session)
    }

    pub(crate) fn close(&self, session: CK_SESSION_HANDLE) -> Result {
        call!(self, C_CloseSession(session))
    }

    pub(crate) fn close_all(&self, slot: CK_SLOT_ID) -> Result {
        call!(self, C_CloseAllSessions(slot))
    }

    pub(crate) fn session_info(&self, session: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO> {
        let mut info = MaybeUninit::zeroed();
        call!(self, C_GetSessionInfo(session, info.as_mut_ptr()))?;
        // SAFETY: numbers.
        Ok(unsafe { info.assume_init() })
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

    pub(crate) fn set_pin(&self, session: CK_SESSION_HANDLE, old: &str, new: &str) -> Result {
        let (old, old_length) = (old.as_ptr().cast_mut(), old.len() as CK_ULONG);
        let (new, new_length) = (new.as_ptr().cast_mut(), new.len() as CK_ULONG);
        call!(self, C_SetPIN(session, old, old_length, new, new_length))
    }

    pub(crate) fn create(
        &self,
        session: CK_SESSION_HANDLE,
        attributes: &[Attribute],
    ) -> Result<CK_OBJECT_HANDLE> {
        let (mut list, mut object) = (template(attributes), 0);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!(self, C_CreateObject(session, start, count, &raw mut object))?;
        Ok(object)
    }

    pub(crate) fn destroy(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Result {
        call!(self, C_DestroyObject(session, object))
    }

    pub(crate) fn size(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
    ) -> Result<usize> {
        let mut size = 0;
        call!(self, C_GetObjectSize(session, object, &raw mut size))?;
        Ok(size as usize)
    }

    /// One attribute.
    pub(crate) fn get(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Result<Vec<u8>> {
        let mut attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: null_mut(),
            ulValueLen: 0,
        };
        call!(
            self,
            C_GetAttributeValue(session, object, &raw mut attribute, 1)
        )?;
        let mut value = vec![0; attribute.ulValueLen as usize];
        attribute.pValue = value.as_mut_ptr().cast();
        call!(
            self,
            C_GetAttributeValue(session, object, &raw mut attribute, 1)
        )?;
        value.truncate(attribute.ulValueLen as usize);
        Ok(value)
    }

    /// Several attributes with buffers of these sizes: the value of the call, and length and bytes of each.
    pub(crate) fn get_sized(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        wanted: &[(CK_ATTRIBUTE_TYPE, usize)],
    ) -> (CK_RV, Vec<(CK_ULONG, Vec<u8>)>) {
        let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|(_, size)| vec![0; *size]).collect();
        let mut list: Vec<CK_ATTRIBUTE> = wanted
            .iter()
            .zip(&mut buffers)
            .map(|((kind, size), buffer)| CK_ATTRIBUTE {
                type_: *kind,
                pValue: buffer.as_mut_ptr().cast(),
                ulValueLen: *size as CK_ULONG,
            })
            .collect();
        let count = list.len() as CK_ULONG;
        let value = raw!(
            self,
            C_GetAttributeValue(session, object, list.as_mut_ptr(), count)
        );
        let lengths = list.iter().map(|attribute| attribute.ulValueLen);
        (value, lengths.zip(buffers).collect())
    }

    pub(crate) fn set(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attributes: &[Attribute],
    ) -> Result {
        let mut list = template(attributes);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!(self, C_SetAttributeValue(session, object, start, count))
    }

    pub(crate) fn find_begin(
        &self,
        session: CK_SESSION_HANDLE,
        attributes: &[Attribute],
    ) -> Result {
        let mut list = template(attributes);
        let start = if list.is_empty() {
            null_mut()
        } else {
            list.as_mut_ptr()
        };
        call!(
            self,
            C_FindObjectsInit(session, start, list.len() as CK_ULONG)
        )
    }

    pub(crate) fn find_next(
        &self,
        session: CK_SESSION_HANDLE,
        most: usize,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let (mut found, mut count) = (vec![0; most.max(1)], 0);
        let start = found.as_mut_ptr();
        call!(
            self,
            C_FindObjects(session, start, most as CK_ULONG, &raw mut count)
        )?;
        found.truncate(count as usize);
        Ok(found)
    }

    pub(crate) fn find_end(&self, session: CK_SESSION_HANDLE) -> Result {
        call!(self, C_FindObjectsFinal(session))
    }

    pub(crate) fn find(
        &self,
        session: CK_SESSION_HANDLE,
        attributes: &[Attribute],
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        self.find_begin(session, attributes)?;
        let found = self.find_next(session, 100);
        self.find_end(session)?;
        found
    }

    begins! {
        sign_begin C_SignInit;
        verify_begin C_VerifyInit;
        encrypt_begin C_EncryptInit;
        decrypt_begin C_DecryptInit;
    }
    bytes! {
        sign sign_sized C_Sign;
        encrypt encrypt_sized C_Encrypt;
        decrypt decrypt_sized C_Decrypt;
        digest digest_sized C_Digest;
    }
    updates! {
        sign_update C_SignUpdate;
        verify_update C_VerifyUpdate;
        digest_update C_DigestUpdate;
    }
    finals! {
        sign_end C_SignFinal;
        digest_end C_DigestFinal;
    }

    pub(crate) fn digest_begin(
        &self,
        session: CK_SESSION_HANDLE,
        kind: CK_MECHANISM_TYPE,
    ) -> Result {
        let mut mechanism = Mechanism::new(kind).c();
        call!(self, C_DigestInit(session, &raw mut mechanism))
    }

    pub(crate) fn verify(
        &self,
        session: CK_SESSION_HANDLE,
        data: &[u8],
        signature: &[u8],
    ) -> Result {
        let (data, length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (start, size) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        call!(self, C_Verify(session, data, length, start, size))
    }

    pub(crate) fn verify_end(&self, session: CK_SESSION_HANDLE, signature: &[u8]) -> Result {
        let (start, size) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        call!(self, C_VerifyFinal(session, start, size))
    }

    /// The length that a call with too small a buffer tells.
    pub(crate) fn told_length(
        &self,
        session: CK_SESSION_HANDLE,
        data: &[u8],
        room: usize,
    ) -> (CK_RV, usize) {
        let mut buffer = vec![0; room];
        let mut length = room as CK_ULONG;
        let (start, count) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let place = buffer.as_mut_ptr();
        let value = raw!(self, C_Sign(session, start, count, place, &raw mut length));
        (value, length as usize)
    }

    pub(crate) fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        kind: CK_MECHANISM_TYPE,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let mut mechanism = Mechanism::new(kind).c();
        let (mut public, mut private) = (template(public), template(private));
        let (public, public_count) = (public.as_mut_ptr(), public.len() as CK_ULONG);
        let (private, private_count) = (private.as_mut_ptr(), private.len() as CK_ULONG);
        let (mut first, mut second) = (0, 0);
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
        )?;
        Ok((first, second))
    }

    pub(crate) fn derive(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
        attributes: &[Attribute],
    ) -> Result<CK_OBJECT_HANDLE> {
        let (mut mechanism, mut list, mut made) = (mechanism.c(), template(attributes), 0);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!(
            self,
            C_DeriveKey(
                session,
                &raw mut mechanism,
                key,
                start,
                count,
                &raw mut made
            )
        )?;
        Ok(made)
    }

    pub(crate) fn wrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
    ) -> Result<Vec<u8>> {
        let (mut mechanism, mut buffer) = (mechanism.c(), vec![0; 1024]);
        let mut length = buffer.len() as CK_ULONG;
        let place = buffer.as_mut_ptr();
        call!(
            self,
            C_WrapKey(
                session,
                &raw mut mechanism,
                wrapping,
                key,
                place,
                &raw mut length
            )
        )?;
        buffer.truncate(length as usize);
        Ok(buffer)
    }

    pub(crate) fn unwrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        attributes: &[Attribute],
    ) -> Result<CK_OBJECT_HANDLE> {
        let (mut mechanism, mut list, mut made) = (mechanism.c(), template(attributes), 0);
        let (data, length) = (wrapped.as_ptr().cast_mut(), wrapped.len() as CK_ULONG);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!(
            self,
            C_UnwrapKey(
                session,
                &raw mut mechanism,
                key,
                data,
                length,
                start,
                count,
                &raw mut made
            )
        )?;
        Ok(made)
    }

    pub(crate) fn random(&self, session: CK_SESSION_HANDLE, size: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        call!(
            self,
            C_GenerateRandom(session, bytes.as_mut_ptr(), size as CK_ULONG)
        )?;
        Ok(bytes)
    }
}
