//! Shell scripts with a time limit: a mount that hangs fails a test instead of hanging it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a script left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

/// Runs `script` in bash, killing it and all it started after `within`.
pub fn try_sh(script: &str, within: Duration) -> Ran {
    let start = Instant::now();
    let mut child = spawn(script);
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let mut code = None;
    while start.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            code = Some(status.code().unwrap_or(-1));
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = start.elapsed();
    if code.is_none() {
        kill_group(&child);
    }
    let _ = child.wait();
    Ran { code, out: out.join().unwrap(), err: err.join().unwrap(), took }
}

/// [`try_sh`] for a script that must succeed within 30 s; its output, without the last newline.
pub fn sh(script: &str) -> String {
    let ran = try_sh(script, Duration::from_secs(30));
    assert_eq!(ran.code, Some(0), "{script}\n{ran:#?}");
    ran.out.trim_end_matches('\n').to_owned()
}

/// A script in the background, killed with all it started when this value goes.
pub struct Background(Option<Child>);

pub fn background(script: &str) -> Background {
    let mut child = spawn(script);
    drain(child.stdout.take().unwrap());
    drain(child.stderr.take().unwrap());
    Background(Some(child))
}

impl Background {
    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            kill_group(&child);
            let _ = child.wait();
        }
    }
}

fn spawn(script: &str) -> Child {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("bash")
}

fn kill_group(child: &Child) {
    // SAFETY: kill takes two integers; the group is the one we made for this child.
    unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
}

/// Reads to the end on a thread of its own, so that no pipe fills up.
fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
