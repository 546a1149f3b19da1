//! Sockets as both ends want them.

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg, sockopt};
use std::io::{self, IoSlice, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A host that answers takes milliseconds; one that does not is tried again soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes unacknowledged for this long end a connection: a host that vanished is noticed although
/// the send buffer has room, and a healed network is dialled anew instead of waited for.
const UNACKNOWLEDGED_MAX_MS: u32 = 3000;
/// A silent connection is probed, so that one whose other end vanished does not stay for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_PROBES: u32 = 3;

/// Connects to any of the addresses `HOST:PORT` means now (names are looked up at each dial).
pub fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => {
                prepare(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Low latency, and an end to connections whose other side is gone.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES)?;
    Ok(sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MAX_MS)?)
}

/// Writes as much as there is room for now; `WouldBlock` if there is none, also on a socket that
/// blocks.
pub struct Now<'a>(pub &'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(self.0, pieces, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the other side has said something, or closed.
pub fn is_readable(stream: &TcpStream) -> bool {
    recv(stream, &mut [0u8], RecvFlags::DONTWAIT | RecvFlags::PEEK).is_ok()
}
