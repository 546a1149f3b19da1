//! `DIR/starts`: every start of this directory's replica, a line with a random number each,
//! appended before anything is said. Peers remember the newest number they heard: a directory that
//! does not know it is an older copy, put back, and has forgotten what its replica promised since.

use super::private::{self, replace_file};
use crate::durable::sync_directory;
use crate::error::Error;
use crate::random;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Starts that are kept at least. Someone away for longer is believed.
const KEPT: usize = 4096;

/// The starts of a data directory, this one included.
#[derive(Debug)]
pub struct Starts {
    known: Vec<u64>,
    /// Whether earlier ones were dropped.
    cut: bool,
}

impl Starts {
    /// Notes a start, durably.
    pub(super) fn note(path: &Path) -> Result<Starts, Error> {
        let failed = |source| Error::File { attempt: "write", path: path.to_path_buf(), source };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other.map_err(Error::file("read", path))?,
        };
        let mut known = parse(&text);
        let cut = known.len() >= KEPT;
        if known.len() >= 2 * KEPT {
            known.drain(..known.len() - KEPT);
            let lines: String = known.iter().map(|start| line(*start)).collect();
            replace_file(path, lines.as_bytes()).map_err(failed)?;
        }
        let now = random()?;
        // A torn line was never said to anybody, but it is there.
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        append(path, &format!("{end}{}", line(now))).map_err(failed)?;
        known.push(now);
        Ok(Starts { known, cut })
    }

    /// This one.
    pub fn newest(&self) -> u64 {
        self.known.last().copied().unwrap_or_default()
    }

    /// Whether this directory has lived through the start that somebody remembers.
    pub fn contains(&self, start: u64) -> bool {
        self.cut || self.known.contains(&start)
    }
}

fn parse(text: &str) -> Vec<u64> {
    let whole = |line: &str| (line.len() == 16).then(|| u64::from_str_radix(line, 16).ok())?;
    text.lines().filter_map(whole).collect()
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = private::options().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

fn line(start: u64) -> String {
    format!("{start:016x}\n")
}

/// From the kernel; never 0.
pub(super) fn random() -> Result<u64, Error> {
    Ok(u64::from_le_bytes(random::bytes()?).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_knows_its_starts_and_a_copy_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("starts"), dir.path().join("copy"));
        let first = Starts::note(&path).unwrap().newest();
        fs::copy(&path, &copy).unwrap();
        let second = Starts::note(&path).unwrap();
        assert!(second.contains(first) && second.contains(second.newest()));
        let copied = Starts::note(&copy).unwrap();
        assert!(copied.contains(first) && !copied.contains(second.newest()));
    }

    #[test]
    fn a_torn_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("starts");
        let first = Starts::note(&path).unwrap().newest();
        append(&path, "0123456").unwrap();
        let second = Starts::note(&path).unwrap().newest();
        let third = Starts::note(&path).unwrap();
        assert!(third.contains(first) && third.contains(second) && !third.contains(0x0123456));
    }
}
