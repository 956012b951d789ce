//! Administrators of other machines who make and destroy cards, eight at once, and one who vanishes at every packet of
//! its conversation: nothing may be left behind, and the memory of service and daemon stays as it is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{CardsRequest, Reply, Request};

use crate::process::wait_for;
use crate::remote::{Administrator, Cut, Line, Load, Refused, Service};
use crate::rig::Daemon;
use crate::swtpm::Swtpm;

/// Administrators at once.
pub const ADMINISTRATORS: usize = 8;

/// Longest time for one request to the daemon.
const LIMIT: Duration = Duration::from_secs(60);

/// KiB that memory may vary by: threads come and go with their stacks.
const GROWTH: u64 = 4096;

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Cards made and destroyed until then.
    pub cards: usize,
    /// Since the beginning.
    pub time: Duration,
    /// The service.
    pub service: Load,
    /// The daemon.
    pub daemon: Load,
}

impl Moment {
    /// Whether nothing is open that was not open then. Of the daemon's first moment, a connection may be left over from
    /// before.
    fn is_as_quiet_as(&self, other: &Self) -> bool {
        self.service.is_as_busy_as(other.service)
            && self.daemon.descriptors <= other.daemon.descriptors
            && self.daemon.threads <= other.daemon.threads
    }
}

/// What a TPM and the daemon's state folder have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// NV indices, persistent objects, and objects and sessions that a daemon left behind when it ended.
    pub handles: BTreeSet<String>,
    /// Files of the state folder but those of the audit, whose parts change.
    pub files: BTreeSet<String>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Figures {
    /// At the beginning, where it was asked for, and at the end.
    pub moments: Vec<Moment>,
    /// Places at which the line of a client was cut.
    pub cuts: usize,
    /// Cards that were finished before their client could read so, and that an administrator has destroyed by the list.
    pub orphans: usize,
    /// Before the first card, and after the last.
    pub holdings: [Holdings; 2],
}

impl Figures {
    /// What every run must show.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check(&self) {
        let [before, after] = &self.holdings;
        assert_eq!(before, after, "something is left behind");
        let (Some(first), Some(last)) = (self.moments.first(), self.moments.last()) else {
            panic!("nothing was seen");
        };
        assert!(last.is_as_quiet_as(first), "{self:?}");
        // After the first tenth: until then, threads have their stacks and tables their size for the first time.
        let early = self.moments.get(1).unwrap_or(first);
        for (early, late) in [(early.service, last.service), (early.daemon, last.daemon)] {
            assert!(late.memory <= early.memory + GROWTH, "{self:?}");
        }
    }
}

/// Has administrators make and destroy so many cards, and looks at what that takes up after each of `looks` of them.
///
/// # Panics
///
/// When an operation fails that should succeed.
#[must_use]
pub fn run(cards: usize, looks: &[usize]) -> Figures {
    let folder = tempfile::tempdir().expect("a folder");
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let slots = format!("slots = {}\n", ADMINISTRATORS + 2);
    let mut daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), &slots);
    let service = Service::start(&folder.path().join("service"), &daemon.socket());
    let idle = service.load();
    // What the first card of a machine brings with it is not left behind by it.
    turn(service.address(), 1, &AtomicUsize::new(0));
    let before = holdings(&tpm, &mut daemon);
    daemon.restart();
    let (cuts, orphans) = cut_everywhere(&service, idle, &daemon.socket());
    let begin = Instant::now();
    let look = |cards| Moment {
        cards,
        time: begin.elapsed(),
        service: service.load(),
        daemon: Load::of(daemon.pid().expect("the daemon runs")),
    };
    let mut moments = vec![look(0)];
    let begun = AtomicUsize::new(0);
    let mut done = 0;
    for next in looks.iter().copied().chain([cards]) {
        let goal = next.min(cards);
        if goal <= done {
            continue;
        }
        std::thread::scope(|scope| {
            for _ in 0..ADMINISTRATORS {
                scope.spawn(|| turn(service.address(), goal, &begun));
            }
        });
        done = goal;
        begun.store(done, Ordering::Relaxed);
        // Connections end a moment after their clients.
        wait_for("the end of the connections", || {
            look(done).is_as_quiet_as(&moments[0])
        });
        moments.push(look(done));
    }
    let after = holdings(&tpm, &mut daemon);
    service.stop();
    Figures {
        moments,
        cuts,
        orphans,
        holdings: [before, after],
    }
}

