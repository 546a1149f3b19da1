//! [`Version`]: how often the data of a znode has changed.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The last one there is: at a million changes a second reached after nine years.
const MAX: u64 = (1 << 48) - 1;

/// A count up to 2^48 - 1 in the six bytes that the other fields of an inode leave free. It stays
/// at its top. On disk it is a `u64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version([u16; 3]);

impl Version {
    pub fn get(self) -> u64 {
        self.0.iter().rev().fold(0, |high, low| high << 16 | u64::from(*low))
    }

    pub fn next(self) -> Version {
        Version::of((self.get() + 1).min(MAX))
    }

    /// `count` is at most `MAX`.
    fn of(count: u64) -> Version {
        Version([count as u16, (count >> 16) as u16, (count >> 32) as u16])
    }
}

impl Encode for Version {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.get().encode(encoder)
    }
}

impl<Context> Decode<Context> for Version {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u64::decode(decoder)? {
            count if count <= MAX => Ok(Version::of(count)),
            _ => Err(DecodeError::Other("a version is above 2^48 - 1")),
        }
    }
}

bincode::impl_borrow_decode!(Version);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_over_every_boundary_and_stops_at_the_top() {
        assert_eq!(Version::default().get(), 0);
        for bits in [0, 1, 15, 16, 17, 31, 32, 33, 47] {
            for before in [(1 << bits) - 1, 1 << bits] {
                assert_eq!(Version::of(before).next().get(), before + 1);
            }
        }
        assert_eq!(Version::of(MAX).next().get(), MAX);
    }

    #[test]
    fn is_a_u64_on_disk() {
        let config = bincode::config::standard();
        let bytes = |count: u64| bincode::encode_to_vec(count, config).unwrap();
        let read = |count| bincode::decode_from_slice(&bytes(count), config).map(|(it, _)| it);
        for count in [0, 250, 251, 1 << 16, 1 << 32, MAX] {
            let version: Version = read(count).unwrap();
            assert_eq!(version.get(), count);
            assert_eq!(bincode::encode_to_vec(version, config).unwrap(), bytes(count));
        }
        assert!(read(MAX + 1).is_err());
    }
}
