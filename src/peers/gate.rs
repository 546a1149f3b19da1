//! Connections of those who have not said who they are: one thread for all of them, and little
//! memory and time for each.
//!
//! Strangers can open connections as fast as they like. When as many wait as may, the oldest of
//! the address that has the most makes room: whoever comes with a certificate is done with this in
//! milliseconds, so that strangers keep nobody out.

use super::connection::{announced, decode, invalid, kind};
use super::frame;
use super::hello::{HELLO_TIMEOUT, Hello};
use super::quiet::Quiet;
use super::redemption::Redeem;
use super::socket;
use super::wire::{Wire, refused};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::{ServerConfig, ServerConnection};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that wait, at most.
pub const WAITING_MAX: usize = 256;
/// What one may send before it has said who it is, bytes: a handshake and a frame take a tenth of
/// it, and rustls keeps no more than this of it in memory.
const COME_BYTES_MAX: usize = 16 << 10;
/// Plaintext is read in steps of this.
const STEP_BYTES: usize = 1 << 10;

/// The connections that wait.
#[derive(Default)]
pub struct Gate {
    waiting: Vec<Stranger>,
    log: Quiet,
}

struct Stranger {
    stream: TcpStream,
    tls: ServerConnection,
    from: SocketAddr,
    since: Instant,
    /// Bytes that came.
    come: usize,
    /// What it said, in the clear.
    said: Vec<u8>,
}

/// What it says of itself.
pub enum First {
    /// It has a certificate.
    Hello(Hello),
    /// It has a token.
    Redeem(Redeem),
}

/// What becomes of one that was heard.
enum Next {
    Waits(Box<Stranger>),
    Arrives(Box<Arrival>),
}

/// One that has said who it is; the certificate says whether that is true.
pub struct Arrival {
    pub wire: Wire,
    pub first: First,
    pub from: SocketAddr,
}

impl Gate {
    /// Waits until somebody has said who it is, or connects, or has had its time.
    pub fn wait(
        &mut self,
        listener: &TcpListener,
        config: impl Fn() -> Arc<ServerConfig>,
    ) -> io::Result<Vec<Arrival>> {
        let ready = self.poll(listener)?;
        let mut arrivals = Vec::new();
        let waiting = std::mem::take(&mut self.waiting).into_iter().zip(&ready[1..]);
        for (mut stranger, ready) in waiting {
            let heard = match ready {
                true => stranger.listen(),
                false if stranger.since.elapsed() >= HELLO_TIMEOUT => {
                    Err(io::Error::new(ErrorKind::TimedOut, "it did not say who it is in time"))
                }
                false => Ok(None),
            };
            let (from, come) = (stranger.from, stranger.come);
            match heard.and_then(|first| stranger.goes_on(first)) {
                Ok(Next::Waits(stranger)) => self.waiting.push(*stranger),
                Ok(Next::Arrives(arrival)) => arrivals.push(*arrival),
                // Somebody looked whether the port is open.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && come == 0 => {}
                Err(error) => self.log.warn(complaint(from, &error)),
            }
        }
        if ready[0] {
            self.accept(listener, config)?;
        }
        Ok(arrivals)
    }

    /// Whom there is something to hear from: the listener first, then those who wait.
    fn poll(&self, listener: &TcpListener) -> io::Result<Vec<bool>> {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        fds.extend(self.waiting.iter().map(|one| {
            let writes = if one.tls.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&one.stream, PollFlags::IN | writes)
        }));
        let oldest = self.waiting.iter().map(|one| one.since).min();
        let left = oldest.map(|since| HELLO_TIMEOUT.saturating_sub(since.elapsed()));
        // The kernel's milliseconds: not a moment too early.
        let timeout = left.map(|left| left + Duration::from_millis(1));
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).expect("seconds"));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => Ok(vec![false; fds.len()]),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in all that have connected.
    fn accept(
        &mut self,
        listener: &TcpListener,
        config: impl Fn() -> Arc<ServerConfig>,
    ) -> io::Result<()> {
        loop {
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let prepared = socket::prepare(&stream).and_then(|()| stream.set_nonblocking(true));
            let tls = ServerConnection::new(config()).map_err(refused);
            match prepared.and(tls) {
                Ok(tls) => self.take_in(Stranger {
                    stream,
                    tls,
                    from,
                    since: Instant::now(),
                    come: 0,
                    said: Vec::new(),
                }),
                Err(error) => self.log.warn(complaint(from, &error)),
            }
        }
    }

    fn take_in(&mut self, stranger: Stranger) {
        if self.waiting.len() >= WAITING_MAX {
            let out = self.waiting.remove(self.least_likely());
            let text = format!("{WAITING_MAX} others wait that have not said who they are");
            self.log.warn(complaint(out.from, &io::Error::other(text)));
        }
        self.waiting.push(stranger);
    }

    /// The oldest of the address that has the most.
    fn least_likely(&self) -> usize {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for one in &self.waiting {
            *counts.entry(one.from.ip()).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
        self.waiting.iter().position(|one| Some(one.from.ip()) == most).unwrap_or(0)
    }
}

fn complaint(from: SocketAddr, error: &io::Error) -> String {
    format!("connection from {from} is closed: {error}")
}

impl Stranger {
    /// Takes what has come; what it says of itself, once that is whole.
    fn listen(&mut self) -> io::Result<Option<First>> {
        loop {
            self.speak()?;
            let left = (COME_BYTES_MAX - self.come) as u64;
            if left == 0 {
                return Err(invalid("it says much, but not who it is"));
            }
            match self.tls.read_tls(&mut (&self.stream).take(left)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.come += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Err(error) = self.tls.process_new_packets() {
                // It shall hear why.
                let _ = self.speak();
                return Err(refused(error));
            }
            if let Some(first) = self.hear()? {
                return Ok(Some(first));
            }
        }
    }

    /// Sends what TLS has to say, as far as there is room.
    fn speak(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut socket::Now(&self.stream)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
        }
        Ok(())
    }

    /// Its first frame, once that is whole.
    fn hear(&mut self) -> io::Result<Option<First>> {
        if self.tls.is_handshaking() {
            return Ok(None);
        }
        let mut step = [0; STEP_BYTES];
        loop {
            match self.tls.reader().read(&mut step) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.said.extend_from_slice(&step[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match announced(&self.said)? {
            Some((kind, _)) if kind != kind::HELLO && kind != kind::REDEEM => {
                return Err(invalid(format!("frame of kind {kind} where its name was due")));
            }
            _ => {}
        }
        let whole = frame::parse(&self.said).map_err(|error| invalid(error.to_string()))?;
        match whole {
            Some(frame) if frame.encoded_bytes() == self.said.len() => {
                let first = match frame.kind {
                    kind::REDEEM => First::Redeem(decode(frame.payload)?),
                    _ => First::Hello(decode(frame.payload)?),
                };
                Ok(Some(first))
            }
            Some(_) => Err(invalid("it goes on before it was answered")),
            None => Ok(None),
        }
    }

    /// Once it has said who it is, its connection is for a thread of its own.
    fn goes_on(mut self, first: Option<First>) -> io::Result<Next> {
        let Some(first) = first else { return Ok(Next::Waits(Box::new(self))) };
        self.speak()?;
        self.stream.set_nonblocking(false)?;
        let mut wire = Wire::accepted(self.stream, self.tls);
        wire.set_timeout(Some(HELLO_TIMEOUT))?;
        Ok(Next::Arrives(Box::new(Arrival { wire, first, from: self.from })))
    }
}
