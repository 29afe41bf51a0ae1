//! How large a request message may be.
//!
//! Small on purpose: a message of empty elements expands a hundredfold when it is decoded. The size
//! that a message declares is enough to refuse it, so nothing is held for one that is too large,
//! and it is refused where it comes in, before a gateway passes it on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

use crate::status::{broken_transport, too_large_problem};

/// Most bytes of one request message.
pub const MESSAGE_MAX_BYTES: u32 = 256 * 1024;

/// Bytes before each message: a flag, and the length as 32 bits, big endian.
const PREFIX_BYTES: u8 = 5;

pin_project! {
    /// A request body whose messages are all small enough, or which ends in RESOURCE_EXHAUSTED.
    pub(crate) struct Limited<B> {
        #[pin]
        inner: B,
        place: Place,
    }
}

/// Where in the sequence of messages the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of a prefix are in, and this is the length as far as they tell.
    Prefix { bytes: u8, length: u32 },
    /// So many bytes of a message are still to come.
    Message { left: usize },
}

const START: Place = Place::Prefix {
    bytes: 0,
    length: 0,
};

/// A message declares a length above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLarge;

impl Place {
    /// Walks over the next bytes of the body.
    fn over(mut self, mut data: &[u8]) -> Result<Self, TooLarge> {
        while let Some((&first, rest)) = data.split_first() {
            self = match self {
                // The first byte of a prefix is the flag of compression, the other four the length.
                Self::Prefix { bytes: 0, .. } => {
                    data = rest;
                    Self::Prefix {
                        bytes: 1,
                        length: 0,
                    }
                }
                Self::Prefix { bytes, length } => {
                    data = rest;
                    let length = (length << 8) | u32::from(first);
                    if bytes + 1 < PREFIX_BYTES {
                        Self::Prefix {
                            bytes: bytes + 1,
                            length,
                        }
                    } else if length > MESSAGE_MAX_BYTES {
                        return Err(TooLarge);
                    } else {
                        Self::Message {
                            left: length as usize,
                        }
                    }
                }
                Self::Message { left } => {
                    let taken = left.min(data.len());
                    data = data.get(taken..).unwrap_or_default();
                    Self::Message { left: left - taken }
                }
            };
            if self == (Self::Message { left: 0 }) {
                self = START;
            }
        }
        Ok(self)
    }
}

impl<B> Limited<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            place: START,
        }
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = match ready!(this.inner.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(broken_transport(error)))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            match this.place.over(data) {
                Ok(place) => *this.place = place,
                Err(TooLarge) => return Poll::Ready(Some(Err(too_large_problem().into()))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(5 + length as usize, 7);
        bytes
    }

    #[test]
    fn row_37_the_declared_length_decides() {
        let mut prefix = message(0);
        prefix[1..5].copy_from_slice(&(MESSAGE_MAX_BYTES + 1).to_be_bytes());
        assert_eq!(START.over(&prefix), Err(TooLarge));
        assert_eq!(START.over(&[0, 0xff, 0xff, 0xff, 0xff]), Err(TooLarge));
        assert_eq!(START.over(&message(MESSAGE_MAX_BYTES)), Ok(START));
    }

    proptest! {
        /// However the bytes are cut into frames, the same messages are found.
        #[test]
        fn cuts_do_not_matter(
            lengths in prop::collection::vec(0_u32..300, 0..8),
            cuts in prop::collection::vec(1_usize..50, 1..20),
            too_large in any::<bool>(),
        ) {
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
            if too_large {
                bytes.extend([0, 0, 4, 0, 1]);
            }
            let mut place = Ok(START);
            let mut rest = &bytes[..];
            let mut cuts = cuts.into_iter().cycle();
            while let (false, Some(cut)) = (rest.is_empty(), cuts.next()) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                place = place.and_then(|place| place.over(now));
                rest = later;
            }
            prop_assert_eq!(place, if too_large { Err(TooLarge) } else { Ok(START) });
        }
    }
}
