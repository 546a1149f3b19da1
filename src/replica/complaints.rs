//! What is said about replicas that do wrong: a line now and then for each, for a broken one may do
//! nothing else.

use crate::tree::ReplicaId;
use std::collections::BTreeMap;

/// Nanoseconds between two lines about one sender.
const SILENCE: u64 = 10_000_000_000;

#[derive(Default)]
pub(super) struct Complaints {
    senders: BTreeMap<ReplicaId, Sender>,
}

struct Sender {
    quiet_until: u64,
    unsaid: u64,
}

impl Complaints {
    /// `from` did wrong, as `what` says.
    pub(super) fn about(&mut self, from: ReplicaId, what: &str, now: u64) {
        if let Some(unsaid) = self.is_said(from, now) {
            let more = match unsaid {
                0 => String::new(),
                count => format!(" ({count} more since the last such line)"),
            };
            ::log::warn!("replica {from}: {what}{more}");
        }
    }

    /// `Some`: to be said now, with the number of those that were not.
    fn is_said(&mut self, from: ReplicaId, now: u64) -> Option<u64> {
        let first = Sender { quiet_until: 0, unsaid: 0 };
        let sender = self.senders.entry(from).or_insert(first);
        if now < sender.quiet_until {
            sender.unsaid += 1;
            return None;
        }
        sender.quiet_until = now + SILENCE;
        Some(std::mem::take(&mut sender.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_complained_about_now_and_then() {
        let mut complaints = Complaints::default();
        let (one, other) = (ReplicaId(1), ReplicaId(2));
        assert_eq!(complaints.is_said(one, 5), Some(0));
        assert_eq!(complaints.is_said(one, 6), None);
        assert_eq!(complaints.is_said(one, 4 + SILENCE), None);
        assert_eq!(complaints.is_said(other, 6), Some(0));
        assert_eq!(complaints.is_said(one, 5 + SILENCE), Some(2));
    }
}
