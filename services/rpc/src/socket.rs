//! A socket to which small frames go together.
//!
//! What answers a call is three frames: headers, message, trailers. Where a socket takes several
//! buffers at a time, h2 gives it a message of 256 bytes or more as a buffer of its own, and has to
//! write that before it can take another frame: two writes for most answers, the second of ten bytes.
//! Where it takes one at a time, h2 copies messages of less than 1 KiB beside their headers, and one
//! write takes the answers that are ready.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that takes one buffer at a time.
pub(crate) struct Socket {
    socket: TcpStream,
    /// What was read already, and is handed out once more.
    unread: &'static [u8],
}

impl Socket {
    /// # Errors
    ///
    /// The socket is gone.
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        // A small answer must not wait for a larger one to share its packet.
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            unread: &[],
        })
    }

    /// It, with bytes that were read already to be read first.
    pub(crate) fn with_unread(self, unread: &'static [u8]) -> Self {
        Self { unread, ..self }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let (now, later) = self
            .unread
            .split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

/// Not vectored, by what the trait offers for that.
impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn h2_is_told_to_put_small_messages_beside_their_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("has one");
        let socket = TcpStream::connect(address).await.expect("listens");
        assert!(
            socket.is_write_vectored(),
            "otherwise there is nothing to do"
        );
        let socket = Socket::new(socket).expect("is open");
        assert!(!socket.is_write_vectored());
        assert!(socket.socket.nodelay().expect("is open"));
    }
}
