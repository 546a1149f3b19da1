//! `keepfs member`: the replicas of a cluster, and changes of them, with no mount.

use super::control::Daemon;
use crate::cluster::MemberStatus;
use crate::error::Error;
use crate::mount::control::members_table;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// List, add, remove, replace the replicas of a cluster, or let another one lead.
///
/// Any living replica carries it out: the command speaks to the daemon on this host, as root or as
/// the user that runs it, and returns when the change is committed. It needs a quorum (if the
/// majority is lost for good, see `keepfs recover --help`).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs member list
  keepfs member replace web2       web2's disk is lost: make room, then start it with an empty one
  keepfs member remove web3        web3 is gone for good, dead or alive
  keepfs member transfer web1      web1 shall lead, before this host is rebooted
  keepfs member list --at /var/lib/keepfs --json | jq '.[] | select(.reachable | not).name'")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// The daemon to ask: its name, data directory, mount or socket [default: the only one here].
    #[arg(long, global = true, value_name = "WHERE")]
    at: Option<PathBuf>,
    /// Print the members as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show who is a member, who votes, and who is heard.
    List,
    /// Announce a replica: the first data directory that joins as NAME becomes it.
    ///
    /// Not needed: `keepfs serve --join` adds a replica by itself.
    Add {
        name: String,
        /// Where the others will reach it, HOST:PORT.
        address: String,
    },
    /// Take a replica out of the cluster for good, dead or alive.
    ///
    /// Those who stay must be able to go on without it. If it runs, it stops when it hears of it;
    /// its data directory is of no use afterwards.
    Remove {
        /// Its name, or its id.
        member: String,
    },
    /// Let a new data directory take the place of a dead member's, under its name.
    ///
    /// For a disk that was lost, wiped, or restored from an old copy. Afterwards start the replica
    /// with an empty data directory and the flags it always had, or with --join.
    Replace {
        /// Its name, or its id.
        member: String,
        /// Also if it is alive: what its old data directory holds is given up.
        #[arg(long)]
        force: bool,
    },
    /// Let this member lead.
    Transfer {
        /// Its name, or its id.
        member: String,
    },
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let daemon = Daemon::find(args.at.as_deref())?;
    let (verb, arguments) = request(&args.what);
    let members: Value = daemon.ask(verb, arguments)?;
    if args.json {
        super::print(format!("{members:#}\n").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let members: Vec<MemberStatus> =
        serde_json::from_value(members).map_err(|error| Error::Other(error.to_string()))?;
    let said = said(&args.what, &members);
    super::print(format!("{}{said}", members_table(&members)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn request(what: &What) -> (&'static str, Value) {
    match what {
        What::List => ("member.list", Value::Null),
        What::Add { name, address } => ("member.add", json!({"name": name, "address": address})),
        What::Remove { member } => ("member.remove", json!({ "member": member })),
        What::Replace { member, force } => {
            ("member.replace", json!({"member": member, "force": force}))
        }
        What::Transfer { member } => ("member.transfer", json!({ "member": member })),
    }
}

/// What is to be done next, if anything.
fn said(what: &What, members: &[MemberStatus]) -> String {
    let others: Vec<&str> = members
        .iter()
        .filter(|member| member.reachable)
        .map(|member| member.address.as_str())
        .collect();
    match what {
        What::Add { name, address } => format!(
            "\nStart it with: keepfs serve --name {name} --listen {address} --data DIR --join {}\n",
            others.join(",")
        ),
        What::Replace { member, .. } => format!(
            "\nThere is room for a new {member}. Start it with an empty data directory and its old \
             flags, or with --join {}\n",
            others.join(",")
        ),
        _ => String::new(),
    }
}
