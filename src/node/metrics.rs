//! Counters of one node.

use crate::exposition::{Histogram, Page};
use crate::replica::{Answer, Failure};
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

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub struct Metrics {
    pub submitted: Counter,
    pub replies: Counter,
    pub refusals: Counter,
    pub failures: Counter,
    pub entries_applied: Counter,
    pub batches_applied: Counter,
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
    /// The time of each append and fdatasync of the log.
    pub fn render_syncs(&self, page: &mut Page) {
        let counted = SYNC_BOUNDS.iter().zip(&self.sync_buckets);
        let histogram = Histogram {
            buckets: &mut counted.map(|(bound, bucket)| (*bound as f64 / 1e6, bucket.get())),
            count: self.syncs.get(),
            sum: self.sync_micros.get() as f64 / 1e6,
        };
        let help = "Append and fdatasync of one batch of the log.";
        page.histogram("log_sync_seconds", help, histogram);
    }
}
