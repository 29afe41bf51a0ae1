//! A socket to which small frames go together.
//!
//! What answers a call is three frames: headers, message, trailers. Where a socket takes several
//! buffers at a time, h2 gives it a message of 256 bytes or more as a buffer of its own, and has to
//! write that before it can take another frame: two writes for most answers, the second of ten bytes.
//! Where it takes one at a time, h2 copies messages of less than 1 KiB beside their headers, and one
//! write takes the answers that are ready.
//!
//! A batch answers many calls at once, and by turns: the first answer of a connection would be written
//! before the second is made. So what is to be written waits until the tasks that are ready have had their
//! turn; what they answer goes with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that takes one buffer at a time, and not before others had their turn.
pub(crate) struct Socket {
    stream: TcpStream,
    /// What was read already, and is handed out once more.
    unread: &'static [u8],
    turn: Turn,
}

/// Where what is to be written stands among the tasks that are ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Its task has this turn by accident.
    First,
    /// It comes after all that are ready.
    Awaited,
    /// It has come: whatever is written before the next read goes at once.
    Come,
}

impl Socket {
    /// # Errors
    ///
    /// The socket is gone.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        // A small answer must not wait for a larger one to share its packet.
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: &[],
            turn: Turn::First,
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
        if self.turn == Turn::Come {
            self.turn = Turn::First;
        }
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
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
        if self.turn == Turn::First {
            self.turn = Turn::Awaited;
            // A task that wakes itself comes after all that are ready.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turn = Turn::Come;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("has one");
        let here = TcpStream::connect(address).await.expect("listens");
        let (there, _) = listener.accept().await.expect("is connected");
        (here, there)
    }

    #[tokio::test]
    async fn h2_is_told_to_put_small_messages_beside_their_headers() {
        let (socket, _there) = pair().await;
        assert!(
            socket.is_write_vectored(),
            "otherwise there is nothing to do"
        );
        let socket = Socket::new(socket).expect("is open");
        assert!(!socket.is_write_vectored());
        assert!(socket.stream.nodelay().expect("is open"));
    }

    /// What several tasks put in a buffer, as h2 has one for each connection, goes in one write.
    #[tokio::test]
    async fn what_others_answer_in_their_turn_goes_in_the_same_write() {
        let (here, mut there) = pair().await;
        let mut socket = Socket::new(here).expect("is open");
        for round in 0..3 {
            let buffer = Arc::new(Mutex::new(vec![0_u8]));
            let others = (1..4).map(|other| {
                let buffer = Arc::clone(&buffer);
                tokio::spawn(async move { buffer.lock().expect("is whole").push(other) })
            });
            let others: Vec<_> = others.collect();
            let written = poll_fn(|cx| {
                let bytes = buffer.lock().expect("is whole").clone();
                Pin::new(&mut socket).poll_write(cx, &bytes)
            });
            assert_eq!(written.await.expect("is open"), 4, "in round {round}");
            socket.flush().await.expect("is open");
            for other in others {
                other.await.expect("ends");
            }
            let mut nothing = [0];
            let reading = socket.read(&mut nothing).now_or_never();
            assert!(reading.is_none(), "as h2 does in each turn");
            let mut received = [9; 4];
            there.read_exact(&mut received).await.expect("is open");
            assert_eq!(received, [0, 1, 2, 3]);
        }
    }
}
