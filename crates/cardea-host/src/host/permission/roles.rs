//! What a user is on this machine: administrator, reader, or neither.
//!
//! Groups are looked up by name service for that user, as `id` does, and not taken from the process:
//! its supplementary groups could be read from `/proc` only, where the process may already be another one.

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User, getgrouplist};

use super::Caller;

/// The settings that make a user an administrator or the reader.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Group whose members are administrators.
    pub admin_group: String,
    /// User that pcscd runs as.
    pub pcscd_uid: u32,
    /// A system user that pcscd runs as, too, as soon as there is one of this name.
    pub pcscd_user: Option<String>,
}

impl Roles {
    /// The roles of a user id. Asks the name service, which may take its time.
    pub fn of(&self, uid: u32) -> Caller {
        Caller {
            uid,
            administrator: uid == 0 || self.is_administrator(uid),
            reader: uid == 0 || uid == self.pcscd_uid || self.is_pcscd(uid),
        }
    }

    /// The user that pcscd runs as now.
    pub(crate) fn pcscd(&self) -> u32 {
        let named = self.pcscd_user.as_deref().and_then(system_user);
        named.unwrap_or(self.pcscd_uid)
    }

    /// People are not looked up for this, and a user of theirs is not pcscd, whatever its name.
    fn is_pcscd(&self, uid: u32) -> bool {
        let name = self.pcscd_user.as_deref();
        let name = name.filter(|_| SYSTEM_USERS.contains(&uid));
        name.is_some_and(|name| system_user(name) == Some(uid))
    }

    fn is_administrator(&self, uid: u32) -> bool {
        match in_group(uid, &self.admin_group) {
            Ok(member) => member,
            Err(error) => {
                tracing::warn!(uid, group = self.admin_group, %error, "unknown groups");
                false
            }
        }
    }
}

/// User ids of the system's own users (Debian Policy §9.2.2), without root.
const SYSTEM_USERS: std::ops::Range<u32> = 1..1000;

fn system_user(name: &str) -> Option<u32> {
    let user = entry(User::from_name(name)).ok().flatten()?;
    Some(user.uid.as_raw()).filter(|uid| SYSTEM_USERS.contains(uid))
}

/// Whether the user database puts this user into the group, primary or supplementary.
fn in_group(uid: u32, name: &str) -> nix::Result<bool> {
    let Some(group) = entry(Group::from_name(name))? else {
        return Ok(false);
    };
    let Some(user) = entry(User::from_uid(Uid::from_raw(uid)))? else {
        return Ok(false);
    };
    let name = std::ffi::CString::new(user.name).map_err(|_| nix::Error::EINVAL)?;
    Ok(getgrouplist(&name, user.gid)?.contains(&group.gid))
}

/// An entry of the user database. Some name services report one that they do not have as an error (getpwnam_r(3)
/// lists which), as `libnss-sss` does while sssd is not running.
fn entry<T>(found: nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match found {
        Err(Errno::EBADF | Errno::ENOENT | Errno::EPERM | Errno::ESRCH) => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_by_primary_group_and_unknown_groups_and_users() {
        // `daemon` (1) has the group of its name as its primary one on every Debian.
        assert_eq!(in_group(1, "daemon"), Ok(true));
        assert_eq!(in_group(1, "bin"), Ok(false));
        assert_eq!(in_group(1, "no-such-group-here"), Ok(false));
        assert_eq!(in_group(4_000_000_000, "daemon"), Ok(false));
    }

    #[test]
    fn unknown_entry_is_none_however_a_name_service_says_so() {
        use Errno as E;
        for error in [E::EBADF, E::ENOENT, E::EPERM, E::ESRCH] {
            assert_eq!(entry::<()>(Err(error)), Ok(None));
        }
        for error in [E::EIO, E::EINTR, E::EMFILE, E::ENFILE, E::ERANGE] {
            assert_eq!(entry::<()>(Err(error)), Err(error));
        }
        assert_eq!(entry(Ok(Some(1))), Ok(Some(1)));
    }

    #[test]
    fn roles_follow_group_and_pcscd_uid() {
        let roles = Roles {
            admin_group: "daemon".into(),
            pcscd_uid: 2,
            pcscd_user: None,
        };
        let of = |uid| {
            let caller = roles.of(uid);
            (caller.administrator, caller.reader)
        };
        assert_eq!(of(0), (true, true));
        assert_eq!(of(1), (true, false));
        assert_eq!(of(2), (false, true));
        assert_eq!(of(3), (false, false));
    }

    #[test]
    fn pcscd_is_known_by_the_name_of_a_system_user() {
        let roles = |name: &str| Roles {
            admin_group: "no-such-group-here".into(),
            pcscd_uid: 0,
            pcscd_user: Some(name.into()),
        };
        // `bin` (2) and `nobody` (65534) are on every Debian.
        assert!(roles("bin").of(2).reader && roles("bin").of(0).reader);
        assert!(!roles("bin").of(3).reader);
        assert_eq!(roles("bin").pcscd(), 2);
        for name in ["nobody", "root", "no-such-user-here"] {
            assert!(!roles(name).of(65_534).reader, "{name}");
            assert!(!roles(name).of(2).reader, "{name}");
            assert_eq!(roles(name).pcscd(), 0, "{name}");
        }
    }
}
