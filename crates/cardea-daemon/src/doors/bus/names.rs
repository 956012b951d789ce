//! Names on the bus: the service, its paths, its interfaces.

/// The service's name.
pub(crate) const SERVICE: &str = "org.cardea.VirtualSmartCard1";
/// Path of the manager; all objects are below.
pub(crate) const ROOT: &str = "/org/cardea/VirtualSmartCard1";

pub(crate) const AGENT: &str = "org.cardea.VirtualSmartCard1.Agent";
pub(crate) const CARD: &str = "org.cardea.VirtualSmartCard1.Card";
pub(crate) const CHALLENGE_CONTEXT: &str = "org.cardea.VirtualSmartCard1.ChallengeContext";
pub(crate) const MANAGER: &str = "org.cardea.VirtualSmartCard1.Manager";
pub(crate) const OPERATION: &str = "org.cardea.VirtualSmartCard1.Operation";
pub(crate) const PIN_RESET_REQUEST: &str = "org.cardea.VirtualSmartCard1.PinResetRequest";
pub(crate) const PROVISIONING: &str = "org.cardea.VirtualSmartCard1.Provisioning";
pub(crate) const READER: &str = "org.cardea.VirtualSmartCard1.Reader";

pub(crate) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(crate) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
pub(crate) const PEER: &str = "org.freedesktop.DBus.Peer";
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
