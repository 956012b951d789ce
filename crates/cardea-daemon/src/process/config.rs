//! Settings: defaults, the configuration file, the command line, in rising order of weight.
//!
//! `docs/configuration.md` describes the file for people.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cardea_tpm::Address;
use serde::Deserialize;

use cardea_host::MAX_SLOTS;

/// Read when it is there and `--config` names no other.
pub const DEFAULT_CONFIG: &str = "/etc/cardea/cardea.toml";

/// Folder of the card files.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/cardea";

/// The private socket.
pub const DEFAULT_SOCKET: &str = "/run/cardea/cardea.sock";

/// The kernel's resource manager.
pub const DEFAULT_TPM_DEVICE: &str = "/dev/tpmrm0";

/// Members may create and destroy cards.
pub const DEFAULT_ADMIN_GROUP: &str = "cardea-admin";

/// Whom pcsc-lite 2.4 and later run pcscd as.
const DEFAULT_PCSCD_USER: &str = "pcscd";

const DEFAULT_SLOTS: u8 = 4;
/// As `--admin-key` of `cardea card create`.
const DEFAULT_ADMIN_KEY: &str = "random";
const DEFAULT_LOG: &str = "info";

/// A configuration that the daemon does not start with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not TOML, an unknown key or a value of the wrong type.
    #[error("invalid configuration {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A path in the file that depends on the working directory.
    #[error("{key} must be an absolute path, not {}", path.display())]
    Relative {
        /// Which setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Number of slots.
    #[error("slots must be 1 to {MAX_SLOTS}, not {0}")]
    Slots(u8),
    /// Neither an address nor `device:`.
    #[error("invalid TPM address {text:?}")]
    Tpm {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing was configured and the default does not exist.
    #[error(
        "there is no TPM at {DEFAULT_TPM_DEVICE} and none was configured; pass --tpm device:PATH, or --tpm simulator:DIR for a software TPM with its state in DIR (package swtpm), or set `tpm` in {DEFAULT_CONFIG}"
    )]
    NoTpm,
    /// pcscd's user by name and by number.
    #[error("pcscd_user and pcscd_uid are the same setting: give one of them, not both")]
    PcscdTwice,
    /// pcscd's user, which the user database does not have.
    #[error("pcscd_user: there is no user {0:?}")]
    PcscdUser(String),
    /// Log filter.
    #[error("invalid log filter {text:?}")]
    Log {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
}

/// What the command line may set.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Configuration file; absent = [`DEFAULT_CONFIG`] if it exists.
    pub config: Option<PathBuf>,
    /// Folder of the card files.
    pub state_dir: Option<PathBuf>,
    /// The private socket.
    pub socket: Option<PathBuf>,
    /// Address of the TPM.
    pub tpm: Option<String>,
    /// As [`Config::service`].
    pub service: bool,
}

/// Settings of one daemon, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the card files.
    pub state_dir: PathBuf,
    /// The private socket.
    pub socket: PathBuf,
    /// Where the TPM is.
    pub tpm: Address,
    /// Slots of the reader, 1 to [`MAX_SLOTS`].
    pub slots: u8,
    /// User that pcscd runs as.
    pub pcscd_uid: u32,
    /// A system user that pcscd runs as, too, as soon as there is one of this name.
    pub pcscd_user: Option<String>,
    /// Group whose members may create and destroy cards.
    pub admin_group: String,
    /// Whether to serve on the system bus (D-Bus) too.
    pub bus: bool,
    /// Whether cards that users redirect to this machine may be in the reader, which all users reach.
    pub redirect_to_reader: bool,
    /// What `--admin-key` of `cardea card create` is where it is not given; checked by the command.
    pub admin_key: String,
    /// Filter of the log, as `tracing` has it.
    pub log: String,
    /// Whether systemd starts it, which it may do before the TPM's driver and the bus are there.
    pub service: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    tpm: Option<String>,
    slots: Option<u8>,
    pcscd_uid: Option<u32>,
    pcscd_user: Option<String>,
    admin_group: Option<String>,
    bus: Option<bool>,
    redirect_to_reader: Option<bool>,
    admin_key: Option<String>,
    log: Option<String>,
}

impl Config {
    /// Default settings for a daemon in these places, which keeps off the system bus.
    #[must_use]
    pub fn new(state_dir: PathBuf, socket: PathBuf, tpm: Address) -> Self {
        Self {
            state_dir,
            socket,
            tpm,
            slots: DEFAULT_SLOTS,
            pcscd_uid: 0,
            pcscd_user: None,
            admin_group: DEFAULT_ADMIN_GROUP.to_owned(),
            bus: false,
            redirect_to_reader: false,
            admin_key: DEFAULT_ADMIN_KEY.to_owned(),
            log: DEFAULT_LOG.to_owned(),
            service: false,
        }
    }

