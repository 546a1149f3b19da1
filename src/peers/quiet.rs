//! Log lines that strangers cause: as many as tell what goes on, not as many as they like.

use log::warn;
use parking_lot::Mutex;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Lines in one window of time.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the lines of one kind.
#[derive(Default)]
pub struct Quiet(Mutex<Option<Window>>);

struct Window {
    began: Instant,
    said: u32,
    swallowed: u32,
}

impl Quiet {
    /// Logs it, or counts it among those that were not.
    pub fn warn(&self, line: impl Display) {
        match self.admit(Instant::now()) {
            Some(0) => warn!("{line}"),
            Some(swallowed) => warn!("{line} ({swallowed} more like it were not logged)"),
            None => {}
        }
    }

    /// Whether a line may be said now, and how many were not since the last.
    fn admit(&self, now: Instant) -> Option<u32> {
        let mut window = self.0.lock();
        let window = window.get_or_insert(Window { began: now, said: 0, swallowed: 0 });
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.said) = (now, 0);
        }
        if window.said >= LINES_MAX {
            window.swallowed += 1;
            return None;
        }
        window.said += 1;
        Some(std::mem::take(&mut window.swallowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_and_a_number() {
        let quiet = Quiet::default();
        let start = Instant::now();
        let said = (0..1000).filter(|_| quiet.admit(start) == Some(0)).count();
        assert_eq!(said, 10);
        assert_eq!(quiet.admit(start + WINDOW), Some(990));
        assert_eq!(quiet.admit(start + WINDOW), Some(0));
    }
}
