//! How fast a mounted tree is, beside what bounds it on the same machine in the same minutes:
//! tmpfs, a raw log file on the data directory's disk, and a FUSE filesystem that does nothing but
//! answer.
//!
//! The subjects take turns in short rounds, so that a noisy neighbour disturbs all alike. On small
//! shared machines the CPU microseconds per operation of each daemon are the figure to trust.
//!
//! `cargo bench --bench speed -- [--quick] [--json] [DIR [OTHER]]`: without `DIR`, on a cluster of
//! one and on a cluster of three that it starts; `DIR` is any mounted directory, `OTHER` another
//! mount of the same tree, for what passes between two.

pub mod bars;
pub mod cpu;
mod disk;
mod mounts;
mod null_fs;
pub mod operations;
mod pair;
pub mod recorder;
mod report;
mod subject;
#[path = "../../tests/support/mod.rs"]
mod support;
pub mod workloads;

use disk::Disk;
use keepfs::error::Error;
use recorder::{Plan, Recorder};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use subject::Subject;
use support::cluster::Cluster;

fn main() -> ExitCode {
    // Cargo adds `--bench` to what it is given.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let done = match given.first().is_some_and(|verb| verb == null_fs::VERB) {
        true => null_fs::serve(Path::new(&given[1])),
        false => measure_all(&given),
    };
    done.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn measure_all(given: &[String]) -> Result<(), Error> {
    assert!(support::can_mount(), "the benchmark needs a mount");
    let (options, dirs): (Vec<_>, Vec<_>) = given.iter().partition(|arg| arg.starts_with("--"));
    let asked = |option: &str| options.iter().any(|given| *given == option);
    let dirs = dirs.iter().map(|dir| absolute(Path::new(dir))).collect::<Result<Vec<_>, _>>()?;
    if let Some(dir) = dirs.first() {
        return measure(dir, dirs.get(1).cloned(), asked("--quick"), asked("--json"));
    }
    for replicas in [1, 3] {
        let cluster = Cluster::start(replicas);
        measure(&cluster.replicas[0].mount, None, asked("--quick"), asked("--json"))?;
        println!();
    }
    Ok(())
}

/// Measures `dir` and prints the figures. What passes between two mounts is measured to `other`,
/// or to another mount of the same cluster, if there is one.
fn measure(dir: &Path, other: Option<PathBuf>, quick: bool, json: bool) -> Result<(), Error> {
    let measured = Subject::measured(dir)?;
    let other = other.or_else(|| measured.other_mount());
    let disk = Disk::new(&measured.data().unwrap_or_else(|| "/var/tmp".into()))?;
    let subjects = [measured, Subject::tmpfs()?, Subject::null_fs()?];

    let mut report = Report::begin(&subjects[0], quick);
    let mut recorder = Recorder::new(if quick { Plan::quick() } else { Plan::usual() });
    for workload in workloads::ALL {
        for _ in 0..recorder.rounds() {
            for subject in &subjects {
                workload.on(subject, &mut recorder)?;
            }
            workload.on_disk(&disk, &mut recorder)?;
        }
    }
    if let Some(other) = &other
        && let Err(error) = pair::measure(&mut recorder, &subjects[0], other)
    {
        report.note(format!("not measured between two mounts: {error}"));
    }
    report.end(recorder.finish());
    print!("{}", if json { report.json() } else { report.table() });
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(Error::file("find", path))
}
