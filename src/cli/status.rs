//! `keepfs status`: what the replicas that run here say of their cluster.

use super::control::Daemon;
use super::mounts;
use crate::cluster::Status;
use crate::error::Error;
use crate::mount::control::status_text;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show who leads, who is missing, and whether changes are possible.
///
/// Exits with 0 if everyone asked has a quorum, with 1 otherwise.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs status                      every keepfs of this host
  keepfs status /keep                this one
  keepfs status /var/lib/keepfs      a daemon without a mount, by its data directory
  keepfs status --json /keep | jq .leader
  until keepfs status /keep >/dev/null; do sleep 1; done     wait for a quorum")]
pub struct Args {
    /// A mounted keepfs directory, or a daemon by its name, data directory or socket [default: all
    /// of this host].
    #[arg(value_name = "WHERE")]
    at: Option<PathBuf>,
    /// One JSON object a mount, one a line.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let told = match &args.at {
        Some(at) => vec![(at.clone(), one(at))],
        None => all(),
    };
    if told.is_empty() {
        let hint = "no keepfs of yours runs here; `keepfs up DIR` or `keepfs playground DIR` starts \
                    one";
        return Err(Error::Other(hint.into()));
    }
    let (several, mut all_well) = (told.len() > 1, true);
    for (position, (at, status)) in told.into_iter().enumerate() {
        let status = match status {
            Ok(status) => status,
            Err(error) if several => {
                super::complain(&error);
                all_well = false;
                continue;
            }
            Err(error) => return Err(error),
        };
        all_well &= status.quorum;
        let mut text = String::new();
        if args.json {
            text = serde_json::to_string(&status).map_err(|e| Error::Other(e.to_string()))?;
            text.push('\n');
        } else {
            if several {
                let gap = if position > 0 { "\n" } else { "" };
                text = format!("{gap}{}\n", at.display());
            }
            text += &status_text(&status);
        }
        super::print(text.as_bytes())?;
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A mount says it itself, to everyone who may look into it; a daemon to whoever may command it.
fn one(at: &Path) -> Result<Status, Error> {
    let mount = mounts::absolute(at).ok().filter(|at| mounts::is_mounted(at));
    match mount {
        Some(mount) => mounts::status(&mount),
        None => match Daemon::find(Some(at)) {
            Ok(daemon) => daemon.ask("status", Value::Null),
            Err(error) => Err(error),
        },
    }
}

/// Every mount of this host, and the daemons that have none.
fn all() -> Vec<(PathBuf, Result<Status, Error>)> {
    let mut told: Vec<_> =
        mounts::all().into_iter().map(|mount| (mount.clone(), mounts::status(&mount))).collect();
    let data = |status: &Result<Status, Error>| status.as_ref().ok().map(|s| s.data.clone());
    for daemon in Daemon::all() {
        let status: Result<Status, Error> = daemon.ask("status", Value::Null);
        if let Some(known) = data(&status)
            && !told.iter().any(|(_, mounted)| data(mounted).as_ref() == Some(&known))
        {
            told.push((known, status));
        }
    }
    told
}
