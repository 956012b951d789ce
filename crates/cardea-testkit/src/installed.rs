//! Cardea as it is after `cargo xtask install`, so that the commands of the pages run as they stand.
//!
//! What: the programs of a [`Workplace`] in namespaces of their own, where the module, its files for pkg-config and
//! p11-kit, the command and the daemon's socket are at their installed places, and root's home is the workplace's folder.
//! What not: the installation itself, which `cargo xtask ci` rehearses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::namespace::Namespace;
use crate::process::{Outcome, Running, run};
use crate::rig::bin_dir;
use crate::terminal::{Answer, Dialogue, converse};
use crate::workplace::{Workplace, module};

/// The user of the server that people sign in to, with the home folder `alice`.
pub const ALICE: u32 = 64_001;

/// A user of this machine who has no card.
pub const MALLORY: u32 = 64_002;

/// What stands before a command that is hers.
pub const AS_MALLORY: &str = "setpriv --reuid 64002 --clear-groups";

/// Name of the machine itself in the namespaces.
pub const SERVER: &str = "server.example.org";

/// A machine on which a workplace's Cardea is installed.
pub struct Installed {
    namespace: Namespace,
    folder: PathBuf,
    path: String,
}

impl Installed {
    /// Around a workplace.
    ///
    /// # Panics
    ///
    /// When the namespaces cannot be made (it needs root).
    #[must_use]
    pub fn around(workplace: &Workplace) -> Self {
        let folder = workplace.path("");
        // Other users come this way to what is theirs.
        set_mode(&folder, 0o711);
        for (name, owner) in [("alice", ALICE), ("mallory", MALLORY)] {
            fs::create_dir(folder.join(name)).expect("a folder");
            chown(folder.join(name), Some(owner), Some(owner)).expect("a folder of theirs");
        }
        write_users(&folder);
        let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        fs::create_dir(folder.join("pkgconfig")).expect("a folder");
        let template = include_str!("../../../packaging/cardea-pkcs11.pc");
        let description = template.replace("@libraries@", &libraries);
        let description = description.replace("@version@", env!("CARGO_PKG_VERSION"));
        write(&folder.join("pkgconfig/cardea-pkcs11.pc"), &description);
        fs::create_dir(folder.join("p11-kit")).expect("a folder");
        let template = include_str!("../../../packaging/cardea.module");
        let registered = template.replace("@libraries@", &libraries);
        write(&folder.join("p11-kit/cardea.module"), &registered);
        let script = format!(
            "cd {folder}\n\
             cp -a {libraries}/pkcs11 modules\ncp {module} modules/libcardea_pkcs11.so\n\
             mount --bind modules {libraries}/pkcs11\n\
             mount --bind p11-kit /usr/share/p11-kit/modules\n\
             for name in passwd group hosts; do mount --bind etc/$name /etc/$name; done\n\
             mount -t tmpfs run /run\nmkdir -p /run/cardea /run/sshd /run/pcscd\n\
             ln -s {socket} /run/cardea/cardea.sock\n\
             mount -t tmpfs ssh /etc/ssh\nmkdir /etc/ssh/sshd_config.d\n",
            folder = folder.display(),
            module = module(),
            socket = workplace.daemon.socket().display(),
        );
        let namespace = Namespace::new(&folder, &script);
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:/usr/sbin:{path}", bin_dir().display());
        Self {
            namespace,
            folder,
            path,
        }
    }

