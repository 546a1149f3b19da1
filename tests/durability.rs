//! Nothing that was acknowledged is lost: all replicas killed at once under load, again and again.

mod support;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::can_mount;
use support::cluster::Cluster;

/// KEEPFS_TEST_KILLS of the environment, for longer runs.
fn kills() -> u32 {
    std::env::var("KEEPFS_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// What one writer knows: its register's last acknowledged value and the one that may have made it;
/// the lines of its log that were acknowledged, and how many were tried.
struct Writer {
    name: String,
    mount: usize,
    value: u64,
    tried: u64,
    lines: u64,
    lines_tried: u64,
}

/// Writes until the mount fails or `stop`: a register overwritten with 1, 2, 3..., and a log that
/// gets a line for each.
fn write(writer: &mut Writer, directory: &Path, stop: &AtomicBool) -> std::io::Result<()> {
    let open = || File::options().write(true).create(true).truncate(false).to_owned();
    let register = open().open(directory.join(&writer.name))?;
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(directory.join(format!("{}.log", writer.name)))?;
    while !stop.load(Ordering::Relaxed) {
        writer.tried = writer.tried.max(writer.value) + 1;
        register.write_all_at(format!("{:020}", writer.tried).as_bytes(), 0)?;
        writer.value = writer.tried;
        writer.lines_tried += 1;
        log.write_all(format!("{:019}\n", writer.value).as_bytes())?;
        writer.lines += 1;
    }
    Ok(())
}

/// The register holds the last acknowledged value or one tried after it; the log has every
/// acknowledged line, in order, each once, and none that was never tried.
fn check(writer: &mut Writer, cluster: &Cluster, round: u32) {
    for (index, replica) in cluster.replicas.iter().enumerate() {
        let name = &writer.name;
        let text = cluster.sh(&format!("cat ${}/{name}", replica.name));
        let value: u64 = text.parse().unwrap_or_else(|_| panic!("register {name}: {text:?}"));
        let known = (writer.value, writer.tried);
        assert!(
            (known.0..=known.1).contains(&value),
            "round {round}: {name} on mount {index} is {value}, acknowledged {}, tried {}",
            known.0,
            known.1
        );
        let text = cluster.sh(&format!("cat ${}/{name}.log", replica.name));
        let lines: Vec<u64> =
            text.lines().map(|line| line.parse().expect("a whole line")).collect();
        assert!(lines.is_sorted_by(|one, next| one < next), "round {round}: {name}.log repeats");
        let count = lines.len() as u64;
        assert!(
            count >= writer.lines && count <= writer.lines_tried,
            "round {round}: {name}.log has {count} lines, acknowledged {}, tried {}",
            writer.lines,
            writer.lines_tried
        );
    }
    // What is there now has been decided: it must stay.
    let text = cluster.sh(&format!("cat $a/{}", writer.name));
    writer.value = text.parse().unwrap();
    writer.tried = writer.value;
    let text = cluster.sh(&format!("wc -l < $a/{}.log", writer.name));
    writer.lines = text.trim().parse().unwrap();
    writer.lines_tried = writer.lines;
}

#[test]
fn kill_nine_of_all_loses_nothing_acknowledged() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let new = |number: usize| Writer {
        name: format!("w{number}"),
        mount: number % 3,
        value: 0,
        tried: 0,
        lines: 0,
        lines_tried: 0,
    };
    let mut writers: Vec<Writer> = (0..6).map(new).collect();
    for round in 0..kills() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let (directory, stop) = (cluster.replicas[writer.mount].mount.clone(), &stop);
                scope.spawn(move || write(writer, &directory, stop));
            }
            // Long enough for hundreds of writes, different each time.
            std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 37 % 400));
            let pids: Vec<u32> = cluster.replicas.iter().map(|replica| replica.pid()).collect();
            pids.iter().for_each(|pid| support::send(*pid, libc::SIGKILL));
            stop.store(true, Ordering::Relaxed);
        });
        cluster.replicas.iter_mut().for_each(|replica| replica.kill());
        cluster.run(&[0, 1, 2]);
        cluster.wait_ready();
        writers.iter_mut().for_each(|writer| check(writer, &cluster, round));
    }
    assert!(writers.iter().all(|writer| writer.value > u64::from(kills())), "there was a load");
}
