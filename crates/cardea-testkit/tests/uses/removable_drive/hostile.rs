//! Drives and programs that want to do harm: a clear error for whoever brought them, and nobody else notices.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{CardsRequest, DriveRequest, FailureKind, Hold, Reply, Request};
use cardea_store::format::{HostKey, decode, encode};
use cardea_testkit::process::{run, wait_for};
use cardea_testkit::stick::{PLACE, Stick, unplug};
use serde_json::Value;

use super::Computer;

/// Whatever is on a drive, the daemon answers within this time.
const LIMIT: Duration = Duration::from_secs(20);

/// Puts something in place of a card file.
type Make<'a> = Box<dyn Fn() + 'a>;

/// A computer with a card of somebody else's in its own folder, which nothing must touch.
struct Scene {
    computer: Computer,
}

impl Scene {
    fn new() -> Self {
        let computer = Computer::new();
        computer.workplace.create("Victim");
        computer.generate("Victim", "theirs");
        Self { computer }
    }

    /// The folder of card files, from outside the namespace.
    fn folder(&self) -> PathBuf {
        self.computer
            .namespace
            .path(Path::new(PLACE).join("Cardea"))
    }

    /// Attaches by hand, and gives the refusal.
    fn refusal(&self, folder: OwnedFd) -> (FailureKind, String) {
        let begin = Instant::now();
        let reply = attach(&mut self.client(), folder);
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        match reply {
            Reply::Failed(failure) => (failure.kind, failure.message),
            other => panic!("attached: {other:?}"),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.computer.workplace.daemon.socket()).unwrap()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        let id = self.computer.listed(name).unwrap()["card_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let state = self.computer.workplace.daemon.state();
        state.join("cards").join(format!("{id}.card"))
    }

    /// The other card is as it was.
    fn check(&self) {
        let shown = self.computer.workplace.cardea(&["card", "show", "Victim"]);
        assert!(shown.contains("5 of 5 tries left"), "{shown}");
        assert!(self.computer.signs("Victim", "theirs"));
    }
}

fn attach(client: &mut Client, folder: OwnedFd) -> Reply {
    let request = Request::Drive(DriveRequest::Attach {
        place: PLACE.into(),
    });
    client
        .call_with_folder(&request, folder.as_fd(), 2 * LIMIT, &mut |_| {})
        .unwrap()
}

fn hold(client: &mut Client, folder: Option<&OwnedFd>) -> Reply {
    let request = Request::Drive(DriveRequest::Hold { timeout_ms: 20_000 });
    match folder {
        Some(folder) => client
            .call_with_folder(&request, folder.as_fd(), 2 * LIMIT, &mut |_| {})
            .unwrap(),
        None => client.call(&request, 2 * LIMIT).unwrap(),
    }
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

#[test]
fn what_is_no_folder_of_cards_is_refused() {
    let scene = Scene::new();
    let stick = scene.computer.stick("stick");
    let folder = scene.folder();
    fs::create_dir(&folder).unwrap();
    // Things that are not folders on a disk.
    let image = scene.computer.workplace.path("stick");
    let (reader, _writer) = std::io::pipe().unwrap();
    for (given, why) in [
        (open(&image), "not a folder"),
        (OwnedFd::from(reader), "not a folder"),
        (open(Path::new("/proc/self")), "file systems of this kind"),
        (open(Path::new("/sys")), "file systems of this kind"),
        (open(Path::new("/dev/shm")), "file systems of this kind"),
    ] {
        let (_, text) = scene.refusal(given);
        assert!(text.contains(why), "{why}: {text}");
    }
    let request = Request::Drive(DriveRequest::Attach { place: "x".into() });
    match scene.client().call(&request, LIMIT).unwrap() {
        Reply::Failed(failure) => assert_eq!(failure.kind, FailureKind::Invalid),
        other => panic!("{other:?}"),
    }
    let (kind, _) = scene.refusal(open(&folder));
    assert_eq!(kind, FailureKind::NotFound);

    // Things that have the name of a card file.
    let id = "00112233445566778899aabbccddeeff";
    let name = folder.join(format!("{id}.card"));
    let victim = scene.path_of("Victim");
    let own = fs::read(&victim).unwrap();
    let (wanted, device) = (name.display().to_string(), "not a regular file");
    let make: [(&str, Make<'_>); 9] = [
        (device, Box::new(|| symlink(&victim, &name).unwrap())),
        (device, Box::new(|| symlink("/dev/zero", &name).unwrap())),
        (
            device,
            Box::new(|| assert!(run(std::process::Command::new("mkfifo").arg(&wanted)).success)),
        ),
        (
            device,
            Box::new(|| {
                let zero = ["-m", "666", &wanted, "c", "1", "5"];
                assert!(run(std::process::Command::new("mknod").args(zero)).success);
            }),
        ),
        (device, Box::new(|| fs::create_dir(&name).unwrap())),
        (
            "larger than any card file",
            Box::new(|| {
                fs::File::create(&name).unwrap().set_len(1 << 40).unwrap();
            }),
        ),
        (
            "not a card file",
            Box::new(|| fs::write(&name, [7; 5000]).unwrap()),
        ),
        (
            "truncated",
            Box::new(|| fs::write(&name, &own[..own.len() / 2]).unwrap()),
        ),
        (
            "not to the one in its name",
            Box::new(|| fs::write(&name, &own).unwrap()),
        ),
    ];
    for (why, make) in make {
        make();
        let (_, text) = scene.refusal(open(&folder));
        assert!(text.contains(why), "{why}: {text}");
        if name.is_dir() {
            fs::remove_dir(&name).unwrap();
        } else {
            fs::remove_file(&name).unwrap();
        }
    }
    // The other card's own file, as it stands.
    let copy = folder.join(victim.file_name().unwrap());
    fs::write(&copy, &own).unwrap();
    let (_, text) = scene.refusal(open(&folder));
    assert!(text.contains("already exists on this computer"), "{text}");
    fs::remove_file(&copy).unwrap();

    // Too much of anything.
    for number in 0..17 {
        fs::write(folder.join(format!("{number:032x}.card")), b"x").unwrap();
    }
    let (_, text) = scene.refusal(open(&folder));
    assert!(text.contains("more card files than"), "{text}");
    for number in 0..1100 {
        fs::write(folder.join(format!("{number}")), b"").unwrap();
    }
    let (_, text) = scene.refusal(open(&folder));
    assert!(text.contains("too many files"), "{text}");
    scene.check();
    unplug(&scene.computer.namespace, PLACE);
    drop(stick);
}

#[test]
fn file_that_claims_the_counter_of_another_card_spends_no_try() {
    let scene = Scene::new();
    let _stick = scene.computer.stick("stick");
    scene.computer.make_card("Travel", &[]);
    scene.computer.ok(&["card", "detach", "Travel"]);
    let state = scene.computer.workplace.daemon.state();
    let key = <[u8; 32]>::try_from(fs::read(state.join("host.key")).unwrap()).unwrap();
    let read = |path: &Path| {
        decode(&HostKey::new(key), &fs::read(path).unwrap())
            .unwrap()
            .record
    };
    let victim = read(&scene.path_of("Victim"));
    let id = scene.computer.listed("Travel").unwrap()["card_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let on_drive = scene.folder().join(format!("{id}.card"));
    // The previous generation would stand in for what is broken.
    fs::remove_file(scene.folder().join(format!("{id}.card.old"))).unwrap();
    let travel = read(&on_drive);
    let good = fs::read(&on_drive).unwrap();

    // Another id, the victim's everything else: with the host's own key, and without it.
    let mut forged = victim.clone();
    forged.id = cardea_card::record::CardId::new([0x42; 16]);
    let name = scene.folder().join(format!("{}.card", forged.id));
    fs::write(&name, encode(&HostKey::new(key), &forged).unwrap()).unwrap();
    fs::remove_file(&on_drive).unwrap();
    let (_, text) = scene.refusal(open(&scene.folder()));
    assert!(text.contains("belongs to another card"), "{text}");
    fs::write(&name, encode(&HostKey::new([9; 32]), &forged).unwrap()).unwrap();
    scene.computer.attach();
    let listed = scene.computer.ok(&["card", "list", "--json"]);
    let listed: Vec<Value> = super::json(&listed);
    let entry = listed
        .iter()
        .find(|card| card["card_id"] == "42".repeat(16))
        .unwrap();
    assert_eq!(entry["state"], "not-trusted");
    scene.computer.refuses(
        &["card", "adopt", &"42".repeat(16)],
        "belongs to another card",
    );
    let wrong = scene.computer.workplace.text("wrong");
    scene.computer.refuses(
        &["pin", "verify", &"42".repeat(16), "--pin-file", &wrong],
        "cannot be used",
    );
    // Giving it up removes the file, and nothing of the victim's.
    scene
        .computer
        .ok(&["card", "destroy", &"42".repeat(16), "--yes"]);
    assert!(!name.exists());
    scene.check();

    // The card itself with the victim's counter, under the host's key: not the card that is known.
    let mut mixed = travel.clone();
    mixed.tpm.indices.clone_from(&victim.tpm.indices);
    fs::write(&on_drive, encode(&HostKey::new(key), &mixed).unwrap()).unwrap();
    let (_, text) = scene.refusal(open(&scene.folder()));
    assert!(
        text.contains("not the one that this system knows"),
        "{text}"
    );
    // With another owner.
    let mut given = travel.clone();
    given.owner = 12_001;
    fs::write(&on_drive, encode(&HostKey::new(key), &given).unwrap()).unwrap();
    let (_, text) = scene.refusal(open(&scene.folder()));
    assert!(
        text.contains("not the one that this system knows"),
        "{text}"
    );
    // Changed by a byte.
    let mut edited = good.clone();
    *edited.last_mut().unwrap() ^= 1;
    fs::write(&on_drive, &edited).unwrap();
    let (_, text) = scene.refusal(open(&scene.folder()));
    assert!(
        text.contains("was changed, or not written by this system"),
        "{text}"
    );
    fs::write(&on_drive, &good).unwrap();
    scene.computer.attach();
    assert!(scene.computer.signs("Travel", "first"));
    scene.check();
}

#[test]
fn file_exchanged_while_it_is_read_hangs_nobody() {
    let scene = Scene::new();
    let _stick = scene.computer.stick("stick");
    scene.computer.make_card("Travel", &[]);
    scene.computer.ok(&["card", "detach", "Travel"]);
    let id = scene.computer.listed("Travel").unwrap()["card_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let folder = scene.folder();
    let name = folder.join(format!("{id}.card"));
    let good = folder.join("good");
    // The previous generation would stand in for what is broken.
    fs::remove_file(folder.join(format!("{id}.card.old"))).unwrap();
    fs::copy(&name, &good).unwrap();
    let pipe = folder.join("pipe");
    assert!(run(std::process::Command::new("mkfifo").arg(&pipe)).success);
    let stop = AtomicBool::new(false);
    let mut answers = [0, 0];
    thread::scope(|scope| {
        scope.spawn(|| {
            let swap = folder.join("swap");
            while !stop.load(Ordering::Relaxed) {
                for other in [&pipe, &good] {
                    drop(fs::hard_link(other, &swap));
                    drop(fs::rename(&swap, &name));
                    drop(fs::remove_file(&swap));
                }
                drop(symlink("/dev/zero", &swap));
                drop(fs::rename(&swap, &name));
            }
        });
        for _ in 0..60 {
            let mut client = scene.client();
            let begin = Instant::now();
            match attach(&mut client, open(&folder)) {
                Reply::Drive { .. } => answers[0] += 1,
                Reply::Failed(_) => answers[1] += 1,
                other => panic!("{other:?}"),
            }
            assert!(begin.elapsed() < LIMIT);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answers.iter().all(|count| *count > 0), "{answers:?}");
    wait_for("the drive is let go", || {
        scene.computer.state("Travel") == "drive-away"
    });
    drop(fs::remove_file(&name));
    fs::copy(&good, &name).unwrap();
    scene.computer.attach();
    assert!(scene.computer.signs("Travel", "first"));
    scene.check();
}

#[test]
fn read_only_full_and_copied_drives_are_told_so() {
    let scene = Scene::new();
    let computer = &scene.computer;
    let stick = computer.stick("stick");
    computer.make_card("Travel", &[]);
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    let copy = stick.copy(&computer.workplace.path("copy"));

    // Read-only: used, not changed.
    stick.mount(&computer.namespace, "ro", PLACE);
    computer.attach();
    assert!(computer.signs("Travel", "first"));
    let refused = computer.try_generate("Travel", "second");
    assert!(
        !refused.success && refused.text.contains("Read-only"),
        "{}",
        refused.text
    );
    assert!(computer.signs("Travel", "first"), "it stays");
    let pin = computer.workplace.text("pin");
    let create = [
        "card",
        "create",
        "--name",
        "New",
        "--pin-file",
        &pin,
        "--store",
    ];
    computer.refuses(&[&create[..], &[PLACE]].concat(), "read-only");

    // A copy at the same time is not a second card.
    copy.mount(&computer.namespace, "nodev", "/media/other");
    computer.refuses(&["card", "attach", "/media/other"], "from another drive");
    assert!(computer.signs("Travel", "first"));
    unplug(&computer.namespace, "/media/other");
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    // In its place it is the card.
    copy.plug(&computer.namespace);
    computer.attach();
    assert!(computer.signs("Travel", "first"));

    // Full: nothing is lost, and nothing is half made.
    let before = computer.ok(&["tpm", "indices", "--json"]);
    for block in ["1M", "1k"] {
        let fill = "dd if=/dev/zero oflag=append conv=notrunc,fsync status=none";
        computer.sh(&format!(
            "{fill} bs={block} of={PLACE}/fill 2> /dev/null || true"
        ));
    }
    let refused = computer.try_generate("Travel", "second");
    assert!(
        !refused.success && refused.text.contains("No space"),
        "{}",
        refused.text
    );
    assert!(computer.signs("Travel", "first"), "it stays");
    computer.refuses(&[&create[..], &[PLACE]].concat(), "No space");
    assert_eq!(computer.ok(&["tpm", "indices", "--json"]), before);
    computer.sh(&format!("rm {PLACE}/fill"));
    computer.generate("Travel", "second");
    assert!(computer.signs("Travel", "second"));

    // What lies where the next generation goes.
    let id = computer.listed("Travel").unwrap()["card_id"]
        .as_str()
        .unwrap()
        .to_owned();
    computer.sh(&format!("mkdir {PLACE}/Cardea/{id}.card.new"));
    let refused = computer.try_generate("Travel", "third");
    assert!(
        !refused.success && refused.text.contains("cannot write"),
        "{}",
        refused.text
    );
    computer.sh(&format!("rmdir {PLACE}/Cardea/{id}.card.new"));
    drop(computer.cardea(&["card", "attach", PLACE]));
    computer.wait_for_state("Travel", "ready");
    assert!(computer.signs("Travel", "second"));
    scene.check();
}

#[test]
fn holder_that_lies_or_sleeps_stops_its_own_card_only() {
    let scene = Scene::new();
    let computer = &scene.computer;
    let stick = computer.stick("stick");
    computer.make_card("Travel", &[]);
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    stick.plug(&computer.namespace);
    let copy = Stick::new(&computer.workplace.path("copy"), 16);
    copy.mount(&computer.namespace, "nodev", "/media/other");

    // It gives another folder than the one that it attached.
    let mut client = scene.client();
    assert!(matches!(
        attach(&mut client, open(&scene.folder())),
        Reply::Drive { .. }
    ));
    let other = computer.namespace.path(Path::new("/media/other"));
    thread::scope(|scope| {
        let lie = scope.spawn(|| {
            assert!(matches!(hold(&mut client, None), Reply::Hold(Hold::Folder)));
            hold(&mut client, Some(&open(&other)))
        });
        let refused = computer.try_generate("Travel", "lie");
        assert!(
            refused.text.contains("no longer attached"),
            "{}",
            refused.text
        );
        assert!(matches!(lie.join().unwrap(), Reply::Hold(Hold::Detached)));
    });
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "lost+found");
    computer.wait_for_state("Travel", "drive-away");

    // It sleeps: the card waits a while and leaves, and others go on meanwhile.
    let mut client = scene.client();
    assert!(matches!(
        attach(&mut client, open(&scene.folder())),
        Reply::Drive { .. }
    ));
    thread::scope(|scope| {
        let begin = Instant::now();
        let stuck = scope.spawn(|| computer.try_generate("Travel", "sleep"));
        while !stuck.is_finished() {
            let begin = Instant::now();
            computer.generate("Victim", "meanwhile");
            assert!(
                begin.elapsed() < Duration::from_secs(4),
                "{:?}",
                begin.elapsed()
            );
            computer.workplace.cardea(&[
                "key",
                "delete",
                "Victim",
                "meanwhile",
                "--yes",
                "--pin-file",
                &computer.workplace.text("pin"),
            ]);
        }
        let refused = stuck.join().unwrap();
        assert!(
            refused.text.contains("no longer attached"),
            "{}",
            refused.text
        );
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
    });
    computer.wait_for_state("Travel", "drive-away");
    drop(client);

    // Descriptors that nobody asked for are closed.
    let pid = computer.workplace.daemon.pid().unwrap();
    let open_files = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open_files();
    let mut client = scene.client();
    for _ in 0..500 {
        let folder = open(&scene.folder());
        let reply = client
            .call_with_folder(
                &Request::Cards(CardsRequest::List { from: None }),
                folder.as_fd(),
                LIMIT,
                &mut |_| {},
            )
            .unwrap();
        assert!(matches!(reply, Reply::Cards(_)));
    }
    assert!(open_files() <= before + 3, "{before} {}", open_files());
    drop(client);

    computer.attach();
    assert!(computer.signs("Travel", "first"));
    scene.check();
}
