//! Strings of Windows.

use std::fmt;

/// UTF-16 as it was sent, without the NUL at its end: surrogates need not be in pairs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WideString(Vec<u16>);

impl WideString {
    /// A string of these units; `None` if there is a NUL among them.
    #[must_use]
    pub fn new(units: Vec<u16>) -> Option<Self> {
        (!units.contains(&0)).then_some(Self(units))
    }

    /// A string of this text; `None` if there is a NUL in it.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::new(text.encode_utf16().collect())
    }

    /// The units.
    #[must_use]
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// The text; `None` if a surrogate is alone.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        String::from_utf16(&self.0).ok()
    }
}

impl fmt::Debug for WideString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf16_lossy(&self.0), f)
    }
}