/// An administrator's part, until so many cards were begun: some by a new connection, some by the last one's.
fn turn(service: SocketAddr, goal: usize, begun: &AtomicUsize) {
    let mut kept = None;
    loop {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        if number >= goal {
            return;
        }
        let sign_in = || Administrator::sign_in(service).expect("the administrator is known");
        let mut administrator = kept.take().unwrap_or_else(sign_in);
        let name = format!("load {number}");
        let instance = administrator.create(&name).expect("a card");
        administrator.destroy(&instance).expect("it goes");
        match number % 4 {
            0 => kept = Some(administrator),
            1 => drop(administrator),
            _ => administrator.release().expect("it is released"),
        }
    }
}

/// Cuts the line of a client before and after each packet of its conversation.
fn cut_everywhere(service: &Service, idle: Load, daemon: &Path) -> (usize, usize) {
    let whole = Line::open(service.address(), None);
    let (result, _) = conversation(whole.address());
    result.expect("the conversation succeeds");
    let packets = whole.packets();
    drop(whole);
    let mut orphans = 0;
    for packet in 0..packets {
        for arrives in [false, true] {
            let cut = Cut { packet, arrives };
            let line = Line::open(service.address(), Some(cut));
            let (result, made) = conversation(line.address());
            // The last packet is an answer.
            let is_last = packet + 1 == packets && arrives;
            assert_eq!(result.is_ok(), is_last, "{cut:?}: {result:?}");
            drop(line);
            wait_for("the end of the connections", || {
                service.load().is_as_busy_as(idle)
            });
            // What the service has answered before the line was cut is done: the card is whole, and in the list.
            for instance in instances(daemon) {
                assert!(
                    made.as_ref().is_none_or(|made| *made == instance),
                    "{cut:?}"
                );
                let mut other = Administrator::sign_in(service.address()).expect("a reference");
                other.destroy(&instance).expect("a whole card");
                orphans += 1;
            }
        }
    }
    (2 * packets, orphans)
}

/// From signing in to the release; also the card that the client has learnt of.
fn conversation(service: SocketAddr) -> (Result<(), Refused>, Option<String>) {
    let mut made = None;
    let mut all = || {
        let mut administrator = Administrator::sign_in(service)?;
        let instance = administrator.create("cut")?;
        administrator.destroy(made.insert(instance))?;
        administrator.release()
    };
    (all(), made)
}

/// The instance ids of all cards.
fn instances(daemon: &Path) -> Vec<String> {
    let mut client = Client::connect(daemon).expect("the daemon answers");
    let list = Request::Cards(CardsRequest::List { from: None });
    match client.call(&list, LIMIT).expect("an answer") {
        Reply::Cards(page) => page
            .entries
            .into_iter()
            .map(|card| card.instance_id)
            .collect(),
        other => panic!("not a list: {other:?}"),
    }
}

/// Stops the daemon, and looks at what is there without it.
fn holdings(tpm: &Swtpm, daemon: &mut Daemon) -> Holdings {
    daemon.stop();
    let kinds = [
        "handles-nv-index",
        "handles-persistent",
        "handles-transient",
        "handles-loaded-session",
        "handles-saved-session",
    ];
    let handles = kinds.iter().flat_map(|kind| {
        let listed = tpm.tpm2("tpm2_getcap", &[kind]);
        assert!(listed.success, "{}", listed.text);
        let words = listed.text.split_ascii_whitespace();
        let handles = words.filter(|word| word.starts_with("0x"));
        handles.map(str::to_owned).collect::<Vec<_>>()
    });
    let mut files = BTreeSet::new();
    list(&daemon.state(), &mut files);
    files.retain(|file| !file.contains("/audit"));
    Holdings {
        handles: handles.collect(),
        files,
    }
}

/// All files below a folder.
fn list(folder: &Path, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a state folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => list(&path, files),
            false => drop(files.insert(path.display().to_string())),
        }
    }
}
