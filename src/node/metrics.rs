//! Counters of one node, and how they read in the Prometheus text format.

use super::shared::Shared;
use crate::replica::{Answer, Failure};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the sync histogram, microseconds.
const SYNC_BOUNDS: [u64; 12] =
    [100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000];

/// Only ever grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub struct Metrics {
    submitted: Counter,
    replies: Counter,
    refusals: Counter,
    failures: Counter,
    entries_applied: Counter,
    batches_applied: Counter,
    sync_buckets: [Counter; SYNC_BOUNDS.len()],
    syncs: Counter,
    sync_micros: Counter,
    pub snapshots_written: Counter,
    pub snapshots_sent: Counter,
    pub snapshots_restored: Counter,
}

impl Metrics {
    pub fn submitted(&self) {
        self.submitted.add(1);
    }

    pub fn answered(&self, answer: &Answer) {
        match answer {
            Ok(_) => self.replies.add(1),
            Err(Failure::Refused(_)) => self.refusals.add(1),
            Err(_) => self.failures.add(1),
        }
    }

    pub fn applied(&self, entries: u64) {
        self.entries_applied.add(entries);
        self.batches_applied.add(1);
    }

    pub fn synced(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        if let Some(bucket) = SYNC_BOUNDS.iter().position(|&bound| micros <= bound) {
            self.sync_buckets[bucket].add(1);
        }
        self.syncs.add(1);
        self.sync_micros.add(micros);
    }
}

/// Text under construction.
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let _ = write!(
            self.0,
            "# HELP keepfs_{name} {help}\n# TYPE keepfs_{name} {kind}\nkeepfs_{name} {value}\n"
        );
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.metric(name, "counter", help, counter.get());
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help, value);
    }

    fn syncs(&mut self, metrics: &Metrics) {
        let name = "keepfs_log_sync_seconds";
        let _ = writeln!(self.0, "# HELP {name} Append and fdatasync of one batch of the log.");
        let _ = writeln!(self.0, "# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in SYNC_BOUNDS.iter().zip(&metrics.sync_buckets) {
            below += bucket.get();
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{seconds}\"}} {below}");
        }
        let (count, sum) = (metrics.syncs.get(), metrics.sync_micros.get() as f64 / 1e6);
        let _ = writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(self.0, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// Everything, as one page.
pub fn render(shared: &Shared) -> String {
    let metrics = &shared.metrics;
    let mut page = Page(String::with_capacity(8 << 10));
    page.counter("commands_total", "Changes asked for here.", &metrics.submitted);
    page.counter("replies_total", "Changes that took effect.", &metrics.replies);
    page.counter("refusals_total", "Changes the tree refused.", &metrics.refusals);
    page.counter(
        "failures_total",
        "Changes that failed or whose end is unknown.",
        &metrics.failures,
    );
    page.counter("entries_applied_total", "Log entries applied.", &metrics.entries_applied);
    page.counter("batches_applied_total", "Batches of entries applied.", &metrics.batches_applied);
    page.syncs(metrics);
    page.counter("snapshots_written_total", "Tree snapshots made.", &metrics.snapshots_written);
    page.counter("snapshots_sent_total", "Snapshots sent to peers.", &metrics.snapshots_sent);
    page.counter(
        "snapshots_restored_total",
        "Snapshots that replaced the tree.",
        &metrics.snapshots_restored,
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
    page.0
}
