//! One million files of 100 bytes on one replica: the memory they take right after they were
//! written, and again after a restart when everything was listed, for then the kernel holds every
//! inode and the mount has to know; and how soon a restarted replica answers a read. Before that,
//! what is left of a load of large files once they are removed.
//!
//! `cargo bench --bench memory -- 100000` for fewer.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::cluster::Cluster;

const WRITERS: usize = 64;
const FILES_IN_A_DIRECTORY: usize = 1000;
/// For one million: 350 MB, of 10^6 bytes.
const RESIDENT_MIB_MAX: u64 = 333;
/// Large files written and removed first, and what may be left of them.
const LARGE_FILES: usize = 500;
const LARGE_BYTES: usize = 900 << 10;
const LEFT_MIB_MAX: u64 = 32;
/// The allocator is looked at every five seconds, twice until it is known that nothing goes on.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(20);
const RESTART_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    assert!(support::can_mount(), "the benchmark needs a mount");
    let asked = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let files: usize = asked.unwrap_or(1_000_000);
    let mut cluster = Cluster::start(1);
    let empty = resident_mib(cluster.replicas[0].pid());

    let left = left_of_large_files(&cluster).saturating_sub(empty);

    let start = Instant::now();
    fill(&cluster.replicas[0].mount, files);
    let filled = start.elapsed();
    let resident = resident_mib(cluster.replicas[0].pid());
    println!("{files} files of 100 bytes in {:.1} s", filled.as_secs_f64());
    println!(
        "resident: {resident} MiB (empty: {empty} MiB), at most {RESIDENT_MIB_MAX} MiB (350 MB)"
    );

    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let start = Instant::now();
    cluster.run(&[0]);
    let last = file(&cluster.replicas[0].mount, files - 1);
    while fs::read(&last).map(|data| data.len()).unwrap_or(0) != 100 {
        assert!(start.elapsed() < Duration::from_secs(120), "no answer after the restart");
        std::thread::sleep(Duration::from_millis(5));
    }
    let restarted = start.elapsed();
    let resident_again = resident_mib(cluster.replicas[0].pid());
    println!(
        "restart to the first answered read: {:.2} s, at most {} s; then resident: {resident_again} MiB",
        restarted.as_secs_f64(),
        RESTART_MAX.as_secs()
    );

    let start = Instant::now();
    let listed = list(&cluster.replicas[0].mount);
    let listing = start.elapsed();
    assert!(listed > files, "{listed} entries were listed of {files} files and their directories");
    let resident_listed = resident_mib(cluster.replicas[0].pid());
    println!(
        "all listed, with attributes, in {:.1} s; then resident: {resident_listed} MiB, \
         at most {RESIDENT_MIB_MAX} MiB (350 MB)",
        listing.as_secs_f64()
    );
    let small = resident.max(resident_listed) <= RESIDENT_MIB_MAX && left <= LEFT_MIB_MAX;
    match small && restarted <= RESTART_MAX {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What is resident after large files were written and removed again, MiB.
fn left_of_large_files(cluster: &Cluster) -> u64 {
    let (pid, directory) = (cluster.replicas[0].pid(), cluster.replicas[0].mount.join("large"));
    fs::create_dir(&directory).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let directory = &directory;
            scope.spawn(move || {
                for number in (writer..LARGE_FILES).step_by(8) {
                    fs::write(directory.join(number.to_string()), vec![7; LARGE_BYTES]).unwrap();
                }
            });
        }
    });
    let full = resident_mib(pid);
    fs::remove_dir_all(&directory).unwrap();
    std::thread::sleep(GIVEN_BACK_WITHIN);
    let left = resident_mib(pid);
    println!(
        "{LARGE_FILES} files of {LARGE_BYTES} bytes: resident {full} MiB, after their removal \
         {left} MiB, at most {LEFT_MIB_MAX} MiB more than empty"
    );
    left
}

fn file(mount: &Path, number: usize) -> std::path::PathBuf {
    mount.join(format!("d{}/f{}", number / FILES_IN_A_DIRECTORY, number % FILES_IN_A_DIRECTORY))
}

/// Each writer fills directories of its own: creates in one directory are serial.
fn fill(mount: &Path, files: usize) {
    let directories = files.div_ceil(FILES_IN_A_DIRECTORY);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for directory in (writer..directories).step_by(WRITERS) {
                    fs::create_dir(mount.join(format!("d{directory}"))).unwrap();
                    let first = directory * FILES_IN_A_DIRECTORY;
                    for number in first..files.min(first + FILES_IN_A_DIRECTORY) {
                        fs::write(file(mount, number), [b'k'; 100]).unwrap();
                    }
                }
            });
        }
    });
}

/// What `ls -lR` does; returns the number of entries.
fn list(directory: &Path) -> usize {
    let each = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let is_directory = entry.metadata().unwrap().is_dir();
        1 + if is_directory { list(&entry.path()) } else { 0 }
    };
    fs::read_dir(directory).unwrap().map(each).sum()
}

fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
