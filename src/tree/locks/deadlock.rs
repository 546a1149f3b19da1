//! Would a wait close a cycle? Asked before a request is queued, over all files of the table.
//!
//! Owners are the nodes, as for `fcntl`: a process of which one thread waits counts as waiting.
//! Tickets take no part, for nothing says which process waits for one while it holds another.

use super::super::Ino;
use super::LockTable;
use super::ranges::Request;
use std::collections::BTreeSet;

/// Requests compared before giving up. Past it the request is queued: an undetected cycle ends by
/// an interrupt, while an unbounded search would stop the whole cluster for its length.
const EFFORT_MAX: usize = 1 << 18;

/// Whether someone `request` would wait for already waits, directly or not, for its owner.
pub(super) fn would_deadlock(table: &LockTable, ino: Ino, request: &Request) -> bool {
    let Some(queue) = table.ranges.get(ino) else { return false };
    if table.inodes_of(request.by).next().is_none() {
        return false;
    }
    let mut effort = queue.effort();
    if effort > EFFORT_MAX {
        return false;
    }
    let mut ahead = queue.blockers(request);
    let mut seen = BTreeSet::new();
    while let Some(owner) = ahead.pop() {
        if owner == request.by {
            return true;
        }
        if !seen.insert(owner) {
            continue;
        }
        for queue in table.inodes_of(owner).filter_map(|ino| table.ranges.get(ino)) {
            for wait in queue.waits_of(owner) {
                effort += queue.effort();
                if effort > EFFORT_MAX {
                    return false;
                }
                ahead.extend(queue.blockers(wait));
            }
            effort += 1;
        }
        if effort > EFFORT_MAX {
            return false;
        }
    }
    false
}
