//! Whether this replica's tree is the leader's: digests compared at equal indexes.

use crate::tree::Zxid;
use std::collections::VecDeque;

/// Digests of the newest entries that are kept: a follower is seldom further ahead of the leader's
/// announcement.
const KEPT: usize = 4096;
/// Nanoseconds between the leader's announcements.
const INTERVAL: u64 = 1_000_000_000;

#[derive(Default)]
pub(super) struct Digests {
    /// (index, digest) of the newest entries applied here.
    own: VecDeque<(Zxid, u64)>,
    /// What the leader announced and is not yet applied here.
    expected: Option<(Zxid, u64)>,
    announce_at: u64,
    announced: Zxid,
}

impl Digests {
    /// An entry was applied here. Says so if the leader announced another digest.
    pub(super) fn applied(&mut self, index: Zxid, digest: u64) -> Result<(), String> {
        if self.own.len() == KEPT {
            self.own.pop_front();
        }
        self.own.push_back((index, digest));
        match self.expected.take_if(|(expected, _)| *expected <= index) {
            Some((expected, announced)) => self.compare(expected, announced),
            None => Ok(()),
        }
    }

    /// The tree was replaced: its history is another's.
    pub(super) fn restored(&mut self, index: Zxid, digest: u64) {
        self.own.clear();
        self.own.push_back((index, digest));
    }

    /// The leader announced its digest.
    pub(super) fn announced(&mut self, index: Zxid, digest: u64) -> Result<(), String> {
        if self.own.back().is_none_or(|(newest, _)| *newest < index) {
            self.expected = Some((index, digest));
            return Ok(());
        }
        self.compare(index, digest)
    }

    fn compare(&self, index: Zxid, announced: u64) -> Result<(), String> {
        let Ok(place) = self.own.binary_search_by_key(&index, |(own, _)| *own) else {
            return Ok(());
        };
        let own = self.own[place].1;
        if own == announced {
            return Ok(());
        }
        Err(format!(
            "the tree at entry {index} differs from the leader's (digest {own:016x}, the leader has \
             {announced:016x}); stop this replica, remove its data directory and join it again"
        ))
    }

    /// On the leader: what to announce now.
    pub(super) fn announcement(&mut self, now: u64) -> Option<(Zxid, u64)> {
        let newest = *self.own.back()?;
        if now < self.announce_at || newest.0 == self.announced {
            return None;
        }
        (self.announce_at, self.announced) = (now + INTERVAL, newest.0);
        Some(newest)
    }
}
