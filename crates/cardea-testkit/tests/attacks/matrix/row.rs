//! Rows of the matrix: a command, the objects it is tried against, and what must come of it.

use std::fmt;

use cardea_card::record::CounterMode;
use cardea_testkit::played;

use super::live::Live;
use crate::bench::Outcome;
use crate::raw::{cc, command_name, response_name};

/// What a command is tried against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    /// No object of a card.
    Nothing,
    Ec,
    Once,
    Rsa,
    Imported,
    Vault,
    Srk,
    PinIndex,
    AdmIndex,
    PukIndex,
    Armed,
    ArmedOnce,
    Channel,
    Owner,
    Endorsement,
    Lockout,
    Platform,
    Null,
}

pub(crate) const KEYS: &[Object] = &[Object::Ec, Object::Once, Object::Rsa, Object::Imported];
pub(crate) const EC_KEYS: &[Object] = &[Object::Ec, Object::Once, Object::Imported];
/// What a card file has that can be loaded.
pub(crate) const BLOBS: &[Object] = &[
    Object::Ec,
    Object::Once,
    Object::Rsa,
    Object::Imported,
    Object::Vault,
];
pub(crate) const OBJECTS: &[Object] = &[
    Object::Ec,
    Object::Once,
    Object::Rsa,
    Object::Imported,
    Object::Vault,
    Object::Srk,
];
pub(crate) const INDICES: &[Object] = &[Object::PinIndex, Object::AdmIndex, Object::PukIndex];
pub(crate) const ARMED: &[Object] = &[Object::Armed, Object::ArmedOnce];
pub(crate) const SESSIONS: &[Object] = &[Object::Armed, Object::ArmedOnce, Object::Channel];

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "–",
            Self::Ec => "EC key",
            Self::Once => "always-class EC key",
            Self::Rsa => "RSA key",
            Self::Imported => "imported EC key",
            Self::Vault => "sealed admin key",
            Self::Srk => "storage root key",
            Self::PinIndex => "PIN index",
            Self::AdmIndex => "ADM index",
            Self::PukIndex => "PUK index",
            Self::Armed => "armed session",
            Self::ArmedOnce => "always-class armed session",
            Self::Channel => "channel",
            Self::Owner => "owner",
            Self::Endorsement => "endorsement",
            Self::Lockout => "lockout",
            Self::Platform => "platform",
            Self::Null => "null hierarchy",
        })
    }
}

impl Object {
    /// What authorises as this hierarchy.
    pub(crate) fn knowledge(self) -> Knowledge {
        match self {
            Self::Platform => Knowledge::Platform,
            Self::Owner | Self::Endorsement | Self::Lockout => Knowledge::Owner,
            _ => Knowledge::Device,
        }
    }
}

/// What the attacker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// The TPM device, beside the daemon.
    Device,
    /// The card file and the host key too.
    CardFile,
    /// A recording of the bus too.
    Bus,
    /// The value of owner, endorsement or lockout, which is usually empty.
    Owner,
    /// The value of the platform, which the firmware keeps.
    Platform,
    /// The PIN, captured once.
    Pin,
    /// The bus itself: answers can be changed.
    Active,
}

impl fmt::Display for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::CardFile => "card file",
            Self::Bus => "recording",
            Self::Owner => "owner value",
            Self::Platform => "platform value",
            Self::Pin => "PIN once",
            Self::Active => "active on the bus",
        })
    }
}

/// What an attempt or a step of it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The TPM's response code.
    Code(u32),
    /// What is no response code, in words.
    Words(&'static str),
}

/// What came of an attempt, step by step; the only step of a simple one has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) Vec<(&'static str, Answered)>);

impl From<u32> for Seen {
    fn from(code: u32) -> Self {
        [("", code)].into()
    }
}

impl<const N: usize> From<[(&'static str, u32); N]> for Seen {
    fn from(steps: [(&'static str, u32); N]) -> Self {
        Self(
            steps
                .map(|(name, code)| (name, Answered::Code(code)))
                .into(),
        )
    }
}

impl Seen {
    /// With a further step, whose outcome is no response code.
    pub(crate) fn and(mut self, name: &'static str, words: &'static str) -> Self {
        self.0.push((name, Answered::Words(words)));
        self
    }
}

/// What has become of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Whole, with all its tries.
    Whole,
    /// Whole, with a try less.
    Tried,
    /// Not usable until the TPM has been restarted, then whole.
    Off,
    /// Gone.
    Lost,
    /// Without the index that was deleted; its PIN is as it was.
    Without,
}

impl After {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Tried => "; costs one try",
            Self::Off => "; the card cannot be used until the TPM restarts",
            Self::Lost => "; the card is lost",
            Self::Without => "; only that index is lost, PIN and keys are unchanged",
        }
    }
}

pub(crate) type Attempt = Box<dyn Fn(&mut Live, Object) -> Seen>;

