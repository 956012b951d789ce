//! A PKCS#11 module behind safe calls: arguments are owned, results are copied. `session` has the calls with a session.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use cryptoki_sys::*;

/// A return value other than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) CK_RV);

pub(crate) type Result<T = ()> = std::result::Result<T, Rv>;

/// An attribute of a template.
pub(crate) type Attribute = (CK_ATTRIBUTE_TYPE, Vec<u8>);

/// A loaded module.
pub(crate) struct Module {
    library: Pkcs11,
    pub(crate) raw: CK_FUNCTION_LIST,
}

// SAFETY: C_Initialize announces that several threads will call.
unsafe impl Sync for Module {}

/// A mechanism and the memory to which its parameter points.
#[derive(Clone, Default)]
pub(crate) struct Mechanism {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) parameter: Vec<u8>,
    /// Kept for the pointer inside the parameter.
    _target: Vec<u8>,
}

impl Mechanism {
    pub(crate) fn new(kind: CK_MECHANISM_TYPE) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    fn with(kind: CK_MECHANISM_TYPE, parameter: &[CK_ULONG], target: Vec<u8>) -> Self {
        let bytes = parameter.iter().flat_map(|value| value.to_ne_bytes());
        Self {
            kind,
            parameter: bytes.collect(),
            _target: target,
        }
    }

    pub(crate) fn pss(kind: CK_MECHANISM_TYPE, hash: CK_ULONG, mgf: CK_ULONG, salt: u64) -> Self {
        Self::with(kind, &[hash, mgf, salt], Vec::new())
    }

    pub(crate) fn oaep(hash: CK_ULONG, mgf: CK_ULONG, label: &[u8]) -> Self {
        let target = label.to_vec();
        let source = if label.is_empty() {
            0
        } else {
            target.as_ptr() as CK_ULONG
        };
        let length = label.len() as CK_ULONG;
        let parameter = [hash, mgf, CKZ_DATA_SPECIFIED, source, length];
        Self::with(CKM_RSA_PKCS_OAEP, &parameter, target)
    }

    pub(crate) fn ecdh(point: &[u8]) -> Self {
        Self::ecdh_with(CKD_NULL, &[], point)
    }

    pub(crate) fn ecdh_with(kdf: CK_EC_KDF_TYPE, shared: &[u8], point: &[u8]) -> Self {
        let target = [shared, point].concat();
        let start = |length: usize, offset: usize| match length {
            0 => 0,
            _ => target.as_ptr() as CK_ULONG + offset as CK_ULONG,
        };
        let parameter = [
            kdf,
            shared.len() as CK_ULONG,
            start(shared.len(), 0),
            point.len() as CK_ULONG,
            start(point.len(), shared.len()),
        ];
        Self::with(CKM_ECDH1_DERIVE, &parameter, target)
    }

    pub(crate) fn c(&self) -> CK_MECHANISM {
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

pub(crate) fn result(value: CK_RV) -> Result {
    match value {
        CKR_OK => Ok(()),
        value => Err(Rv(value)),
    }
}

/// Calls a function of the list and returns its value.
macro_rules! raw {
    ($module:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $module.raw.$name.expect("the list is complete");
        // SAFETY: the arguments are valid for the call, or invalid on purpose.
        unsafe { function($($argument),*) }
    }};
}
pub(crate) use raw;

/// Calls a function of the list.
macro_rules! call {
    ($module:expr, $name:ident($($argument:expr),* $(,)?)) => {
        $crate::module::result($crate::module::raw!($module, $name($($argument),*)))
    };
}
pub(crate) use call;

/// A list whose length is asked for first.
fn list<T: Copy>(call: impl Fn(*mut T, *mut CK_ULONG) -> CK_RV) -> Result<Vec<T>> {
    let mut count = 0;
    result(call(null_mut(), &raw mut count))?;
    let mut list = Vec::with_capacity(count as usize);
    result(call(list.as_mut_ptr(), &raw mut count))?;
    // SAFETY: the buffer has room for the first count, and so many elements were written.
    unsafe { list.set_len((count as usize).min(list.capacity())) };
    Ok(list)
}

macro_rules! infos {
    ($($safe:ident $name:ident($($argument:ident: $type:ty),*) -> $info:ty;)+) => {$(
        pub(crate) fn $safe(&self $(, $argument: $type)*) -> Result<$info> {
            let mut info = MaybeUninit::zeroed();
            call!(self, $name($($argument,)* info.as_mut_ptr()))?;
            // SAFETY: numbers and bytes.
            Ok(unsafe { info.assume_init() })
        }
    )+};
}

impl Module {
    pub(crate) fn load(path: &str) -> Self {
        // SAFETY: the module is trusted by the user of the suite.
        let library = unsafe { Pkcs11::new(path) }.expect("the module loads");
        let mut list = null_mut();
        // SAFETY: the place is valid.
        let value = unsafe { library.C_GetFunctionList(&raw mut list) };
        assert_eq!(value, CKR_OK, "C_GetFunctionList");
        // SAFETY: the list exists as long as the module.
        let raw = unsafe { *list };
        Self { library, raw }
    }

    /// Names and versions of the interfaces of version 3; none if the module does not have the function.
    pub(crate) fn interfaces(&self) -> Option<Vec<(String, (u8, u8))>> {
        self.library.C_GetInterfaceList.as_ref().ok()?;
        let interfaces = list(|place, count| {
            // SAFETY: the places are valid.
            unsafe { self.library.C_GetInterfaceList(place, count) }
        });
        let described = interfaces.ok()?.into_iter().map(|interface: CK_INTERFACE| {
            // SAFETY: names end with a zero byte.
            let name = unsafe { CStr::from_ptr(interface.pInterfaceName.cast()) };
            // SAFETY: lists begin with their version.
            let version = unsafe { *interface.pFunctionList.cast::<CK_VERSION>() };
            let name = name.to_string_lossy().into_owned();
            (name, (version.major, version.minor))
        });
        Some(described.collect())
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

    infos! {
        info C_GetInfo() -> CK_INFO;
        slot_info C_GetSlotInfo(slot: CK_SLOT_ID) -> CK_SLOT_INFO;
        token_info C_GetTokenInfo(slot: CK_SLOT_ID) -> CK_TOKEN_INFO;
        mechanism_info C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE) -> CK_MECHANISM_INFO;
        session_info C_GetSessionInfo(session: CK_SESSION_HANDLE) -> CK_SESSION_INFO;
    }

    pub(crate) fn slots(&self, with_token: bool) -> Result<Vec<CK_SLOT_ID>> {
        let flag = CK_BBOOL::from(with_token);
        list(|place, count| raw!(self, C_GetSlotList(flag, place, count)))
    }

    pub(crate) fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>> {
        list(|place, count| raw!(self, C_GetMechanismList(slot, place, count)))
    }

    pub(crate) fn open_session(
        &self,
        slot: CK_SLOT_ID,
        flags: CK_FLAGS,
    ) -> Result<CK_SESSION_HANDLE> {
        let mut session = 0;
        let place = &raw mut session;
        call!(self, C_OpenSession(slot, flags, null_mut(), None, place))?;
        Ok(session)
    }

    pub(crate) fn close_all(&self, slot: CK_SLOT_ID) -> Result {
        call!(self, C_CloseAllSessions(slot))
    }
}
