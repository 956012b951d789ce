//! What TPM parts that people have report, support and refuse: `profiles/*.toml` of this crate.

use serde::Deserialize;

/// A TPM part, as its profile file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// For people.
    pub name: String,
    /// TPM_PT_MANUFACTURER, at most four characters; without it the software TPM's own identity is shown.
    pub manufacturer: Option<String>,
    /// TPM_PT_VENDOR_STRING, at most 16 characters.
    pub vendor: Option<String>,
    /// Up to four numbers with periods between; two halves of 16 bits each make the two words of the version.
    pub firmware: Option<String>,
    /// TPM_PT_REVISION, the specification's revision times 100.
    pub revision: Option<u32>,
    /// Date of the specification: year, perhaps month, perhaps day.
    pub date: Option<String>,
    /// Commands that it does not have, without `TPM2_`.
    pub missing_commands: Vec<String>,
    /// Curves of its elliptic-curve keys.
    pub curves: Vec<String>,
    /// Sizes of its RSA keys in bits.
    pub rsa: Vec<u16>,
    /// The response code to the definition of an index that counts failures; without it there are such indices.
    pub refuses_pin_indices: Option<u32>,
    /// Whether a policy that is authorised for such an index sets its count back.
    #[serde(default)]
    pub resets_counts: bool,
    /// Whether PolicySecret in an HMAC session leads to failure mode.
    #[serde(default)]
    pub fails_on_policy_secret: bool,
    /// What there is room for.
    pub limits: Option<Limits>,
    /// Dictionary attack protection of a TPM that nobody has set up.
    pub lockout: Option<Lockout>,
}

/// What there is room for in a part.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// NV indices.
    pub nv_indices: usize,
    /// Persistent objects.
    pub persistent: usize,
    /// TPM_PT_HR_TRANSIENT_MIN. The software TPM has room for three all the same.
    pub transient: u32,
    /// TPM_PT_HR_LOADED_MIN. The software TPM has room for three all the same.
    pub loaded_sessions: u32,
    /// TPM_PT_CONTEXT_GAP_MAX: saves of other sessions that a saved session survives.
    pub context_gap: u32,
}

/// Dictionary attack protection (TPM 2.0 Part 1 §19.8).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockout {
    /// Failures that lock it.
    pub max_tries: u32,
    /// Seconds until one failure is forgotten.
    pub recovery: u32,
    /// Seconds for which a wrong lockout authorisation closes that authorisation.
    pub auth_recovery: u32,
}

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../profiles/", $name, ".toml")))),*]
    };
}

/// Short name and text of each profile.
const FILES: [(&str, &str); 19] = profiles![
    "amd-3",
    "amd-6",
    "npct65x",
    "npct75x-7.2.0",
    "npct75x-7.2.1",
    "npct75x-7.2.3",
    "pluton",
    "ptt-303",
    "ptt-403",
    "ptt-500.5",
    "ptt-600",
    "slb9665",
    "slb9670-7.40",
    "slb9670-7.83",
    "slb9670-7.85",
    "st33-1.769",
    "st33-73.4",
    "st33-74.8",
    "swtpm",
];

/// Names the part of a test run.
const OF_RUN: &str = "CARDEA_TPM_PROFILE";

impl Profile {
    /// The part that every TPM of this run plays, if there is one.
    ///
    /// # Panics
    ///
    /// When there is no such profile.
    #[must_use]
    pub fn of_run() -> Option<Self> {
        let name = std::env::var(OF_RUN).ok()?;
        Some(Self::named(&name))
    }

