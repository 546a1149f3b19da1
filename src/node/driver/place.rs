//! Where the data directory lies is written down anew now and then.

use super::Driver;
use log::{info, warn};
use std::time::{Duration, Instant};

/// How old what is written is at most.
const PLACED_FOR: Duration = Duration::from_secs(60);

impl Driver {
    /// Of a replica that is not in doubt, or not any more. A failure harms nobody: at the next
    /// start the replica asks the others what it promised.
    pub(super) fn keep_place(&mut self, was_in_doubt: bool) {
        let directory = &self.shared.directory;
        let written = match () {
            () if was_in_doubt => {
                info!("the data directory is as new as what this replica has promised");
                directory.settle()
            }
            () if self.placed.elapsed() >= PLACED_FOR => directory.stay(),
            () => return,
        };
        self.placed = Instant::now();
        if let Err(error) = written {
            warn!("{error}");
        }
    }
}
