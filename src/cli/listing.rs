//! `keepfs sessions` and `keepfs locks`: what the cluster holds, with no mount.

use super::control::Daemon;
use crate::error::Error;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Which daemon to ask, and how to print.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon to ask: its name, data directory, mount or socket [default: the only one here].
    #[arg(long, value_name = "WHERE")]
    at: Option<PathBuf>,
    /// Print rows as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, verb: &str) -> Result<ExitCode, Error> {
    let daemon = Daemon::find(args.at.as_deref())?;
    let listing: Value = daemon.ask(verb, json!({"json": args.json}))?;
    match listing {
        Value::String(text) => super::print(text.as_bytes())?,
        rows => super::print(format!("{rows:#}\n").as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
