//! Chance and time, for all that is not allowed to have its own.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_dcom::Guid;

/// Random bytes.
///
/// # Errors
///
/// The kernel has none: nothing that must not be guessed can be made then.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Numbers that are drawn one after the other from few bytes that were drawn before: so that drawing cannot fail.
pub struct Draws(Vec<[u8; 16]>);

impl Draws {
    /// At most this many.
    pub fn new(count: usize) -> io::Result<Self> {
        (0..count)
            .map(|_| bytes())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The next.
    pub fn guid(&mut self) -> Guid {
        Guid::from_bytes(self.0.pop().unwrap_or_default())
    }

    /// The next.
    pub fn number(&mut self) -> u64 {
        let [first, _] = split(self.0.pop().unwrap_or_default());
        first
    }
}

fn split(bytes: [u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(bytes);
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    [low, u64::try_from(number >> 64).unwrap_or_default()]
}

/// Now as FILETIME: steps of 100 ns since 1601.
pub fn file_time() -> u64 {
    const TO_1970: u64 = 116_444_736_000_000_000;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let steps = since.unwrap_or(Duration::ZERO).as_nanos() / 100;
    u64::try_from(steps)
        .unwrap_or_default()
        .saturating_add(TO_1970)
}

/// Now in seconds since 1970.
pub fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or(Duration::ZERO).as_secs()).unwrap_or_default()
}
