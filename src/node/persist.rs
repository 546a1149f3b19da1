//! The disk's thread: everything that waits becomes one append and one sync; then what had to wait
//! for it is sent, and the driver is told.

use super::shared::{Job, Shared};
use crate::disk::LogWrite;
use crate::mailbox::Taken;
use crate::replica::Persist;
use std::sync::Arc;
use std::time::Instant;

/// Runs until the driver has closed the mailbox and everything in it is durable.
pub fn run(shared: &Arc<Shared>) {
    let mut jobs = Vec::new();
    while shared.persist.take(&mut jobs, None) == Taken::Items {
        if let Err(error) = persist(shared, &mut jobs) {
            return shared.fail(error.to_string());
        }
    }
}

fn persist(shared: &Arc<Shared>, jobs: &mut Vec<Persist>) -> std::io::Result<()> {
    let mut number = 0;
    let mut after = Vec::new();
    let mut writes = Vec::with_capacity(jobs.len());
    for job in jobs.drain(..) {
        number = job.number;
        after.extend(job.after);
        writes.push(LogWrite {
            restart_after: job.snapshot.map(|mark| mark.index),
            entries: job.entries,
            compact_to: job.compact_to,
            hard_state: job.hard_state,
        });
    }
    let started = Instant::now();
    shared.disk.write(&writes)?;
    shared.metrics.synced(started.elapsed());
    for (to, message) in after {
        shared.queue(to, message);
    }
    shared.peers.flush();
    shared.tell(Job::Persisted { number });
    if writes.iter().any(|write| write.compact_to.is_some() || write.restart_after.is_some()) {
        shared.disk.purge()?;
    }
    Ok(())
}
