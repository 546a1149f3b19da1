//! The keepfs mounts of this host, and what the replicas behind them say.

use keepfs::error::Error;
use keepfs::mount::mounts;
use keepfs::node::Status;
use std::path::{Path, PathBuf};

/// The mount points, in the order they were mounted.
pub fn all() -> Vec<PathBuf> {
    let keepfs = mounts::all().into_iter().filter(|mounted| mounted.kind == mounts::TYPE);
    keepfs.map(|mounted| mounted.point).collect()
}

pub fn status(mount: &Path) -> Result<Status, Error> {
    let path = mount.join(".keepfs/status.json");
    let text = std::fs::read(&path).map_err(Error::file("read", &path))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Other(format!("{}: odd status: {error}", mount.display())))
}
