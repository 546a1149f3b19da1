//! The running digest: a hash over every entry and what came of it, chained. Replicas compare it at
//! equal zxids; the first entry that meant different things to two of them sets them apart for
//! good.

use super::{Outcome, Proposal, Stamp, Zxid};
use bincode::Encode;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use xxhash_rust::xxh3::Xxh3;

pub(super) fn chain(
    before: u64,
    zxid: Zxid,
    stamp: Stamp,
    proposal: &Proposal,
    outcome: &Outcome,
) -> u64 {
    let mut hash = Hash(Xxh3::with_seed(before));
    hash.add(&(zxid, stamp));
    hash.add(proposal);
    hash.add(&outcome.reply);
    hash.add(&outcome.changes);
    hash.0.digest()
}

struct Hash(Xxh3);

impl Hash {
    /// Hashes the value's encoding, which names every field.
    fn add(&mut self, value: &impl Encode) {
        let encoded = bincode::encode_into_writer(value, self, bincode::config::standard());
        assert!(encoded.is_ok(), "a writer that takes everything refused");
    }
}

impl Writer for &mut Hash {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.update(bytes);
        Ok(())
    }
}
