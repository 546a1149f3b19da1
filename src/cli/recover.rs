//! `keepfs recover`: what an operator knows and no replica can: that the others are lost for good,
//! or that a data directory was moved and not put back from a copy.

use crate::error::Error;
use crate::node::offline;
use std::path::PathBuf;
use std::process::ExitCode;

/// Let one survivor go on alone, when the majority of its cluster is lost for good; or trust a
/// data directory that was moved.
///
/// DANGER. With --force: do this only if the disks of so many replicas are lost that no majority
/// can ever run again. A replica that can still be started must be started instead.
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
///
/// With --moved: a replica whose data directory was moved to another filesystem has no vote until
/// enough of the others have told it what it promised; usually that takes a moment. If they cannot,
/// say so by this, but only if it is the directory that was used last, and no older copy: an older
/// one has forgotten changes that it acknowledged, and they can be lost by its vote.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cp -a /var/lib/keepfs /root/keepfs-before
  keepfs recover --force --yes-lose-acknowledged-changes /var/lib/keepfs
  systemctl start keepfs
  keepfs serve ... --join 10.0.0.1:7411              on each new host
  keepfs recover --moved /srv/keepfs                 after a move, with too few others up")]
pub struct Args {
    /// The data directory of the survivor, or the one that was moved.
    data: PathBuf,
    /// Its replica goes on alone.
    #[arg(long, required_unless_present = "moved")]
    force: bool,
    /// Needed with --force: says that you have read the above.
    #[arg(long, requires = "force")]
    yes_lose_acknowledged_changes: bool,
    /// It was moved, and is the one that was used last.
    #[arg(long, conflicts_with = "force")]
    moved: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    if args.moved {
        let name = offline::trust_place(&args.data)?;
        super::print(format!("{name} votes as before.\n").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
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
