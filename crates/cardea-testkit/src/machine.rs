//! A virtual machine with a TPM that its kernel drives: `/dev/tpmrm0` as on real hardware.
//!
//! What: Debian's kernel under emulation (QEMU without hardware acceleration), its TPM an `swtpm` outside, and
//! either an init that mounts one disk and runs one program, without service manager, udev and users, or an
//! installed Debian with systemd that runs a script; and the report of that program or script.
//!
//! Disk and TPM outlive a boot, so that a second one shows what a power cut leaves.

mod initramfs;
mod kernel;
mod system;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Running, run};
use initramfs::Archive;
use kernel::Kernel;
pub use system::{Debian, System, make_packages};

/// Longest life of one boot with one program; emulation on a busy machine takes a third of it.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Where the machine's disk is mounted.
pub const DISK: &str = "/disk";

/// Report that the program is done. A report is lines `fact=value`.
const END: &str = "end";

/// What the console says when the exit status of program or script is 0.
const PROGRAM_ENDED_WELL: &str = "the program has ended with 0";

/// The serial console shows what went wrong, no more. Nothing here is kept from reading another's memory by timing, and
/// what would prevent it takes time. Timers that seem not to work, and units that seem to hang, do so because this
/// computer is busy.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off no_timer_check \
    systemd.show_status=0 systemd.default_timeout_start_sec=600 rdinit=/init";

/// A drive, before the name of its file. What the machine has flushed does not wait for this computer's disk: the end of
/// the machine, which is the power cut that is tested, loses nothing of what it has written.
const DRIVE: &str = "format=raw,if=virtio,cache=unsafe,file=";

/// The address of a machine with a network; who calls it has another of that network.
pub const OWN_ADDRESS: &str = "10.0.2.15";

/// QEMU's own network: nothing leads out of it, one port leads in. The card needs no code for starting from it.
const NETWORK: [&str; 4] = [
    "-netdev",
    "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:135-10.0.2.15:135",
    "-device",
    "virtio-net-pci,netdev=net,romfile=",
];

/// A shell's program: sets up the loopback interface of a new network, then becomes its arguments.
const LOOPBACK_UP: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// How the kernel reaches the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Command response buffer, as firmware TPMs have it.
    Crb,
    /// FIFO, as discrete TPMs have it.
    Tis,
}

impl Interface {
    fn device(self) -> &'static str {
        match self {
            Self::Crb => "tpm-crb",
            Self::Tis => "tpm-tis",
        }
    }
}

/// A machine that is switched off.
pub struct Machine {
    folder: PathBuf,
    kernel: Kernel,
    initramfs: PathBuf,
    disk: PathBuf,
    drives: Vec<PathBuf>,
    /// In MiB.
    memory: u32,
    limit: Duration,
    /// Whether other machines can call it.
    network: bool,
}

/// Drivers of a removable drive's file system.
const DRIVE_MODULES: [&str; 3] = ["vfat", "nls_cp437", "nls_ascii"];

impl Machine {
    /// With an empty disk and a new TPM in `folder`. The first of `programs` is what it runs; all of them
    /// are in `/bin` there. The kernel is kept in `cache`, and downloaded when it is not there yet.
    ///
    /// # Panics
    ///
    /// When anything that it takes is missing.
    #[must_use]
    pub fn new(folder: &Path, cache: &Path, programs: &[&Path]) -> Self {
        Self::made(folder, cache, programs, None)
    }

    /// The same with a drive put in, which is `/dev/vdb` and may have a FAT file system.
    ///
    /// # Panics
    ///
    /// When anything that it takes is missing.
    #[must_use]
    pub fn with_drive(folder: &Path, cache: &Path, programs: &[&Path], drive: &Path) -> Self {
        Self::made(folder, cache, programs, Some(drive))
    }

    fn made(folder: &Path, cache: &Path, programs: &[&Path], drive: Option<&Path>) -> Self {
        let kernel = Kernel::cached(cache);
        let initramfs = folder.join("initramfs");
        let further: &[&str] = match drive {
            Some(_) => &DRIVE_MODULES,
            None => &[],
        };
        let archive = archive(&kernel, folder, programs, further);
        std::fs::write(&initramfs, archive).expect("initramfs written");
        let disk = folder.join("disk");
        let made = run(Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4"])
            .arg(&disk)
            .arg("64M"));
        assert!(made.success, "no disk: {}", made.text);
        std::fs::create_dir_all(folder.join("tpm")).expect("a folder for the TPM");
        Self {
            folder: folder.to_owned(),
            kernel,
            initramfs,
            disk,
            drives: drive.map(Path::to_owned).into_iter().collect(),
            memory: 512,
            limit: BOOT_LIMIT,
            network: false,
        }
    }

