//! The TPM part that the software TPMs of a test run play: `cargo xtask tpms` runs tests over one part after another.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use cardea_card::record::CounterMode;

use crate::multiplexer::{Multiplexer, Part, Profile};
use crate::swtpm::Swtpm;

/// How cards of the run count, in a word of `card create --counter-mode`.
const MODE: &str = "CARDEA_COUNTER_MODE";

/// Which share of its cases a long test takes, as in `2/6`: every sixth, beginning with the second.
const SHARE: &str = "CARDEA_TPM_SHARE";

/// A software TPM for one daemon, which may play a part.
pub struct Chip {
    /// Goes first.
    part: Option<Multiplexer>,
    tpm: Swtpm,
}

impl Chip {
    /// Starts one with its state in `folder`, which is made. It plays the part of this run, if there is one.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::start_as(folder, Profile::of_run())
    }

    /// Starts one that plays a part, or none.
    #[must_use]
    pub fn start_as(folder: &Path, profile: Option<Profile>) -> Self {
        let tpm = Swtpm::start(folder);
        let part = profile.map(|profile| {
            let part = Multiplexer::start(&folder.join("part"), &tpm);
            part.play(Part::new(profile));
            part
        });
        Self { part, tpm }
    }

    /// Its address for `--tpm`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.part {
            Some(part) => part.address(),
            None => self.tpm.address(),
        }
    }
}

impl Deref for Chip {
    type Target = Swtpm;

    fn deref(&self) -> &Swtpm {
        &self.tpm
    }
}

impl DerefMut for Chip {
    fn deref_mut(&mut self) -> &mut Swtpm {
        &mut self.tpm
    }
}

/// What compares and counts the PINs of this run's cards, where a test does not choose: counters in NV, unless this part
/// takes others.
///
/// # Panics
///
/// When there is no such mode.
#[must_use]
pub fn counter_mode() -> CounterMode {
    match std::env::var(MODE).as_deref() {
        Err(_) | Ok("nv") => CounterMode::Nv,
        Ok("nv-owner") => CounterMode::NvOwner,
        Ok("object") => CounterMode::Object,
        Ok(other) => panic!("{MODE} is {other}"),
    }
}

/// What a long test takes of its cases: all of them, or of a run over several parts the share of this part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// The share of this run.
    ///
    /// # Panics
    ///
    /// When there is no such share.
    #[must_use]
    pub fn of_run() -> Self {
        match std::env::var(SHARE) {
            Err(_) => Self { number: 1, of: 1 },
            Ok(text) => Self::parse(&text).unwrap_or_else(|| panic!("{SHARE} is {text}")),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Whether the case with a number from 0 is in it.
    #[must_use]
    pub fn contains(self, case: usize) -> bool {
        case % self.of == self.number - 1
    }

    /// How many cases to expect where all tests together have so many.
    #[must_use]
    pub fn of_all(self, cases: usize) -> usize {
        cases / self.of
    }
}

/// Whether the TPM of this run has RSA keys of a size.
#[must_use]
pub fn has_rsa(bits: u16) -> bool {
    Profile::of_run().is_none_or(|part| part.rsa.contains(&bits))
}

/// Whether the TPM of this run has a curve, by the name in a profile.
#[must_use]
pub fn has_curve(name: &str) -> bool {
    Profile::of_run().is_none_or(|part| part.curves.iter().any(|it| it == name))
}

/// Arguments of `card create` that choose this mode.
#[must_use]
pub fn create_arguments() -> &'static [&'static str] {
    match counter_mode() {
        CounterMode::Nv => &[],
        CounterMode::NvOwner => &["--counter-mode", "nv-owner"],
        CounterMode::Object => &["--counter-mode", "object"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_each_case_once() {
        let shares = ["1/3", "2/3", "3/3"].map(|text| Share::parse(text).unwrap());
        for case in 0..10 {
            let having = shares.iter().filter(|share| share.contains(case));
            assert_eq!(having.count(), 1, "{case}");
        }
        assert!(Share::parse("1/1").unwrap().contains(7));
        for text in ["", "0/3", "4/3", "1", "1/0", "a/b"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}
