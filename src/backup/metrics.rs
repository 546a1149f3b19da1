//! What backup counts.

use crate::exposition::Page;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start; read without order between them.
#[derive(Default)]
pub struct Metrics {
    taken_bytes: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
    pushed_files: AtomicU64,
    pushed_bytes: AtomicU64,
    fetched_files: AtomicU64,
    fetched_bytes: AtomicU64,
    received_files: AtomicU64,
    read_bytes: AtomicU64,
}

impl Metrics {
    pub fn taken(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn ended(&self, stored: bool) {
        let counter = if stored { &self.stored } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn pushed(&self, bytes: u64) {
        self.pushed_files.fetch_add(1, Ordering::Relaxed);
        self.pushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn fetched(&self, bytes: u64) {
        self.fetched_files.fetch_add(1, Ordering::Relaxed);
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn received(&self) {
        self.received_files.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Prometheus text format; `active` is the number of streams being written.
    pub fn render(&self, active: usize) -> String {
        let mut page = Page::new("keepfs_backup");
        let mut counter = |name: &str, help: &str, value: &AtomicU64| {
            page.counter(name, help, value.load(Ordering::Relaxed));
        };
        counter("taken_bytes_total", "Bytes of streams taken from writers.", &self.taken_bytes);
        counter("streams_stored_total", "Streams that became snapshots.", &self.stored);
        counter("streams_failed_total", "Streams that left no snapshot.", &self.failed);
        counter("pushed_files_total", "Repository files peers took.", &self.pushed_files);
        counter("pushed_bytes_total", "Bytes of them.", &self.pushed_bytes);
        counter("fetched_files_total", "Repository files got from peers.", &self.fetched_files);
        counter("fetched_bytes_total", "Bytes of them.", &self.fetched_bytes);
        counter("received_files_total", "Repository files peers pushed.", &self.received_files);
        counter("read_bytes_total", "Bytes of snapshots given to readers.", &self.read_bytes);
        page.gauge("streams_active", "Streams being written.", active);
        page.finish()
    }
}
