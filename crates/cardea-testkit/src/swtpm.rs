//! A software TPM of a test's own.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Outcome, PATIENCE, Running};
use crate::tpm2_tools::tpm2_tools;

/// `swtpm` on Unix sockets in a folder of its own; its state outlives its process.
pub struct Swtpm {
    folder: PathBuf,
    process: Option<Running>,
}

impl Swtpm {
    /// Starts one with its state in `folder`, which is made.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let mut tpm = Self {
            folder: folder.to_owned(),
            process: None,
        };
        tpm.restart();
        tpm
    }

    /// Command socket; the control socket is beside it with `.ctrl`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Its address for `--tpm`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("swtpm:unix={}", self.socket().display())
    }

    /// Power goes away.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Power goes away, if it is there, and comes back.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let (socket, control) = (self.socket(), self.folder.join("sock.ctrl"));
        drop(std::fs::remove_file(&socket));
        drop(std::fs::remove_file(&control));
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()));
        let mut process = Running::start(&mut command, &self.folder.join("swtpm.log"));
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        self.process = Some(process);
    }

    /// The power blinks: `_TPM_Init` without Shutdown, while the process and its connection live on.
    /// Whoever speaks next must send Startup; [`crate::multiplexer::Multiplexer::power`] does that too.
    ///
    /// # Panics
    ///
    /// When the TPM does not do it.
    pub fn reset(&self) {
        initialise(&self.folder.join("sock.ctrl")).expect("the TPM initialises");
    }

    /// A program of tpm2-tools on this TPM, which must have no other client at the moment
    /// (a [`crate::multiplexer::Multiplexer`] allows more).
    #[must_use]
    pub fn tpm2(&self, program: &str, arguments: &[&str]) -> Outcome {
        tpm2_tools(&self.socket(), program, arguments)
    }
}

/// Makes the state of a TPM as its maker delivers it, in a folder of its own: with certificates by a root and an
/// intermediate authority, for RSA-2048 and P-384. Returns the files of the authorities' certificates, the root's first;
/// they are in the other folder, and one that is there already makes further TPMs.
///
/// # Panics
///
/// When swtpm_setup and swtpm_localca do not make it.
#[must_use]
pub fn deliver(state: &Path, authority: &Path) -> [PathBuf; 2] {
    for folder in [state, authority] {
        std::fs::create_dir_all(folder).expect("the folder is made");
    }
    let file = |name: &str| authority.join(name).display().to_string();
    let write = |name: &str, content: String| {
        std::fs::write(authority.join(name), content).expect("the file is written");
        file(name)
    };
    let settings = format!(
        "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
        authority.display(),
        file("signkey.pem"),
        file("issuercert.pem"),
        file("certserial"),
    );
    let settings = write("localca.conf", settings);
    let options =
        "--platform-manufacturer Fabrikam\n--platform-version 2.1\n--platform-model Board\n";
    let options = write("localca.options", options.to_owned());
    let setup = format!(
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {settings}\n\
         create_certs_tool_options = {options}\n"
    );
    let made = Command::new("swtpm_setup")
        .args(["--tpm2", "--createek", "--create-ek-cert", "--lock-nvram"])
        .args(["--overwrite", "--config", &write("setup.conf", setup)])
        .arg("--tpmstate")
        .arg(state)
        .output()
        .expect("swtpm_setup is installed");
    assert!(made.status.success(), "{made:?}");
    ["swtpm-localca-rootca-cert.pem", "issuercert.pem"].map(|name| authority.join(name))
}

/// CMD_INIT of swtpm's control channel (`swtpm_ioctls(3)`): code and flags out, result back.
pub(crate) fn initialise(control: &Path) -> io::Result<()> {
    const CMD_INIT: u32 = 2;
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[CMD_INIT.to_be_bytes(), [0; 4]].concat())?;
    let mut result = [0; 4];
    stream.read_exact(&mut result)?;
    match u32::from_be_bytes(result) {
        0 => Ok(()),
        code => Err(io::Error::other(format!("swtpm answers {code:#x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];

    /// Response code of Startup(CLEAR).
    fn startup(tpm: &mut UnixStream) -> u32 {
        tpm.write_all(&STARTUP).unwrap();
        let mut response = [0; 10];
        tpm.read_exact(&mut response).unwrap();
        u32::from_be_bytes(response[6..].try_into().unwrap())
    }

    fn define(tpm: &Swtpm, index: &str) {
        let defined = tpm.tpm2("tpm2_nvdefine", &["-C", "o", "-s", "8", index]);
        assert!(defined.success, "{}", defined.text);
    }

    fn indices(tpm: &Swtpm) -> String {
        let listed = tpm.tpm2("tpm2_getcap", &["handles-nv-index"]);
        assert!(listed.success, "{}", listed.text);
        listed.text.to_lowercase()
    }

    #[test]
    fn reset_asks_for_startup_on_the_same_connection() {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(folder.path());
        let mut connection = UnixStream::connect(tpm.socket()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(startup(&mut connection), 0);
        assert_eq!(startup(&mut connection), 0x100, "once is enough");
        tpm.reset();
        assert_eq!(startup(&mut connection), 0);
    }

    #[test]
    fn state_outlives_the_process_and_is_not_shared() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Swtpm::start(&folder.path().join("one"));
        let two = Swtpm::start(&folder.path().join("two"));
        for tpm in [&one, &two] {
            assert!(tpm.tpm2("tpm2_startup", &["-c"]).success);
        }
        define(&one, "0x01c2aaaa");
        assert!(indices(&one).contains("0x1c2aaaa"));
        assert!(!indices(&two).contains("0x1c2aaaa"));
        one.restart();
        assert!(one.tpm2("tpm2_startup", &["-c"]).success);
        assert!(indices(&one).contains("0x1c2aaaa"));
    }

    #[test]
    fn killed_one_is_gone_and_dropped_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut tpm = Swtpm::start(folder.path());
        let socket = tpm.socket();
        tpm.kill();
        assert!(UnixStream::connect(&socket).is_err());
        tpm.restart();
        assert!(UnixStream::connect(&socket).is_ok());
        drop(tpm);
        assert!(UnixStream::connect(&socket).is_err());
    }
}
