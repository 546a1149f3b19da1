//! `keepfs bench`: how fast a mounted directory is, beside what bounds it on the same machine in
//! the same minutes: tmpfs, a raw log file on the data directory's disk, and a FUSE filesystem that
//! does nothing but answer.
//!
//! The subjects take turns in short rounds, so that a noisy neighbour disturbs all alike. On small
//! shared machines the CPU microseconds per operation of each daemon are the figure to trust.

mod bars;
mod cpu;
mod disk;
pub mod null_fs;
mod pair;
mod recorder;
mod report;
mod subject;
mod workloads;

use crate::error::Error;
use disk::Disk;
use recorder::{Plan, Recorder};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use subject::Subject;

/// Measure a mounted directory: latencies, rates, and the CPU time of its daemons.
///
/// Writes into a directory of its own inside DIR and removes it again. Exits with 0 whether or not
/// the bars are met; the table says which are.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs bench /mnt/k/a                 also lock hand-off to another mount of the same cluster here
  keepfs bench /mnt/k/a /mnt/k/b        to this one
  keepfs bench --quick --json /keep > figures.json
  keepfs bench --data-dir /var/tmp /nfs/share          any filesystem, not only keepfs")]
pub struct Args {
    /// The directory to measure.
    dir: PathBuf,
    /// Another mount of the same tree on this host, for lock hand-off and propagation
    /// [default: one of the same cluster, if there is one].
    other: Option<PathBuf>,
    /// A directory on the disk of the replica's log, for the raw log file [default: what the
    /// replica says; for other filesystems /var/tmp].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A tenth of the usual time; noisier.
    #[arg(long)]
    quick: bool,
    /// JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let plan = if args.quick { Plan::quick() } else { Plan::usual() };
    let measured = Subject::measured(&absolute(&args.dir)?)?;
    let other = args.other.as_deref().map(absolute).transpose()?;
    let other = other.or_else(|| measured.other_mount());
    let data = args.data_dir.as_deref().map(absolute).transpose()?;
    let data = data.or_else(|| measured.data()).unwrap_or_else(|| "/var/tmp".into());
    let disk = Disk::new(&data)?;
    let subjects = [measured, Subject::tmpfs()?, Subject::null_fs()?];

    let mut report = Report::begin(&subjects[0], args.quick);
    let mut recorder = Recorder::new(plan);
    for workload in workloads::ALL {
        for _ in 0..recorder.rounds() {
            for subject in &subjects {
                recorder.turn(subject, workload)?;
            }
            recorder.disk_turn(&disk, workload)?;
        }
    }
    if let Some(other) = &other
        && let Err(error) = pair::measure(&mut recorder, &subjects[0], other)
    {
        report.note(format!("not measured between two mounts: {error}"));
    }
    report.end(recorder.finish());

    let text = if args.json { report.json() } else { report.table() };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(Error::file("find", path))
}