    /// Takes the TPM out and puts in a new one.
    ///
    /// # Panics
    ///
    /// When the old one's state cannot be removed.
    pub fn replace_tpm(&self) {
        let tpm = self.folder.join("tpm");
        std::fs::remove_dir_all(&tpm).expect("the TPM goes");
        std::fs::create_dir(&tpm).expect("a folder for the TPM");
    }

    /// With a network card, [`OWN_ADDRESS`], whose port 135 others beside the machine ([`Boot::beside`]) have as their
    /// own at 127.0.0.1; it calls nobody.
    #[must_use]
    pub fn with_network(self) -> Self {
        Self {
            network: true,
            ..self
        }
    }

    /// Switches it on; its program gets one argument.
    ///
    /// # Panics
    ///
    /// When TPM or machine cannot be started.
    #[must_use]
    pub fn boot(&self, interface: Interface, argument: &str) -> Boot {
        let control = self.folder.join("tpm.ctrl");
        drop(std::fs::remove_file(&control));
        let mut tpm = Running::start(
            tied("swtpm")
                .args(["socket", "--tpm2", "--tpmstate"])
                .arg(format!("dir={}", self.folder.join("tpm").display()))
                .arg("--ctrl")
                .arg(format!("type=unixio,path={}", control.display())),
            &self.folder.join("swtpm.log"),
        );
        tpm.wait_ready(|_| UnixStream::connect(&control).is_ok());

        let console = self.folder.join(format!("{argument}.console"));
        let report = self.folder.join(format!("{argument}.report"));
        let messages = self.folder.join(format!("{argument}.messages"));
        let drives = self.drives.iter().flat_map(|drive| {
            let drive = DRIVE.to_owned() + &drive.display().to_string();
            ["-drive".to_owned(), drive]
        });
        // In a network of its own, so that its ports are nobody else's.
        let mut qemu = Command::new("unshare");
        let qemu = Running::start(
            qemu.args([
                "--net",
                "sh",
                "-c",
                LOOPBACK_UP,
                "setpriv",
                "--pdeathsig",
                "KILL",
            ])
            .arg("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-machine", "q35"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", &self.memory.to_string(), "-kernel"])
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-append")
            .arg(format!("{KERNEL_ARGUMENTS} -- {argument}"))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", report.display()))
            .arg("-serial")
            .arg(format!("file:{}", messages.display()))
            .arg("-drive")
            .arg(DRIVE.to_owned() + &self.disk.display().to_string())
            .args(drives)
            .args(if self.network { &NETWORK[..] } else { &[] })
            .arg("-chardev")
            .arg(format!("socket,id=tpm,path={}", control.display()))
            .args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device"])
            .arg(format!("{},tpmdev=tpm", interface.device())),
            &self.folder.join("qemu.log"),
        );
        Boot {
            qemu,
            tpm,
            console,
            report,
            messages,
            start: Instant::now(),
            limit: self.limit,
        }
    }
}

/// A machine that is on. Dropping it is a power cut.
pub struct Boot {
    qemu: Running,
    tpm: Running,
    console: PathBuf,
    report: PathBuf,
    /// What an installed system's script says on stderr.
    messages: PathBuf,
    start: Instant,
    limit: Duration,
}

impl Boot {
    /// Waits until a fact is in the report.
    ///
    /// # Panics
    ///
    /// Like [`Boot::report`].
    pub fn wait_fact(&mut self, fact: &str) {
        while !self.facts().facts.contains_key(fact) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A program in the network beside the machine.
    #[must_use]
    pub fn beside(&self, program: &str) -> Command {
        let mut command = tied("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.qemu.pid()));
        command.arg(program);
        command
    }

    /// Waits until the program has done its work.
    ///
    /// # Panics
    ///
    /// With the end of its console, when it fails or takes too long.
    #[must_use]
    pub fn report(&mut self) -> Report {
        loop {
            let report = self.facts();
            if report.facts.contains_key(END) {
                return report;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was reported until now, by a machine that has not ended too early.
    fn facts(&mut self) -> Report {
        let ended = !self.qemu.running();
        let report = Report::parse(&read(&self.report));
        let early = ended && !report.facts.contains_key(END);
        assert!(!early, "the machine has ended early\n{}", self.tails());
        self.check_time();
        report
    }

    /// Power goes away: nobody gets to write what was not written yet, and the TPM hears no Shutdown. Gives what
    /// the program has said until then.
    pub fn cut_power(mut self) -> Report {
        self.qemu.kill();
        self.tpm.kill();
        Report::parse(&read(&self.report))
    }

    /// Waits until it has switched itself off.
    ///
    /// # Panics
    ///
    /// With the end of its console, when its program has failed or it takes too long.
    pub fn wait_off(mut self) {
        while self.qemu.running() {
            self.check_time();
            std::thread::sleep(Duration::from_millis(20));
        }
        let well = read(&self.console).contains(PROGRAM_ENDED_WELL);
        assert!(well, "the program has failed\n{}", self.tails());
    }

    /// Since it was switched on.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    fn check_time(&self) {
        assert!(
            self.age() < self.limit,
            "the machine is not done in {:?}\n{}",
            self.limit,
            self.tails()
        );
    }

    fn tails(&self) -> String {
        let mut text = String::new();
        for (name, file) in [
            ("console", &self.console),
            ("messages", &self.messages),
            ("report", &self.report),
        ] {
            let content = read(file);
            let lines: Vec<&str> = content.lines().collect();
            let last = lines.get(lines.len().saturating_sub(40)..);
            let last = last.unwrap_or_default().join("\n");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "--- end of its {name}\n{last}");
        }
        text
    }
}

/// What the program in the machine has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    facts: BTreeMap<String, String>,
}

impl Report {
    fn parse(text: &str) -> Self {
        // A line that has not come whole yet is none.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let facts = whole.lines().filter_map(|line| line.trim().split_once('='));
        Self {
            facts: facts
                .map(|(fact, value)| (fact.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// A fact.
    ///
    /// # Panics
    ///
    /// When it was not told.
    #[must_use]
    pub fn get(&self, fact: &str) -> &str {
        self.facts
            .get(fact)
            .unwrap_or_else(|| panic!("nothing was said of {fact}: {self:?}"))
    }

    /// A fact that is bytes in hexadecimal.
    ///
    /// # Panics
    ///
    /// When it was not told or is something else.
    #[must_use]
    pub fn bytes(&self, fact: &str) -> Vec<u8> {
        let digits = self.get(fact);
        (0..digits.len())
            .step_by(2)
            .map(|at| digits.get(at..at + 2))
            .map(|byte| u8::from_str_radix(byte.unwrap_or_default(), 16))
            .collect::<Result<_, _>>()
            .expect("hexadecimal digits")
    }

    /// All facts whose name begins so, with the rest of their names.
    pub fn all<'a>(&'a self, beginning: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.facts.iter().filter_map(move |(fact, value)| {
            let rest = fact.strip_prefix(beginning)?;
            Some((rest, value.as_str()))
        })
    }
}

impl Archive {
    /// Modules that the init script loads, and the shell that it runs in.
    fn kernel_modules(&mut self, kernel: &Kernel, wanted: &[&str]) {
        let mut names = String::new();
        for (name, module) in kernel.modules(wanted) {
            self.file(&format!("modules/{name}"), module);
            names = names + &name + "\n";
        }
        self.file("modules.order", names.into());
        self.file("bin/busybox", read_file(Path::new("/bin/busybox")));
        self.symbolic_link("bin/sh", "busybox");
    }
}

/// A program that the kernel ends when the test that started it is gone, however that was ended.
fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// The machine's file system: modules, a shell, the programs with their libraries.
fn archive(kernel: &Kernel, folder: &Path, programs: &[&Path], modules: &[&str]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.device("dev/console", (5, 1));
    for folder in ["proc", "sys", "run", "tmp", "media", &DISK[1..]] {
        archive.folder(folder);
    }
    archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n".into());
    archive.file("etc/group", b"root:x:0:\n".into());
    // The file system and the TPM's drivers may be part of the kernel; then there is nothing to load.
    let usual = ["virtio_pci", "virtio_blk", "ext4", "tpm_crb", "tpm_tis"];
    archive.kernel_modules(kernel, &[&usual, modules].concat());
    for program in programs {
        let name = program.file_name().expect("a program").to_string_lossy();
        let stripped = folder.join("stripped");
        let done = run(Command::new("strip").arg("-o").arg(&stripped).arg(program));
        assert!(done.success, "{}", done.text);
        archive.program(&format!("bin/{name}"), &stripped);
    }
    let first = programs.first().and_then(|program| program.file_name());
    archive.symbolic_link(
        "bin/main",
        &first.expect("a program to run").to_string_lossy(),
    );
    archive.file("init", include_bytes!("machine/init.sh").into());
    archive.finish()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn read_file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_the_lines_that_have_come_whole() {
        let report = Report::parse("key.1=0aFF\r\nkey.2=\r\nnoise\r\nend=fir");
        assert_eq!(report.bytes("key.1"), [0x0A, 0xFF]);
        assert_eq!(
            report.all("key.").collect::<Vec<_>>(),
            [("1", "0aFF"), ("2", "")]
        );
        assert!(!report.facts.contains_key(END));
    }
}
