//! A bound on the frames of a socket that holds before they are there.

use actix_codec::{Decoder, Encoder};
use awc::{
    error::WsProtocolError,
    ws::{Codec, Frame, Message},
};
use bytes::BytesMut;

/// The codec of a socket that refuses a frame as soon as its head says that it is longer than may be. Without this such a
/// frame is collected to its end before it is refused, however long it is.
pub(crate) struct BoundedCodec {
    codec: Codec,
    most: u64,
}

impl BoundedCodec {
    /// A codec for frames of so many bytes at most.
    pub(crate) const fn new(codec: Codec, most: usize) -> Self {
        Self { codec, most: most as u64 }
    }
}

impl Decoder for BoundedCodec {
    type Item = Frame;
    type Error = WsProtocolError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, WsProtocolError> {
        if announced(bytes).is_some_and(|length| length > self.most) {
            return Err(WsProtocolError::Overflow);
        }
        self.codec.decode(bytes)
    }
}

impl Encoder<Message> for BoundedCodec {
    type Error = WsProtocolError;

    fn encode(&mut self, message: Message, bytes: &mut BytesMut) -> Result<(), WsProtocolError> {
        self.codec.encode(message, bytes)
    }
}

/// How many bytes behind its second one the head of a frame has for a length that has no room in that.
pub(crate) const fn extended(second: u8) -> usize {
    match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

/// How long the frame is that begins here, where enough of its head is there.
pub(crate) fn announced(bytes: &[u8]) -> Option<u64> {
    let second = *bytes.get(1)?;
    match bytes.get(2..2 + extended(second))? {
        [] => Some(u64::from(second & 0x7f)),
        length => Some(length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_known_as_soon_as_it_is_there() {
        for (bytes, length) in [
            (&[0x81][..], None),
            (&[0x81, 125], Some(125)),
            (&[0x81, 126, 1], None),
            (&[0x81, 126, 1, 2], Some(258)),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0], None),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], Some(65_536)),
        ] {
            assert_eq!(announced(bytes), length, "{bytes:?}");
        }
    }
}
