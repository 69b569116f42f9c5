use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// What a frame of a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Text of a command's standard output.
    Stdout,
    /// Text of a command's standard error.
    Stderr,
    /// An event as JSON.
    Event,
    /// An event as JSON that tells how something ended: those are looked for again.
    Result,
    /// Nothing: output was left out here, for the log is full.
    Cut,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where the log goes on behind it.
    pub(crate) end: u64,
    pub(crate) kind: FrameKind,
    pub(crate) payload: Bytes,
}

/// Kind, length, and a check of both and of the place: a position that is the beginning of no frame is noticed.
pub(super) const HEADER: usize = 9;

/// The most bytes in a frame.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Event => 3,
            Self::Result => 4,
            Self::Cut => 5,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Event),
            4 => Some(Self::Result),
            5 => Some(Self::Cut),
            _ => None,
        }
    }
}

/// A frame as it is written at this place of a log.
pub(super) fn encode(at: u64, kind: FrameKind, payload: &[u8]) -> BytesMut {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
    bytes.put_u8(kind.code());
    bytes.put_u32(length);
    bytes.put_u32(check(at, kind.code(), length));
    bytes.put_slice(payload);
    bytes
}

/// The kind and length of the frame that begins here; `None` where none does.
pub(super) fn header(at: u64, mut bytes: &[u8]) -> Option<(FrameKind, usize)> {
    if bytes.len() < HEADER {
        return None;
    }
    let (code, length, found) = (bytes.get_u8(), bytes.get_u32(), bytes.get_u32());
    let kind = FrameKind::of(code)?;
    let length_here = usize::try_from(length).ok()?;
    (found == check(at, code, length) && length_here <= MAX_PAYLOAD).then_some((kind, length_here))
}

/// FNV-1a.
fn check(at: u64, code: u8, length: u32) -> u32 {
    let bytes = at.to_le_bytes().into_iter().chain([code]).chain(length.to_le_bytes());
    bytes.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_at_its_own_place_only() {
        let bytes = encode(70, FrameKind::Stderr, b"text");
        assert_eq!(header(70, &bytes), Some((FrameKind::Stderr, 4)));
        assert_eq!(header(71, &bytes), None);
        assert_eq!(header(70, &bytes[..HEADER - 1]), None);
    }
}
