//! A node's numbers, for Prometheus.

use super::shared::Shared;
use crate::exposition::Page;

/// Everything, as one page.
pub fn render(shared: &Shared) -> String {
    let metrics = &shared.metrics;
    let mut page = Page::new("keepfs");
    page.counter("commands_total", "Changes asked for here.", metrics.submitted.get());
    page.counter("replies_total", "Changes that took effect.", metrics.replies.get());
    page.counter("refusals_total", "Changes the tree refused.", metrics.refusals.get());
    page.counter(
        "failures_total",
        "Changes that failed or whose end is unknown.",
        metrics.failures.get(),
    );
    page.counter("entries_applied_total", "Log entries applied.", metrics.entries_applied.get());
    page.counter(
        "batches_applied_total",
        "Batches of entries applied.",
        metrics.batches_applied.get(),
    );
    metrics.render_syncs(&mut page);
    page.counter(
        "snapshots_written_total",
        "Tree snapshots made.",
        metrics.snapshots_written.get(),
    );
    page.counter("snapshots_sent_total", "Snapshots sent to peers.", metrics.snapshots_sent.get());
    page.counter(
        "snapshots_restored_total",
        "Snapshots that replaced the tree.",
        metrics.snapshots_restored.get(),
    );
    let status = shared.status.lock().clone();
    page.gauge("term", "Raft term.", status.term);
    page.gauge("is_leader", "1 on the leader.", u8::from(status.role == "leader"));
    page.gauge("has_quorum", "1 while changes can commit.", u8::from(status.quorum));
    page.gauge("commit_index", "Last index known to be committed.", status.commit);
    page.gauge("applied_index", "Last index applied to the tree.", status.applied);
    page.gauge("log_first_index", "First index of the log.", status.log_first);
    page.gauge("log_last_index", "Last index of the log.", status.log_last);
    page.gauge("log_bytes", "Size of the log's files.", shared.disk.bytes());
    page.gauge("waiting_proposals", "Changes asked for here, unanswered.", status.waiting);
    page.gauge("inbox_length", "Jobs that wait for the replica.", shared.inbox.len());
    page.gauge("persist_length", "Jobs that wait for the disk.", shared.persist.len());
    page.gauge("peer_queue_length", "Messages that wait for peers.", shared.peers.queued());
    let (usage, sessions, locks) = {
        let tree = shared.tree.read();
        (tree.usage(), tree.session_count(), tree.lock_count())
    };
    page.gauge("sessions", "Live sessions.", sessions);
    page.gauge("locks", "Locks held and waited for.", locks);
    page.gauge("tree_inodes", "Inodes in the tree.", usage.inodes);
    page.gauge("tree_inodes_max", "Their limit.", usage.limits.inodes);
    page.gauge("tree_bytes", "Data, names and xattrs in the tree.", usage.bytes);
    page.gauge("tree_bytes_max", "Their limit.", usage.limits.tree_bytes);
    page.gauge("tree_orphans", "Unlinked inodes that are still open.", usage.orphans);
    page.finish()
}
