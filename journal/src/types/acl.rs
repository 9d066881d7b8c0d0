//! POSIX access control lists: what one says, and how it and the mode keep step.
//!
//! A list is stored and handed around in the bytes that programs use, those of the attributes
//! `system.posix_acl_access` and `system.posix_acl_default` (linux/posix_acl_xattr.h, version 2), all
//! little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | version, 2 |
//! | 2 + 2 + 4, for each entry | tag, permissions (`rwx` = 4, 2, 1), user or group |
//!
//! The file's mode is a view of its access list: the owner's entry and the others' are its outer
//! digits, and the middle one is the mask, or the owning group's entry where there is no mask. So
//! three rules tie the two together (acl(5), IEEE 1003.1e draft 17):
//!
//! - setting an access list sets the mode, and a list that says no more than a mode *is* the mode:
//!   it is not kept;
//! - chmod changes those three entries of the list;
//! - what is made in a directory that has a default list gets a copy of it, less what the program's
//!   mode does not ask for. The umask has no say then.

use crate::Error;

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// The user or group of an entry that has none.
const NOBODY: u32 = u32::MAX;

/// Which of a file's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What is made in this directory begins with it.
    Default,
}

impl AclKind {
    /// The extended attribute that holds it.
    #[must_use]
    pub fn attribute(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }

    /// The list that an extended attribute holds, if it holds one.
    #[must_use]
    pub fn of_attribute(name: &[u8]) -> Option<AclKind> {
        let kinds = [AclKind::Access, AclKind::Default];
        kinds.into_iter().find(|kind| kind.attribute() == name)
    }
}

/// Whom an entry is about, in the order in which they must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

impl Who {
    fn parse(tag: u16, id: u32) -> Option<Who> {
        match tag {
            0x01 => Some(Who::Owner),
            0x02 => Some(Who::User(id)),
            0x04 => Some(Who::OwningGroup),
            0x08 => Some(Who::Group(id)),
            0x10 => Some(Who::Mask),
            0x20 => Some(Who::Other),
            _ => None,
        }
    }

    fn tag_and_id(self) -> (u16, u32) {
        match self {
            Who::Owner => (0x01, NOBODY),
            Who::User(id) => (0x02, id),
            Who::OwningGroup => (0x04, NOBODY),
            Who::Group(id) => (0x08, id),
            Who::Mask => (0x10, NOBODY),
            Who::Other => (0x20, NOBODY),
        }
    }

    /// Its place among the kinds of entries.
    fn place(self) -> u8 {
        match self {
            Who::Owner => 0,
            Who::User(_) => 1,
            Who::OwningGroup => 2,
            Who::Group(_) => 3,
            Who::Mask => 4,
            Who::Other => 5,
        }
    }

