use super::*;
use crate::multiplexer::Multiplexer;
use crate::swtpm::Swtpm;
use tempfile::TempDir;

const INDEX: u32 = 0x01C2_5A5A;
const LIMIT: u8 = 3;
const VALUE: &[u8] = b"the index's value";
/// OWNERREAD and OWNERWRITE beside what a card's index has.
const OF_THE_OWNER: u32 = 0x020A_008A;
const NV_DEFINE_SPACE: u32 = 0x12A;
const START_AUTH_SESSION: u32 = 0x176;
const POLICY_COMMAND_CODE: u32 = 0x16C;
const FLUSH_CONTEXT: u32 = 0x165;
const POLICY_SECRET: u32 = 0x151;
const BAD_AUTH: u32 = 0x9A2;

struct Bench {
    mux: Multiplexer,
    _tpm: Swtpm,
    _folder: TempDir,
}

/// A TPM with a PIN index that the owner may read and write, and that anybody may read by its policy.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
    let bench = Bench {
        mux,
        _tpm: tpm,
        _folder: folder,
    };
    bench.ask(&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]);
    let policy = cardea_tpm::policy::command_code(&cardea_tpm::policy::ZERO, NV_READ);
    let public = cardea_tpm::policy::nv_public(INDEX, OF_THE_OWNER, &policy);
    let parameters = [sized(VALUE), sized(&public)].concat();
    let defined = composed(NV_DEFINE_SPACE, &[OWNER], &[], &parameters);
    assert_eq!(bench.code(&defined), 0);
    let counter = [0, 8, 0, 0, 0, 0, 0, 0, 0, LIMIT, 0, 0];
    let written = composed(NV_WRITE, &[OWNER, INDEX], &[], &counter);
    assert_eq!(bench.code(&written), 0);
    bench
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

impl Bench {
    fn ask(&self, command: &[u8]) -> Vec<u8> {
        self.mux.transact(command).unwrap()
    }

    fn code(&self, command: &[u8]) -> u32 {
        code_of(&self.ask(command))
    }

    fn policy_session(&self) -> u32 {
        let mut command = vec![0x80, 1, 0, 0, 0, 43];
        command.extend_from_slice(&START_AUTH_SESSION.to_be_bytes());
        command.extend_from_slice(&[0x40, 0, 0, 7, 0x40, 0, 0, 7]);
        command.extend_from_slice(&[0, 16]);
        command.extend_from_slice(&[5; 16]);
        command.extend_from_slice(&[0, 0, 1, 0, 0x10, 0, 0x0B]);
        let answer = self.ask(&command);
        assert_eq!(code_of(&answer), 0);
        u32::from_be_bytes(answer[10..14].try_into().unwrap())
    }

    fn flush(&self, session: u32) {
        assert_eq!(self.code(&plain(FLUSH_CONTEXT, session)), 0);
    }

    /// PolicySecret of the index with this value: the response code.
    fn compare(&self, value: &[u8]) -> u32 {
        let session = self.policy_session();
        let parameters = [0; 10];
        let code = self.code(&composed(
            POLICY_SECRET,
            &[INDEX, session],
            value,
            &parameters,
        ));
        self.flush(session);
        code
    }

    /// NV_Read under a policy session, for this command code.
    fn read_by_policy(&self, allowed: u32) -> u32 {
        let session = self.policy_session();
        let mut command = plain(POLICY_COMMAND_CODE, session);
        command.extend_from_slice(&allowed.to_be_bytes());
        command[5] = 18;
        assert_eq!(self.code(&command), 0);
        let mut read = composed(NV_READ, &[INDEX, INDEX], &[], &[0, 8, 0, 0]);
        read[22..26].copy_from_slice(&session.to_be_bytes());
        // Not to be continued.
        read[28] = 0;
        let code = self.code(&read);
        if code != 0 {
            self.flush(session);
        }
        code
    }

    /// The count as the owner reads it.
    fn failures(&self) -> u8 {
        let read = self.ask(&composed(NV_READ, &[OWNER, INDEX], &[], &[0, 8, 0, 0]));
        assert_eq!(code_of(&read), 0);
        assert_eq!(read[23], LIMIT);
        read[19]
    }

    fn fail(&self, times: u8) {
        for _ in 0..times {
            assert_eq!(self.compare(b"wrong"), BAD_AUTH);
        }
    }
}

#[test]
fn policy_sets_the_count_back_with_the_flaw_only() {
    let bench = bench();
    bench.fail(2);
    assert_eq!((bench.read_by_policy(NV_READ), bench.failures()), (0, 2));
    bench.mux.emulate(Some(Flaw::forgetful_counters(vec![])));
    assert_eq!(bench.failures(), 2, "the owner's reading is no policy");
    assert_eq!((bench.read_by_policy(NV_READ), bench.failures()), (0, 0));
    bench.mux.emulate(None);
    bench.fail(1);
    assert_eq!((bench.read_by_policy(NV_READ), bench.failures()), (0, 1));
}

#[test]
fn blocked_index_opens_again_with_the_flaw_only() {
    let bench = bench();
    bench.fail(LIMIT);
    assert_eq!(bench.read_by_policy(NV_READ), 0);
    assert_eq!(bench.compare(VALUE), AUTH_UNAVAILABLE);
    bench.mux.emulate(Some(Flaw::forgetful_counters(vec![])));
    assert_eq!(bench.compare(VALUE), AUTH_UNAVAILABLE);
    assert_eq!(bench.read_by_policy(NV_READ), 0);
    assert_eq!(bench.compare(VALUE), 0);
}

#[test]
fn refused_policy_sets_nothing_back() {
    let bench = bench();
    bench.mux.emulate(Some(Flaw::forgetful_counters(vec![])));
    bench.fail(2);
    assert_ne!(bench.read_by_policy(NV_WRITE), 0);
    assert_eq!(bench.failures(), 2);
}

/// The same index, of which the multiplexer is told that only its value opens it.
fn known() -> Flaw {
    Flaw::forgetful_counters(vec![KnownCounter {
        index: INDEX,
        value: VALUE.to_vec(),
        limit: LIMIT.into(),
    }])
}

#[test]
fn known_counter_blocks_at_its_limit_and_a_policy_opens_it() {
    let bench = bench();
    bench.mux.emulate(Some(known()));
    bench.fail(LIMIT - 1);
    assert_eq!(bench.compare(VALUE), 0, "the last try is one");
    bench.fail(LIMIT);
    assert_eq!(bench.compare(VALUE), AUTH_UNAVAILABLE);
    assert_ne!(bench.read_by_policy(NV_WRITE), 0);
    assert_eq!(bench.compare(VALUE), AUTH_UNAVAILABLE);
    assert_eq!(bench.read_by_policy(NV_READ), 0);
    assert_eq!(bench.compare(VALUE), 0);
}

#[test]
fn count_of_a_known_counter_is_the_multiplexers() {
    let bench = bench();
    bench.mux.emulate(Some(known()));
    for _ in 0..3 {
        bench.fail(LIMIT - 1);
        assert_eq!(bench.failures(), 0, "the TPM's own never blocks");
        assert_eq!(bench.read_by_policy(NV_READ), 0);
    }
    assert_eq!(bench.compare(VALUE), 0);
}
