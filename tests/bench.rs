//! `keepfs bench` measures any directory and leaves nothing in it.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{KEEPFS, eventually, send};

#[test]
fn figures_of_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let bench = |flags: &[&str]| {
        let mut command = Command::new(KEEPFS);
        let output = command.arg("bench").args(flags).arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "progress is for terminals");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "everything was removed");
        String::from_utf8(output.stdout).unwrap()
    };
    let operations = ["create", "write 100 B", "open, read, close", "flock, unlock", "rename"];

    let table = bench(&["--each", "20ms"]);
    assert!(operations.iter().all(|name| table.contains(name)), "{table}");

    let figures: serde_json::Value =
        serde_json::from_str(&bench(&["--each", "20ms", "--json"])).unwrap();
    let found = figures["operations"].as_array().unwrap();
    let names: Vec<_> = found.iter().map(|figure| figure["operation"].as_str().unwrap()).collect();
    assert_eq!(names, operations);
    for figure in found {
        let number = |key: &str| figure[key].as_f64().unwrap();
        assert!(number("count") >= 1.0 && number("p50_us") > 0.0, "{figure}");
        assert!(number("p50_us") <= number("p99_us") && number("p99_us") <= number("max_us"));
    }
}

#[test]
fn an_interrupted_one_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(KEEPFS);
    command.args(["bench", "--each", "1h"]).arg(dir.path()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let entries = || fs::read_dir(dir.path()).unwrap().count();
    eventually("it works in a directory of its own", Duration::from_secs(60), || entries() == 1);
    send(child.id(), libc::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert_eq!(entries(), 0);
}
