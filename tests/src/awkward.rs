//! Clients that make it hard to stop: bytes on a socket, by hand, and then silence. They never read,
//! so that they acknowledge nothing: no settings, no ping.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, flags and settings (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// How a client is awkward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awkward {
    /// Connects and says nothing.
    Silent,
    /// Begins as HTTP/2 does, and then says nothing.
    Idle,
    /// Sends half a request: the body never ends.
    Half,
    /// Asks for a stream, and has no room for any of it.
    Slow,
}

impl Awkward {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::Idle, Self::Half, Self::Slow];

    /// Connects to `address` and does what it does, with this token; the connection stays open until
    /// it is dropped.
    ///
    /// # Errors
    ///
    /// The other side does not take it.
    pub async fn connect(self, address: &str, token: &str) -> std::io::Result<TcpStream> {
        let mut socket = TcpStream::connect(address).await?;
        let mut bytes = Vec::new();
        if self != Self::Silent {
            bytes.extend(PREFACE);
            let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
            settings.extend(0_u32.to_be_bytes());
            frame(&mut bytes, SETTINGS, 0, 0, &settings);
        }
        let path = match self {
            Self::Silent | Self::Idle => None,
            Self::Half => Some("/coalition.earn.v1.EarnService/Earn"),
            Self::Slow => Some("/coalition.settlement.v1.SettlementService/Verify"),
        };
        if let Some(path) = path {
            frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers(path, token));
            let (message, flags) = match self {
                // The prefix of a message of a hundred bytes, and a few of them.
                Self::Half => (&[0, 0, 0, 0, 100, 10, 3][..], 0),
                _ => (&[0, 0, 0, 0, 0][..], END_STREAM),
            };
            frame(&mut bytes, DATA, flags, 1, message);
        }
        socket.write_all(&bytes).await?;
        Ok(socket)
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame");
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// Headers of a call, each a literal without Huffman's code and without a place in the table (RFC
/// 7541, section 6.2.2).
fn headers(path: &str, token: &str) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "awkward"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", &authorization),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A text with its length: seven bits, and more bytes where they do not suffice (RFC 7541, section
/// 5.1).
fn text(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    match text.len().checked_sub(PREFIX_MAX) {
        None => block.push(u8::try_from(text.len()).expect("below 127")),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).expect("seven bits"));
        }
    }
    block.extend(text.as_bytes());
}
