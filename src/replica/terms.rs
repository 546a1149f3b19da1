//! Which term each entry of the log has: runs of one term, for terms never fall along a log.

use std::collections::VecDeque;

pub(super) struct Terms {
    /// (first index, term), in order. The first run begins at the base: the entry before the first
    /// readable one, whose term is kept to match logs.
    runs: VecDeque<(u64, u64)>,
    last: u64,
}

impl Terms {
    /// A log that holds nothing but its base.
    pub(super) fn starting_at(base: u64, term: u64) -> Terms {
        Terms { runs: VecDeque::from([(base, term)]), last: base }
    }

    /// Finds where terms begin by bisection: `read` costs a disk read for most entries.
    pub(super) fn find<E>(
        base: u64,
        last: u64,
        read: impl Fn(u64) -> Result<u64, E>,
    ) -> Result<Terms, E> {
        let mut terms = Terms::starting_at(base, read(base)?);
        terms.last = last;
        let end = read(last)?;
        while let Some(&(from, term)) = terms.runs.back()
            && term < end
        {
            let (mut low, mut high) = (from, last);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if read(middle)? == term { low = middle } else { high = middle }
            }
            terms.runs.push_back((high, read(high)?));
        }
        Ok(terms)
    }

    pub(super) fn base(&self) -> u64 {
        self.runs[0].0
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The term of an entry, if the log reaches that far.
    pub(super) fn of(&self, index: u64) -> Option<u64> {
        if index < self.base() || index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|&(from, _)| from <= index);
        Some(self.runs[run - 1].1)
    }

    /// The entry after the last one.
    pub(super) fn push(&mut self, term: u64) {
        self.last += 1;
        if self.runs.back().is_none_or(|&(_, newest)| newest != term) {
            self.runs.push_back((self.last, term));
        }
    }

    /// Removes the entries from `index` on, which is after the base.
    pub(super) fn truncate(&mut self, index: u64) {
        self.last = self.last.min(index - 1);
        while self.runs.back().is_some_and(|&(from, _)| from >= index) {
            self.runs.pop_back();
        }
    }

    /// Makes the entry at `index`, which the log holds, the base.
    pub(super) fn drop_before(&mut self, index: u64) {
        let run = self.runs.partition_point(|&(from, _)| from <= index);
        self.runs.drain(..run - 1);
        self.runs[0].0 = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Terms of the entries 10 to 29.
    const LOG: [u64; 20] = [2, 2, 2, 2, 5, 5, 5, 6, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 12];

    fn found() -> Terms {
        Terms::find(10, 29, |index| Ok::<u64, ()>(LOG[index as usize - 10])).unwrap()
    }

    fn all(terms: &Terms) -> Vec<Option<u64>> {
        (terms.base()..=terms.last()).map(|index| terms.of(index)).collect()
    }

    #[test]
    fn bisection_finds_every_term_and_reads_few_entries() {
        assert_eq!(all(&found()), LOG.map(Some));
        let reads = Cell::new(0);
        let read = |index: u64| {
            reads.set(reads.get() + 1);
            Ok::<u64, ()>(if index < 700_000 { 3 } else { 4 })
        };
        let terms = Terms::find(1, 1_000_000, read).unwrap();
        assert_eq!((terms.of(699_999), terms.of(700_000)), (Some(3), Some(4)));
        assert!(reads.get() < 30, "{} reads", reads.get());
    }

    #[test]
    fn the_log_ends_and_begins_where_it_is_cut() {
        let mut terms = found();
        terms.truncate(18);
        terms.push(7);
        terms.push(7);
        terms.drop_before(15);
        assert_eq!(all(&terms), [5, 5, 6, 7, 7].map(Some));
        assert_eq!((terms.of(14), terms.of(20)), (None, None));
    }

    #[test]
    fn an_empty_log_has_the_term_of_its_base() {
        let mut terms = Terms::starting_at(0, 0);
        assert_eq!((terms.of(0), terms.of(1)), (Some(0), None));
        terms.push(1);
        assert_eq!((terms.of(1), terms.last()), (Some(1), 1));
    }
}
