//! `keepfs recover`: the survivor of a cluster that lost its majority goes on alone.

use crate::error::Error;
use crate::node::offline;
use std::path::PathBuf;
use std::process::ExitCode;

/// Let one survivor go on alone, when the majority of its cluster is lost for good.
///
/// DANGER. Do this only if the disks of so many replicas are lost that no majority can ever run
/// again. A replica that can still be started must be started instead.
///
/// Changes that were acknowledged may be lost: those that this replica had not received. If
/// several survive, `keepfs inspect` says whose log goes furthest: take that one.
///
/// Changes that were never acknowledged, and are in its log, become true.
///
/// It becomes a new cluster of one. Replicas of the old one that come back are strangers: they
/// must never run again with their data, for two clusters would go on, each with its own tree.
///
/// The replica must be stopped. Keep a copy of its data directory first. Afterwards start it as
/// always, and let new replicas join it, each with an empty data directory.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cp -a /var/lib/keepfs /root/keepfs-before
  keepfs recover --force --yes-lose-acknowledged-changes /var/lib/keepfs
  systemctl start keepfs
  keepfs serve ... --join 10.0.0.1:7411              on each new host")]
pub struct Args {
    /// The data directory of the survivor.
    data: PathBuf,
    /// Needed: there is no other way to recover by this command.
    #[arg(long, required = true)]
    force: bool,
    /// Needed: says that you have read the above.
    #[arg(long)]
    yes_lose_acknowledged_changes: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    if !args.yes_lose_acknowledged_changes {
        return Err(Error::Other(
            "this may lose changes that were acknowledged, and the other replicas must never run \
             again: read `keepfs recover --help`, then add --yes-lose-acknowledged-changes"
                .into(),
        ));
    }
    let survivor = offline::stand_alone(&args.data)?;
    let mut text = format!(
        "{} is the only replica of a new cluster now: {} inodes, as of entry {}",
        survivor.name, survivor.inodes, survivor.last
    );
    if survivor.uncommitted > 0 {
        text +=
            &format!(" (the last {} of them were not known to be committed)", survivor.uncommitted);
    }
    text += ".\nStart it as always, without --join; new replicas join it with empty directories.\n";
    if !survivor.gone.is_empty() {
        let gone = survivor.gone.join(", ");
        text += &format!("Never start these again with the data they have: {gone}.\n");
    }
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
