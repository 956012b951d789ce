//! The configuration file: `docs/configuration.md` has its keys.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the file is unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/cardea/tpmvsc.toml";

/// The service's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; empty: a listening socket is the standard input, as systemd passes it.
    pub listen: Vec<SocketAddr>,
    /// The file of accounts.
    pub accounts: PathBuf,
    /// The file of the account for reports to callers; absent = no reports.
    pub callback: Option<PathBuf>,
    /// The domain of that account.
    pub callback_domain: String,
    /// The keytab; absent = Kerberos is not spoken.
    pub keytab: Option<PathBuf>,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Whose the cards are; absent = this service's user.
    pub owner: Option<u32>,
    /// Names by which callers know the machine.
    pub names: Vec<String>,
    /// Filter of the log.
    pub log: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No file of accounts.
    #[error(
        "no accounts: set `accounts` in the configuration, or pass the credential `accounts` (LoadCredential=)"
    )]
    NoAccounts,
    /// There is no such user.
    #[error("owner {0} is not a user of this machine")]
    Owner(String),
    /// The file is not what it should be.
    #[error("invalid configuration in {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    listen: Vec<SocketAddr>,
    accounts: Option<PathBuf>,
    callback: Option<PathBuf>,
    callback_domain: Option<String>,
    keytab: Option<PathBuf>,
    socket: Option<PathBuf>,
    owner: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    log: Option<String>,
}

impl Config {
    /// Reads a file, or the usual one, which need not be there. `credentials` is the folder of systemd's credentials.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(path: Option<&Path>, credentials: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match (path, read(path.unwrap_or(Path::new(DEFAULT_CONFIG)))) {
            (None, Err(ConfigError::Read { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                File::default()
            }
            (_, file) => file?,
        };
        let credential = |name: &str| credentials.map(|folder| folder.join(name));
        let accounts = file.accounts.or_else(|| credential("accounts"));
        let existing = |name| credential(name).filter(|path| path.exists());
        Ok(Self {
            listen: file.listen,
            accounts: accounts.ok_or(ConfigError::NoAccounts)?,
            callback: file.callback.or_else(|| existing("callback")),
            callback_domain: file.callback_domain.unwrap_or_default(),
            keytab: file.keytab.or_else(|| existing("keytab")),
            socket: file.socket.unwrap_or_else(cardea_client::socket_path),
            owner: file.owner.map(user).transpose()?,
            names: file.names,
            log: file.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
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

fn user(name: String) -> Result<u32, ConfigError> {
    match nix::unistd::User::from_name(&name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(ConfigError::Owner(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tpmvsc.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path), Some(Path::new("/run/credentials/x")))
    }

    #[test]
    fn empty_file_with_credentials_gives_the_defaults() {
        let config = load("").unwrap();
        assert!(config.listen.is_empty() && config.names.is_empty());
        assert_eq!(config.accounts, Path::new("/run/credentials/x/accounts"));
        assert_eq!((config.callback, config.owner), (None, None));
        assert_eq!(config.keytab, None);
        assert_eq!(config.log, "info");
    }

    #[test]
    fn every_key_is_read_and_unknown_ones_are_refused() {
        let config = load(
            "listen = ['[::1]:135', '127.0.0.1:1135']\naccounts = '/a'\ncallback = '/b'\n\
             callback_domain = 'FIRM'\nkeytab = '/d'\nsocket = '/c'\nowner = 'root'\nnames = ['host']\nlog = 'warn'\n",
        )
        .unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.accounts, Path::new("/a"));
        assert_eq!(config.callback.as_deref(), Some(Path::new("/b")));
        assert_eq!(config.keytab.as_deref(), Some(Path::new("/d")));
        assert_eq!((&*config.callback_domain, config.owner), ("FIRM", Some(0)));
        assert_eq!((config.names.len(), &*config.log), (1, "warn"));
        for bad in [
            "listen = ['host:135']",
            "port = 135",
            "owner = 'no such user'",
        ] {
            assert!(load(bad).is_err(), "{bad}");
        }
        let missing = Config::load(Some(Path::new("/nonexistent")), None);
        assert!(matches!(missing, Err(ConfigError::Read { .. })));
    }

    #[test]
    fn every_key_of_the_packaged_file_is_known() {
        let packaged = include_str!("../../../packaging/tpmvsc.toml");
        let keys = packaged
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|key| !key.starts_with(' ')));
        let text: Vec<_> = keys.collect();
        assert_eq!(text.len(), 9);
        toml::from_str::<File>(&text.join("\n")).unwrap();
    }
}
