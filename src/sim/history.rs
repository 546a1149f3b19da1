//! Linearizability of registers whose writes are already in one order, the log's: what is left to
//! show is that real time agrees with it.

use crate::tree::Zxid;

/// A write or a read of one register that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// The world's time of question and answer, nanoseconds.
    pub invoked: u64,
    pub answered: u64,
    /// The entry that wrote, or whose value was read.
    pub at: Zxid,
    pub write: bool,
}

/// The first two operations of which the later one was asked after the earlier one was answered,
/// and yet comes before it in the log.
pub(super) fn contradiction(operations: &[Operation]) -> Option<(Operation, Operation)> {
    let mut by_question = operations.to_vec();
    by_question.sort_by_key(|operation| operation.invoked);
    let mut by_answer = operations.to_vec();
    by_answer.sort_by_key(|operation| operation.answered);
    let mut answered = by_answer.into_iter().peekable();
    let mut latest: Option<Operation> = None;
    for later in by_question {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered < later.invoked) {
            if latest.is_none_or(|latest| earlier.at >= latest.at) {
                latest = Some(earlier);
            }
        }
        if let Some(earlier) = latest
            && (later.at < earlier.at || (later.write && later.at == earlier.at))
        {
            return Some((earlier, later));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(invoked: u64, answered: u64, at: Zxid, write: bool) -> Operation {
        Operation { invoked, answered, at, write }
    }

    #[test]
    fn overlapping_operations_may_come_in_any_order() {
        let ops = [operation(0, 10, 7, true), operation(5, 9, 6, true), operation(6, 8, 7, false)];
        assert!(contradiction(&ops).is_none());
    }

    #[test]
    fn a_read_after_an_answered_write_must_see_it() {
        let ops = [operation(0, 10, 7, true), operation(11, 12, 6, false)];
        assert!(contradiction(&ops).is_some());
    }

    #[test]
    fn a_read_must_not_go_back_behind_an_earlier_read() {
        let ops = [operation(0, 50, 7, true), operation(1, 2, 7, false), operation(3, 4, 5, false)];
        assert!(contradiction(&ops).is_some());
    }
}
