//! `keepfs status`: what the replicas mounted here say of their cluster.

use super::mounts;
use crate::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show who leads, who is missing, and whether changes are possible.
///
/// Exits with 0 if every mount asked has a quorum, with 1 otherwise.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs status                      every keepfs mount of this host
  keepfs status /keep                this one
  keepfs status --json /keep | jq .leader
  until keepfs status /keep >/dev/null; do sleep 1; done     wait for a quorum")]
pub struct Args {
    /// A mounted keepfs directory [default: all of this host].
    mount: Option<PathBuf>,
    /// One JSON object a mount, one a line.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let asked = match &args.mount {
        Some(mount) => vec![mount.clone()],
        None => mounts::all(),
    };
    if asked.is_empty() {
        let hint =
            "no keepfs is mounted here; `keepfs up DIR` or `keepfs playground DIR` mounts one";
        return Err(Error::Other(hint.into()));
    }
    let mut all_well = true;
    for (position, mount) in asked.iter().enumerate() {
        let status = match mounts::status(mount) {
            Ok(status) => status,
            Err(error) if asked.len() > 1 => {
                super::complain(&error);
                all_well = false;
                continue;
            }
            Err(error) => return Err(error),
        };
        all_well &= status.quorum;
        let mut text = match args.json {
            true => serde_json::to_vec(&status).map_err(|error| Error::Other(error.to_string()))?,
            false => mounts::read_control(mount, "status")?,
        };
        if args.json {
            text.push(b'\n');
        } else if asked.len() > 1 {
            let gap = if position > 0 { "\n" } else { "" };
            text.splice(0..0, format!("{gap}{}\n", mount.display()).into_bytes());
        }
        super::print(&text)?;
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
