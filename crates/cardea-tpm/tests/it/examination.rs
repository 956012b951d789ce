//! What is found out about TPM parts that people have, and about one that contradicts itself.

use cardea_testkit::multiplexer::{Fault, Multiplexer, Part, Profile, Trigger};
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
        assert_eq!(
            found.why_not_nv().is_none(),
            expected == CounterFinding::Sound && found.has(OptionalCommand::PolicyTicket),
            "{name}"
        );
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
