//! `keepfs token`: one line that lets a host join.

use super::control::{Daemon, TokenRow};
use crate::config::Span;
use crate::error::Error;
use crate::mount::control::table;
use crate::peers::identity::Token;
use crate::peers::identity::token::PREFIX;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print a token: one line by which a host joins, without a copy of the key.
///
/// The daemon on this host issues it, for root or the user that runs it, when the cluster has
/// recorded it. A replica that comes by it is given the key, and keeps it in its data directory.
/// A mount is given a certificate for a key of its own, by which it may read and fetch until the
/// token is revoked: it has no vote, and never sees the cluster's key.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs token --name web4
  keepfs serve --name web4 --data /var/lib/keepfs --listen 10.0.0.4:7411 --mount /keep --join TOKEN
  keepfs token list
  keepfs token revoke 00c0ffee00c0ffee")]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What it is for: a host that stores and votes, or one that only mounts.
    #[arg(long, default_value = "replica", value_parser = ["replica", "mount"])]
    role: String,
    /// Only one of this name may come by it.
    #[arg(long)]
    name: Option<String>,
    /// How long it lasts, at most 30d.
    #[arg(long, default_value = "1h")]
    ttl: Span,
    /// How many may come by it, at most 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    uses: u32,
    /// The daemon to ask: its name, data directory, mount or socket [default: the only one here].
    #[arg(long, global = true, value_name = "WHERE")]
    at: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show the tokens that the cluster knows.
    List {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let nobody join by a token any more. Mounts that came by it are cut off within a second; a
    /// replica that did stays a member, and has the key.
    Revoke {
        /// Its id, as `list` shows it, or the token itself.
        id: String,
    },
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let daemon = Daemon::find(args.at.as_deref())?;
    let text = match &args.verb {
        None => {
            let life = u64::try_from(args.ttl.0.as_nanos()).unwrap_or(u64::MAX);
            let terms =
                json!({"role": args.role, "name": args.name, "uses": args.uses, "life": life});
            format!("{}\n", daemon.ask::<String>("token.issue", terms)?)
        }
        Some(Verb::List { json }) => {
            let rows: Vec<TokenRow> = daemon.ask("token.list", json!({}))?;
            match json {
                true => format!("{:#}\n", json!(rows)),
                false => {
                    let heading = ["ID", "ROLE", "NAME", "LEFT", "MOUNTS", "EXPIRES", "STATE"];
                    table(&heading, &rows, TokenRow::cells)
                }
            }
        }
        Some(Verb::Revoke { id }) => {
            let () = daemon.ask("token.revoke", json!({ "token": id_of(id)? }))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn id_of(text: &str) -> Result<u64, Error> {
    if text.starts_with(PREFIX) {
        return Ok(text.parse::<Token>()?.sealed.claims.id);
    }
    u64::from_str_radix(text, 16).map_err(|_| {
        Error::Configuration(format!("{text:?} is no id of a token: see `keepfs token list`"))
    })
}
