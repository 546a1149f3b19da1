//! `keepfs serve`: a replica of a real cluster.

use super::daemon;
use crate::config::{Config, Flags};
use crate::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a replica of a cluster, in the foreground.
///
/// Every flag is also a setting of the configuration file (`keepfs config` prints a sample) and an
/// environment variable (--data is KEEPFS_DATA). SIGTERM and Ctrl-C unmount and stop it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  Found a cluster of three; `keepfs key > /etc/keepfs.key` once, copy that to each host, and run
  there with its own name and address:
    keepfs serve --name web1 --data /var/lib/keepfs --listen 10.0.0.1:7411 --mount /keep \\
      --key /etc/keepfs.key --bootstrap web1=10.0.0.1:7411,web2=10.0.0.2:7411,web3=10.0.0.3:7411

  Start it again later (the data directory remembers the cluster):
    keepfs serve --name web1 --data /var/lib/keepfs --listen 10.0.0.1:7411 --mount /keep \\
      --key /etc/keepfs.key

  Add a fourth replica:
    keepfs serve --name web4 --data /var/lib/keepfs --listen 10.0.0.4:7411 --mount /keep \\
      --key /etc/keepfs.key --join 10.0.0.1:7411,10.0.0.2:7411

  The same from a file:
    keepfs serve --config /etc/keepfs.toml")]
pub struct Args {
    /// This replica's name [default: this host's].
    #[arg(long)]
    name: Option<String>,
    /// Where the log, the snapshots and the backups live.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen, and where the other replicas reach this one.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The file with the cluster's key (see `keepfs key`) [default: DATA/key].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Found a new cluster of these replicas.
    #[arg(long, value_name = "NAME=HOST:PORT", value_delimiter = ',', conflicts_with = "join")]
    bootstrap: Option<Vec<String>>,
    /// Join the running cluster that answers at any of these, or by a token (see `keepfs token`).
    #[arg(long, value_name = "HOST:PORT|TOKEN", value_delimiter = ',')]
    join: Option<Vec<String>>,
    /// Mount the tree here.
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// Read settings from this TOML file [default: $KEEPFS_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let flags = Flags::default()
        .set("name", args.name.as_ref())
        .set("data", args.data.as_ref())
        .set("listen", args.listen.as_ref())
        .set("key", args.key.as_ref())
        .set("bootstrap", args.bootstrap.as_ref())
        .set("join", args.join.as_ref())
        .set("mount", args.mount.as_ref());
    let config = Config::of_process(args.config.as_deref(), flags)?;
    daemon::run(&config, || log::info!("replica {} is up", config.name()))?;
    Ok(ExitCode::SUCCESS)
}
