//! What both ends must agree on before the first message.

/// Version of this vocabulary; both ends must have the same.
pub const VERSION: u32 = 2;

/// [`VERSION`] in the file of every library and program that speaks the protocol, where `cardea doctor` finds it
/// without loading what may be of another version.
pub const MARK: &str = "cardea-socket-version=2;";

/// First field of [`Hello`](crate::message::Hello).
pub const MAGIC: &str = "cardea";

/// Longest frame in bytes, without its length field.
/// The longest message is an extended APDU of 65,544 bytes.
pub const MAX_FRAME: usize = 128 * 1024;