    /// Reads the file and puts the command line above it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let file = match &overrides.config {
            Some(path) => read(path)?,
            None => match read(Path::new(DEFAULT_CONFIG)) {
                Err(ConfigError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    File::default()
                }
                other => other?,
            },
        };
        Self::from_parts(file, overrides, Path::new(DEFAULT_TPM_DEVICE))
    }

    fn from_parts(file: File, overrides: Overrides, device: &Path) -> Result<Self, ConfigError> {
        let tpm = match overrides.tpm.or(file.tpm) {
            Some(text) => parse_tpm(text)?,
            None if overrides.service || device.exists() => {
                parse_tpm(format!("device:{}", device.display()))?
            }
            None => return Err(ConfigError::NoTpm),
        };
        let mut config = Self::new(
            place(
                "state_dir",
                overrides.state_dir,
                file.state_dir,
                DEFAULT_STATE_DIR,
            )?,
            place("socket", overrides.socket, file.socket, DEFAULT_SOCKET)?,
            tpm,
        );
        if let Some(slots) = file.slots {
            if !(1..=MAX_SLOTS).contains(&slots) {
                return Err(ConfigError::Slots(slots));
            }
            config.slots = slots;
        }
        match (file.pcscd_uid, file.pcscd_user) {
            (Some(_), Some(_)) => return Err(ConfigError::PcscdTwice),
            (Some(uid), None) => config.pcscd_uid = uid,
            (None, Some(name)) => config.pcscd_uid = user(name)?,
            // pcsc-lite 2.4 and later have a user for it; before, it runs as root.
            (None, None) => config.pcscd_user = Some(DEFAULT_PCSCD_USER.to_owned()),
        }
        if let Some(group) = file.admin_group {
            config.admin_group = group;
        }
        config.service = overrides.service;
        config.bus = file.bus.unwrap_or(true);
        config.redirect_to_reader = file.redirect_to_reader.unwrap_or(false);
        if let Some(key) = file.admin_key {
            config.admin_key = key;
        }
        if let Some(log) = file.log {
            config.log = log;
        }
        tracing_subscriber::EnvFilter::from_str(&config.log).map_err(|source| {
            ConfigError::Log {
                text: config.log.clone(),
                source,
            }
        })?;
        Ok(config)
    }
}