    fn is_named(self) -> bool {
        matches!(self, Who::User(_) | Who::Group(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    who: Who,
    permissions: u8,
}

/// A valid list: one entry each for owner, owning group and others, a mask if anybody is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads a list; `None` for one without entries, which means to remove what is there.
    pub fn parse(bytes: &[u8]) -> Result<Option<Acl>, Error> {
        let refused = |why| Error::InvalidAcl { why };
        let (header, rest) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(refused("it is too short"))?;
        if header != VERSION.to_le_bytes() {
            return Err(Error::UnknownAclVersion);
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let chunks = rest.chunks_exact(ENTRY_BYTES);
        if !chunks.remainder().is_empty() {
            return Err(refused("its length is not that of whole entries"));
        }
        let entries = chunks
            .map(|bytes| {
                let &[t0, t1, p0, p1, i0, i1, i2, i3] = bytes else {
                    return None;
                };
                let who = Who::parse(
                    u16::from_le_bytes([t0, t1]),
                    u32::from_le_bytes([i0, i1, i2, i3]),
                )?;
                let permissions = u8::try_from(u16::from_le_bytes([p0, p1])).ok()?;
                (permissions <= 7).then_some(Entry { who, permissions })
            })
            .collect::<Option<Vec<Entry>>>()
            .ok_or(refused("an entry has an unknown tag or permission"))?;
        let acl = Acl { entries };
        match acl.is_valid() {
            true => Ok(Some(acl)),
            false => Err(refused("entries are missing, twice, or out of order")),
        }
    }

    /// The bytes that [`Acl::parse`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.entries {
            let (tag, id) = entry.who.tag_and_id();
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&u16::from(entry.permissions).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// In order, each unnamed one at most once, and none missing. Named ones may come in any order
    /// and, as on other file systems, twice.
    fn is_valid(&self) -> bool {
        let in_order = self.entries.windows(2).all(|pair| match pair {
            [one, two] if one.who.place() == two.who.place() => {
                one.who.is_named() && two.who.is_named()
            }
            [one, two] => one.who.place() < two.who.place(),
            _ => true,
        });
        let has = |who| self.entries.iter().any(|entry| entry.who == who);
        let named = self.entries.iter().any(|entry| entry.who.is_named());
        let nobody = |entry: &Entry| matches!(entry.who, Who::User(NOBODY) | Who::Group(NOBODY));
        in_order
            && has(Who::Owner)
            && has(Who::OwningGroup)
            && has(Who::Other)
            && (has(Who::Mask) || !named)
            && !self.entries.iter().any(nobody)
    }

    /// Who the middle digit of the mode is.
    fn middle(&self) -> Who {
        let masked = self.entries.iter().any(|entry| entry.who == Who::Mask);
        if masked { Who::Mask } else { Who::OwningGroup }
    }

    /// How far to the left the permissions of an entry stand in the mode, if they do.
    fn shift(who: Who, middle: Who) -> Option<u32> {
        match who {
            Who::Owner => Some(6),
            who if who == middle => Some(3),
            Who::Other => Some(0),
            _ => None,
        }
    }

    /// The permission bits (0777) that show this list.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let middle = self.middle();
        self.entries
            .iter()
            .filter_map(|entry| {
                Self::shift(entry.who, middle).map(|shift| u32::from(entry.permissions) << shift)
            })
            .sum()
    }

    /// Whether it says no more than a mode can.
    #[must_use]
    pub fn is_mode(&self) -> bool {
        self.middle() == Who::OwningGroup
    }

    /// The list after chmod(2).
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Acl {
        let middle = self.middle();
        for entry in &mut self.entries {
            if let Some(shift) = Self::shift(entry.who, middle) {
                entry.permissions = (mode >> shift & 7) as u8;
            }
        }
        self
    }

    /// The access list of what is made with `mode` in a directory whose default list this is. Its
    /// [`Acl::mode`] is the mode of what is made.
    #[must_use]
    pub fn inherited(self, mode: u32) -> Acl {
        let allowed = self.mode() & mode;
        self.with_mode(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: u16 = 0x01;
    const USER: u16 = 0x02;
    const OWNING_GROUP: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::parse(&bytes(entries)).unwrap().unwrap()
    }

    /// Alice may write, within a mask of `rw-`.
    fn named() -> Acl {
        acl(&[
            (OWNER, 7, NOBODY),
            (USER, 6, 1001),
            (OWNING_GROUP, 5, NOBODY),
            (GROUP, 7, 2001),
            (MASK, 6, NOBODY),
            (OTHER, 4, NOBODY),
        ])
    }

    #[test]
    fn a_list_survives_the_round_trip() {
        let acl = named();
        assert_eq!(Acl::parse(&acl.to_bytes()).unwrap(), Some(acl));
        assert_eq!(
            named().to_bytes()[..20],
            [
                2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 0xe9, 3, 0, 0
            ]
        );
    }

    #[test]
    fn no_entries_mean_no_list() {
        assert_eq!(Acl::parse(&bytes(&[])).unwrap(), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let (owner, group, other) = ((OWNER, 7, 0), (OWNING_GROUP, 5, 0), (OTHER, 4, 0));
        for wrong in [
            &[owner, group][..],
            &[owner, other],
            &[group, other],
            &[other, group, owner],
            &[owner, owner, group, other],
            &[owner, group, other, other],
            &[owner, (USER, 7, 5), group, other],
            &[owner, group, (GROUP, 7, 5), other],
            &[owner, (USER, 7, NOBODY), group, (MASK, 7, 0), other],
            &[owner, group, (MASK, 7, 0), (MASK, 7, 0), other],
            &[(OWNER, 8, 0), group, other],
            &[(OWNER, 256, 0), group, other],
            &[(3, 7, 0), group, other],
        ] {
            let error = Acl::parse(&bytes(wrong)).unwrap_err();
            assert_eq!(error.errno(), libc::EINVAL, "{wrong:?}");
        }
        let whole = bytes(&[owner, group, other]);
        for wrong in [&whole[..whole.len() - 1], &whole[..3], &[]] {
            assert_eq!(Acl::parse(wrong).unwrap_err().errno(), libc::EINVAL);
        }
        let other_version = [&[1, 0, 0, 0], &whole[4..]].concat();
        let error = Acl::parse(&other_version).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP);
    }

    #[test]
    fn the_mode_shows_the_mask_or_else_the_group() {
        assert_eq!(named().mode(), 0o764);
        let three = acl(&[(OWNER, 6, 0), (OWNING_GROUP, 4, 0), (OTHER, 0, 0)]);
        assert_eq!(three.mode(), 0o640);
        assert!(three.is_mode() && !named().is_mode());
        let masked = acl(&[
            (OWNER, 6, 0),
            (OWNING_GROUP, 4, 0),
            (MASK, 0, 0),
            (OTHER, 0, 0),
        ]);
        assert_eq!(masked.mode(), 0o600);
        assert!(!masked.is_mode(), "a mask is more than a mode can say");
    }

    #[test]
    fn chmod_changes_owner_mask_and_others_and_nobody_else() {
        let changed = named().with_mode(0o100_451);
        assert_eq!(changed.mode(), 0o451);
        assert_eq!(
            changed,
            acl(&[
                (OWNER, 4, NOBODY),
                (USER, 6, 1001),
                (OWNING_GROUP, 5, NOBODY),
                (GROUP, 7, 2001),
                (MASK, 5, NOBODY),
                (OTHER, 1, NOBODY),
            ])
        );
        let three = acl(&[(OWNER, 6, 0), (OWNING_GROUP, 4, 0), (OTHER, 0, 0)]);
        assert_eq!(three.with_mode(0o757).mode(), 0o757);
    }

    #[test]
    fn what_is_made_gets_no_more_than_both_allow() {
        let made = named().inherited(0o666);
        assert_eq!(made.mode(), 0o664);
        assert_eq!(named().inherited(0o777).mode(), 0o764);
        assert_eq!(named().inherited(0).mode(), 0);
    }
}
