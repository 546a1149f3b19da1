//! The daemon's end.

use super::verbs::{self, Asked};
use super::{Answer, LINK, Outcome, REQUEST_BYTES_MAX, Request, VERSION, place};
use crate::error::Error;
use crate::node::Node;
use log::{info, warn};
use rustix::process::geteuid;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests under way at once; a membership change may take half a minute.
const REQUESTS_MAX: usize = 16;
/// To say what is wanted, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens until it is dropped.
pub struct ControlSocket {
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Taken away in the end.
    paths: Vec<PathBuf>,
}

impl ControlSocket {
    /// Listens in the run directory, or in the data directory if there is none, or another daemon
    /// has the name there.
    pub fn open(node: &Node, run: Option<&Path>) -> Result<ControlSocket, Error> {
        let link = node.data().join(LINK);
        let chosen = run.map(Path::to_path_buf).or_else(place::default_run);
        let usual = chosen.and_then(|run| usual(&run, node.name()));
        let (listener, path) = match usual {
            Some(usual) => usual,
            None => {
                let _ = fs::remove_file(&link);
                (place::bind(&link).map_err(Error::file("listen on", &link))?, link.clone())
            }
        };
        let everyone = fs::Permissions::from_mode(0o666);
        fs::set_permissions(&path, everyone).map_err(Error::file("change the mode of", &path))?;
        if path != link {
            let _ = fs::remove_file(&link);
            symlink(&path, &link).map_err(Error::file("create", &link))?;
        }
        let mut paths = vec![path, link];
        paths.dedup();
        let (listener, stopping) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let server = Server {
            listener: Arc::clone(&listener),
            stopping: Arc::clone(&stopping),
            node: node.clone(),
            busy: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || server.run())
            .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
        Ok(ControlSocket { listener, stopping, thread: Some(thread), paths })
    }
}

fn usual(run: &Path, name: &str) -> Option<(UnixListener, PathBuf)> {
    // A link in the data directory leads there from anywhere.
    let run = std::path::absolute(run).unwrap_or_else(|_| run.to_path_buf());
    let path = run.join(format!("{name}.sock"));
    let bound = place::make_run(&run)
        .and_then(|()| place::bind(&path).map_err(Error::file("listen on", &path)));
    match bound {
        Ok(listener) => Some((listener, path)),
        Err(error) => {
            info!("{error}: commands find this daemon by its data directory or mount only");
            None
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // That wakes `accept`.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.paths.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

struct Server {
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    node: Node,
    busy: Arc<AtomicUsize>,
}

impl Server {
    fn run(self) {
        while !self.stopping.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((stream, _)) => self.serve(stream),
                Err(_) if self.stopping.load(Ordering::Acquire) => {}
                Err(error) => {
                    warn!("cannot accept commands: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn serve(&self, stream: UnixStream) {
        let busy = Busy::begin(&self.busy);
        if self.busy.load(Ordering::Acquire) > REQUESTS_MAX {
            let _ = say(&stream, Outcome::Error("too many commands at once; try again".into()));
            return;
        }
        let node = self.node.clone();
        let thread = std::thread::Builder::new().name("command".into()).spawn(move || {
            let _busy = busy;
            if let Err(error) = converse(&node, &stream) {
                info!("a command was not carried out: {error}");
            }
        });
        if let Err(error) = thread {
            warn!("a command was not carried out: {error}");
        }
    }
}

struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn begin(count: &Arc<AtomicUsize>) -> Busy {
        count.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn converse(node: &Node, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let uid = asker(stream)?;
    let own = geteuid().as_raw();
    if uid != 0 && uid != own {
        let who = if own == 0 { "root".into() } else { format!("root and user {own}") };
        let text = format!("only {who} may command {}; you are user {uid}", node.name());
        say(stream, Outcome::Error(text))?;
        return stream.shutdown(Shutdown::Write);
    }
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        // Only looked whether somebody listens.
        return Ok(());
    }
    say(stream, answer(node, uid, &line))
}

fn answer(node: &Node, uid: u32, line: &[u8]) -> Outcome {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Outcome::Error(format!("not a request: {error}")),
    };
    if request.version != VERSION {
        let text = format!(
            "this daemon speaks version {VERSION} of the control protocol, not {}; use the keepfs \
             it was started from",
            request.version
        );
        return Outcome::Error(text);
    }
    match verbs::carry_out(&request.verb, &Asked { node, uid, arguments: &request.arguments }) {
        Ok(value) => Outcome::Ok(value),
        Err(text) => Outcome::Error(text),
    }
}

fn say(mut stream: &UnixStream, outcome: Outcome) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Answer { version: VERSION, outcome })?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The user at the other end, as the kernel has it.
fn asker(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}
