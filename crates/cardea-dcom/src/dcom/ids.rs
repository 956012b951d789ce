//! Numbers of DCOM: interfaces, classes, results, methods.

use crate::Guid;

/// The resolver of exporters.
pub const IID_OBJECT_EXPORTER: Guid = Guid::from_u128(0x99FC_FEC4_5260_101B_BBCB_00AA_0021_347A);
/// Activation by older clients.
pub const IID_ACTIVATION: Guid = Guid::from_u128(0x4D9F_4AB8_7D1C_11CF_861E_0020_AF6E_7C57);
/// Activation.
pub const IID_REMOTE_SCM_ACTIVATOR: Guid = Guid::of_com(0x1A0);
/// Reference counts and other interfaces of an object.
pub const IID_REM_UNKNOWN: Guid = Guid::of_com(0x131);
/// The same, and complete references in the answer.
pub const IID_REM_UNKNOWN2: Guid = Guid::of_com(0x143);
/// What every object has.
pub const IID_UNKNOWN: Guid = Guid::of_com(0);
/// What makes objects of a class.
pub const IID_CLASS_FACTORY: Guid = Guid::of_com(1);

pub(crate) const IID_PROPERTIES_IN: Guid = Guid::of_com(0x1A2);
pub(crate) const IID_PROPERTIES_OUT: Guid = Guid::of_com(0x1A3);
pub(crate) const CLSID_PROPERTIES_IN: Guid = Guid::of_com(0x338);
/// Also the first of the properties that are inside.
pub(crate) const CLSID_PROPERTIES_OUT: Guid = Guid::of_com(0x339);
pub(crate) const CLSID_SERVER_LOCATION: Guid = Guid::of_com(0x1A4);
pub(crate) const CLSID_ACTIVATION_CONTEXT: Guid = Guid::of_com(0x1A5);
pub(crate) const CLSID_SCM_REQUEST: Guid = Guid::of_com(0x1AA);
pub(crate) const CLSID_INSTANTIATION: Guid = Guid::of_com(0x1AB);
pub(crate) const CLSID_INSTANCE: Guid = Guid::of_com(0x1AD);
pub(crate) const CLSID_SCM_REPLY: Guid = Guid::of_com(0x1B6);

/// Methods of [`IID_OBJECT_EXPORTER`].
pub mod object_exporter {
    /// [`crate::dcom::ResolveOxid`].
    pub const RESOLVE_OXID: u16 = 0;
    /// [`crate::dcom::SimplePing`].
    pub const SIMPLE_PING: u16 = 1;
    /// [`crate::dcom::ComplexPing`].
    pub const COMPLEX_PING: u16 = 2;
    /// No arguments; [`crate::dcom::Status`].
    pub const SERVER_ALIVE: u16 = 3;
    /// [`crate::dcom::ResolveOxid`], with another answer.
    pub const RESOLVE_OXID2: u16 = 4;
    /// No arguments; [`crate::dcom::ServerAlive2Reply`].
    pub const SERVER_ALIVE2: u16 = 5;
}

/// Methods of [`IID_ACTIVATION`].
pub mod activation {
    /// [`crate::dcom::RemoteActivation`].
    pub const REMOTE_ACTIVATION: u16 = 0;
}

/// Methods of [`IID_REMOTE_SCM_ACTIVATOR`].
pub mod remote_scm_activator {
    /// [`crate::dcom::RemoteGetClassObject`].
    pub const REMOTE_GET_CLASS_OBJECT: u16 = 3;
    /// [`crate::dcom::RemoteCreateInstance`].
    pub const REMOTE_CREATE_INSTANCE: u16 = 4;
}

/// Methods of [`IID_REM_UNKNOWN`] and [`IID_REM_UNKNOWN2`].
pub mod rem_unknown {
    /// [`crate::dcom::RemQueryInterface`].
    pub const REM_QUERY_INTERFACE: u16 = 3;
    /// [`crate::dcom::RemRefs`], to add.
    pub const REM_ADD_REF: u16 = 4;
    /// [`crate::dcom::RemRefs`], to release.
    pub const REM_RELEASE: u16 = 5;
    /// [`crate::dcom::RemQueryInterface2`].
    pub const REM_QUERY_INTERFACE2: u16 = 6;
}

/// Results of DCOM's own calls, HRESULTs; those of the card manager are in [`cardea_terms::tpmvsc::Hresult`].
pub mod hresult {
    /// Done.
    pub const S_OK: u32 = 0;
    /// Done in part.
    pub const S_FALSE: u32 = 1;
    /// The object does not have the interface.
    pub const E_NOINTERFACE: u32 = 0x8000_4002;
    /// There is no such class.
    pub const REGDB_E_CLASSNOTREG: u32 = 0x8004_0154;
    /// There is no such interface pointer.
    pub const RPC_E_INVALID_IPID: u32 = 0x8001_0114;

    /// Whether a result is a failure.
    #[must_use]
    pub const fn is_failure(result: u32) -> bool {
        result & 0x8000_0000 != 0
    }
}

/// Results of the resolver.
pub mod resolver_status {
    /// Done.
    pub const OK: u32 = 0;
    /// The caller is not allowed to.
    pub const ACCESS_DENIED: u32 = 5;
    /// There is no room for another set.
    pub const OUT_OF_RESOURCES: u32 = 1721;
    /// There is no such exporter.
    pub const INVALID_OXID: u32 = 1910;
    /// There is no such object.
    pub const INVALID_OID: u32 = 1911;
    /// There is no such ping set.
    pub const INVALID_SET: u32 = 1912;
}
