//! What a panic does to a process. Each case runs in a process of its own: this test, started
//! again.

use keepfs::disk::{Disk, LogWrite, RaftLog};
use keepfs::panics::{EXIT_CODE, contained, end_the_process};
use raft::eraftpb::Entry;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const CASE: &str = "KEEPFS_TEST_PANICS";

/// Runs `case` of the test `test`.
fn again(test: &str, backtrace: &str) -> (Output, Duration) {
    let started = Instant::now();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CASE, "1").env("RUST_BACKTRACE", backtrace);
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output, started.elapsed())
}

fn is_case() -> bool {
    std::env::var_os(CASE).is_some()
}

fn begin() {
    env_logger::Builder::new().parse_filters("warn").init();
    end_the_process();
}

struct Waits;

impl Drop for Waits {
    fn drop(&mut self) {
        thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn a_panic_of_any_thread_ends_the_process_with_its_reason() {
    if is_case() {
        begin();
        let worker = thread::Builder::new().name("worker".to_owned()).spawn(|| {
            let _waits = Waits;
            panic!("the tree has two roots");
        });
        let _waits = Waits;
        let _ = worker.unwrap().join();
        return;
    }
    let test = "a_panic_of_any_thread_ends_the_process_with_its_reason";
    let (output, took) = again(test, "0");
    assert_eq!(output.status.code(), Some(EXIT_CODE), "{output:?}");
    assert!(took < Duration::from_secs(20), "nobody is waited for: {took:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let line = "thread worker panicked at tests/panics.rs:";
    assert!(said.contains(line) && said.contains(": the tree has two roots; this"), "{said}");
    assert_eq!(said.lines().count(), 1, "one line, no backtrace: {said}");
    let (output, _) = again(test, "1");
    assert!(String::from_utf8(output.stderr).unwrap().lines().count() > 3, "a backtrace asked for");
}

#[test]
fn nobody_who_reads_the_last_words_is_no_reason_to_stay() {
    if is_case() {
        begin();
        // A reason that no pipe holds, to a reader that does not read.
        panic!("{}", "x".repeat(1 << 20));
    }
    let test = "nobody_who_reads_the_last_words_is_no_reason_to_stay";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CASE, "1").stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it waits for a reader");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.signal(), Some(libc::SIGALRM), "{status}");
}

#[test]
fn a_contained_panic_is_an_error_and_silent() {
    if is_case() {
        begin();
        assert_eq!(contained(|| 7), Ok(7));
        let number = 9;
        let told = contained(|| -> u8 { panic!("blob {number} is bad") });
        assert_eq!(told, Err("blob 9 is bad".to_owned()));
        // As crates do it, whose threads have no name.
        let told = contained(|| thread::spawn(|| panic!("in a worker")).join().unwrap());
        assert!(told.is_err());
        // As the log's crate does it.
        let directory = tempfile::tempdir().unwrap();
        let log = RaftLog::open(directory.path()).unwrap();
        let entry = |index| Entry { index, term: 1, ..Entry::default() };
        let write =
            |index| log.write(&[LogWrite { entries: vec![entry(index)], ..LogWrite::default() }]);
        write(1).unwrap();
        assert!(write(5).unwrap_err().to_string().contains("has a hole"));
        let nested = contained(|| contained(|| panic!("inside")).unwrap_err());
        assert_eq!(nested, Ok("inside".to_owned()));
        return;
    }
    let (output, _) = again("a_contained_panic_is_an_error_and_silent", "1");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "nothing is said of it");
}
