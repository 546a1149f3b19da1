//! The way in: who has come through the [`super::gate`] is judged, and read on a thread each.

use super::bulk::Bulk;
use super::connection::{Frames, decode, invalid, kind};
use super::gate::{Arrival, First, Gate};
use super::hello::{Hello, Purpose, Standing, TurnedAway};
use super::identity::{Role, Subject};
use super::quiet::Quiet;
use super::{PeerHandler, Shared, redemption};
use crate::error::Error;
use crate::replica::PeerMessage;
use crate::tree::ReplicaId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections at once of those who have shown a certificate: some for each replica.
const CONNECTIONS_MAX: usize = 256;
/// Of these, for mounts,
const MOUNTS_MAX: usize = 192;
/// and for those that came by one token.
const CONNECTIONS_OF_A_TOKEN_MAX: usize = 64;
/// After a failure to accept, such as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
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
    /// What peers' frames make of the log.
    log: Quiet,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Closed, all of them, to end their threads.
    open: BTreeMap<u64, Open>,
    threads: Vec<JoinHandle<()>>,
    /// The process that speaks for a replica, and when it last did.
    speakers: BTreeMap<ReplicaId, (u64, Instant)>,
    stopped: bool,
}

/// One connection, and whose it is.
struct Open {
    stream: Arc<TcpStream>,
    party: Party,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Replica(ReplicaId),
    /// By the token that it came by.
    Mount(u64),
    /// One that joins.
    Newcomer,
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
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Listener { socket, address, state: Mutex::default(), log: Quiet::default() })
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
            state.open.values().for_each(Open::close);
            std::mem::take(&mut state.threads)
        };
        // That wakes `poll`.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Party {
    fn of(subject: &Subject, hello: &Hello) -> Party {
        match subject.role {
            Role::Mount => Party::Mount(subject.incarnation),
            Role::Replica if hello.from.0 == 0 => Party::Newcomer,
            Role::Replica => Party::Replica(hello.from),
        }
    }
}

impl State {
    /// Mounts leave room for replicas, and each for the others.
    fn has_room_for(&self, party: Party) -> io::Result<()> {
        let open =
            |of: &dyn Fn(&Party) -> bool| self.open.values().filter(|open| of(&open.party)).count();
        let is_mount = matches!(party, Party::Mount(_));
        let (count, most) = match () {
            () if is_mount && open(&|other| *other == party) >= CONNECTIONS_OF_A_TOKEN_MAX => {
                ("its token", CONNECTIONS_OF_A_TOKEN_MAX)
            }
            () if is_mount && open(&|other| matches!(other, Party::Mount(_))) >= MOUNTS_MAX => {
                ("mounts", MOUNTS_MAX)
            }
            () if self.open.len() >= CONNECTIONS_MAX => ("all", CONNECTIONS_MAX),
            () => return Ok(()),
        };
        Err(io::Error::other(format!("refused: {most} connections of {count} are open already")))
    }
}

impl Open {
    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn accept(context: &Context) {
    let listener = &context.shared.listener;
    let mut gate = Gate::default();
    while !context.shared.stopping() {
        match gate.wait(&listener.socket, || context.shared.credentials().server()) {
            Ok(arrivals) => {
                for arrival in arrivals {
                    let from = arrival.from;
                    if let Err(error) = serve(context, arrival) {
                        listener.log.warn(format_args!("connection from {from}: {error}"));
                    }
                }
            }
            Err(_) if context.shared.stopping() => {}
            Err(error) => {
                listener.log.warn(format_args!("cannot accept connections: {error}"));
                std::thread::sleep(ACCEPT_AGAIN);
            }
        }
    }
}

/// Starts the thread of one connection, of one that has shown who it is, or a token.
fn serve(context: &Context, arrival: Arrival) -> io::Result<()> {
    let party = match &arrival.first {
        First::Hello(hello) => Party::of(&arrival.wire.subject()?, hello),
        First::Redeem(redeem) if redemption::is_token(&context.shared, redeem) => Party::Newcomer,
        First::Redeem(_) => return Err(invalid("its token is not of this cluster")),
    };
    let mut state = context.shared.listener.state.lock();
    if state.stopped {
        return Ok(());
    }
    state.has_room_for(party)?;
    state.next += 1;
    let number = state.next;
    let stream = arrival.wire.stream().clone();
    state.open.insert(number, Open { stream, party });
    let context = context.clone();
    let thread = std::thread::Builder::new().name("from-peer".into()).spawn(move || {
        let address = arrival.from;
        let result = converse(&context, arrival);
        context.shared.listener.state.lock().open.remove(&number);
        match result {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) if !context.shared.stopping() => {
                let log = &context.shared.listener.log;
                log.warn(format_args!("connection from {address} is closed: {error}"));
            }
            _ => {}
        }
    })?;
    state.threads.retain(|thread| !thread.is_finished());
    state.threads.push(thread);
    Ok(())
}

