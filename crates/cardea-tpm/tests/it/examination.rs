//! What is found out about TPM parts that people have, and about one that contradicts itself.

use cardea_card::record::CounterMode;
use cardea_testkit::multiplexer::{Fault, Multiplexer, Part, PowerEvent, Profile, Trigger};
use cardea_testkit::swtpm::Swtpm;
use cardea_tpm::{CounterFinding, Examination, Obstacle, OptionalCommand, Service, TpmError};

use crate::proxy::refusal;

const POLICY_TICKET: u32 = 0x172;
const NV_CERTIFY: u32 = 0x184;
const NV_DEFINE_SPACE: u32 = 0x12A;
const COMMAND_CODE: u32 = 0x143;
const NV_SPACE: u32 = 0x14B;

struct Bench {
    mux: Multiplexer,
    _chip: Swtpm,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chip = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(&folder.path().join("mux"), &chip);
        Self {
            mux,
            _chip: chip,
            _folder: folder,
        }
    }

    fn playing(name: &str) -> Self {
        let bench = Self::new();
        bench.mux.play(Part::new(Profile::named(name)));
        bench
    }

    fn service(&self) -> Service {
        Service::start(&self.mux.address().parse().unwrap()).unwrap()
    }

    fn examine(&self) -> Result<Examination, TpmError> {
        let service = self.service();
        let examined = service.examine(&[]);
        let left = service.defined_indices().unwrap();
        assert!(left.is_empty(), "{left:x?}");
        examined
    }
}

#[test]
fn every_part_is_found_to_be_what_its_profile_says() {
    for name in Profile::names() {
        let profile = Profile::named(name);
        let found = Bench::playing(name)
            .examine()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = match (profile.refuses_pin_indices, profile.resets_counts) {
            (Some(code), _) => CounterFinding::Absent(code),
            (None, true) => CounterFinding::Resets,
            (None, false) => CounterFinding::Sound,
        };
        assert_eq!(found.counters, expected, "{name}");
        let mut lacking: Vec<_> = found.lacking.iter().map(|it| it.name()).collect();
        let mut missing: Vec<_> = profile.missing_commands.iter().collect();
        lacking.sort_unstable();
        missing.sort_unstable();
        assert_eq!(lacking, missing, "{name}");
        assert!(found.aes && found.sha384, "{name}");
        if let Some(limits) = profile.limits {
            assert_eq!(found.capacity.context_gap, limits.context_gap, "{name}");
            assert_eq!(found.capacity.objects, limits.transient, "{name}");
        }
        let takes_cards = found.has(OptionalCommand::PolicyTicket);
        let has_counters = !matches!(expected, CounterFinding::Absent(_));
        let ways = [
            found.why_not_open(),
            found.why_not_nv(),
            found.why_no_card(),
        ];
        let expected = [
            takes_cards && expected == CounterFinding::Sound,
            takes_cards && has_counters,
            takes_cards,
        ];
        assert_eq!(ways.map(|way| way.is_none()), expected, "{name}");
        let best = match expected {
            [true, ..] => Some(CounterMode::Nv),
            [_, true, _] => Some(CounterMode::NvOwner),
            [.., true] => Some(CounterMode::Object),
            _ => None,
        };
        assert_eq!(found.best_mode(), best, "{name}");
    }
}

#[test]
fn command_that_is_listed_and_refused_is_one_that_is_lacking() {
    let bench = Bench::new();
    for code in [POLICY_TICKET, NV_CERTIFY] {
        let fault = Fault::Replace(refusal(COMMAND_CODE));
        bench.mux.inject(Trigger::command(code), fault);
    }
    let found = bench.examine().unwrap();
    assert_eq!(
        found.lacking,
        [OptionalCommand::NvCertify, OptionalCommand::PolicyTicket]
    );
    assert_eq!(
        found.why_not_nv(),
        Some(Obstacle::Lacks(OptionalCommand::PolicyTicket))
    );
    assert_eq!(bench.mux.waiting_faults(), 0);
    assert_eq!(bench.examine().unwrap().lacking, []);
}

#[test]
fn memory_that_is_full_is_not_a_finding() {
    let bench = Bench::new();
    let fault = Fault::Replace(refusal(NV_SPACE));
    bench.mux.inject(Trigger::command(NV_DEFINE_SPACE), fault);
    let refused = bench.examine().unwrap_err();
    assert!(matches!(refused, TpmError::NvFull(_)), "{refused}");
    assert_eq!(bench.examine().unwrap().counters, CounterFinding::Sound);
}

#[test]
fn kept_form_is_believed_as_it_was_written_and_for_one_tpm_only() {
    let bench = Bench::new();
    let service = bench.service();
    let found = service.examine(&[]).unwrap();
    let kept = service.keep_examination(&found).unwrap();
    assert_eq!(
        bench.service().recall_examination(&kept).unwrap(),
        Some(found.clone())
    );
    for position in fields(&kept) {
        let mut changed = kept.clone();
        changed[position] ^= 1;
        let recalled = service.recall_examination(&changed).unwrap();
        assert_eq!(recalled, None, "byte {position} of {kept:02x?}");
    }
    for length in [0, 1, kept.len() / 2, kept.len() - 1] {
        let recalled = service.recall_examination(&kept[..length]).unwrap();
        assert_eq!(recalled, None, "{length} bytes");
    }
    let other = Bench::new();
    assert_eq!(other.service().recall_examination(&kept).unwrap(), None);
    // The same TPM with other firmware.
    let updated = Profile {
        firmware: Some("2026.11.30.1".into()),
        ..Profile::named("swtpm")
    };
    bench.mux.play(Part::new(updated));
    assert_eq!(bench.service().recall_examination(&kept).unwrap(), None);
}

#[test]
fn power_cut_at_any_command_leaves_no_index_and_no_finding() {
    let bench = Bench::new();
    let (mut cut, mut command) = (0, 0);
    loop {
        let service = bench.service();
        service.status().unwrap();
        let fault = match command % 2 {
            0 => Fault::DropBefore,
            _ => Fault::DropAfter,
        };
        bench.mux.inject(Trigger::next().after(command), fault);
        let examined = service.examine(&[]);
        if bench.mux.waiting_faults() > 0 {
            assert_eq!(examined.unwrap().counters, CounterFinding::Sound);
            break;
        }
        assert!(examined.is_err(), "cut at command {command}");
        cut += 1;
        drop(service);
        bench.mux.power(PowerEvent::Cut);
        let found = bench.examine().unwrap();
        assert_eq!(found.counters, CounterFinding::Sound, "command {command}");
        command += 1;
    }
    assert!(cut > 20, "{cut}");
}

/// Where each CBOR item of a kept form ends, which is in its value: one byte of each field, key and count.
fn fields(kept: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < kept.len() {
        let (kind, information) = (kept[at] >> 5, kept[at] & 0x1F);
        let size = match information {
            0..24 => 0,
            _ => 1 << (information - 24),
        };
        let value = &kept[at + 1..at + 1 + size];
        let value = value
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let content = match (kind, size) {
            (2 | 3, 0) => usize::from(information),
            (2 | 3, _) => value,
            _ => 0,
        };
        at += 1 + size + content;
        ends.push(at - 1);
    }
    assert!(ends.len() > 30 && at == kept.len(), "{ends:?}");
    ends
}
