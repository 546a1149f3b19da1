//! `keepfs playground`: a whole cluster on one host, of real `keepfs serve` processes.

mod child;
mod layout;

use super::{mounts, signals};
use crate::error::Error;
use child::Child;
use crossbeam_channel::Receiver;
use layout::{Layout, Replica};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the whole cluster may take to be mounted and writable.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the replicas may take to stop before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Run a whole cluster on this host: N replicas, each mounted as a directory in DIR.
///
/// Prints `ready` once every mount takes changes. Ctrl-C (or SIGTERM) unmounts and stops all; the
/// next start finds the data. A replica that dies stays down and is reported; the others go on.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  keepfs playground /mnt/k        three replicas, mounted at /mnt/k/{a,b,c}; then, in another shell:
  echo v1 > /mnt/k/a/config && cat /mnt/k/b/config
  flock /mnt/k/a/job sleep 5 & flock /mnt/k/b/job date         the second waits for the first
  kill -9 $(cat /mnt/k/.replicas/c/pid); keepfs status /mnt/k/a")]
pub struct Args {
    /// Where to mount: DIR/a, DIR/b, ...
    dir: PathBuf,
    /// How many replicas, 1 to 7 [default: 3, or as many as DIR had before].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    replicas: Option<u8>,
    /// Where the replicas keep data, log and pid, in a directory each [default: DIR/.replicas].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let stop = signals::stop_requests()?;
    let layout = Layout::open(args)?;
    let mut children = Vec::new();
    let outcome = start(&layout, &mut children, &stop);
    let outcome = outcome.and_then(|ready| match ready {
        true => watch(&layout, &mut children, &stop),
        false => Ok(()),
    });
    super::say("stopping");
    child::stop_all(&mut children, STOP_WITHIN, &stop);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Starts every replica and waits until all take changes; `false` if asked to stop meanwhile.
fn start(layout: &Layout, children: &mut Vec<Child>, stop: &Receiver<i32>) -> Result<bool, Error> {
    for replica in &layout.replicas {
        replica.clear_stale_mount()?;
        children.push(Child::start(replica, &layout.founders(), &layout.key())?);
    }
    let deadline = Instant::now() + READY_WITHIN;
    let mut waiting: Vec<&Replica> = layout.replicas.iter().collect();
    while let Some(replica) = waiting.last() {
        if stop.recv_timeout(LOOK_EVERY).is_ok() {
            return Ok(false);
        }
        if let Some(dead) = children.iter_mut().find_map(Child::ended) {
            return Err(Error::Other(dead));
        }
        match replica.takes_changes() {
            Ok(()) => drop(waiting.pop()),
            Err(problem) if Instant::now() > deadline => {
                return Err(Error::Other(format!(
                    "replica {} is not ready after {READY_WITHIN:?} ({problem}); its log is {}",
                    replica.name,
                    replica.log().display()
                )));
            }
            Err(_) => {}
        }
    }
    welcome(layout)?;
    Ok(true)
}

fn welcome(layout: &Layout) -> Result<(), Error> {
    let leader = mounts::status(&layout.replicas[0].mount)?.leader;
    let mut out = std::io::stdout().lock();
    let mut text = format!("{} of one tree, each a mount:\n\n", layout.count());
    for replica in &layout.replicas {
        let leads = if leader.as_deref() == Some(replica.name) { "  leads" } else { "" };
        text += &format!("  {}  at {}{leads}\n", replica.mount.display(), replica.address);
    }
    let (first, last) = (&layout.replicas[0], &layout.replicas[layout.replicas.len() - 1]);
    text += &format!(
        "\nTry, in another shell:\n\n  \
         echo v1 > {a}/config && cat {z}/config\n  \
         flock {a}/job.lck sleep 5 & flock {z}/job.lck date\n  \
         cat {a}/.keepfs/status\n\n\
         Data, logs and pids are in {data}/*. Ctrl-C unmounts and stops all; the data stays.\n\
         ready\n",
        a = first.mount.display(),
        z = last.mount.display(),
        data = layout.data.display(),
    );
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::file("write", "standard output"))
}

/// Reports each replica that dies, until asked to stop or none is left.
fn watch(layout: &Layout, children: &mut [Child], stop: &Receiver<i32>) -> Result<(), Error> {
    loop {
        if stop.recv_timeout(LOOK_EVERY).is_ok() {
            return Ok(());
        }
        for child in children.iter_mut() {
            if let Some(report) = child.ended() {
                super::say(report);
            }
        }
        if children.iter().all(Child::is_reported) {
            let data = layout.data.display();
            return Err(Error::Other(format!(
                "every replica has ended; their logs: {data}/*/keepfs.log"
            )));
        }
    }
}
