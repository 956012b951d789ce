//! The accounts that may manage cards from another machine, and their secrets: a systemd credential or a file of the
//! service's user alone.
//!
//! A line for each account: the mechanism, its secret, the name to the end of the line; empty lines and such that begin
//! with `#` mean nothing. Names have no domain, and are compared without regard to case.
//!
//! ```text
//! # The help desk
//! ntlm a4f49c406510bdcab6824ee7c30fd852 ann
//! ```
//!
//! `ntlm` has the NT hash of the password, as `cardea-tpmvsc hash` prints it. `kerberos` is kept for principals.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::auth::{Credentials, Directory, NtHash, upper};

/// The accounts, as the file has them.
pub struct Accounts(Vec<Account>);

struct Account {
    name: String,
    /// In upper case, by which names are compared.
    folded: String,
    hash: NtHash,
}

/// Why there are no accounts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// A line is not one of an account.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it. Never what stands there: it may be a secret.
        reason: &'static str,
    },
    /// There must be one account in it.
    #[error("{} must have one account, not {count}", path.display())]
    Many {
        /// The file.
        path: PathBuf,
        /// How many it has.
        count: usize,
    },
    /// Others than its owner may read or change it.
    #[error(
        "{} is accessible to others (mode {mode:04o}), and whoever reads it can act as any account in it: chmod 0400",
        path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, who is neither root nor the user of this service", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// It cannot be read.
    #[error("cannot read the accounts in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is longer than any list of administrators.
    #[error("{} has more than {MAX_FILE} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Accounts {
    /// Reads a file, whose owner and mode are checked first.
    ///
    /// # Errors
    ///
    /// [`AccountsError`].
    pub fn read(path: &Path) -> Result<Self, AccountsError> {
        let failed = |source| AccountsError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let own = rustix::process::geteuid().as_raw();
        if about.uid() != 0 && about.uid() != own {
            return Err(AccountsError::Owner {
                path: path.to_owned(),
                owner: about.uid(),
            });
        }
        // A credential is 0440 with an entry of the service's user in its ACL, whose mask shows up as the group's bits
        // (systemd.exec(5), "LoadCredential="); its folder is closed to others.
        let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .is_some_and(|folder| path.parent() == Some(Path::new(&folder)));
        let forbidden = if is_credential { 0o337 } else { 0o077 };
        if about.mode() & forbidden != 0 {
            return Err(AccountsError::Mode {
                path: path.to_owned(),
                mode: about.mode() & 0o7777,
            });
        }
        // Not grown, so that nothing of it stays behind in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE + 1));
        let limit = u64::try_from(MAX_FILE + 1).unwrap_or(u64::MAX);
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
        if text.len() > MAX_FILE {
            return Err(AccountsError::TooLong {
                path: path.to_owned(),
            });
        }
        Self::parse(&text).map_err(|(line, reason)| AccountsError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Reads lines; an error has the number of its line.
    ///
    /// # Errors
    ///
    /// What is wrong, with the line's number from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut accounts: Vec<Account> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let account = Account::parse(line).map_err(|reason| (index + 1, reason))?;
            if accounts.iter().any(|one| one.folded == account.folded) {
                return Err((index + 1, "an account of this name already exists"));
            }
            accounts.push(account);
        }
        Ok(Self(accounts))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Directory for Accounts {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        // Every account is looked at, so that the time tells little of which there are.
        let folded = fold(user);
        let mut found = None;
        for account in &self.0 {
            let same = account.folded.as_bytes().ct_eq(folded.as_bytes());
            if bool::from(same) {
                found = Some(account.hash.clone());
            }
        }
        found
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounts({})", self.0.len())
    }
}

impl Account {
    fn parse(line: &str) -> Result<Self, &'static str> {
        const FORM: &str = "a line is: ntlm, the NT hash in 32 hexadecimal digits, the name";
        let (mechanism, rest) = line.split_once(char::is_whitespace).ok_or(FORM)?;
        match mechanism {
            "ntlm" => {}
            "kerberos" => return Err("Kerberos is not spoken by this version"),
            _ => return Err(FORM),
        }
        let (digits, name) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or(FORM)?;
        let hash = NtHash::from_hex(digits).ok_or(FORM)?;
        let name = name.trim();
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            folded: fold(name),
            hash,
        })
    }
}

