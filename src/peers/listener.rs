//! The way in: accepts connections, shakes hands, and reads on a thread each.

use super::bulk::Bulk;
use super::connection::{Frames, decode, kind};
use super::hello::{HELLO_TIMEOUT, Hello, Purpose};
use super::{PeerHandler, Shared, socket};
use crate::error::Error;
use crate::replica::PeerMessage;
use crate::tree::ReplicaId;
use log::{info, warn};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections at once: a few for each replica, and some that try their luck.
const CONNECTIONS_MAX: usize = 256;
/// Frames handed on together, at most: they share one wake-up of the replica.
const BATCH_MAX: usize = 256;
/// A process heard this lately is alive, and no other may speak in its place.
const ALIVE: Duration = Duration::from_secs(2);

/// The socket others dial, taken before anything else is touched: a second process with the same
/// configuration fails at once.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Closed, all of them, to end their threads.
    open: BTreeMap<u64, TcpStream>,
    threads: Vec<JoinHandle<()>>,
    /// The process that speaks for a replica, and when it last did.
    speakers: BTreeMap<ReplicaId, (u64, Instant)>,
    stopped: bool,
}

/// What a connection's thread works with.
#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    bulk: Bulk,
    handler: Arc<dyn PeerHandler>,
}

impl Listener {
    /// `Error::Network` with what to do if the port is in use.
    pub fn bind(listen: &str) -> Result<Listener, Error> {
        let failed = |source: io::Error| Error::Network {
            attempt: "listen on",
            address: listen.to_string(),
            source: match source.kind() {
                ErrorKind::AddrInUse => io::Error::new(
                    ErrorKind::AddrInUse,
                    "the port is in use; stop the process that has it, or choose another port \
                     with --listen",
                ),
                ErrorKind::AddrNotAvailable => io::Error::new(
                    ErrorKind::AddrNotAvailable,
                    "this host has no such address; --listen takes one of its own",
                ),
                _ => source,
            },
        };
        let socket = TcpListener::bind(listen).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address, state: Mutex::default() })
    }

    /// The real one, when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn run(
        &self,
        shared: Arc<Shared>,
        bulk: Bulk,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<(), Error> {
        let context = Context { shared, bulk, handler };
        let thread = std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || accept(&context))
            .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
        self.state.lock().threads.push(thread);
        Ok(())
    }

    pub(super) fn stop(&self) {
        let threads = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            std::mem::take(&mut state.threads)
        };
        // SAFETY: the socket is open; shutting it down wakes `accept`.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn accept(context: &Context) {
    let listener = &context.shared.listener;
    while !context.shared.stopping() {
        match listener.socket.accept() {
            Ok((stream, from)) => {
                if let Err(error) = serve(context, stream) {
                    warn!("connection from {from}: {error}");
                }
            }
            Err(_) if context.shared.stopping() => {}
            Err(error) => {
                warn!("cannot accept connections: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Starts the thread of one connection.
fn serve(context: &Context, stream: TcpStream) -> io::Result<()> {
    socket::prepare(&stream)?;
    let mut state = context.shared.listener.state.lock();
    if state.stopped {
        return Ok(());
    }
    if state.open.len() >= CONNECTIONS_MAX {
        return Err(io::Error::other(format!("refused: {CONNECTIONS_MAX} are open already")));
    }
    state.next += 1;
    let number = state.next;
    state.open.insert(number, stream.try_clone()?);
    let context = context.clone();
    let thread = std::thread::Builder::new().name("from-peer".into()).spawn(move || {
        let result = converse(&context, Frames::new(stream));
        context.shared.listener.state.lock().open.remove(&number);
        match result {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) if !context.shared.stopping() => info!("a connection ended: {error}"),
            _ => {}
        }
    })?;
    state.threads.retain(|thread| !thread.is_finished());
    state.threads.push(thread);
    Ok(())
}

fn converse(context: &Context, mut frames: Frames) -> io::Result<()> {
    frames.set_timeout(Some(HELLO_TIMEOUT))?;
    let hello: Hello = frames.expect(kind::HELLO)?;
    let verdict = context.shared.judge(&hello).and_then(|welcome| {
        if hello.purpose == Purpose::Messages {
            context.shared.listener.admit(&hello)?;
        }
        Ok(welcome)
    });
    frames.send(kind::WELCOME, &verdict)?;
    if let Err(why) = verdict {
        let from = frames.stream().peer_addr()?;
        warn!("turned away replica {} ({}) at {from}: {why}", hello.from, hello.name);
        return Ok(());
    }
    match hello.purpose {
        Purpose::Messages => read_messages(context, frames, &hello),
        Purpose::Bulk => context.bulk.answer(hello.from, frames),
        Purpose::Join => answer_join(context, frames),
    }
}

impl Listener {
    /// One process speaks for a replica: a second one, on a copy of its data directory, is refused.
    fn admit(&self, hello: &Hello) -> Result<(), String> {
        let mut state = self.state.lock();
        if let Some(&(start, heard)) = state.speakers.get(&hello.from)
            && start != hello.start
            && heard.elapsed() < ALIVE
        {
            return Err(format!(
                "another process speaks as replica {} ({}) now; if this one runs on a copy of its \
                 data directory, stop it and let it join with an empty directory",
                hello.from, hello.name
            ));
        }
        state.speakers.insert(hello.from, (hello.start, Instant::now()));
        Ok(())
    }

    fn speaks(&self, hello: &Hello) {
        self.state.lock().speakers.insert(hello.from, (hello.start, Instant::now()));
    }

    /// The connection has ended: whoever dials next may speak.
    fn leaves(&self, hello: &Hello) {
        let mut state = self.state.lock();
        if state.speakers.get(&hello.from).is_some_and(|speaker| speaker.0 == hello.start) {
            state.speakers.remove(&hello.from);
        }
    }
}

fn read_messages(context: &Context, mut frames: Frames, hello: &Hello) -> io::Result<()> {
    frames.set_timeout(None)?;
    let read = |frames: &mut Frames| -> io::Result<Vec<PeerMessage>> {
        let mut batch = Vec::new();
        loop {
            let (kind, payload) = frames.next_frame()?;
            if kind == kind::MESSAGE {
                batch.push(decode(payload)?);
            }
            if batch.len() >= BATCH_MAX || !frames.has_frame()? {
                return Ok(batch);
            }
        }
    };
    let mut met = false;
    loop {
        let come = read(&mut frames).and_then(|batch| {
            // Who says something has taken the welcome, and found that it is who it says.
            if !met {
                let met = context.handler.meet(hello.from, hello.incarnation, hello.start);
                met.map_err(io::Error::other)?;
            }
            met = true;
            context.shared.is_still(hello).then_some(batch).ok_or_else(|| {
                io::Error::other(format!("{} is another data directory now", hello.name))
            })
        });
        match come {
            Ok(batch) => {
                context.shared.heard(hello.from);
                context.shared.listener.speaks(hello);
                context.handler.received(hello.from, batch);
            }
            Err(error) => {
                context.shared.listener.leaves(hello);
                return Err(error);
            }
        }
    }
}

fn answer_join(context: &Context, mut frames: Frames) -> io::Result<()> {
    if let PeerMessage::Join { id, name, address, incarnation } = frames.expect(kind::MESSAGE)? {
        let result = context.handler.join(&name, &address, incarnation);
        frames.send(kind::MESSAGE, &PeerMessage::MemberAnswer { id, result })?;
    }
    Ok(())
}
