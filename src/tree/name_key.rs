//! [`NameKey`]: the cluster's secret that turns names into cookies.

use bincode::{Decode, Encode};
use siphasher::sip::SipHasher13;
use std::fmt;

/// Place of an entry in its directory: stable while the entry lives.
pub(super) type Cookie = u64;

/// Cookies below are `.`, `..` and what a mount adds by itself.
const COOKIE_MIN: u64 = 16;
/// Leaves room below 2^62 to push cookies.
const COOKIE_HASHES: u64 = (1 << 62) - (1 << 32);

/// A key for SipHash-1-3, drawn when the cluster is founded. Every replica has it, in its log and
/// its snapshots; users never see it, so that nobody can choose names whose cookies are one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct NameKey([u8; 16]);

impl NameKey {
    /// Sixteen bytes that nobody can guess.
    pub fn new(bytes: [u8; 16]) -> NameKey {
        NameKey(bytes)
    }

    /// The cookie of a name, unless another name has it.
    pub(super) fn cookie(self, name: &[u8]) -> Cookie {
        COOKIE_MIN + SipHasher13::new_with_key(&self.0).hash(name) % COOKIE_HASHES
    }
}

/// Says nothing: commands are printed.
impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Ino;
    use crate::tree::directory::Entries;
    use std::collections::BTreeSet;
    use xxhash_rust::xxh3::xxh3_64;

    const NAMES: usize = 20_000;

    /// Names that one can choose so that XXH3, which has no key, makes one hash of them all: where
    /// the first eight bytes are those of its constant, the next eight are multiplied by zero.
    fn chosen() -> impl Iterator<Item = Vec<u8>> {
        const CONSTANT: &[u8] = b"\xb8\xfe\x6c\x39\x23\xa4\x4b\xbe";
        (0..NAMES).map(|number| {
            let free = format!("{number:08}");
            [CONSTANT, free.as_bytes(), b"0123456789abcdef"].concat()
        })
    }

    #[test]
    fn names_chosen_to_collide_are_as_far_apart_as_others() {
        let hashes: BTreeSet<u64> = chosen().map(|name| xxh3_64(&name)).collect();
        assert_eq!(hashes.len(), 1, "the names would collide without a key");
        let mut entries = Entries::new(NameKey::new([7; 16]));
        for (number, name) in chosen().enumerate() {
            entries.add(&name, Ino(number as u64));
        }
        assert_eq!(entries.displacement(), 0, "a name is where its cookie says");
        for (number, name) in chosen().enumerate() {
            assert_eq!(entries.find(&name).map(|(_, ino)| ino), Some(Ino(number as u64)));
        }
    }

    #[test]
    fn cookies_are_a_promise_and_the_key_decides_them() {
        let (one, other) = (NameKey::new([1; 16]), NameKey::new([2; 16]));
        for name in [&b"deploy"[..], b"x", &[0xff; 255]] {
            assert!((COOKIE_MIN..1 << 62).contains(&one.cookie(name)));
            assert_eq!(one.cookie(name), one.cookie(name));
            assert_ne!(one.cookie(name), other.cookie(name));
        }
        // Written in snapshots.
        let zero = NameKey::default().cookie(b"");
        assert_eq!(zero, COOKIE_MIN + 0xd1fb_a762_150c_532c % COOKIE_HASHES);
        assert_eq!(format!("{one:?}"), "NameKey");
    }
}
