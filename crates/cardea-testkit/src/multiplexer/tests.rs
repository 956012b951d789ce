use std::io::{Read, Write};

use cardea_tpm::Service;
use tempfile::TempDir;

use super::message::read_message;
use super::*;
use crate::process::PATIENCE;

const GET_RANDOM: u32 = 0x17B;
const READ_CLOCK: u32 = 0x181;

struct Bench {
    mux: Multiplexer,
    tpm: Swtpm,
    _folder: TempDir,
}

/// A TPM that is started up, behind a multiplexer with an empty record.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
    let response = mux.transact(&startup_type(STARTUP, CLEAR)).unwrap();
    assert_eq!(code_of(&response), 0);
    mux.forget_exchanges();
    Bench {
        mux,
        tpm,
        _folder: folder,
    }
}

fn get_random(bytes: u16) -> Vec<u8> {
    let mut command = vec![0x80, 1, 0, 0, 0, 12];
    command.extend_from_slice(&GET_RANDOM.to_be_bytes());
    command.extend_from_slice(&bytes.to_be_bytes());
    command
}

fn read_clock() -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10], &READ_CLOCK.to_be_bytes()[..]].concat()
}

fn connect(mux: &Multiplexer) -> UnixStream {
    let stream = UnixStream::connect(mux.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The answer; none when the connection is dropped.
fn ask(stream: &mut UnixStream, command: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(command).ok()?;
    read_message(stream).ok()
}

fn hung_up(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

#[test]
fn clients_side_by_side_get_their_own_answers_whole() {
    let bench = bench();
    std::thread::scope(|scope| {
        for length in 1..=8u16 {
            let mut client = connect(&bench.mux);
            scope.spawn(move || {
                for _ in 0..50 {
                    let answer = ask(&mut client, &get_random(length)).unwrap();
                    assert_eq!(answer[10..12], length.to_be_bytes());
                    assert_eq!(answer.len(), 12 + usize::from(length));
                }
            });
        }
    });
    let exchanges = bench.mux.exchanges();
    assert_eq!(exchanges.len(), 8 * 50);
    for length in 1..=8 {
        let command = get_random(length);
        let mine: Vec<_> = exchanges.iter().filter(|e| e.command == command).collect();
        assert_eq!(mine.len(), 50);
        assert!(mine.iter().all(|e| e.client == mine[0].client));
    }
    for pair in exchanges.windows(2) {
        assert!(
            pair[0].at + pair[0].took <= pair[1].at,
            "two commands at once"
        );
    }
}

#[test]
fn tools_work_beside_a_service() {
    let bench = bench();
    let service = Service::start(&bench.mux.address().parse().unwrap()).unwrap();
    assert_eq!(service.status().unwrap().lockout_count, 0);
    let shown = bench.mux.tpm2("tpm2_getcap", &["properties-variable"]);
    assert!(shown.success, "{}", shown.text);
    assert!(
        shown.text.contains("TPM2_PT_LOCKOUT_COUNTER"),
        "{}",
        shown.text
    );
    assert_eq!(service.status().unwrap().lockout_count, 0);
    let clients: Vec<_> = bench.mux.exchanges().iter().map(|e| e.client).collect();
    assert_eq!(clients.first(), clients.last(), "the service was dropped");
    assert!(clients.iter().any(|client| client != &clients[0]));
}

#[test]
fn record_has_command_response_and_time() {
    let bench = bench();
    let mut client = connect(&bench.mux);
    let random = ask(&mut client, &get_random(4)).unwrap();
    let unknown = ask(&mut client, &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 1]).unwrap();
    let exchanges = bench.mux.exchanges();
    assert_eq!(exchanges.len(), 2);
    assert_eq!(exchanges[0].command, get_random(4));
    assert_eq!(exchanges[0].code(), GET_RANDOM);
    assert_eq!(exchanges[0].response, Some(random));
    assert!(exchanges[0].executed);
    assert!(exchanges[0].took > Duration::ZERO);
    assert_eq!(exchanges[1].response_code(), Some(code_of(&unknown)));
    assert_ne!(code_of(&unknown), 0);
    bench.mux.forget_exchanges();
    assert_eq!(bench.mux.exchanges(), []);
}

#[test]
fn replaced_response_never_reaches_the_tpm() {
    let bench = bench();
    let retry = vec![0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22];
    bench
        .mux
        .inject(Trigger::next(), Fault::Replace(retry.clone()));
    let mut client = connect(&bench.mux);
    assert_eq!(ask(&mut client, &get_random(4)).unwrap(), retry);
    assert_eq!(code_of(&ask(&mut client, &get_random(4)).unwrap()), 0);
    let exchanges = bench.mux.exchanges();
    assert_eq!(
        (exchanges[0].executed, exchanges[1].executed),
        (false, true)
    );
}

#[test]
fn dropped_connection_is_that_clients_alone() {
    for (fault, executed) in [(Fault::DropBefore, false), (Fault::DropAfter, true)] {
        let bench = bench();
        let (mut one, mut two) = (connect(&bench.mux), connect(&bench.mux));
        bench.mux.inject(Trigger::next(), fault);
        assert_eq!(ask(&mut one, &get_random(4)), None);
        assert_eq!(code_of(&ask(&mut two, &get_random(4)).unwrap()), 0);
        let exchanges = bench.mux.exchanges();
        assert_eq!(exchanges[0].executed, executed);
        assert_eq!(exchanges[0].response, None);
        let mut again = connect(&bench.mux);
        assert_eq!(code_of(&ask(&mut again, &get_random(4)).unwrap()), 0);
    }
}

#[test]
fn fault_waits_for_its_command_and_its_turn() {
    let bench = bench();
    let trigger = Trigger::command(GET_RANDOM).after(1);
    let code =
        |byte: u8| Fault::Change(Box::new(move |response| [&response[..9], &[byte]].concat()));
    bench.mux.inject(trigger, code(0x77));
    let mut client = connect(&bench.mux);
    assert_eq!(code_of(&ask(&mut client, &read_clock()).unwrap()), 0);
    assert_eq!(code_of(&ask(&mut client, &get_random(4)).unwrap()), 0);
    assert_eq!(bench.mux.waiting_faults(), 1);
    assert_eq!(code_of(&ask(&mut client, &read_clock()).unwrap()), 0);
    client.write_all(&get_random(4)).unwrap();
    let mut changed = [0; 10];
    client.read_exact(&mut changed).unwrap();
    assert_eq!(code_of(&changed), 0x77);
    assert_eq!(bench.mux.waiting_faults(), 0);
    assert!(bench.mux.exchanges().last().unwrap().executed);
}

#[test]
fn each_command_meets_one_fault_in_their_order() {
    let bench = bench();
    for byte in [1, 2] {
        let answer = vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, byte];
        bench.mux.inject(Trigger::next(), Fault::Replace(answer));
    }
    let mut client = connect(&bench.mux);
    for code in [1, 2, 0] {
        assert_eq!(code_of(&ask(&mut client, &get_random(4)).unwrap()), code);
    }
}

#[test]
fn delay_holds_the_answer_back() {
    let bench = bench();
    let delay = Duration::from_millis(80);
    bench.mux.inject(Trigger::next(), Fault::Delay(delay));
    let begin = Instant::now();
    assert!(ask(&mut connect(&bench.mux), &get_random(4)).is_some());
    assert!(begin.elapsed() >= delay);
    assert!(bench.mux.exchanges()[0].took >= delay);
}

#[test]
fn half_a_command_and_nonsense_never_reach_the_tpm() {
    let bench = bench();
    let mut client = connect(&bench.mux);
    client.write_all(&get_random(4)[..11]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(hung_up(&mut client));
    for length in [0u32, 9, 4097, u32::MAX] {
        let mut client = connect(&bench.mux);
        let header = [&[0x80, 1][..], &length.to_be_bytes(), &[0, 0, 1, 0x7B]].concat();
        client.write_all(&header).unwrap();
        assert!(hung_up(&mut client), "{length}");
    }
    assert_eq!(bench.mux.exchanges(), []);
    assert!(ask(&mut connect(&bench.mux), &get_random(4)).is_some());
}

#[test]
fn clients_are_dropped_with_the_tpm_and_find_the_next_one() {
    let mut bench = bench();
    for _ in 0..5 {
        let mut idle = connect(&bench.mux);
        assert!(ask(&mut idle, &get_random(4)).is_some());
        bench.tpm.kill();
        assert!(hung_up(&mut idle), "the end of the TPM is not told");
        assert!(hung_up(&mut connect(&bench.mux)), "admitted without a TPM");
        assert_eq!(bench.mux.transact(&get_random(4)), None);
        bench.tpm.restart();
        let mut next = connect(&bench.mux);
        let startup = ask(&mut next, &startup_type(STARTUP, CLEAR)).unwrap();
        assert_eq!(code_of(&startup), 0);
        assert!(ask(&mut next, &get_random(4)).is_some());
    }
}

#[test]
fn power_events_are_what_the_tpm_takes_them_for() {
    let bench = bench();
    let mut client = connect(&bench.mux);
    // TPMS_TIME_INFO after the header: time, then clock, resetCount, restartCount.
    let mut counts = || {
        let response = ask(&mut client, &read_clock()).unwrap();
        let count = |at: usize| u32::from_be_bytes(response[at..at + 4].try_into().unwrap());
        (count(26), count(30))
    };
    // A resume alone keeps the PCRs (TPM 2.0 Part 1 §12.2.3).
    let measured = || {
        let read = bench.mux.tpm2("tpm2_pcrread", &["sha256:0"]);
        assert!(read.success, "{}", read.text);
        !read.text.contains(&format!("0x{}", "0".repeat(64)))
    };
    let extend = format!("0:sha256={}", "5a".repeat(32));
    assert!(bench.mux.tpm2("tpm2_pcrextend", &[&extend]).success);
    let (resets, restarts) = counts();
    bench.mux.power(PowerEvent::Resume);
    assert_eq!(counts(), (resets, restarts + 1));
    assert!(measured());
    bench.mux.power(PowerEvent::Restart);
    assert_eq!(counts(), (resets, restarts + 2));
    assert!(!measured());
    bench.mux.power(PowerEvent::Reset);
    assert_eq!(counts(), (resets + 1, 0));
    bench.mux.power(PowerEvent::Cut);
    assert_eq!(counts(), (resets + 2, 0));
}

#[test]
fn stopped_multiplexer_lets_go_of_clients_and_tpm() {
    let bench = bench();
    let mut client = connect(&bench.mux);
    assert!(ask(&mut client, &get_random(4)).is_some());
    let socket = bench.mux.socket().to_owned();
    drop(bench.mux);
    assert!(hung_up(&mut client));
    assert!(UnixStream::connect(socket).is_err());
    let direct = bench.tpm.tpm2("tpm2_getrandom", &["--hex", "4"]);
    assert!(direct.success, "{}", direct.text);
}

/// What a test's interposer has seen.
type Seen = Arc<Mutex<Vec<(u64, u32)>>>;

#[test]
fn interposer_sees_every_client_and_what_it_passes_is_executed() {
    let bench = bench();
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    bench.mux.interpose(
        move |client: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            theirs.lock().unwrap().push((client, code_of(command)));
            tpm.transact(command)
        },
    );
    let mut client = connect(&bench.mux);
    assert_eq!(code_of(&ask(&mut client, &get_random(4)).unwrap()), 0);
    assert_eq!(code_of(&bench.mux.transact(&read_clock()).unwrap()), 0);
    bench.mux.withdraw();
    assert!(ask(&mut client, &get_random(4)).is_some());
    let exchanges = bench.mux.exchanges();
    assert!(exchanges.iter().all(|exchange| exchange.executed));
    let clients = [exchanges[0].client, 0];
    let expected = [(clients[0], GET_RANDOM), (0, READ_CLOCK)];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn interposer_changes_commands_and_answers_and_sends_its_own() {
    let bench = bench();
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    bench.mux.interpose(
        move |_: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            let mut theirs = theirs.lock().unwrap();
            let clock = tpm.transact(&read_clock())?;
            theirs.push((0, code_of(&clock)));
            assert_eq!(code_of(command), GET_RANDOM);
            let mut answer = tpm.transact(&get_random(7))?;
            theirs.push((1, u32::try_from(answer.len()).unwrap()));
            answer[9] = 0x66;
            Some(answer)
        },
    );
    let answer = ask(&mut connect(&bench.mux), &get_random(4)).unwrap();
    assert_eq!((code_of(&answer), answer.len()), (0x66, 12 + 7));
    assert_eq!(*seen.lock().unwrap(), [(0, 0), (1, 12 + 7)]);
    let exchanges = bench.mux.exchanges();
    assert_eq!(exchanges.len(), 1, "the record is of what clients say");
    assert_eq!(exchanges[0].command, get_random(4));
    assert!(!exchanges[0].executed, "as it came, it was not");
}

#[test]
fn interposer_keeps_commands_and_sends_them_later() {
    let bench = bench();
    let mut kept: Option<Vec<u8>> = None;
    bench.mux.interpose(
        move |_: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            match kept.take() {
                None => {
                    kept = Some(command.to_vec());
                    Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22])
                }
                Some(kept) => tpm.transact(&kept),
            }
        },
    );
    let mut client = connect(&bench.mux);
    let refused = ask(&mut client, &get_random(5)).unwrap();
    assert_eq!(code_of(&refused), 0x922);
    let late = ask(&mut client, &read_clock()).unwrap();
    assert_eq!(late.len(), 12 + 5);
}