fn converse(context: &Context, arrival: Arrival) -> io::Result<()> {
    let Arrival { wire, first, from } = arrival;
    let hello = match first {
        First::Hello(hello) => hello,
        First::Redeem(redeem) => {
            let frames = Frames::new(wire);
            return redemption::answer(&context.shared, &*context.handler, frames, &redeem);
        }
    };
    let subject = wire.subject()?;
    let mut frames = Frames::new(wire);
    let applied = context.handler.applied();
    let verdict =
        context.shared.judge(&subject, &hello, applied).and_then(|(welcome, standing)| {
            if hello.purpose == Purpose::Messages {
                context.shared.listener.admit(&subject.name, &hello)?;
            }
            Ok((welcome, standing))
        });
    frames.send(kind::WELCOME, &verdict.as_ref().map(|(welcome, _)| welcome))?;
    let standing = match verdict {
        Ok((_, standing)) => standing,
        Err(why) => {
            let name = &subject.name;
            let log = &context.shared.listener.log;
            log.warn(format_args!("turned away {name} (replica {}) at {from}: {why}", hello.from));
            return Ok(());
        }
    };
    match hello.purpose {
        Purpose::Messages => read_messages(context, frames, &subject, &hello, standing),
        Purpose::Bulk => {
            // A mount is no replica, whatever it calls itself.
            let from = if standing == Standing::Mount { ReplicaId(0) } else { hello.from };
            context.bulk.answer(from, standing, frames)
        }
        Purpose::Join => answer_join(context, frames, &subject),
    }
}

impl Listener {
    /// One process speaks for a replica: a second one, on a copy of its data directory, is refused.
    fn admit(&self, name: &str, hello: &Hello) -> Result<(), TurnedAway> {
        let mut state = self.state.lock();
        if let Some(&(start, heard)) = state.speakers.get(&hello.from)
            && start != hello.start
            && heard.elapsed() < ALIVE
        {
            return Err(TurnedAway {
                speaker: start,
                ..format!(
                    "another process speaks as replica {} ({name}) now; if this one runs on a copy \
                     of its data directory, stop it and let it join with an empty directory",
                    hello.from
                )
                .into()
            });
        }
        state.speakers.insert(hello.from, (hello.start, Instant::now()));
        Ok(())
    }

    /// Closes the connections of those who do not stay, at once.
    pub(super) fn cut(&self, stays: impl Fn(&Party) -> bool) {
        let state = self.state.lock();
        state.open.values().filter(|open| !stays(&open.party)).for_each(Open::close);
    }

    /// Another process may have begun to speak while this one stood still: then it is the one that
    /// is not heard any more.
    fn speaks(&self, hello: &Hello) -> io::Result<()> {
        let mut state = self.state.lock();
        let speaker = state.speakers.entry(hello.from).or_insert((hello.start, Instant::now()));
        if speaker.0 != hello.start {
            let text = format!("another process speaks as replica {} now", hello.from);
            return Err(io::Error::other(text));
        }
        speaker.1 = Instant::now();
        Ok(())
    }

    /// The connection has ended: whoever dials next may speak.
    fn leaves(&self, hello: &Hello) {
        let mut state = self.state.lock();
        if state.speakers.get(&hello.from).is_some_and(|speaker| speaker.0 == hello.start) {
            state.speakers.remove(&hello.from);
        }
    }
}

fn read_messages(
    context: &Context,
    mut frames: Frames,
    subject: &Subject,
    hello: &Hello,
    standing: Standing,
) -> io::Result<()> {
    frames.set_timeout(None)?;
    let read = |frames: &mut Frames| -> io::Result<Vec<PeerMessage>> {
        let mut batch = Vec::new();
        loop {
            let (kind, payload) = frames.next_frame()?;
            if kind != kind::MESSAGE {
                return Err(invalid(format!("frame of kind {kind} among messages")));
            }
            let message = decode(payload)?;
            if standing.may_say(&message) {
                batch.push(message);
            }
            if batch.len() >= BATCH_MAX || !frames.has_frame()? {
                return Ok(batch);
            }
        }
    };
    let mut met = false;
    loop {
        let come = read(&mut frames).and_then(|batch| {
            context.shared.listener.speaks(hello)?;
            // Who says something has taken the welcome, and found that it is who it says.
            if !met {
                let met = context.handler.meet(hello.from, subject.incarnation, hello.start);
                met.map_err(io::Error::other)?;
            }
            met = true;
            if !context.shared.is_still(hello.from, subject) {
                let text = format!("{} is another data directory now", subject.name);
                return Err(io::Error::other(text));
            }
            Ok(batch)
        });
        match come {
            Ok(batch) => {
                context.shared.heard(hello.from);
                context.handler.received(hello.from, batch);
            }
            Err(error) => {
                context.shared.listener.leaves(hello);
                return Err(error);
            }
        }
    }
}

/// One can only join as what its certificate says.
fn answer_join(context: &Context, mut frames: Frames, subject: &Subject) -> io::Result<()> {
    if let PeerMessage::Join { id, name, address, incarnation, level } =
        frames.expect(kind::MESSAGE)?
    {
        let result = match (&name, incarnation) == (&subject.name, subject.incarnation) {
            true => context.handler.join(&name, &address, incarnation, level),
            false => Err(format!("the certificate of {} is none for {name:?}", subject.name)),
        };
        frames.send(kind::MESSAGE, &PeerMessage::MemberAnswer { id, result })?;
    }
    Ok(())
}
