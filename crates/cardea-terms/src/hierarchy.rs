//! Hierarchies of the TPM, by their handles (TPM 2.0 Part 2 §7.4).

/// The platform's, which is the firmware's.
pub const PLATFORM: u32 = 0x4000_000C;

/// The word for a hierarchy in JSON and on D-Bus; for one without a word, its handle.
#[must_use]
pub fn hierarchy_word(handle: u32) -> String {
    match handle {
        0x4000_0001 => "owner".to_owned(),
        0x4000_000A => "lockout".to_owned(),
        0x4000_000B => "endorsement".to_owned(),
        PLATFORM => "platform".to_owned(),
        other => format!("0x{other:08X}"),
    }
}
