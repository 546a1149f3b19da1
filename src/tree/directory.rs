//! [`Directory`]: names and the inodes they mean.
//!
//! Entries are sorted by cookie: a hash of the name under the cluster's key, counted up while
//! another name has it. So a listing goes on from any cookie however much changes meanwhile, and a
//! lookup is a search for the hash. The directory remembers how far a cookie was ever pushed from
//! its hash: that far a lookup looks. It is 0: nobody can choose names with one hash without the
//! key, and among a million names there are two by chance once in nine million directories.

use super::name::EntryName;
use super::name_key::{Cookie, NameKey};
use super::{Ino, Name, Role, SessionId, Zxid};
use crate::cow::CowMap;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// What an inode of kind directory has.
#[derive(Clone)]
pub(super) struct Directory {
    pub state: DirectoryState,
    pub entries: Entries,
    /// Entries that go with a session.
    pub owners: CowMap<Cookie, SessionId, 64>,
    /// Tickets of a `lock` directory that wait for the name of an entry, with their sequences; see
    /// `ticket.rs`.
    pub hidden: CowMap<(Cookie, u64), Ino, 64>,
}

/// Everything but the entries.
#[derive(Clone, Encode, Decode)]
pub(super) struct DirectoryState {
    /// The root's is itself; an unlinked directory's the last one.
    pub parent: Ino,
    pub role: Role,
    /// Last change of the listing.
    pub pzxid: Zxid,
    /// Changes of the listing.
    pub cversion: u64,
    /// The next number in a `sequential` directory.
    pub counter: u64,
    /// The last name a `sequential` directory made.
    pub last_created: Option<Name>,
}

impl Directory {
    pub fn new(parent: Ino, role: Role, zxid: Zxid, key: NameKey) -> Directory {
        let state = DirectoryState {
            parent,
            role,
            pzxid: zxid,
            cversion: 0,
            counter: 0,
            last_created: None,
        };
        Directory::empty(state, key)
    }

    fn empty(state: DirectoryState, key: NameKey) -> Directory {
        Directory {
            state,
            entries: Entries::new(key),
            owners: CowMap::new(),
            hidden: CowMap::new(),
        }
    }
}

/// Without its entries: a snapshot keeps those as records of their own, for they may be millions.
/// Who reads one gives it the tree's key.
impl Encode for Directory {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.state.encode(encoder)
    }
}

impl<Context> Decode<Context> for Directory {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Directory::empty(Decode::decode(decoder)?, NameKey::default()))
    }
}

bincode::impl_borrow_decode!(Directory);

/// One name of an inode.
#[derive(Clone)]
pub(super) struct Entry {
    pub name: EntryName,
    pub ino: Ino,
}

const _: () = assert!(size_of::<(Cookie, Entry)>() == 40);

#[derive(Clone)]
pub(super) struct Entries {
    by_cookie: CowMap<Cookie, Entry, 128>,
    /// The furthest a cookie was pushed from its name's hash.
    displacement: u64,
    /// The tree's.
    key: NameKey,
}

impl Entries {
    pub fn new(key: NameKey) -> Entries {
        Entries { by_cookie: CowMap::new(), displacement: 0, key }
    }

    #[cfg(test)]
    pub fn displacement(&self) -> u64 {
        self.displacement
    }

    pub fn len(&self) -> usize {
        self.by_cookie.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_cookie.is_empty()
    }

    pub fn find(&self, name: &[u8]) -> Option<(Cookie, Ino)> {
        let hash = self.key.cookie(name);
        if self.displacement == 0 {
            let entry = self.by_cookie.get(hash)?;
            return (entry.name.as_bytes() == name).then_some((hash, entry.ino));
        }
        let near = self.by_cookie.from(hash).take_while(|item| item.0 <= hash + self.displacement);
        let mut same = near.filter(|(_, entry)| entry.name.as_bytes() == name);
        same.next().map(|(cookie, entry)| (cookie, entry.ino))
    }

    pub fn get(&self, cookie: Cookie) -> Option<&Entry> {
        self.by_cookie.get(cookie)
    }

    /// Adds a name that is not there.
    pub fn add(&mut self, name: &[u8], ino: Ino) -> Cookie {
        let hash = self.key.cookie(name);
        let mut cookie = hash;
        while self.by_cookie.contains(cookie) {
            cookie += 1;
        }
        self.put(cookie, name, ino);
        cookie
    }

    /// Adds a name with the cookie it had when the snapshot was taken.
    pub fn put(&mut self, cookie: Cookie, name: &[u8], ino: Ino) {
        self.displacement = self.displacement.max(cookie.saturating_sub(self.key.cookie(name)));
        self.by_cookie.insert(cookie, Entry { name: EntryName::new(name), ino });
    }

    /// Lets a name mean another inode; returns the one it meant.
    pub fn set(&mut self, cookie: Cookie, ino: Ino) -> Option<Ino> {
        let entry = self.by_cookie.get_mut(cookie)?;
        Some(std::mem::replace(&mut entry.ino, ino))
    }

    pub fn remove(&mut self, cookie: Cookie) -> Option<Entry> {
        let entry = self.by_cookie.remove(cookie);
        if self.by_cookie.is_empty() {
            self.displacement = 0;
        }
        entry
    }

    /// Entries after `cookie`, in the order of cookies.
    pub fn after(&self, cookie: Cookie) -> impl Iterator<Item = (Cookie, &Entry)> {
        self.by_cookie.from(cookie.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_one_hash_live_side_by_side() {
        let mut entries = Entries::new(NameKey::default());
        let cookie = entries.add(b"a", Ino(20));
        entries
            .by_cookie
            .insert(cookie + 1, Entry { name: EntryName::new(b"other"), ino: Ino(21) });
        assert_eq!(entries.remove(cookie).map(|entry| entry.ino), Some(Ino(20)));
        entries.by_cookie.insert(cookie, Entry { name: EntryName::new(b"first"), ino: Ino(22) });
        assert_eq!(entries.add(b"a", Ino(23)), cookie + 2);
        assert_eq!(entries.find(b"a"), Some((cookie + 2, Ino(23))));
        entries.remove(cookie);
        assert_eq!(entries.find(b"a"), Some((cookie + 2, Ino(23))));
        let listed: Vec<Ino> = entries.after(cookie).map(|(_, entry)| entry.ino).collect();
        assert_eq!(listed, [Ino(21), Ino(23)]);
    }
}
