//! A removable drive: a file system in an image, mounted in a namespace, unmounted, or pulled.
//!
//! What: ext4 (and what else the kernel has) through a loop device, which takes root.
//! What not: a bus; that a device has gone is shown by the file system refusing everything from then on, with
//! what was not brought to the disk lost ([`Hand::pull`]).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::namespace::Namespace;
use crate::process::{Outcome, run, wait_for};

/// Where sticks are mounted, in a namespace made with [`MEDIA`].
pub const PLACE: &str = "/media/stick";

/// Script for a namespace in which [`PLACE`] is there and nobody else's.
pub const MEDIA: &str = "mount -t tmpfs none /media\nmkdir -p /media/stick /media/other";

/// A drive.
pub struct Stick {
    image: PathBuf,
}

impl Stick {
    /// With an empty ext4 file system of so many MiB.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new(image: &Path, size: u64) -> Self {
        let file = std::fs::File::create(image).expect("an image");
        file.set_len(size * 1024 * 1024).expect("its size");
        drop(file);
        let made = run(Command::new("/sbin/mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(image));
        assert!(made.success, "{}", made.text);
        Self {
            image: image.to_owned(),
        }
    }

    /// A second drive with the same contents as this one has now; it is not mounted at the moment.
    ///
    /// # Panics
    ///
    /// When it cannot be copied.
    #[must_use]
    pub fn copy(&self, image: &Path) -> Self {
        std::fs::copy(&self.image, image).expect("a copy");
        Self {
            image: image.to_owned(),
        }
    }

    /// Mounts it.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn mount(&self, namespace: &Namespace, options: &str, place: &str) {
        let mounted = run(namespace
            .command("mount")
            .args(["-o", &format!("loop,{options}")])
            .arg(&self.image)
            .arg(place));
        assert!(mounted.success, "{}", mounted.text);
    }

    /// Mounts it at [`PLACE`], for writing.
    pub fn plug(&self, namespace: &Namespace) {
        self.mount(namespace, "nodev,nosuid", PLACE);
    }
}

/// Unmounts what is at a place.
///
/// # Panics
///
/// When it is busy.
pub fn unplug(namespace: &Namespace, place: &str) {
    let done = run(namespace.command("umount").arg(place));
    assert!(done.success, "{}", done.text);
}

/// Who pulls drives: a process that waits for the moment.
pub struct Hand {
    process: Child,
}

impl Hand {
    /// Ready in a namespace.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        // FS_IOC_SHUTDOWN without writing the journal (EXT4_GOING_FLAGS_NOLOGFLUSH).
        const PROGRAM: &str = "import fcntl, os, struct, sys, time\n\
            for line in sys.stdin:\n\
            \x20   place, wait = line.split()\n\
            \x20   folder = os.open(place, os.O_RDONLY)\n\
            \x20   time.sleep(float(wait))\n\
            \x20   fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))\n\
            \x20   os.close(folder)\n";
        let process = namespace
            .command("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        Self { process }
    }

    /// Pulls the drive at a place in so many seconds: what was not on the disk is lost, nothing works any more.
    ///
    /// # Panics
    ///
    /// When the process has gone.
    pub fn pull(&mut self, place: &str, wait: f64) {
        let hand = self.process.stdin.as_mut().expect("its input");
        writeln!(hand, "{place} {wait}").expect("it listens");
        hand.flush().expect("it listens");
    }

    /// Waits until the drive at a place was pulled, and takes the mount away as a desktop does.
    pub fn take_away(&mut self, namespace: &Namespace, place: &str) {
        let refuses = |_: &str| {
            let looked = run(namespace.command("sh").args([
                "-c",
                &format!("sync -f {place} && : > {place}/probe && sync {place}/probe"),
            ]));
            !looked.success
        };
        wait_for("the drive refuses", || refuses(place));
        wait_for("the drive is unmounted", || {
            run(namespace.command("umount").arg(place)).success
        });
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A shell's lines inside, from a folder.
///
/// # Panics
///
/// When the shell cannot be started.
pub fn shell(namespace: &Namespace, folder: &Path, lines: &str) -> Outcome {
    let script = format!("cd '{}'\n{lines}", folder.display());
    run(namespace.command("sh").args(["-e", "-c", &script]))
}
