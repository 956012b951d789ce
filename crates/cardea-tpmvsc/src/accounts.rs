//! The accounts that may manage cards from another machine, and their secrets: a systemd credential or a file of the
//! service's user alone.
//!
//! A line for each account: the mechanism, its secret, the name to the end of the line; empty lines and such that begin
//! with `#` mean nothing.
//!
//! ```text
//! # The help desk
//! ntlm a4f49c406510bdcab6824ee7c30fd852 ann
//! kerberos - bob/admin@FIRM.EXAMPLE
//! ```
//!
//! `ntlm` has the NT hash of the password, as `cardea-tpmvsc hash` prints it; its names have no domain, and are compared
//! without regard to case. `kerberos` has principals with their realm, as they are, and no secret: that is in the keytab.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cardea_client::message::MAX_PRINCIPAL;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use cardea_rpc::auth::{Credentials, Directory, NtHash, Principal, upper};
use cardea_rpc::secret_file::{self, Fault};

/// The accounts, as the file has them.
#[derive(Default)]
pub struct Accounts {
    ntlm: Vec<Account>,
    principals: Vec<Principal>,
}

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
    /// The file cannot be read, or must not be used.
    #[error(transparent)]
    File(#[from] Fault),
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
}

impl Accounts {
    /// Reads a file, whose owner and mode are checked first.
    ///
    /// # Errors
    ///
    /// [`AccountsError`].
    pub fn read(path: &Path) -> Result<Self, AccountsError> {
        let path = path.to_owned();
        let bytes = secret_file::read(&path, MAX_FILE)?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(Fault::Read { path, source }.into());
            }
        };
        Self::parse(text).map_err(|(line, reason)| AccountsError::Line { path, line, reason })
    }

    /// Reads lines; an error has the number of its line.
    ///
    /// # Errors
    ///
    /// What is wrong, with the line's number from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut accounts = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            accounts.add(line).map_err(|reason| (index + 1, reason))?;
        }
        Ok(accounts)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ntlm.len() + self.principals.len()
    }

    /// Takes an account from its line.
    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        const FORM: &str = "a line is: ntlm, the NT hash in 32 hexadecimal digits, the name; or: kerberos, -, the principal";
        const TWICE: &str = "an account of this name already exists";
        let (mechanism, rest) = line.split_once(char::is_whitespace).ok_or(FORM)?;
        let (secret, name) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or(FORM)?;
        let name = name.trim();
        if name.len() > MAX_NAME {
            return Err("the name is too long");
        }
        match mechanism {
            "ntlm" => {
                let hash = NtHash::from_hex(secret).ok_or(FORM)?;
                check_name(name)?;
                let folded = fold(name);
                if self.ntlm.iter().any(|one| one.folded == folded) {
                    return Err(TWICE);
                }
                self.ntlm.push(Account {
                    name: name.to_owned(),
                    folded,
                    hash,
                });
            }
            "kerberos" if secret == "-" => {
                let principal = name.parse()?;
                if self.principals.contains(&principal) {
                    return Err(TWICE);
                }
                self.principals.push(principal);
            }
            _ => return Err(FORM),
        }
        Ok(())
    }
}

impl Directory for Accounts {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        // Every account is looked at, so that the time tells little of which there are.
        let folded = fold(user);
        let mut found = None;
        for account in &self.ntlm {
            let same = account.folded.as_bytes().ct_eq(folded.as_bytes());
            if bool::from(same) {
                found = Some(account.hash.clone());
            }
        }
        found
    }

    fn admits(&self, principal: &Principal) -> bool {
        self.principals.contains(principal)
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounts({})", self.count())
    }
}

/// Reads the account of a file with one: for calls to other machines.
///
/// # Errors
///
/// [`AccountsError`].
pub fn credentials(path: &Path, domain: &str) -> Result<Credentials, AccountsError> {
    let accounts = Accounts::read(path)?;
    match accounts.ntlm.as_slice() {
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

/// Half of what the daemon's audit takes: a name in another case may be longer.
const MAX_NAME: usize = MAX_PRINCIPAL / 2;

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
    fn principals_are_let_in_as_they_are_written() {
        let text = "kerberos - ann@FIRM.EXAMPLE\nkerberos  -  bob/admin@FIRM.EXAMPLE \n";
        let accounts = Accounts::parse(text).unwrap();
        assert_eq!(accounts.count(), 2);
        let admits = |name: &str| accounts.admits(&name.parse().unwrap());
        assert!(admits("ann@FIRM.EXAMPLE") && admits("bob/admin@FIRM.EXAMPLE"));
        for name in [
            "Ann@FIRM.EXAMPLE",
            "ann@firm.example",
            "ann/admin@FIRM.EXAMPLE",
            "bob@FIRM.EXAMPLE",
            "ann@OTHER.EXAMPLE",
        ] {
            assert!(!admits(name), "{name}");
        }
        // Neither has a password.
        assert!(
            accounts.nt_hash("ann").is_none() && accounts.nt_hash("ann@FIRM.EXAMPLE").is_none()
        );
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
            &format!("kerberos {HASH} ann@FIRM"),
            "kerberos - ann",
            "kerberos - ann@",
            "kerberos - @FIRM",
            "kerberos - ann@FIRM@FIRM",
            "kerberos - ann//b@FIRM",
            "kerberos - ann smith@FIRM",
            "kerberos - bob@FIRM",
            "kerberos ann@FIRM",
            &format!("ntlm {HASH} FIRM\\ann"),
            &format!("ntlm {HASH} ann@firm"),
            &format!("ntlm {HASH} Guest"),
            &format!("ntlm {HASH} BOB"),
        ] {
            let (number, reason) =
                Accounts::parse(&format!("ntlm {HASH} bob\nkerberos - bob@FIRM\n{bad}\n"))
                    .err()
                    .unwrap_or_else(|| panic!("accepted: {bad}"));
            assert_eq!(number, 3);
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
            assert!(
                matches!(error, AccountsError::File(Fault::Mode { .. })),
                "{error}"
            );
        }
    }

    #[test]
    fn file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, "#".repeat(MAX_FILE + 1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Accounts::read(&path).unwrap_err();
        assert!(
            matches!(error, AccountsError::File(Fault::TooLong { .. })),
            "{error}"
        );
    }
}
