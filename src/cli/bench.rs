//! `keepfs bench`: how long calls take in a directory, one after the other, as one process sees it.

use super::{mounts, print, signals};
use crate::config::Span;
use crate::error::Error;
use crossbeam_channel::Receiver;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measure how long creating, writing, reading, renaming and locking take in a directory.
///
/// Makes each call again and again for a while, one at a time, in a directory of its own inside DIR
/// that it removes afterwards, also when interrupted. DIR may be in any filesystem.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs bench /keep
  keepfs bench --json --each 10s /keep > figures.json")]
pub struct Args {
    /// The directory to measure in.
    dir: PathBuf,
    /// How long to repeat each call.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    each: Span,
    /// JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// No more names than this are made, however fast they are: a benchmark shall not fill a tree.
const NAMES_MAX: u64 = 10_000;
const DATA: [u8; 100] = [b'k'; 100];

#[derive(Serialize)]
struct Report {
    keepfs: &'static str,
    dir: PathBuf,
    operations: Vec<Figure>,
}

/// One operation: how often it was done, and how long it took, in microseconds.
#[derive(Serialize)]
struct Figure {
    operation: &'static str,
    count: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    per_second: f64,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let stop = signals::stop_requests()?;
    let dir = mounts::absolute(&args.dir)?;
    let scratch = Scratch::new(&dir)?;
    let mut bench = Bench { each: args.each.0, stop, figures: Vec::new() };
    let measured = bench.measure(&scratch.0);
    let removed = scratch.remove();
    match measured {
        // Whoever interrupts wants no figures.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            removed?;
            return Ok(ExitCode::FAILURE);
        }
        measured => measured.map_err(Error::file("measure in", &dir))?,
    }
    removed?;
    let report = Report { keepfs: env!("CARGO_PKG_VERSION"), dir, operations: bench.figures };
    let text = if args.json { report.json() } else { report.table() };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

struct Bench {
    each: Duration,
    stop: Receiver<i32>,
    figures: Vec<Figure>,
}

impl Bench {
    fn measure(&mut self, dir: &Path) -> io::Result<()> {
        let before = |number: u64| dir.join(format!("name-{number}"));
        let after = |number: u64| dir.join(format!("renamed-{number}"));
        let made = self.repeat("create", NAMES_MAX, |number| {
            File::options().write(true).create_new(true).open(before(number)).map(drop)
        })?;

        let path = dir.join("file");
        let file = File::options().write(true).create_new(true).open(&path)?;
        self.repeat("write 100 B", u64::MAX, |_| file.write_all_at(&DATA, 0))?;
        let mut buffer = [0; DATA.len()];
        self.repeat("open, read, close", u64::MAX, |_| File::open(&path)?.read_exact(&mut buffer))?;
        self.repeat("flock, unlock", u64::MAX, |_| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(flock(&file, FlockOperation::Unlock)?)
        })?;
        self.repeat("rename", made, |number| fs::rename(before(number), after(number)))?;
        Ok(())
    }

    /// Calls `step` with 0, 1, 2, ..., at most `most` times, until the time is over; returns how
    /// often. Interrupted if we are asked to stop.
    fn repeat(
        &mut self,
        operation: &'static str,
        most: u64,
        mut step: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<u64> {
        progress(operation);
        let (begin, mut nanos) = (Instant::now(), Vec::new());
        while begin.elapsed() < self.each && (nanos.len() as u64) < most {
            if self.stop.try_recv().is_ok() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let start = Instant::now();
            step(nanos.len() as u64)?;
            nanos.push(start.elapsed().as_nanos() as u64);
        }
        let count = nanos.len() as u64;
        self.figures.push(Figure::of(operation, nanos));
        Ok(count)
    }
}

/// For a person who waits; nothing else reads it.
fn progress(operation: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{operation} ...");
    }
}

impl Figure {
    fn of(operation: &'static str, mut nanos: Vec<u64>) -> Figure {
        nanos.sort_unstable();
        let at = |share: f64| {
            let index = (nanos.len().saturating_sub(1) as f64 * share).round() as usize;
            nanos.get(index).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
        };
        let seconds = nanos.iter().sum::<u64>() as f64 / 1e9;
        Figure {
            operation,
            count: nanos.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: at(1.0),
            per_second: nanos.len() as f64 / seconds.max(1e-9),
        }
    }
}

impl Report {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data") + "\n"
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{:<20}{:>9}{:>12}{:>12}{:>12}{:>12}\n",
            "operation", "count", "p50 us", "p99 us", "max us", "per second"
        );
        for figure in &self.operations {
            text += &format!(
                "{:<20}{:>9}{:>12.1}{:>12.1}{:>12.1}{:>12.0}\n",
                figure.operation,
                figure.count,
                figure.p50_us,
                figure.p99_us,
                figure.max_us,
                figure.per_second
            );
        }
        text
    }
}

/// The directory everything happens in, removed with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> Result<Scratch, Error> {
        let path = dir.join(format!("keepfs-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(Error::file("create", &path))?;
        Ok(Scratch(path))
    }

    fn remove(&self) -> Result<(), Error> {
        fs::remove_dir_all(&self.0).map_err(Error::file("remove", &self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let figure = Figure::of("x", (1..=101).rev().map(|n| n * 1000).collect());
        assert_eq!((figure.p50_us, figure.p99_us, figure.max_us), (51.0, 100.0, 101.0));
        assert_eq!(Figure::of("x", Vec::new()).count, 0);
    }
}
