//! [`Home`]: where an inode has a name, so that its path is found without a search.

use super::Ino;
use super::name_key::Cookie;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The upper bits of a cookie that are kept: in a directory of a million names about one has each
/// of these values.
const COOKIE_BITS: u32 = 20;
/// Cookies are below 2^62.
const COOKIE_SHIFT: u32 = 62 - COOKIE_BITS;
/// At a hundred thousand new inodes a second, all numbers are used up after five years; later ones
/// have no home, and no path.
const PARENT_BITS: u32 = 64 - COOKIE_BITS;

/// A directory and the upper bits of the entry's cookie there, in eight bytes, for there may be
/// millions. It follows from the entries: a snapshot does without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Home(u64);

impl Home {
    /// No name, or none that can be remembered.
    pub const NONE: Home = Home(0);

    pub fn of(parent: Ino, cookie: Cookie) -> Home {
        if parent.0 >> PARENT_BITS != 0 {
            return Home::NONE;
        }
        Home(parent.0 << COOKIE_BITS | cookie >> COOKIE_SHIFT)
    }

    pub fn parent(self) -> Option<Ino> {
        (self != Home::NONE).then_some(Ino(self.0 >> COOKIE_BITS))
    }

    /// The cookies the entry can have: from the first to before the second.
    pub fn cookies(self) -> (Cookie, Cookie) {
        let upper = self.0 & ((1 << COOKIE_BITS) - 1);
        (upper << COOKIE_SHIFT, (upper + 1) << COOKIE_SHIFT)
    }
}

impl Encode for Home {
    fn encode<E: Encoder>(&self, _: &mut E) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<Context> Decode<Context> for Home {
    fn decode<D: Decoder<Context = Context>>(_: &mut D) -> Result<Self, DecodeError> {
        Ok(Home::NONE)
    }
}

bincode::impl_borrow_decode!(Home);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_a_directory_and_a_cookie_nearly() {
        for parent in [Ino::ROOT, Ino(77), Ino((1 << PARENT_BITS) - 1)] {
            for cookie in [16, 1 << COOKIE_SHIFT, (1 << 62) - 1] {
                let home = Home::of(parent, cookie);
                let (first, end) = home.cookies();
                assert_eq!(home.parent(), Some(parent));
                assert!((first..end).contains(&cookie) && end - first == 1 << COOKIE_SHIFT);
            }
        }
        assert_eq!(Home::of(Ino(1 << PARENT_BITS), 16).parent(), None);
    }
}
