//! `keepfs inspect`: what a data directory holds.

use crate::error::Error;
use crate::node::offline::{self, Inspection};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show whose a data directory is, and how far its log and snapshots go.
///
/// For a replica that does not run. Of one that does, its log is not looked at: ask it with
/// `keepfs status`. Changes nothing but a torn end of the log, which the next start would cut off
/// too; prints no secrets.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs inspect /var/lib/keepfs
  keepfs inspect --json /var/lib/keepfs | jq .log.Ok.last      of several survivors, who has most?")]
pub struct Args {
    /// The data directory.
    data: PathBuf,
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let found = offline::inspect(&args.data)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&found).map_err(|e| Error::Other(e.to_string()))?,
        false => text(&found),
    };
    super::print(format!("{}\n", text.trim_end()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text(found: &Inspection) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:13}{value}", format!("{name}:"));
    };
    line("name", found.name.clone());
    line("id", found.id.to_string());
    line("incarnation", found.incarnation.clone());
    line("cluster", found.cluster.clone().unwrap_or_else(|| "none yet".into()));
    for member in &found.members {
        let kind = if member.learner { "learner" } else { "voter" };
        let incarnation = member.incarnation.as_deref().unwrap_or("not heard of yet");
        let (id, name, address) = (member.id, &member.name, &member.address);
        line("member", format!("{id} {name} {address} {kind} {incarnation}"));
    }
    match (&found.running, &found.log) {
        (Some(process), _) => {
            line("log", format!("not looked at: process {process} runs on it (keepfs status)"))
        }
        (None, Some(Ok(log))) => {
            line("log", format!("{} to {}, {} bytes", log.first, log.last, log.bytes));
            line("term", format!("{}, vote {}", log.term, log.vote));
            line("commit", format!("{}, or more", log.commit));
        }
        (None, Some(Err(why))) => line("log", why.clone()),
        (None, None) => {}
    }
    for snapshot in &found.snapshots {
        let (index, term, bytes) = (snapshot.index, snapshot.term, snapshot.bytes);
        line("snapshot", format!("at {index} of term {term}, {bytes} bytes"));
    }
    text
}
