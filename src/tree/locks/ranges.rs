//! Spans of bytes, and who wants or holds one.

use super::super::{LockMode, LockOwner, SessionId, Stamp, TicketInfo, Zxid};
use bincode::{Decode, Encode};
use std::sync::Arc;

/// Bytes `start..=end` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// Every byte a file can have.
    pub const WHOLE: Span = Span { start: 0, end: u64::MAX };

    pub fn overlaps(self, other: Span) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Whether it is every byte a file can have: `flock`, or `fcntl` of a whole file.
    pub fn is_whole(self) -> bool {
        self.start == 0 && self.end >= i64::MAX as u64
    }

    /// What is left of `self` without `cut`: nothing, one piece or two.
    pub fn without(self, cut: Span) -> impl Iterator<Item = Span> {
        let before = (self.start < cut.start)
            .then(|| Span { start: self.start, end: self.end.min(cut.start.saturating_sub(1)) });
        let after = (self.end > cut.end)
            .then(|| Span { start: self.start.max(cut.end.saturating_add(1)), end: self.end });
        before.into_iter().chain(after)
    }
}

/// Whose a range is. Ranges of one owner never conflict with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Owner {
    pub session: SessionId,
    pub owner: LockOwner,
}

/// A range somebody asked for, waiting or granted.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Request {
    pub by: Owner,
    pub span: Span,
    pub mode: LockMode,
    /// The zxid of the entry that asked; the order of the queue.
    pub waiter: Zxid,
    pub since: Stamp,
    pub who: Arc<TicketInfo>,
}

impl Request {
    pub fn conflicts(&self, other: &Request) -> bool {
        self.by != other.by
            && self.span.overlaps(other.span)
            && (self.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
    }
}

/// A granted range: its request, as far as it was not given back or taken over since.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Held {
    pub request: Request,
    pub token: Zxid,
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn a_cut_leaves_what_is_outside_it() {
        let span = |start, end| Span { start, end };
        let left = |whole: Span, cut| whole.without(cut).collect::<Vec<_>>();
        assert_eq!(left(span(0, 9), span(3, 5)), [span(0, 2), span(6, 9)]);
        assert_eq!(left(span(0, 9), span(0, 5)), [span(6, 9)]);
        assert_eq!(left(span(0, 9), span(5, u64::MAX)), [span(0, 4)]);
        assert_eq!(left(span(3, u64::MAX), span(0, u64::MAX)), []);
        assert_eq!(left(span(0, 9), span(10, 12)), [span(0, 9)]);
    }
}