    /// Short names of all profiles, in alphabetical order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The profile with a short name.
    ///
    /// # Panics
    ///
    /// When there is none, or its file is malformed.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let file = FILES.iter().find(|(found, _)| *found == name);
        let (_, text) = file.unwrap_or_else(|| panic!("there is no profile {name}"));
        let profile: Self = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            profile.missing_commands.iter().all(|it| code(it).is_some())
                && profile.curves.iter().all(|it| curve(it).is_some()),
            "{name}: an unknown command or curve"
        );
        profile
    }

    pub(super) fn lacks(&self, command: u32) -> bool {
        let mut missing = self.missing_commands.iter();
        missing.any(|name| code(name) == Some(command))
    }

    pub(super) fn has_curve(&self, number: u16) -> bool {
        let mut curves = self.curves.iter();
        curves.any(|name| curve(name) == Some(number))
    }

    /// Values that it reports in place of the software TPM's (TPM 2.0 Part 2 §6.13), by property.
    pub(super) fn properties(&self) -> Vec<(u32, u32)> {
        let mut values = Vec::new();
        if let Some(manufacturer) = &self.manufacturer {
            values.push((0x105, word(manufacturer, 0)));
        }
        if let Some(vendor) = &self.vendor {
            values.extend((0..4u32).map(|part| (0x106 + part, word(vendor, part as usize))));
        }
        if let Some(firmware) = &self.firmware {
            let mut parts = firmware.split('.').map(|part| part.parse().unwrap_or(0));
            let mut half = || parts.next().unwrap_or(0) << 16 | parts.next().unwrap_or(0);
            let (first, second) = (half(), half());
            values.extend([(0x10B, first), (0x10C, second)]);
        }
        if let Some(revision) = self.revision {
            values.push((0x102, revision));
        }
        if let Some((year, day)) = self.date.as_deref().and_then(date) {
            values.extend([(0x103, day), (0x104, year)]);
        }
        if let Some(limits) = self.limits {
            values.extend([
                (0x10E, limits.transient),
                (0x110, limits.loaded_sessions),
                (0x114, limits.context_gap),
            ]);
        }
        values
    }
}

/// Four characters of a text, filled up with zeros.
fn word(text: &str, part: usize) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(text.bytes().skip(4 * part)) {
        *to = from;
    }
    u32::from_be_bytes(bytes)
}

/// Year and day of the year.
fn date(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('-').map(str::parse::<u32>);
    let year = parts.next()?.ok()?;
    let mut part = || parts.next().and_then(Result::ok).unwrap_or(1);
    let (month, day) = (part(), part());
    let lengths = [
        31,
        28 + u32::from(year % 4 == 0),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = lengths.iter().take(month.saturating_sub(1) as usize);
    Some((year, before.sum::<u32>() + day))
}

/// TPM_ECC_CURVE (TPM 2.0 Part 2 §6.4).
fn curve(name: &str) -> Option<u16> {
    match name {
        "P-256" => Some(3),
        "P-384" => Some(4),
        _ => None,
    }
}

/// TPM_CC (TPM 2.0 Part 2 §6.5.2).
fn code(name: &str) -> Option<u32> {
    match name {
        "NV_Certify" => Some(0x184),
        "PolicyAuthorizeNV" => Some(0x192),
        "PolicyCounterTimer" => Some(0x16D),
        "PolicyTicket" => Some(0x172),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_profile_and_every_profile_has_a_file() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort_unstable();
        let names: Vec<_> = Profile::names()
            .map(|name| format!("{name}.toml"))
            .collect();
        assert_eq!(files, names);
        for name in Profile::names() {
            let profile = Profile::named(name);
            assert_eq!(profile.limits.is_some(), profile.manufacturer.is_some());
            assert!(!profile.resets_counts || profile.refuses_pin_indices.is_none());
        }
    }

    #[test]
    fn properties_are_as_a_tpm_has_them() {
        let profile = Profile::named("npct75x-7.2.3");
        let properties = profile.properties();
        let value = |wanted| {
            let found = properties.iter().find(|(property, _)| *property == wanted);
            found.unwrap().1
        };
        assert_eq!(value(0x105).to_be_bytes(), *b"NTC\0");
        assert_eq!(value(0x106).to_be_bytes(), *b"NPCT");
        assert_eq!(value(0x107).to_be_bytes(), *b"75x\0");
        assert_eq!((value(0x10B), value(0x10C)), (7 << 16 | 2, 3 << 16 | 1));
        assert_eq!(
            (value(0x104), value(0x103)),
            (2020, 31 + 29 + 31 + 30 + 31 + 30 + 31 + 31 + 30 + 31 + 1)
        );
        assert_eq!(value(0x114), 65535);
    }
}
