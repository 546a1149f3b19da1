//! `keepfs lock`: a command that runs while a cluster-wide lock is held, and no longer.

mod grant;

use super::{mounts, signals};
use crate::error::Error;
use crossbeam_channel::Receiver;
use grant::{Grant, Watch};
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

/// Run a command while holding a lock of the whole cluster.
///
/// The lock is that of `flock PATH`, and waits in the same queue. Beyond flock(1), the command gets
/// the fencing token in KEEPFS_TOKEN, and SIGTERM when this host's session is lost and the lock
/// with it: that happens before anyone else can get it. Exits with the command's exit code; with 75
/// if the lock was lost, be it before the command began; with 1 if it was not free and --no-wait
/// was given; with 127 if there is no such command, 126 if it cannot be run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs lock /keep/jobs/nightly.lck -- /usr/local/bin/nightly
  keepfs lock --no-wait /keep/jobs/x.lck -- sh -c 'echo $KEEPFS_TOKEN' || echo somebody else has it")]
pub struct Args {
    /// Fail at once if the lock is not free.
    #[arg(short, long)]
    no_wait: bool,
    /// The file to lock, in a keepfs mount; made if it is missing.
    path: PathBuf,
    /// The command and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// As shells have it, for a command that is not there or cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// The lock was lost: `EX_TEMPFAIL` of sysexits.h.
const LOST: u8 = 75;
/// How often the session is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let path = mounts::absolute(&args.path)?;
    let mut mounted = mounts::all().into_iter().filter(|mount| path.starts_with(mount));
    let mount = mounted.next_back().ok_or_else(|| {
        Error::Other(format!("{} is in no keepfs mount; flock(1) locks it here", path.display()))
    })?;
    let file = File::options().append(true).create(true).open(&path);
    let file = file.map_err(Error::file("open", &path))?;
    // Signals still end this process: a wait can be interrupted.
    let Some(grant) = Grant::take(&mount, &path, &file, args.no_wait)? else {
        return Ok(lost(&path, "it was not begun"));
    };
    let stop = signals::stop_requests()?;

    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    if let Some(token) = &grant.token {
        command.env("KEEPFS_TOKEN", token);
    }
    let mut watch = grant.watch(mount).map_err(Error::file("watch", &path))?;
    // This process itself may have stood still since the grant.
    if watch.is_lost() {
        return Ok(lost(&path, "it was not begun"));
    }
    let mut child = match signals::ends_with_parent(&mut command).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
            super::complain(Error::file("start", &args.command[0])(error));
            return Ok(ExitCode::from(code));
        }
    };
    match wait(&mut child, &stop, watch).map_err(Error::file("wait for", &args.command[0]))? {
        Some(status) => Ok(ExitCode::from(code(status))),
        None => Ok(lost(&path, "it was ended")),
    }
}

/// Says what became of the command.
fn lost(path: &Path, command: &str) -> ExitCode {
    super::complain(Error::Other(format!(
        "the lock on {} was lost with this host's session; the command: {command}",
        path.display()
    )));
    ExitCode::from(LOST)
}

/// The command's end, or `None` if it had to end because the lock was lost. Requests to stop are
/// passed on to it.
fn wait(
    child: &mut Child,
    stop: &Receiver<i32>,
    mut watch: Watch,
) -> std::io::Result<Option<ExitStatus>> {
    let mut lost = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!lost).then_some(status));
        }
        if let Ok(signal) = stop.recv_timeout(LOOK_EVERY) {
            signals::send(child.id(), signal);
        }
        if !lost && watch.is_lost() {
            lost = true;
            signals::send(child.id(), libc::SIGTERM);
        }
    }
}

/// As shells have it: 128 and the signal for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    let signalled = status.signal().map(|signal| 128 + signal);
    status.code().or(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
