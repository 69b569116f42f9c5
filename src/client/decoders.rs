//! What this layer reads, for fuzz tests.

use actix_codec::Decoder as _;
use actix_http::ws::{Codec, Frame};
use bytes::BytesMut;
use jiff::Timestamp;

use super::{
    download::content_range,
    excerpt::{excerpt, shown},
    frame_bound::BoundedCodec,
    socket::{Messages, event},
    status::{self, Refusal, retry_after},
};

/// The most bytes of a message of the fuzzed socket.
const MOST: usize = 1 << 16;

/// The bytes of an event socket, from the first frame on.
pub(crate) fn frames(bytes: &[u8]) {
    let mut codec = BoundedCodec::new(Codec::new().client_mode().max_size(MOST), MOST);
    let (mut bytes, mut messages) = (BytesMut::from(bytes), Messages::new(MOST));
    while let Ok(Some(frame)) = codec.decode(&mut bytes) {
        let whole = match frame {
            Frame::Text(text) => event(&text).map(drop),
            Frame::Continuation(item) => {
                messages.join(item).and_then(|whole| whole.map_or(Ok(()), |whole| event(&whole).map(drop)))
            }
            Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => Ok(()),
        };
        if let Err(failure) = whole {
            assert!(failure.to_string().len() < 20_000);
            return;
        }
    }
}

/// An answer that is a refusal: two bytes of status, its headers a line each, and its body.
pub(crate) fn refusal(bytes: &[u8]) {
    let Some((status, rest)) = bytes.split_first_chunk::<2>() else { return };
    let mut parts = rest.splitn(4, |byte| *byte == b'\n');
    let mut header = || std::str::from_utf8(parts.next()?).ok();
    let (wait, location, content_type) = (header(), header(), header());
    let body = parts.next().unwrap_or_default();
    let status = 100 + u16::from_be_bytes(*status) % 600;
    let failure = status::failure(&Refusal { status, retry_after: wait, location, content_type, body });
    let words = failure.to_string();
    assert!(words.len() < 20_000 && !words.contains('\u{1b}'), "{words:?}");
    assert!(excerpt(body).chars().count() <= 83);
    assert!(!shown(&String::from_utf8_lossy(body)).contains('\u{1b}'));
}

/// Single values of headers.
pub(crate) fn header(text: &str) {
    if let Some(wait) = retry_after(text, Timestamp::UNIX_EPOCH) {
        assert!(wait.as_secs() <= 3600);
    }
    let _ = content_range(text);
}
