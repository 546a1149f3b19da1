//! The operations measured, each on every subject.

use super::recorder::Turn;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

/// Makes what it needs (in a directory it may have worked in before), measures, cleans up.
pub type Workload = fn(&mut Turn<'_>) -> io::Result<()>;

pub const ALL: &[Workload] =
    &[stat, readdir, open_read_close, overwrite, append, names, many_writers];

pub const STAT: &str = "stat, cached";
pub const READDIR: &str = "readdir, 100 entries";
pub const OPEN: &str = "open+read+close, cached";
pub const OVERWRITE: &str = "overwrite 100 B";
pub const APPEND: &str = "append 100 B";
pub const CREATE: &str = "create";
pub const RENAME: &str = "rename";
pub const UNLINK: &str = "unlink";
pub const WRITERS: &str = "64 writers, 64 files";

const DATA: [u8; 100] = [b'k'; 100];

fn stat(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = turn.path().join("file");
    fs::write(&path, DATA)?;
    fs::metadata(&path)?;
    turn.repeat(STAT, 32, |_| fs::metadata(&path).map(drop))?;
    fs::remove_file(&path)
}

fn readdir(turn: &mut Turn<'_>) -> io::Result<()> {
    let dir = turn.path().to_owned();
    let paths: Vec<_> = (0..100).map(|number| dir.join(format!("entry-{number}"))).collect();
    paths.iter().try_for_each(|path| File::create(path).map(drop))?;
    let list = |_| match fs::read_dir(&dir)?.count() {
        count if count >= 100 => Ok(()),
        count => Err(io::Error::other(format!("a listing of 100 entries gave {count}"))),
    };
    list(0)?;
    turn.repeat(READDIR, 1, list)?;
    paths.iter().try_for_each(fs::remove_file)
}

fn open_read_close(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = turn.path().join("file");
    fs::write(&path, DATA)?;
    let mut buffer = [0; 128];
    turn.repeat(OPEN, 1, |_| File::open(&path)?.read(&mut buffer).map(drop))?;
    fs::remove_file(&path)
}

fn overwrite(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = turn.path().join("file");
    fs::write(&path, DATA)?;
    let file = File::options().write(true).open(&path)?;
    turn.repeat(OVERWRITE, 1, |_| file.write_all_at(&DATA, 0))?;
    drop(file);
    fs::remove_file(&path)
}

fn append(turn: &mut Turn<'_>) -> io::Result<()> {
    let path = turn.path().join("file");
    let mut file = File::options().append(true).create(true).open(&path)?;
    turn.repeat(APPEND, 1, |number| {
        // Far below the largest file; shrinking it now and then is lost among the samples.
        if number % 4096 == 4095 {
            file.set_len(0)?;
        }
        file.write_all(&DATA)
    })?;
    drop(file);
    fs::remove_file(&path)
}

/// As many names as a turn's time allows, then each renamed, then each removed.
fn names(turn: &mut Turn<'_>) -> io::Result<()> {
    let dir = turn.path().to_owned();
    let before = |number: u64| dir.join(format!("name-{number}"));
    let after = |number: u64| dir.join(format!("renamed-{number}"));
    let made = turn.repeat(CREATE, 1, |number| File::create(before(number)).map(drop))?;
    turn.each(RENAME, made, |number| fs::rename(before(number), after(number)))?;
    turn.each(UNLINK, made, |number| fs::remove_file(after(number)))
}

fn many_writers(turn: &mut Turn<'_>) -> io::Result<()> {
    let paths: Vec<_> =
        (0..64).map(|number| turn.path().join(format!("writer-{number}"))).collect();
    let files = paths.iter().map(File::create).collect::<io::Result<Vec<_>>>()?;
    turn.together(WRITERS, files, |file, _| file.write_all_at(&DATA, 0))?;
    paths.iter().try_for_each(fs::remove_file)
}