    /// An absolute path of the machine, as it is reached from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.namespace.path(inside)
    }

    /// A program inside, in the workplace's folder, as it is for somebody who has just signed in; not yet started.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command("env");
        command
            .arg(format!("--chdir={}", self.folder.display()))
            .arg(program)
            .env_clear()
            .env("HOME", &self.folder)
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", &self.path)
            .env("PKG_CONFIG_PATH", self.folder.join("pkgconfig"))
            .env("TERM", "xterm")
            .env("USER", "root");
        command
    }

    /// Runs commands of a shell at a terminal until one fails; what asks is answered.
    #[must_use]
    pub fn converse(&self, script: &str, answers: &[Answer<'_>]) -> Dialogue {
        let mut command = self.command("setsid");
        // An agent that the commands have started is theirs.
        let script =
            format!("trap 'test -z \"$SSH_AGENT_PID\" || kill $SSH_AGENT_PID' EXIT\n{script}");
        converse(command.args(["--ctty", "sh", "-e", "-c", &script]), answers)
    }

    /// The same without anybody who answers.
    #[must_use]
    pub fn shell(&self, script: &str) -> Outcome {
        run(self.command("sh").args(["-e", "-c", script]))
    }

    /// A shell's commands that must succeed, and what they printed.
    ///
    /// # Panics
    ///
    /// When they fail.
    pub fn does(&self, script: &str) -> String {
        let outcome = self.shell(script);
        assert!(outcome.success, "{script}\nfailed:\n{}", outcome.text);
        outcome.text
    }

    /// A shell's commands that must fail, and what they printed.
    ///
    /// # Panics
    ///
    /// When they succeed.
    pub fn refuses(&self, script: &str) -> String {
        let outcome = self.shell(script);
        assert!(!outcome.success, "{script}\nsucceeded:\n{}", outcome.text);
        outcome.text
    }

    /// An SSH server on the usual port, with the settings in `/etc/ssh/sshd_config.d`; clients know its key.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn ssh_server(&self) -> Running {
        self.does(&format!(
            "test -e /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\
             echo {SERVER} $(cat /etc/ssh/ssh_host_ed25519_key.pub) > /etc/ssh/ssh_known_hosts\n\
             printf '%s\\n' 'Include /etc/ssh/sshd_config.d/*.conf' 'HostKey /etc/ssh/ssh_host_ed25519_key' \
             'UsePAM no' 'PasswordAuthentication no' 'KbdInteractiveAuthentication no' \
             'LogLevel VERBOSE' > /etc/ssh/sshd_config"
        ));
        let mut command = self.command("/usr/sbin/sshd");
        command.args(["-D", "-e"]);
        let log = self.folder.join("sshd.log");
        drop(fs::remove_file(&log));
        let mut server = Running::start(&mut command, &log);
        server.wait_ready(|server| server.log().contains("Server listening"));
        server
    }

    /// Gives a user of the server a file in their home folder.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn give_alice(&self, name: &str, content: &str) {
        let file = self.folder.join("alice").join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).expect("a folder");
            chown(folder, Some(ALICE), Some(ALICE)).expect("a folder of theirs");
        }
        write(&file, content);
        chown(&file, Some(ALICE), Some(ALICE)).expect("a file of theirs");
    }
}

impl Drop for Installed {
    /// GnuPG's agents stay otherwise.
    fn drop(&mut self) {
        if self.folder.join(".gnupg").exists() {
            let killed = run(self.command("gpgconf").args(["--kill", "all"]));
            if !killed.success {
                eprintln!("GnuPG's agents are still there: {}", killed.text);
            }
        }
    }
}

fn write_users(folder: &Path) {
    let etc = folder.join("etc");
    fs::create_dir(&etc).expect("a folder");
    let home = folder.display();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let users = read("/etc/passwd");
    let users = users.lines().filter(|line| !line.starts_with("root:"));
    let mut users: String = users.map(|line| format!("{line}\n")).collect();
    users += &format!(
        "root:x:0:0:root:{home}:/bin/sh\n\
         alice:x:{ALICE}:{ALICE}:Alice:{home}/alice:/bin/sh\n\
         mallory:x:{MALLORY}:{MALLORY}:Mallory:{home}/mallory:/bin/sh\n"
    );
    write(&etc.join("passwd"), &users);
    let groups = format!("alice:x:{ALICE}:\nmallory:x:{MALLORY}:\n");
    write(&etc.join("group"), &(read("/etc/group") + &groups));
    let hosts = format!("127.0.0.1 localhost {SERVER}\n");
    write(&etc.join("hosts"), &hosts);
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}
