//! `keepfs token`: one line that lets a host join.

use super::control::Daemon;
use crate::config::{Config, Flags, Span};
use crate::error::Error;
use crate::node::KEY_FILE;
use crate::peers::identity::{Keyring, Role, Token};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Print a token: one line by which a host joins, without a copy of the key.
///
/// Made by whoever can read the cluster's key. It says where the cluster is and how to know it, and
/// ends by the cluster's time; how often it was used is in the cluster's log. A host that comes by
/// it is given the key, and keeps it in its data directory.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  keepfs token --key /etc/keepfs.key --at 10.0.0.1:7411,10.0.0.2:7411 --name web4
  keepfs serve --name web4 --data /var/lib/keepfs --listen 10.0.0.4:7411 --mount /keep --join TOKEN")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What it is for.
    #[arg(long, default_value = "replica", value_parser = ["replica"])]
    role: String,
    /// Only a replica of this name may come by it.
    #[arg(long)]
    name: Option<String>,
    /// How long it lasts, at most 30d.
    #[arg(long, default_value = "1h")]
    ttl: Span,
    /// How many may come by it, at most 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    uses: u32,
    /// Replicas of the cluster [default: `listen` of the configuration].
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    at: Vec<String>,
    /// The file with the cluster's key [default: as for `serve`].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read settings from this TOML file [default: $KEEPFS_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Let nobody join by a token any more; a member that came by it stays one.
    Revoke {
        token: Token,
        /// The daemon to ask: its name, data directory, mount or socket [default: the only one
        /// here].
        #[arg(long, value_name = "WHERE")]
        daemon: Option<PathBuf>,
    },
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    if let Some(Verb::Revoke { token, daemon }) = &args.verb {
        let daemon = Daemon::find(daemon.as_deref())?;
        let () = daemon.ask("token.revoke", json!({ "token": token.sealed.claims.id }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let flags = Flags::default().set("key", args.key.as_ref());
    let config = Config::of_process(args.config.as_deref(), flags)?;
    let kept = config.data.as_ref().map(|data| data.join(KEY_FILE));
    let key = config.key.clone().or(kept).ok_or_else(|| {
        Error::Configuration("no key: give --key FILE, the cluster's key file".into())
    })?;
    let addresses = match args.at.is_empty() {
        true => config.listen.into_iter().collect(),
        false => args.at.clone(),
    };
    if addresses.is_empty() {
        return Err(Error::Configuration("where is the cluster? give --at HOST:PORT,...".into()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = (now + args.ttl.0).as_nanos() as u64;
    let (role, name): (Role, _) = (args.role.parse().map_err(Error::Other)?, args.name.clone());
    let token = Token::new(&Keyring::read(&key)?, addresses, role, name, expires, args.uses)?;
    super::print(format!("{token}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
