//! How far terms and indexes may be from those here. A term once taken is never given up, and ends
//! every smaller one, so one message of an absurd term, from a broken member or a hostile one,
//! would end the cluster for good.

/// Beyond any term or index a cluster can reach; keeps additions from overflowing.
const NUMBER_MAX: u64 = 1 << 60;
/// Elections that a replica may have missed while it was away. With the pre-vote only an election
/// that a majority agreed to makes a new term, and each takes an election timeout: this many take
/// days at the least.
const TERMS_MISSED: u64 = 1 << 20;
/// Entries likewise: 10,000 a second for three years.
const ENTRIES_MISSED: u64 = 1 << 40;

/// What is believed of a message's numbers.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// The first term known here, and when; none while the replica knows no cluster.
    base: Option<(u64, u64)>,
    /// The highest term that is believed now.
    term: u64,
    /// A replica that joined is the entry of this index.
    id: u64,
}

impl Reach {
    pub(super) fn new(id: u64) -> Reach {
        Reach { id, ..Reach::default() }
    }

    /// Looks at the clock and the own term. What is believed grows with the time that elections
    /// take and not with what is heard: else many small steps would lead as far as one large one.
    pub(super) fn look(&mut self, own: u64, now: u64, heartbeat: u64) {
        if own == 0 {
            // Someone new follows whatever cluster it came to; its word convinces nobody else.
            self.term = NUMBER_MAX;
            return;
        }
        let (base, since) = *self.base.get_or_insert((own, now));
        // No election is shorter than four heartbeats.
        let held_since = now.saturating_sub(since) / heartbeat;
        self.term = base.saturating_add(TERMS_MISSED).saturating_add(held_since).min(NUMBER_MAX);
    }

    pub(super) fn believes_term(&self, term: u64) -> bool {
        term <= self.term
    }

    /// `last`: the last index of the own log.
    pub(super) fn believes_index(&self, index: u64, last: u64) -> bool {
        index <= last.max(self.id).saturating_add(ENTRIES_MISSED).min(NUMBER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: u64 = 100;

    #[test]
    fn a_term_is_believed_as_far_as_elections_could_have_led() {
        let mut reach = Reach::new(1);
        reach.look(7, 0, HEARTBEAT);
        assert!(reach.believes_term(7 + TERMS_MISSED));
        assert!(!reach.believes_term(8 + TERMS_MISSED));
        // The own term went up, as far as it may: that alone leads no further.
        reach.look(7 + TERMS_MISSED, 99, HEARTBEAT);
        assert!(!reach.believes_term(8 + TERMS_MISSED));
        reach.look(7 + TERMS_MISSED, 100, HEARTBEAT);
        assert!(reach.believes_term(8 + TERMS_MISSED));
        assert!(!reach.believes_term(1 << 60));
    }

    #[test]
    fn a_newcomer_takes_the_term_it_finds() {
        let mut reach = Reach::new(1);
        reach.look(0, 0, HEARTBEAT);
        assert!(reach.believes_term(1 << 50) && !reach.believes_term(u64::MAX));
        reach.look(1 << 50, 1, HEARTBEAT);
        assert!(reach.believes_term(1 << 50) && !reach.believes_term(1 << 51));
    }

    #[test]
    fn an_index_is_believed_as_far_as_entries_could_have_come() {
        let reach = Reach::new(3);
        assert!(reach.believes_index(10 + ENTRIES_MISSED, 10));
        assert!(!reach.believes_index(11 + ENTRIES_MISSED, 10));
        assert!(Reach::new(1 << 50).believes_index(1 << 50, 0));
        assert!(!Reach::new(1 << 60).believes_index(1 + (1 << 60), u64::MAX));
    }
}
