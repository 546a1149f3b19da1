//! What happened, line by line. Equal for equal seeds: a hash of it tells whether a run replayed.

use std::fmt::{Arguments, Write};

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    line: String,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps the lines if `keep`; hashes them in any case.
    pub fn new(keep: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, line: String::new(), lines: keep.then(Vec::new) }
    }

    /// `now` in nanoseconds of the world's own time.
    pub fn note(&mut self, now: u64, what: Arguments<'_>) {
        self.line.clear();
        write!(self.line, "{:>10}us {what}", now / 1000).expect("a string takes what is written");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// FNV-1a of all lines so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
