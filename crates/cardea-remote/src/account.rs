//! Who calls.

use std::fmt;

use cardea_rpc::auth::{
    ClientFresh, Credentials, Initiator, KerberosFresh, KerberosInitiator, NtHash, NtlmInitiator,
    Ticket,
};
use cardea_rpc::random;

use crate::error::RemoteError;

/// Who calls, and how that is shown.
#[derive(Clone)]
pub enum Account {
    /// With a ticket for the service.
    Kerberos(Box<Ticket>),
    /// With a password.
    Ntlm(Credentials),
}

impl Account {
    /// Somebody with a password.
    #[must_use]
    pub fn with_password(name: &PlainName, password: &str) -> Self {
        Self::Ntlm(Credentials {
            user: name.user.clone(),
            domain: name.domain.clone(),
            hash: NtHash::of_password(password),
        })
    }

    /// For one connection to a machine.
    pub(crate) fn initiator(&self, host: &str) -> Result<Box<dyn Initiator>, RemoteError> {
        let drawn = || -> std::io::Result<Box<dyn Initiator>> {
            Ok(match self {
                Self::Kerberos(ticket) => {
                    let fresh = KerberosFresh {
                        key: random::bytes()?,
                        confounders: random::bytes()?,
                        sequence: u32::from_le_bytes(random::bytes()?),
                        time: random::unix_time(),
                    };
                    Box::new(KerberosInitiator::new((**ticket).clone(), &fresh))
                }
                Self::Ntlm(credentials) => {
                    let fresh = ClientFresh {
                        nonce: random::bytes()?,
                        session_key: random::bytes()?,
                        time: random::file_time(),
                    };
                    let target = format!("RPCSS/{host}");
                    Box::new(NtlmInitiator::new(credentials.clone(), target, fresh))
                }
            })
        };
        drawn().map_err(RemoteError::Random)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kerberos(_) => "Kerberos",
            Self::Ntlm(_) => "Ntlm",
        })
    }
}

/// The name of an account as Windows' tools take it: `user`, `DOMAIN\user` or `user@REALM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainName {
    user: String,
    domain: String,
}

impl std::str::FromStr for PlainName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let (domain, user) = match (name.split_once('\\'), name.rsplit_once('@')) {
            (Some(whole), _) => whole,
            (None, Some((user, realm))) => (realm, user),
            (None, None) => ("", name),
        };
        let is_odd = |letter: char| letter.is_control() || "\\/@".contains(letter);
        if user.is_empty() || user.contains(is_odd) || domain.contains(is_odd) {
            return Err("an account is USER, DOMAIN\\USER or USER@REALM");
        }
        if name.len() > MAX_NAME {
            return Err("the name of the account is too long");
        }
        Ok(Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
        })
    }
}

/// As much as fits into a message of NTLM with everything else.
const MAX_NAME: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_windows_tools() {
        let name = |text: &str| {
            text.parse::<PlainName>()
                .map(|name| (name.user, name.domain))
        };
        let pair = |user: &str, domain: &str| Ok((user.to_owned(), domain.to_owned()));
        assert_eq!(name("ann"), pair("ann", ""));
        assert_eq!(name("FIRM\\ann"), pair("ann", "FIRM"));
        assert_eq!(name(".\\ann"), pair("ann", "."));
        assert_eq!(name("ann@firm.example"), pair("ann", "firm.example"));
        for bad in [
            "",
            "FIRM\\",
            "@firm",
            "a\nb",
            "FIRM\\a\\b",
            "a/b",
            &"x".repeat(513),
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
