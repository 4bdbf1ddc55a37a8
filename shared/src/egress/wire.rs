//! The stream below an SMTP dialogue that begins in the clear: it hands out one line at a time.
//!
//! What a server says before TLS must not be taken for something that it said inside. A reader that
//! holds more than one line ahead would keep what came behind the word that TLS may begin, and believe it
//! afterwards. This one holds no more than a line, so what came behind is what TLS is offered as its
//! first bytes, and TLS breaks off. A line without an end is an error.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that are taken from the connection at once.
const CHUNK: usize = 4096;
/// The longest line; RFC 5321 has 512 bytes.
const MAX_LINE: usize = 64 * 1024;

/// A connection that is read by lines.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    ahead: Vec<u8>,
    /// What of `ahead` was handed out.
    given: usize,
    /// Bytes that were handed out since a line ended.
    line: usize,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            ahead: Vec::new(),
            given: 0,
            line: 0,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let mut read = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
        self.ahead.clear();
        self.ahead.extend_from_slice(read.filled());
        self.given = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.given == wire.ahead.len() {
            ready!(wire.poll_chunk(cx))?;
        }
        let rest = &wire.ahead[wire.given..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let given = end.map_or(rest.len(), |end| end + 1).min(buf.remaining());
        buf.put_slice(&rest[..given]);
        wire.given += given;
        wire.line = match end {
            Some(end) if end < given => 0,
            _ => wire.line + given,
        };
        match wire.line > MAX_LINE {
            true => Poll::Ready(Err(io::Error::other("the server's line does not end"))),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}
