//! The TPM part that the software TPMs of a test run play: `cargo xtask tpms` runs tests over one part after another.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use cardea_card::record::CounterMode;

use crate::multiplexer::{Multiplexer, Part, Profile};
use crate::swtpm::Swtpm;

/// How cards of the run count, in a word of `card create --counter-mode`.
const MODE: &str = "CARDEA_COUNTER_MODE";

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

/// Arguments of `card create` that choose this mode.
#[must_use]
pub fn create_arguments() -> &'static [&'static str] {
    match counter_mode() {
        CounterMode::Nv => &[],
        CounterMode::NvOwner => &["--counter-mode", "nv-owner"],
        CounterMode::Object => &["--counter-mode", "object"],
    }
}
