//! A command as a handler gets it, what a handler answers, and what of it goes out at once.

use zeroize::Zeroizing;

/// A complete command: parsed, its class byte accepted, its parts joined.
pub struct Command<'a> {
    /// Instruction.
    pub ins: u8,
    /// First parameter.
    pub p1: u8,
    /// Second parameter.
    pub p2: u8,
    /// Data field of all parts.
    pub data: &'a [u8],
}

/// What a successful command gives. The variants differ in what happens without an Le field:
/// clients omit it where they want data, and send it where there is none.
#[derive(Debug)]
pub enum Reply {
    /// Nothing but the status word.
    Done,
    /// Data, with or without Le.
    Data(Zeroizing<Vec<u8>>),
    /// Data; held for GET RESPONSE without Le.
    Held(Zeroizing<Vec<u8>>),
    /// Data; dropped without Le.
    OnRequest(Zeroizing<Vec<u8>>),
}

impl Reply {
    /// Data that is not secret.
    #[must_use]
    pub fn data(data: Vec<u8>) -> Self {
        Self::Data(Zeroizing::new(data))
    }
}
