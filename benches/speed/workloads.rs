//! The operations measured, each on every subject.

use super::disk::Disk;
use super::operations::{APPEND, CREATE, OPEN, OVERWRITE, READDIR, RENAME, STAT, UNLINK, WRITERS};
use super::recorder::{Recorder, Turn};
use super::subject::Subject;
use keepfs::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is measured together.
pub struct Workload {
    /// Makes what it needs in the working directory, measures, cleans up.
    pub on_files: fn(&mut Turn<'_>) -> io::Result<()>,
    /// The same durability on a raw log file.
    pub on_disk: Option<fn(&Disk, &mut Recorder) -> io::Result<()>>,
}

impl Workload {
    /// A subject's turn at it.
    pub fn on(&self, subject: &Subject, recorder: &mut Recorder) -> Result<(), Error> {
        recorder.turn(subject, self.on_files)
    }

    /// The raw log file's turn at it, if it has one.
    pub fn on_disk(&self, disk: &Disk, recorder: &mut Recorder) -> Result<(), Error> {
        let Some(on_disk) = self.on_disk else { return Ok(()) };
        on_disk(disk, recorder).map_err(Error::file("measure", disk.path()))
    }
}

pub const ALL: &[Workload] = &[
    Workload { on_files: stat, on_disk: None },
    Workload { on_files: readdir, on_disk: None },
    Workload { on_files: open_read_close, on_disk: None },
    Workload { on_files: overwrite, on_disk: Some(Disk::overwrite) },
    Workload { on_files: append, on_disk: Some(Disk::append) },
    Workload { on_files: names, on_disk: None },
    Workload { on_files: many_writers, on_disk: None },
];

const DATA: [u8; 100] = [b'k'; 100];

fn stat(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = Path::new("file");
    fs::write(path, DATA)?;
    fs::metadata(path)?;
    turn.repeat(STAT, 32, |_| fs::metadata(path).map(drop))?;
    fs::remove_file(path)
}

fn readdir(turn: &mut Turn<'_>) -> io::Result<()> {
    let paths: Vec<_> = (0..100).map(|number| format!("entry-{number}")).collect();
    paths.iter().try_for_each(|path| File::create(path).map(drop))?;
    let list = |_| match fs::read_dir(".")?.count() {
        count if count >= 100 => Ok(()),
        count => Err(io::Error::other(format!("a listing of 100 entries gave {count}"))),
    };
    list(0)?;
    turn.repeat(READDIR, 1, list)?;
    paths.iter().try_for_each(fs::remove_file)
}

fn open_read_close(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = Path::new("file");
    fs::write(path, DATA)?;
    let mut buffer = [0; 128];
    turn.repeat(OPEN, 1, |_| File::open(path)?.read(&mut buffer).map(drop))?;
    fs::remove_file(path)
}

fn overwrite(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = Path::new("file");
    fs::write(path, DATA)?;
    let file = File::options().write(true).open(path)?;
    turn.repeat(OVERWRITE, 1, |_| file.write_all_at(&DATA, 0))?;
    drop(file);
    fs::remove_file(path)
}

fn append(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = Path::new("file");
    let mut file = File::options().append(true).create(true).open(path)?;
    turn.repeat(APPEND, 1, |number| {
        // Far below the largest file; shrinking it now and then is lost among the samples.
        if number % 4096 == 4095 {
            file.set_len(0)?;
        }
        file.write_all(&DATA)
    })?;
    drop(file);
    fs::remove_file(path)
}

/// As many names as a turn's time allows, then each renamed, then each removed.
fn names(turn: &mut Turn<'_>) -> io::Result<()> {
    let before = |number: u64| format!("name-{number}");
    let after = |number: u64| format!("renamed-{number}");
    let made = turn.repeat(CREATE, 1, |number| File::create(before(number)).map(drop))?;
    turn.each(RENAME, made, |number| fs::rename(before(number), after(number)))?;
    turn.each(UNLINK, made, |number| fs::remove_file(after(number)))
}

fn many_writers(turn: &mut Turn<'_>) -> io::Result<()> {
    let paths: Vec<_> = (0..64).map(|number| format!("writer-{number}")).collect();
    let files = paths.iter().map(File::create).collect::<io::Result<Vec<_>>>()?;
    turn.together(WRITERS, files, |file, _| file.write_all_at(&DATA, 0))?;
    paths.iter().try_for_each(fs::remove_file)
}
