//! A replica in the foreground: started, mounted, watched, and stopped in the right order.

use super::control::ControlSocket;
use super::key_watch::KeyWatch;
use super::memory::Memory;
use super::mounts;
use super::signals;
use crate::backup::peers::{Peer, Replicas};
use crate::backup::{Backup, BackupConfig};
use crate::cluster::streams::StreamStore;
use crate::config::Config;
use crate::disk::private;
use crate::error::Error;
use crate::mount::{Mount, MountConfig, MountHandle};
use crate::node::Node;
use crate::panics;
use crossbeam_channel::{Receiver, never, select};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a replica that nobody stops is asked whether it stopped by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs one replica until it is asked to stop (`Ok`) or cannot go on. `announce` runs once it is
/// mounted.
pub fn run(config: &Config, announce: impl Fn()) -> Result<(), Error> {
    start_logging(config);
    if let (Some(mount), Some(data)) = (&config.mount, &config.data) {
        mounts::keep_apart(mount, data)?;
    }
    panics::end_the_process();
    let mut memory = Memory::new();
    leave_no_core();
    let stop = signals::stop_requests()?;
    let outcome = run_once(config, &stop, &mut memory, &announce);
    match outcome {
        // The others may have founded the cluster, and made room for this one to join it.
        Err((error, true)) => {
            log::warn!("{error}; asking the others whether there is room to join them");
            run_once(config, &stop, &mut memory, &announce).map_err(|(error, _)| error)
        }
        other => other.map_err(|(error, _)| error),
    }
}

/// An error comes with whether the replica was a founder that had founded nothing yet.
fn run_once(
    config: &Config,
    stop: &Receiver<i32>,
    memory: &mut Memory,
    announce: impl Fn(),
) -> Result<(), (Error, bool)> {
    let start = config.node().and_then(|mut node| {
        node.program = super::PROGRAM.get().cloned().unwrap_or(node.program);
        Node::start(node)
    });
    let node = start.map_err(|error| (error, false))?;
    let outcome = serve(config, &node, stop, memory, announce);
    node.stop();
    outcome.map_err(|error| (error, node.is_founding()))
}

fn serve(
    config: &Config,
    node: &Node,
    stop: &Receiver<i32>,
    memory: &mut Memory,
    announce: impl Fn(),
) -> Result<(), Error> {
    let _pid_file = PidFile::write(node.data())?;
    let _control = ControlSocket::open(node, config.run.as_deref())?;
    let backup = Backup::start(replicas(node), node.data(), BackupConfig::default())?;
    let mounted = config.mount.as_ref().map(|point| mount(config, point, node, &backup));
    let outcome = mounted.transpose().and_then(|mount| {
        announce();
        let outcome = watch(node, mount.as_ref(), stop, memory);
        // A script must not go on in the bare directory below as if nothing had happened. A founder
        // that has founded nothing lets go of its node too, for it is about to start again.
        mount.into_iter().for_each(match outcome {
            Ok(()) => MountHandle::unmount,
            Err(_) if node.is_founding() => MountHandle::leave_dead_for_the_next,
            Err(_) => MountHandle::leave_dead,
        });
        outcome
    });
    backup.stop();
    outcome
}

fn mount(
    config: &Config,
    point: &Path,
    node: &Node,
    backup: &Arc<Backup>,
) -> Result<MountHandle, Error> {
    let mut how = MountConfig::new(point);
    how.allow_other = config.allow_other;
    how.streams = Some(Arc::clone(backup) as Arc<dyn StreamStore>);
    Mount::start(Arc::new(node.clone()), how)
}

/// Until a signal or the end of the node. An `umount` from outside ends neither: a replica votes
/// without a mount too.
fn watch(
    node: &Node,
    mount: Option<&MountHandle>,
    stop: &Receiver<i32>,
    memory: &mut Memory,
) -> Result<(), Error> {
    let never = never();
    let mut key = KeyWatch::new(node.key_file());
    let mut unmounted = mount.map_or(&never, MountHandle::ended);
    loop {
        select! {
            recv(stop) -> signal => {
                log::info!("signal {}: stopping", signal.unwrap_or_default());
                return Ok(());
            }
            recv(unmounted) -> _ => {
                log::warn!("unmounted from outside; this replica goes on, a restart mounts again");
                unmounted = &never;
            }
            default(LOOK_EVERY) => {
                if let Some(reason) = node.failed() {
                    return Err(match node.was_refused() {
                        true => Error::Refused(reason),
                        false => Error::Other(reason),
                    });
                }
                memory.look(node);
                key.look(node);
            }
        }
    }
}

/// The process's memory holds the cluster's secret and everybody's files: no core dump, and no
/// other process of the same user may look into it (root may).
fn leave_no_core() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// `log`'s setting (KEEPFS_LOG) says what is logged; standard error is where. That the kernel no
/// longer waits for a reply is an error to the FUSE library, and to us what happens when a wait is
/// interrupted.
fn start_logging(config: &Config) {
    env_logger::Builder::new()
        .parse_filters(&config.log)
        .filter_module("fuser::reply", log::LevelFilter::Off)
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
        private::write(&path, pid.as_bytes()).map_err(Error::file("write", &path))?;
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

/// The cluster, as its backups see it.
fn replicas(node: &Node) -> Replicas {
    Replicas {
        me: Peer { id: node.id(), name: node.name().to_owned() },
        cluster: Arc::new(node.clone()),
        bulk: node.bulk().clone(),
    }
}
