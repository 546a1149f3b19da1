//! What is measured: the given directory, and what it is compared with.

use super::support::detach;
use super::{mounts, null_fs};
use keepfs::error::Error;
use keepfs::node::Status;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that works for a subject.
#[derive(Clone)]
pub struct Daemon {
    pub name: String,
    pub pid: u32,
}

/// A directory to work in, removed with what is in it when this value goes.
pub struct Subject {
    name: &'static str,
    scratch: PathBuf,
    daemons: Vec<Daemon>,
    /// What the replica said, if it is keepfs.
    pub status: Option<Status>,
    /// Mounts of the same cluster on this host, but for the one measured.
    others: Vec<PathBuf>,
    mounted: Mounted,
}

/// What we mounted for a subject.
enum Mounted {
    Nothing,
    Tmpfs(PathBuf),
    NullFs(PathBuf, Child),
}

impl Subject {
    /// The directory under test: of a keepfs mount, with the daemons of its cluster found from the
    /// mounts of this host; or of any other filesystem, without. `dir` is absolute.
    pub fn measured(dir: &Path) -> Result<Subject, Error> {
        let mut subject = Subject::at("this", dir)?;
        let mounts = mounts::all();
        let Some(own) = mounts.iter().find(|mount| dir.starts_with(mount)) else {
            return Ok(subject);
        };
        let status = mounts::status(own)?;
        for mount in &mounts {
            let Ok(theirs) = mounts::status(mount) else { continue };
            if theirs.cluster == status.cluster {
                subject.daemons.push(Daemon { name: theirs.name, pid: theirs.pid });
                if mount != own {
                    subject.others.push(mount.clone());
                }
            }
        }
        subject.name = "keepfs";
        subject.status = Some(status);
        Ok(subject)
    }

    /// A tmpfs of our own where we may mount one, else `/dev/shm`.
    pub fn tmpfs() -> Result<Subject, Error> {
        let point = scratch_path(&std::env::temp_dir());
        fs::create_dir(&point).map_err(Error::file("create", &point))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "tmpfs"]).arg(&point).stderr(Stdio::null());
        if matches!(mount.status(), Ok(status) if status.success()) {
            let mut subject = Subject::at("tmpfs", &point)?;
            subject.mounted = Mounted::Tmpfs(point);
            return Ok(subject);
        }
        fs::remove_dir(&point).map_err(Error::file("remove", &point))?;
        Subject::at("tmpfs", Path::new("/dev/shm"))
    }

    /// A FUSE filesystem that does nothing but answer, in a process of its own.
    pub fn null_fs() -> Result<Subject, Error> {
        let point = scratch_path(&std::env::temp_dir());
        fs::create_dir(&point).map_err(Error::file("create", &point))?;
        let program = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
        let mut command = Command::new(program);
        command.arg(null_fs::VERB).arg(&point).stdin(Stdio::piped());
        let child = command.spawn();
        let child = child.map_err(Error::file("start", command.get_program()))?;
        let daemons = vec![Daemon { name: "null".into(), pid: child.id() }];
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_mount_point(&point).map_err(Error::file("look at", &point))? {
            if Instant::now() > deadline {
                return Err(Error::Mount {
                    path: point,
                    problem: "the filesystem to compare with was not mounted in 10 s".into(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounted = Mounted::NullFs(point.clone(), child);
        // Its root is all it has: no directory inside it to work in.
        Ok(Subject { name: "null", scratch: point, daemons, status: None, others: vec![], mounted })
    }

    fn at(name: &'static str, dir: &Path) -> Result<Subject, Error> {
        let scratch = scratch_path(dir);
        fs::create_dir(&scratch).map_err(Error::file("create", &scratch))?;
        let (daemons, others) = (Vec::new(), Vec::new());
        Ok(Subject { name, scratch, daemons, status: None, others, mounted: Mounted::Nothing })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn path(&self) -> &Path {
        &self.scratch
    }

    pub fn daemons(&self) -> &[Daemon] {
        &self.daemons
    }

    /// The data directory of its replica.
    pub fn data(&self) -> Option<PathBuf> {
        self.status.as_ref().map(|status| status.data.clone())
    }

    /// Another mount of the same cluster.
    pub fn other_mount(&self) -> Option<PathBuf> {
        self.others.first().cloned()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if !matches!(self.mounted, Mounted::NullFs(..)) {
            let _ = fs::remove_dir_all(&self.scratch);
        }
        match &mut self.mounted {
            Mounted::Nothing => {}
            Mounted::Tmpfs(point) => {
                detach(point);
                let _ = fs::remove_dir(point);
            }
            Mounted::NullFs(point, child) => {
                drop(child.stdin.take());
                let _ = child.wait();
                detach(point);
                let _ = fs::remove_dir(point);
            }
        }
    }
}

/// A name of ours in `dir`.
pub fn scratch_path(dir: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!("keepfs-bench-{}-{number}", std::process::id()))
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}
