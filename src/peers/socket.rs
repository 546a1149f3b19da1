//! Sockets as both ends want them.

use std::io::{self, IoSlice, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A host that answers takes milliseconds; one that does not is tried again soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes unacknowledged for this long end a connection: a host that vanished is noticed although
/// the send buffer has room, and a healed network is dialled anew instead of waited for.
const UNACKNOWLEDGED_MAX_MS: libc::c_int = 3000;
/// A silent connection is probed, so that one whose other end vanished does not stay for ever.
const KEEP_ALIVE_SECS: libc::c_int = 5;
const KEEP_ALIVE_PROBES: libc::c_int = 3;

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
    set(stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set(stream, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEP_ALIVE_SECS)?;
    set(stream, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEP_ALIVE_SECS)?;
    set(stream, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEP_ALIVE_PROBES)?;
    set(stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, UNACKNOWLEDGED_MAX_MS)
}

/// Writes as much as there is room for now; `WouldBlock` if there is none, also on a socket that
/// blocks.
pub struct Now<'a>(pub &'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: all zeros is a valid msghdr: no name, no pieces, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // An IoSlice is an iovec, and sendmsg writes to none.
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the descriptor is open, and the pieces live as long as the call that reads them.
        let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &message, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the other side has said something, or closed.
pub fn is_readable(stream: &TcpStream) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    // SAFETY: the descriptor is open, and `byte` lives as long as the call that writes it.
    unsafe { libc::recv(stream.as_raw_fd(), (&raw mut byte).cast(), 1, flags) >= 0 }
}

fn set(
    stream: &TcpStream,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open, and `value` lives as long as the call that reads it.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
