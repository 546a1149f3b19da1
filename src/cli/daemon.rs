//! A replica in the foreground: started, mounted, watched, and stopped in the right order.

use super::signals;
use crate::config::Config;
use crate::error::Error;
use crate::node::Node;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a replica that nobody stops is asked whether it stopped by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs one replica until it is asked to stop (`Ok`) or cannot go on. `announce` runs once it is
/// mounted.
pub fn run(config: &Config, announce: impl FnOnce(&Node)) -> Result<(), Error> {
    start_logging(config);
    let stop = signals::stop_requests()?;
    let node = Node::start(config.node()?)?;
    let pid_file = PidFile::write(node.data());
    let outcome = pid_file.and_then(|_pid_file| serve(config, &node, &stop, announce));
    node.stop();
    outcome
}

fn serve(
    config: &Config,
    node: &Node,
    stop: &crossbeam_channel::Receiver<i32>,
    announce: impl FnOnce(&Node),
) -> Result<(), Error> {
    let _ = config;
    announce(node);
    loop {
        if let Ok(signal) = stop.recv_timeout(LOOK_EVERY) {
            log::info!("signal {signal}: stopping");
            return Ok(());
        }
        if let Some(reason) = node.failed() {
            return Err(Error::Other(reason));
        }
    }
}

/// `log`'s setting (KEEPFS_LOG) says what is logged; standard error is where.
fn start_logging(config: &Config) {
    env_logger::Builder::new()
        .parse_filters(&config.log)
        .format_timestamp_millis()
        .format_target(false)
        .init();
}

/// `DATA/pid`, there while the daemon runs.
struct PidFile(PathBuf);

impl PidFile {
    fn write(data: &Path) -> Result<PidFile, Error> {
        let path = data.join("pid");
        let pid = format!("{}\n", std::process::id());
        fs::write(&path, pid).map_err(Error::file("write", &path))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}
