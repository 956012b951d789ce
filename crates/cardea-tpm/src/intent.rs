//! What a creation is going to define.

/// An index that is about to be defined: handle and policy tell it from anybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentIndex {
    /// NV handle.
    pub handle: u32,
    /// authPolicy, which names the card's birth key.
    pub policy: [u8; 32],
}
