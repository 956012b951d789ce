//! Access rules in compact form (GIDS 2.0, tag `8C`; ISO 7816-4 §9.3.3).
//!
//! Up to four groups, each an access mode byte and one condition byte for every bit of it that is set,
//! most significant first. The groups are OR-ed; what no group mentions is forbidden.

use crate::engine::{Card, Connection, Failure, Role};

/// What a rule belongs to: the bits of the access mode byte differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Elementary file of data objects, descriptor `39`; and the DF.
    Data,
    /// Key file, descriptor `18`.
    Key,
}

/// What a command wants to do, as the bit of the access mode byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// DF: CREATE FILE of an elementary file.
    CreateFile,
    /// DF: DELETE FILE of an elementary file.
    DeleteFile,
    /// Key file: GENERATE ASYMMETRIC KEY PAIR.
    Generate,
    /// Data file: GET DATA.
    GetData,
    /// Key file: GET PUBLIC KEY.
    GetPublicKey,
    /// Data file: PUT DATA.
    PutData,
    /// Key file: PUT KEY.
    PutKey,
    /// DF: TERMINATE DF.
    Terminate,
    /// Key file: MANAGE SECURITY ENVIRONMENT, that is, use of the key.
    Use,
}

/// Who is authenticated on the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    /// PIN verified.
    pub(crate) user: bool,
    /// Administrator authenticated.
    pub(crate) admin: bool,
}

impl Access {
    fn bit(self) -> u8 {
        match self {
            Self::Terminate => 0x20,
            Self::Generate => 0x08,
            Self::Use => 0x04,
            Self::CreateFile | Self::PutData | Self::PutKey => 0x02,
            Self::DeleteFile | Self::GetData | Self::GetPublicKey => 0x01,
        }
    }
}

/// Whether the rules let someone with these roles in.
pub(crate) fn allows(rules: &[u8], access: Access, roles: Roles) -> bool {
    Groups(rules)
        .flatten()
        .any(|group| match group.condition(access.bit()) {
            Some(condition) => satisfied(condition, roles),
            None => false,
        })
}

/// Who is authenticated on a connection.
pub(super) fn roles(card: &Card, connection: &Connection) -> Roles {
    Roles {
        user: card.is_verified(connection),
        admin: card.has_role(connection, Role::Admin),
    }
}

/// Checks a rule, and notes that the verified PIN was needed where nobody else would be let in.
pub(super) fn permit(
    card: &mut Card,
    connection: &Connection,
    rules: &[u8],
    access: Access,
) -> Result<(), Failure> {
    if !allows(rules, access, roles(card, connection)) {
        return Err(Failure::SecurityStatus);
    }
    note_use(card, connection, rules, access);
    Ok(())
}

/// What was done needed the verified PIN or the administrator, unless anybody may: the idle limits
/// count from here.
pub(super) fn note_use(card: &mut Card, connection: &Connection, rules: &[u8], access: Access) {
    if !allows(rules, access, Roles::default()) {
        card.touch(connection);
    }
}

/// The PIN is verified on this connection, whatever rules say: keys are used under it alone.
pub(super) fn need_pin(card: &mut Card, connection: &Connection) -> Result<(), Failure> {
    if !card.is_verified(connection) {
        return Err(Failure::SecurityStatus);
    }
    card.touch(connection);
    Ok(())
}

/// Whether the rules are well-formed and of the file's kind; empty rules are, and forbid everything.
pub(crate) fn well_formed(rules: &[u8], kind: FileKind) -> bool {
    let mut groups = 0;
    for group in Groups(rules) {
        groups += 1;
        let Some(group) = group else { return false };
        let key_mode = group.mode & 0x80 != 0;
        if groups > 4
            || key_mode != (kind == FileKind::Key)
            || group.conditions.is_empty()
            || !group.conditions.iter().all(|&c| condition_known(c))
        {
            return false;
        }
    }
    true
}

/// Bit 7 and the interface values above 2 are reserved.
fn condition_known(condition: u8) -> bool {
    condition == NEVER || condition & 0x40 == 0 && condition & 0x0F <= 2
}

fn satisfied(condition: u8, roles: Roles) -> bool {
    if condition == NEVER || !condition_known(condition) {
        return false;
    }
    // A virtual reader counts as a contact interface (SEID 1).
    if condition & 0x0F == CONTACTLESS {
        return false;
    }
    let admin = condition & 0x20 != 0;
    let user = condition & 0x10 != 0;
    let all = condition & 0x80 != 0;
    if !admin && !user {
        true
    } else if all {
        (!admin || roles.admin) && (!user || roles.user)
    } else {
        admin && roles.admin || user && roles.user
    }
}

const NEVER: u8 = 0xFF;
const CONTACTLESS: u8 = 2;

/// Splits rules into groups; `None` ends the walk at a group that lacks conditions.
struct Groups<'a>(&'a [u8]);

struct Group<'a> {
    mode: u8,
    conditions: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Option<Group<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&mode, rest) = self.0.split_first()?;
        let count = (mode & 0x7F).count_ones() as usize;
        let Some((conditions, rest)) = rest.split_at_checked(count) else {
            self.0 = &[];
            return Some(None);
        };
        self.0 = rest;
        Some(Some(Group { mode, conditions }))
    }
}