/// Reads the account of a file with one: for calls to other machines.
///
/// # Errors
///
/// [`AccountsError`].
pub fn credentials(path: &Path, domain: &str) -> Result<Credentials, AccountsError> {
    let accounts = Accounts::read(path)?;
    match accounts.0.as_slice() {
        [one] => Ok(Credentials {
            user: one.name.clone(),
            domain: domain.to_owned(),
            hash: one.hash.clone(),
        }),
        others => Err(AccountsError::Many {
            path: path.to_owned(),
            count: others.len(),
        }),
    }
}

/// Whether an account can have this name.
///
/// # Errors
///
/// Why not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("an account needs a name");
    }
    if name.chars().count() > 104 {
        return Err("the name of an account has at most 104 letters");
    }
    if name
        .chars()
        .any(|letter| letter.is_control() || "\\/@".contains(letter))
    {
        return Err("the name of an account stands alone, without its domain");
    }
    if name.eq_ignore_ascii_case("guest") {
        return Err(
            "the account `guest` is never let in, as some mechanisms ask it for no password",
        );
    }
    Ok(())
}

/// The line of an account.
///
/// # Errors
///
/// A name that no account can have.
pub fn line(name: &str, password: &str) -> Result<Zeroizing<String>, &'static str> {
    check_name(name)?;
    let hash = NtHash::of_password(password);
    Ok(Zeroizing::new(format!("ntlm {} {name}", &*hash.to_hex())))
}

/// As names are compared: without regard to case.
fn fold(name: &str) -> String {
    name.chars().map(upper).collect()
}

/// Longest file: some hundred accounts.
const MAX_FILE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Of the password "Password".
    const HASH: &str = "a4f49c406510bdcab6824ee7c30fd852";

    #[test]
    fn accounts_are_found_without_regard_to_case() {
        let text = format!(
            "# Administrators\n\nntlm {HASH}  Ann Smith \nntlm {} bob\n",
            HASH.to_uppercase()
        );
        let accounts = Accounts::parse(&text).unwrap();
        assert_eq!(accounts.count(), 2);
        for name in ["ann smith", "ANN SMITH", "Bob"] {
            let hash = accounts.nt_hash(name).unwrap();
            assert_eq!(*hash.to_hex(), HASH);
        }
        for name in ["ann", "", "# Administrators"] {
            assert!(accounts.nt_hash(name).is_none(), "{name}");
        }
    }

    #[test]
    fn line_that_is_printed_is_one_that_is_read() {
        let line = line("ann", "Password").unwrap();
        assert_eq!(*line, format!("ntlm {HASH} ann"));
        assert_eq!(Accounts::parse(&line).unwrap().count(), 1);
    }

    #[test]
    fn invalid_lines_are_refused_by_their_number_and_not_repeated() {
        for bad in [
            "ann",
            "ntlm",
            "ntlm secret ann",
            &format!("ntlm {HASH}"),
            &format!("ntlm {HASH}00 ann"),
            &format!("NTLM {HASH} ann"),
            &format!("kerberos {HASH} ann"),
            &format!("ntlm {HASH} FIRM\\ann"),
            &format!("ntlm {HASH} ann@firm"),
            &format!("ntlm {HASH} Guest"),
            &format!("ntlm {HASH} BOB"),
        ] {
            let (number, reason) = Accounts::parse(&format!("ntlm {HASH} bob\n{bad}\n"))
                .err()
                .unwrap_or_else(|| panic!("accepted: {bad}"));
            assert_eq!(number, 2);
            assert!(!reason.contains(HASH) && !reason.contains("secret"));
        }
    }

    #[test]
    fn file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, format!("ntlm {HASH} ann\n")).unwrap();
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(Accounts::read(&path).unwrap().count(), 1);
        }
        for mode in [0o640, 0o604, 0o622, 0o610] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Accounts::read(&path).unwrap_err();
            assert!(matches!(error, AccountsError::Mode { .. }), "{error}");
        }
    }

    #[test]
    fn file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, "#".repeat(MAX_FILE + 1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Accounts::read(&path).unwrap_err();
        assert!(matches!(error, AccountsError::TooLong { .. }), "{error}");
    }
}
