//! DCOM (MS-DCOM): references to objects, activation, the resolver of exporters, and reference counts.

mod activation;
mod activator;
mod binding;
mod blob;
mod endpoint;
pub mod ids;
mod objref;
mod orpc;
mod properties;
mod resolver;
mod unknown;

pub use activation::{ActivatedInterface, RemoteActivation, RemoteActivationReply};
pub use activator::{ActivationAnswer, RemoteCreateInstance, RemoteGetClassObject};
pub use binding::{DualStringArray, MAX_BINDINGS, SecurityBinding, StringBinding, TOWER_TCP};
pub use blob::MAX_PROPERTIES;
pub use endpoint::{
    ENDPOINT_MAPPER, EPT_MAP, EPT_S_NOT_REGISTERED, Handle, MapEndpoint, MapEndpointReply, Tower,
};
pub use objref::{InterfacePointer, ObjRef, Reference, StdObjRef};
pub use orpc::{ComVersion, OrpcResult, OrpcThat, OrpcThis};
pub use properties::{ActivationReply, ActivationRequest, DIFFERENT_MACHINE, Location};
pub use resolver::{
    ComplexPing, ComplexPingReply, MAX_OIDS, ResolveOxid, ResolveOxid2Reply, ResolveOxidReply,
    ServerAlive2Reply, SimplePing, Status,
};
pub use unknown::{
    InterfaceRef, MAX_INTERFACES, QueryResult, RefResults, RemQueryInterface, RemQueryInterface2,
    RemQueryInterface2Reply, RemQueryInterfaceReply, RemRefs,
};