impl Group<'_> {
    fn condition(&self, bit: u8) -> Option<u8> {
        if self.mode & bit == 0 {
            return None;
        }
        let higher = (self.mode & 0x7F) & !(bit | (bit - 1));
        self.conditions.get(higher.count_ones() as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Roles = Roles {
        user: false,
        admin: false,
    };
    const USER: Roles = Roles {
        user: true,
        admin: false,
    };
    const ADMIN: Roles = Roles {
        user: false,
        admin: true,
    };
    const BOTH: Roles = Roles {
        user: true,
        admin: true,
    };

    #[test]
    fn rules_of_the_acl_files_decode_as_in_the_profile() {
        let put = |rules: &[u8], roles| allows(rules, Access::PutData, roles);
        let get = |rules: &[u8], roles| allows(rules, Access::GetData, roles);
        // A000, A010: user or admin writes, everyone reads.
        assert!(!put(&[3, 0x30, 0], NOBODY) && put(&[3, 0x30, 0], USER));
        assert!(put(&[3, 0x30, 0], ADMIN) && get(&[3, 0x30, 0], NOBODY));
        // A011: nobody reads.
        assert!(!get(&[3, 0x30, 0xFF], BOTH));
        // A012: admin writes.
        assert!(!put(&[3, 0x20, 0], USER) && put(&[3, 0x20, 0], ADMIN));
        // A013, A014.
        assert!(!get(&[3, 0x30, 0x30], NOBODY) && get(&[3, 0x30, 0x30], USER));
        assert!(!get(&[3, 0x20, 0x20], USER) && get(&[3, 0x20, 0x20], ADMIN));
    }

    #[test]
    fn rules_of_a_user_key_decode_as_in_the_profile() {
        let rules = [0x8F, 0x10, 0x10, 0x10, 0x00];
        for access in [Access::Generate, Access::Use, Access::PutKey] {
            assert!(!allows(&rules, access, NOBODY));
            assert!(!allows(&rules, access, ADMIN));
            assert!(allows(&rules, access, USER));
        }
        assert!(allows(&rules, Access::GetPublicKey, NOBODY));
    }

    #[test]
    fn rules_of_the_admin_key_decode_as_in_the_profile() {
        let rules = [0x87, 0x00, 0x20, 0xFF];
        assert!(allows(&rules, Access::Use, NOBODY));
        assert!(!allows(&rules, Access::PutKey, USER));
        assert!(allows(&rules, Access::PutKey, ADMIN));
        assert!(!allows(&rules, Access::GetPublicKey, BOTH));
        assert!(!allows(&rules, Access::Generate, BOTH));
    }

    #[test]
    fn condition_bytes_of_the_conformance_table() {
        // PUT KEY with PIN / with admin key in GidsApplet's unit tests.
        for (condition, user, admin) in [
            (0x20, false, true),
            (0x10, true, false),
            (0x30, true, true),
            (0xFF, false, false),
            (0x00, true, true),
            (0x90, true, false),
            (0xA0, false, true),
            (0x91, true, false),
            (0x92, false, false),
        ] {
            let rules = [0x87, 0x00, condition, 0xFF];
            assert_eq!(
                allows(&rules, Access::PutKey, USER),
                user,
                "{condition:02x}"
            );
            assert_eq!(
                allows(&rules, Access::PutKey, ADMIN),
                admin,
                "{condition:02x}"
            );
        }
        assert!(!allows(&[0x82, 0xB0], Access::PutKey, USER));
        assert!(allows(&[0x82, 0xB0], Access::PutKey, BOTH));
    }

    #[test]
    fn groups_are_or_ed() {
        let rules = [0x02, 0x20, 0x03, 0x10, 0x00];
        assert!(allows(&rules, Access::PutData, ADMIN));
        assert!(allows(&rules, Access::PutData, USER));
        assert!(allows(&rules, Access::GetData, NOBODY));
    }

    #[test]
    fn missing_rules_forbid() {
        assert!(well_formed(&[], FileKind::Key));
        assert!(!allows(&[], Access::Use, BOTH));
        assert!(!allows(&[0x01, 0x00], Access::PutData, BOTH));
    }

    #[test]
    fn malformed_rules_are_refused_and_forbid() {
        for rules in [
            &[0x03, 0x30][..],               // a condition is missing
            &[0x00],                         // a group that says nothing
            &[0x01, 0x40],                   // reserved bit
            &[0x01, 0x0F],                   // reserved interface
            &[0x01, 0x03],                   // unknown interface
            &[0x87, 0x00, 0x20, 0x00],       // key rule on a data file
            &[1, 0, 1, 0, 1, 0, 1, 0, 1, 0], // five groups
        ] {
            assert!(!well_formed(rules, FileKind::Data), "{rules:02x?}");
        }
        assert!(!allows(&[0x03, 0x30], Access::GetData, BOTH));
        assert!(!allows(&[0x01, 0x40], Access::GetData, BOTH));
        assert!(!well_formed(&[0x03, 0x30, 0x00], FileKind::Key));
    }
}
