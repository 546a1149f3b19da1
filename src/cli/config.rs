//! `keepfs config`: the commented sample of the configuration file.

use crate::config;
use crate::error::Error;
use std::process::ExitCode;

/// Print a commented sample of the configuration file.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  keepfs config > /etc/keepfs.toml        then edit it, and
  keepfs serve --config /etc/keepfs.toml")]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode, Error> {
    super::print(config::sample().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
