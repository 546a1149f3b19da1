//! One TLS connection over a socket: the only way anything travels between processes.

use super::identity::{Subject, subject_of};
use super::socket;
use rustls::{AlertDescription, CertificateError, ClientConfig, Connection, ServerConnection};
use rustls::{ClientConnection, pki_types::ServerName};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one system call reads at most: several records, or many small messages.
const AHEAD_BYTES: usize = 64 << 10;
/// What is encrypted before it is written, at most.
const SEALED_BYTES: usize = 64 << 10;
/// Certificates know processes, not hosts; TLS wants a name all the same.
const SERVER_NAME: &str = "keepfs";

/// An encrypted connection, past its handshake.
pub struct Wire {
    stream: Arc<TcpStream>,
    tls: Connection,
    /// What was read and is not decrypted yet is `ahead[used..filled]`.
    ahead: Vec<u8>,
    used: usize,
    filled: usize,
    /// By when everything must be over.
    deadline: Option<Instant>,
}

impl Wire {
    /// Shakes hands as the dialler. All of it, and what follows until [`Wire::set_timeout`], takes
    /// at most `within`.
    pub fn dial(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        within: Duration,
    ) -> io::Result<Wire> {
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let tls = ClientConnection::new(config, name).map_err(refused)?;
        let mut wire = Wire::new(stream, tls.into());
        wire.deadline = Some(Instant::now() + within);
        while wire.tls.is_handshaking() {
            wire.push()?;
            if wire.tls.is_handshaking() {
                wire.pull()?;
            }
        }
        wire.push()?;
        Ok(wire)
    }

    /// A connection that has shaken hands already, on a blocking socket.
    pub fn accepted(stream: TcpStream, tls: ServerConnection) -> Wire {
        Wire::new(stream, tls.into())
    }

    fn new(stream: TcpStream, mut tls: Connection) -> Wire {
        tls.set_buffer_limit(None);
        let stream = Arc::new(stream);
        Wire { stream, tls, ahead: Vec::new(), used: 0, filled: 0, deadline: None }
    }

    /// Whom the other end has proved to be.
    pub fn subject(&self) -> io::Result<Subject> {
        subject_of(self.tls.peer_certificates())
            .map_err(|why| io::Error::new(ErrorKind::PermissionDenied, why))
    }

    pub fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// No read or write shall take longer; `None`: for ever (probes still end a dead connection).
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)
    }

    /// Sends all of it.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(SEALED_BYTES) {
            self.tls.writer().write_all(piece)?;
            self.push()?;
        }
        Ok(())
    }

    /// Sends as much as the socket has room for now; the rest is kept for [`Wire::push`]. Whether
    /// that was all.
    pub fn send_now(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut socket::Now(&self.stream)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
        }
        Ok(true)
    }

    /// Sends what is encrypted and not sent yet.
    pub fn push(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.hurry()?;
            self.tls.write_tls(&mut &*self.stream).map_err(name_timeout)?;
        }
        Ok(())
    }

    /// Reads and decrypts what has come, at least one byte of it, or notes that no more will.
    fn pull(&mut self) -> io::Result<()> {
        if self.used == self.filled {
            self.hurry()?;
            self.ahead.resize(AHEAD_BYTES, 0);
            self.filled = (&*self.stream).read(&mut self.ahead).map_err(name_timeout)?;
            self.used = 0;
        }
        let mut come = &self.ahead[self.used..self.filled];
        let taken = self.tls.read_tls(&mut come)?;
        if taken == 0 && self.tls.is_handshaking() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.used += taken;
        let processed = self.tls.process_new_packets();
        processed.map(drop).map_err(|error| {
            // The other side shall hear why.
            let _ = self.tls.write_tls(&mut socket::Now(&self.stream));
            refused(error)
        })
    }

    /// Lets the next system call take what is left of the time.
    fn hurry(&self) -> io::Result<()> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(name_timeout(ErrorKind::WouldBlock.into()));
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pull()?,
                other => return other,
            }
        }
    }
}

/// A socket timeout is told as `WouldBlock`, which says nothing to people.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "the peer did not answer"),
        _ => error,
    }
}

/// TLS's errors as sentences; `PermissionDenied` if they are about who is who.
pub fn refused(error: rustls::Error) -> io::Error {
    use AlertDescription as Alert;
    let denied = |text: &str| io::Error::new(ErrorKind::PermissionDenied, text);
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => denied(
            "the other side's certificate is not of this cluster: do both have the same key?",
        ),
        rustls::Error::InvalidCertificate(_) => {
            denied("the other side's certificate is none that keepfs makes")
        }
        rustls::Error::AlertReceived(Alert::UnknownCA) => denied(
            "the other side does not believe this one's certificate: do both have the same key?",
        ),
        rustls::Error::NoCertificatesPresented => denied("it shows no certificate"),
        rustls::Error::InvalidMessage(_) => {
            io::Error::new(ErrorKind::InvalidData, "what it says is not TLS")
        }
        other => io::Error::new(ErrorKind::InvalidData, format!("TLS: {other}")),
    }
}
