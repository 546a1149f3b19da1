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
    pub fn overlaps(self, other: Span) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    pub fn covers(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// From the first byte of both to the last.
    pub fn with(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
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

/// Cuts `span` out of what `owner` holds; returns the pieces that were cut out.
pub(super) fn carve(held: &mut Vec<Held>, owner: Owner, span: Span) -> Vec<Held> {
    let mut cut = Vec::new();
    let mut kept = Vec::with_capacity(held.len() + 1);
    for piece in held.drain(..) {
        let whole = piece.request.span;
        if piece.request.by != owner || !whole.overlaps(span) {
            kept.push(piece);
            continue;
        }
        let with = |span| Held { request: Request { span, ..piece.request.clone() }, ..piece };
        kept.extend(whole.without(span).map(with));
        let inside = Span { start: whole.start.max(span.start), end: whole.end.min(span.end) };
        cut.push(with(inside));
    }
    *held = kept;
    cut
}

/// The newest token of `owner`'s pieces, if they cover `span` in exactly this mode.
pub(super) fn covered(held: &[Held], owner: Owner, span: Span, mode: LockMode) -> Option<Zxid> {
    let mut pieces: Vec<&Held> = held
        .iter()
        .filter(|piece| {
            piece.request.by == owner
                && piece.request.mode == mode
                && piece.request.span.overlaps(span)
        })
        .collect();
    pieces.sort_by_key(|piece| piece.request.span.start);
    let mut next = span.start;
    for piece in &pieces {
        if piece.request.span.start > next {
            return None;
        }
        if piece.request.span.end >= span.end {
            return pieces.iter().map(|piece| piece.token).max();
        }
        next = piece.request.span.end + 1;
    }
    None
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