fn user(name: String) -> Result<u32, ConfigError> {
    cardea_host::user_id(&name).ok_or(ConfigError::PcscdUser(name))
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The command line's path counts from the working directory; the file's must be absolute.
fn place(
    key: &'static str,
    given: Option<PathBuf>,
    configured: Option<PathBuf>,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    if let Some(path) = given {
        return std::path::absolute(&path).map_err(|_| ConfigError::Relative { key, path });
    }
    match configured {
        Some(path) if path.is_absolute() => Ok(path),
        Some(path) => Err(ConfigError::Relative { key, path }),
        None => Ok(PathBuf::from(default)),
    }
}

fn parse_tpm(text: String) -> Result<Address, ConfigError> {
    text.parse().map_err(|source| ConfigError::Tpm {
        text,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, overrides: Overrides) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cardea.toml");
        fs::write(&path, toml).unwrap();
        Config::load(Overrides {
            config: Some(path),
            ..overrides
        })
    }

    fn file(toml: &str) -> Result<Config, ConfigError> {
        load(toml, Overrides::default())
    }

    fn reason(error: &ConfigError) -> String {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(source) = next {
            text = format!("{text}: {source}");
            next = source.source();
        }
        text
    }

    #[test]
    fn empty_file_with_a_tpm_gives_the_defaults() {
        let config = file("tpm = 'simulator:/tmp/tpm'").unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/cardea"));
        assert_eq!(config.socket, Path::new("/run/cardea/cardea.sock"));
        assert_eq!(config.slots, 4);
        assert!(!config.redirect_to_reader);
        assert_eq!(config.pcscd_uid, 0);
        assert_eq!(config.pcscd_user.as_deref(), Some("pcscd"));
        assert_eq!(config.admin_group, "cardea-admin");
        assert_eq!(config.tpm.to_string(), "simulator:/tmp/tpm");
    }

    #[test]
    fn every_key_is_taken() {
        let config = file(
            "state_dir = '/a'\nsocket = '/b'\ntpm = 'device:/dev/tpm9'\nslots = 14\n\
             pcscd_uid = 120\nadmin_group = 'wheel'\nredirect_to_reader = true\nlog = 'cardea_daemon=trace'\n",
        )
        .unwrap();
        assert_eq!(config.state_dir, Path::new("/a"));
        assert_eq!(config.socket, Path::new("/b"));
        assert_eq!(config.tpm.to_string(), "device:/dev/tpm9");
        assert_eq!(config.slots, 14);
        assert_eq!((config.pcscd_uid, config.pcscd_user), (120, None));
        assert_eq!(config.admin_group, "wheel");
        assert!(config.redirect_to_reader);
        assert_eq!(config.log, "cardea_daemon=trace");
    }

    #[test]
    fn user_of_pcscd_is_named_once_and_must_exist() {
        const TPM: &str = "tpm = 'device:/dev/tpm9'\n";
        let config = file(&format!("{TPM}pcscd_user = 'bin'")).unwrap();
        assert_eq!((config.pcscd_uid, config.pcscd_user), (2, None));
        for (keys, part) in [
            ("pcscd_user = 'no-such-user-here'", "no-such-user-here"),
            ("pcscd_user = 'bin'\npcscd_uid = 2", "not both"),
            ("pcscd_user = 2", "pcscd_user"),
        ] {
            let error = file(&format!("{TPM}{keys}")).unwrap_err();
            assert!(reason(&error).contains(part), "{keys}: {error}");
        }
    }

    #[test]
    fn command_line_wins_over_the_file() {
        let config = load(
            "state_dir = '/a'\nsocket = '/b'\ntpm = 'device:/dev/tpm9'",
            Overrides {
                state_dir: Some("/c".into()),
                socket: Some("d".into()),
                tpm: Some("device:/dev/tpm8".into()),
                ..Overrides::default()
            },
        )
        .unwrap();
        assert_eq!(config.state_dir, Path::new("/c"));
        assert_eq!(config.socket, std::path::absolute("d").unwrap());
        assert_eq!(config.tpm.to_string(), "device:/dev/tpm8");
    }

    #[test]
    fn unknown_key_is_refused_by_name() {
        let error = file("tpm = 'simulator:/t'\nslot = 3").unwrap_err();
        assert!(reason(&error).contains("unknown field `slot`"), "{error:?}");
    }

    #[test]
    fn slots_outside_the_range_are_refused() {
        for slots in ["0", "15", "255"] {
            let error = file(&format!("tpm = 'simulator:/t'\nslots = {slots}")).unwrap_err();
            assert!(matches!(error, ConfigError::Slots(_)), "{error:?}");
        }
        for slots in ["-1", "256", "'4'"] {
            let error = file(&format!("tpm = 'simulator:/t'\nslots = {slots}")).unwrap_err();
            assert!(matches!(error, ConfigError::Parse { .. }), "{error:?}");
        }
    }

    #[test]
    fn relative_paths_in_the_file_are_refused() {
        for key in ["state_dir", "socket"] {
            let error = file(&format!("tpm = 'simulator:/t'\n{key} = 'x'")).unwrap_err();
            assert!(error.to_string().starts_with(key), "{error}");
        }
    }

    #[test]
    fn bad_values_name_their_cause() {
        let error = file("tpm = 'usb:1'").unwrap_err();
        assert!(matches!(error, ConfigError::Tpm { .. }), "{error:?}");
        let error = file("tpm = 'simulator:/t'\nlog = 'a=b=c'").unwrap_err();
        assert!(matches!(error, ConfigError::Log { .. }), "{error:?}");
        let error = file("tpm = ").unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }), "{error:?}");
    }

    #[test]
    fn named_file_that_is_missing_is_an_error() {
        let error = Config::load(Overrides {
            config: Some("/nonexistent/cardea.toml".into()),
            ..Overrides::default()
        })
        .unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error:?}");
    }

    #[test]
    fn without_tpm_the_error_tells_how_to_use_the_simulator() {
        let error = Config::from_parts(
            File::default(),
            Overrides::default(),
            Path::new("/nonexistent/tpm"),
        )
        .unwrap_err();
        assert!(error.to_string().contains("--tpm simulator:DIR"), "{error}");
    }

    #[test]
    fn default_device_is_taken_where_it_exists() {
        let config = Config::from_parts(
            File::default(),
            Overrides::default(),
            Path::new("/dev/null"),
        )
        .unwrap();
        assert_eq!(config.tpm.to_string(), "device:/dev/null");
    }
}
