//! An account for one call: whoever passes a reference to an object of its own says in it how to authenticate there.
//!
//! Between Cardea's own programs alone. The account stands where a reference names a mechanism's principal (MS-DCOM
//! §2.2.19.4), and the reference itself is sealed, so that nobody else learns it. So neither end needs a secret of the
//! other's, and no proof of a lasting account is made for a machine that asks for it.

use cardea_dcom::dcom::{DualStringArray, SecurityBinding};
use cardea_dcom::pdu::auth_type;

use crate::auth::{Credentials, Directory, NtHash};

/// An account for one call.
#[derive(Clone, Debug)]
pub struct OneTimeAccount(NtHash);

impl OneTimeAccount {
    /// From random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(NtHash::from_bytes(random))
    }

    /// As it stands in a reference, which has to be sealed.
    #[must_use]
    pub fn binding(&self) -> SecurityBinding {
        SecurityBinding {
            service: u16::from(auth_type::NTLM),
            principal: format!("{USER}:{}", &*self.0.to_hex()),
        }
    }

    /// The account that a reference brings, if it brings one.
    #[must_use]
    pub fn of_reference(bindings: &DualStringArray) -> Option<Credentials> {
        let mut hashes = bindings.security.iter().filter_map(|binding| {
            let (user, hash) = binding.principal.split_once(':')?;
            let is_one = user == USER && binding.service == u16::from(auth_type::NTLM);
            NtHash::from_hex(hash).filter(|_| is_one)
        });
        let hash = hashes.next()?;
        Some(Credentials {
            user: USER.to_owned(),
            domain: String::new(),
            hash,
        })
    }
}

/// It alone is let in.
impl Directory for OneTimeAccount {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        (user == USER).then(|| self.0.clone())
    }
}

const USER: &str = "cardea-callback";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_read_as_it_was_written_and_nobody_else_is_let_in() {
        let account = OneTimeAccount::new([7; 16]);
        let mut bindings = DualStringArray {
            addresses: Vec::new(),
            security: vec![
                SecurityBinding {
                    service: 10,
                    principal: "host/other".to_owned(),
                },
                account.binding(),
            ],
        };
        let found = OneTimeAccount::of_reference(&bindings).unwrap();
        let hash = account.nt_hash(&found.user).unwrap();
        assert_eq!(*hash.to_hex(), *found.hash.to_hex());
        assert!(account.nt_hash("ann").is_none());
        bindings.security.pop();
        assert!(OneTimeAccount::of_reference(&bindings).is_none());
    }
}
