//! The only chance here: values drawn from [`super::ReplicaConfig::seed`], so that one seed replays
//! one history.

use crate::mix::mix;

/// How many ticks without a leader this replica waits in this term: `base..2 * base`. raft-rs would
/// draw it from the thread's generator; a function of seed and term separates replicas as well, and
/// replays.
pub(super) fn election_ticks(seed: u64, term: u64, base: usize) -> usize {
    base + (mix(seed, term) % base as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn election_timeouts_stay_in_their_range_and_differ() {
        let drawn: Vec<usize> = (1..100).map(|term| election_ticks(7, term, 10)).collect();
        assert!(drawn.iter().all(|ticks| (10..20).contains(ticks)));
        assert!((10..20).all(|ticks| drawn.contains(&ticks)));
        assert_ne!(drawn, (1..100).map(|term| election_ticks(8, term, 10)).collect::<Vec<_>>());
    }
}
