//! Where a playground keeps what: mounts in DIR/{a,b,...}; data, `keepfs.log`, `pid` and `port` of
//! each replica in DIR/.replicas/{a,b,...}; the cluster's key in DIR/.replicas/key.

use super::Args;
use crate::cli::{address, key, mounts};
use crate::disk::private;
use crate::error::Error;
use crate::mount::mountpoint::clear_dead;
use crate::node::KEY_FILE;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// One playground; nobody else runs one on the same data while this value lives.
pub struct Layout {
    pub data: PathBuf,
    pub replicas: Vec<Replica>,
    _lock: File,
}

/// One replica of it.
pub struct Replica {
    pub name: &'static str,
    pub address: String,
    pub data: PathBuf,
    pub mount: PathBuf,
}

impl Layout {
    pub fn open(args: &Args) -> Result<Layout, Error> {
        fs::create_dir_all(&args.dir).map_err(Error::file("create", &args.dir))?;
        let dir = mounts::absolute(&args.dir)?;
        let data = args.data.clone().unwrap_or_else(|| dir.join(".replicas"));
        fs::create_dir_all(&data).map_err(Error::file("create", &data))?;
        let data = mounts::absolute(&data)?;
        let lock = lock(&data)?;
        key::make_once(&data.join(KEY_FILE))?;
        let count = count(&data, args.replicas.map(usize::from))?;
        let replicas = NAMES[..count].iter().map(|name| Replica::open(name, &dir, &data));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        Ok(Layout { replicas, data, _lock: lock })
    }

    /// `--key` for all of them.
    pub fn key(&self) -> PathBuf {
        self.data.join(KEY_FILE)
    }

    /// `--bootstrap` for all of them.
    pub fn founders(&self) -> String {
        let founder = |replica: &Replica| format!("{}={}", replica.name, replica.address);
        self.replicas.iter().map(founder).collect::<Vec<_>>().join(",")
    }

    pub fn count(&self) -> String {
        match self.replicas.len() {
            1 => "One replica".into(),
            many => format!("{many} replicas"),
        }
    }
}

/// Held while the playground runs, and gone with its process however it ends.
fn lock(data: &Path) -> Result<File, Error> {
    let path = data.join("lock");
    let file = private::create(&path).map_err(Error::file("create", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Other(format!(
            "a playground already runs on {}; stop it, or choose another directory",
            data.display()
        ))),
    }
}

/// As many as there were; a cluster's size is not changed by starting it differently.
fn count(data: &Path, asked: Option<usize>) -> Result<usize, Error> {
    let known = NAMES.iter().take_while(|name| data.join(name).join("port").exists()).count();
    match asked {
        Some(asked) if known != 0 && known != asked => Err(Error::Other(format!(
            "{} holds a playground of {known}: start it with --replicas {known}, or choose another \
             directory",
            data.display()
        ))),
        Some(asked) => Ok(asked),
        None if known != 0 => Ok(known),
        None => Ok(3),
    }
}

impl Replica {
    fn open(name: &'static str, dir: &Path, data: &Path) -> Result<Replica, Error> {
        let data = data.join(name);
        private::create_directory(&data)?;
        let mount = mounts::make(&dir.join(name))?;
        Ok(Replica { name, address: address::remembered(&data.join("port"))?, data, mount })
    }

    pub fn log(&self) -> PathBuf {
        self.data.join("keepfs.log")
    }

    /// Whether its data directory already knows its cluster.
    pub fn is_founded(&self) -> bool {
        self.data.join("identity").exists()
    }

    /// Takes away the mount of a daemon that has died; refuses one that lives.
    pub fn clear_stale_mount(&self) -> Result<(), Error> {
        if !mounts::is_mounted(&self.mount) {
            return Ok(());
        }
        if let Ok(status) = mounts::status(&self.mount) {
            return Err(Error::Mount {
                path: self.mount.clone(),
                problem: format!("process {} has it mounted; stop that first", status.pid),
            });
        }
        clear_dead(&self.mount, None);
        Ok(())
    }

    /// Whether it is mounted, knows a leader, and a change through its mount is committed. Says
    /// what is missing.
    pub fn takes_changes(&self) -> Result<(), String> {
        if !mounts::is_mounted(&self.mount) {
            return Err("not mounted".into());
        }
        let status = mounts::status(&self.mount).map_err(|error| error.to_string())?;
        if !status.quorum || status.leader.is_none() || status.session.is_none() {
            return Err(status.reason.unwrap_or_else(|| "no leader or no session".into()));
        }
        let mount = self.mount.clone();
        mounts::answered(&self.mount, move || touch(&mount))
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("cannot write: {error}"))
    }
}

/// The change that is least seen: the root's access time.
fn touch(mount: &Path) -> std::io::Result<()> {
    File::open(mount)?.set_times(fs::FileTimes::new().set_accessed(std::time::SystemTime::now()))
}