/// How a row is answered.
pub(crate) enum How {
    /// By trying.
    Tried(Attempt),
    /// Not at all, for this reason.
    NotTried(&'static str),
    /// The TPM that the tests use does not have the command; this is what is known of it.
    Absent(&'static str),
}

/// One row.
pub(crate) struct Row {
    pub(crate) command: u32,
    pub(crate) knowledge: Knowledge,
    pub(crate) tried: &'static str,
    pub(crate) cases: Vec<(Object, Seen)>,
    /// In place of these, for cards whose counts only the owner reads.
    where_the_owner_reads: Option<Vec<(Object, Seen)>>,
    pub(crate) after: After,
    pub(crate) how: How,
}

/// A command that is tried; [`Row::on`] and [`Row::by`] complete the row.
pub(crate) fn row(command: u32, knowledge: Knowledge, tried: &'static str) -> Row {
    Row {
        command,
        knowledge,
        tried,
        cases: Vec::new(),
        where_the_owner_reads: None,
        after: After::Whole,
        how: How::NotTried(""),
    }
}

/// A command that is not tried against these objects, for this reason.
pub(crate) fn not_tried(
    command: u32,
    knowledge: Knowledge,
    objects: &[Object],
    reason: &'static str,
) -> Row {
    Row {
        cases: objects.iter().map(|object| (*object, 0.into())).collect(),
        how: How::NotTried(reason),
        ..row(command, knowledge, "")
    }
}

/// A command that the tests' TPM does not have.
pub(crate) fn absent(command: u32, known: &'static str) -> Row {
    Row {
        cases: vec![(Object::Nothing, 0.into())],
        how: How::Absent(known),
        ..row(command, Knowledge::Device, "")
    }
}

impl Row {
    /// What is expected with these objects.
    pub(crate) fn on(mut self, objects: &[Object], expected: impl Into<Seen>) -> Self {
        let expected = expected.into();
        let cases = objects.iter().map(|object| (*object, expected.clone()));
        self.cases.extend(cases);
        self
    }

    /// What is expected instead of cards whose counts only the owner reads; of no object, if they lack what the row is
    /// about.
    pub(crate) fn where_the_owner_reads(
        mut self,
        objects: &[Object],
        expected: impl Into<Seen>,
    ) -> Self {
        let expected = expected.into();
        let cases = objects.iter().map(|object| (*object, expected.clone()));
        self.where_the_owner_reads = Some(cases.collect());
        self
    }

    /// What is expected of the cards of this run. Those in object mode have no indices, and no tries in the TPM.
    pub(super) fn cases_of_run(&self) -> Vec<(Object, Seen)> {
        let needs_index = self.after == After::Tried || self.command == cc::NV_CERTIFY;
        let cases = match (&self.where_the_owner_reads, played::counter_mode()) {
            (Some(cases), CounterMode::NvOwner) => cases,
            (_, CounterMode::Object) if needs_index => return Vec::new(),
            _ => &self.cases,
        };
        let is_there = |object: Object| {
            played::counter_mode() != CounterMode::Object || !INDICES.contains(&object)
        };
        let cases = cases.iter().filter(|(object, _)| is_there(*object));
        cases.cloned().collect()
    }

    /// What becomes of the card.
    pub(crate) fn then(self, after: After) -> Self {
        Self { after, ..self }
    }

    /// Names one of its cases in messages.
    pub(super) fn title(&self, object: Object) -> String {
        let command = command_name(self.command);
        format!("{command}, {object}, {}, {}", self.knowledge, self.tried)
    }

    /// How it is tried.
    pub(crate) fn by<S: Into<Seen>>(
        self,
        attempt: impl Fn(&mut Live, Object) -> S + 'static,
    ) -> Self {
        let how = How::Tried(Box::new(move |live, object| attempt(live, object).into()));
        Self { how, ..self }
    }
}

/// Compares what was seen with what is expected.
pub(super) fn compare(expected: &Seen, seen: &Seen) -> Outcome {
    let differences: Vec<String> = (0..expected.0.len().max(seen.0.len()))
        .filter(|at| expected.0.get(*at) != seen.0.get(*at))
        .map(|at| {
            format!(
                "{} where {} is expected",
                step(seen, at),
                step(expected, at)
            )
        })
        .collect();
    match differences[..] {
        [] => Ok(()),
        _ => Err(differences.join("; ")),
    }
}

fn step(seen: &Seen, at: usize) -> String {
    let Some((name, answered)) = seen.0.get(at) else {
        return "nothing".to_owned();
    };
    let space = if name.is_empty() { "" } else { " " };
    match answered {
        Answered::Code(code) => {
            let said = response_name(*code).unwrap_or_else(|| "unknown".to_owned());
            format!("{name}{space}{code:#05X} ({said})")
        }
        Answered::Words(words) => format!("{name}{space}{words}"),
    }
}

#[cfg(not(feature = "weakened"))]
mod tests {
    use super::compare;

    #[test]
    fn answer_that_is_not_expected_is_named() {
        let (refused, done) = (0x99D.into(), 0.into());
        assert_eq!(compare(&refused, &refused), Ok(()));
        assert_eq!(
            compare(&refused, &done).unwrap_err(),
            "0x000 (SUCCESS) where 0x99D (POLICY_FAIL, session 1) is expected"
        );
    }
}