#[test]
fn interposer_drops_connections_and_commands_with_a_fault_do_not_reach_it() {
    let bench = bench();
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    bench.mux.interpose(
        move |client: u64, command: &[u8], _: &mut Passage<'_>| -> Option<Vec<u8>> {
            theirs.lock().unwrap().push((client, code_of(command)));
            None
        },
    );
    bench.mux.inject(Trigger::next(), Fault::DropBefore);
    assert_eq!(ask(&mut connect(&bench.mux), &get_random(4)), None);
    assert_eq!(*seen.lock().unwrap(), []);
    assert_eq!(ask(&mut connect(&bench.mux), &read_clock()), None);
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(bench.mux.exchanges()[1].response, None);
    bench.mux.withdraw();
    assert!(ask(&mut connect(&bench.mux), &get_random(4)).is_some());
}

#[test]
fn fault_changes_what_the_interposer_answers() {
    let bench = bench();
    bench.mux.interpose(
        |_: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            let mut answer = tpm.transact(command)?;
            answer[9] = 0x66;
            Some(answer)
        },
    );
    bench.mux.inject(
        Trigger::next(),
        Fault::Change(Box::new(|mut answer| {
            assert_eq!(code_of(&answer), 0x66);
            answer[9] = 0x67;
            answer
        })),
    );
    let answer = ask(&mut connect(&bench.mux), &get_random(4)).unwrap();
    assert_eq!(code_of(&answer), 0x67);
}
