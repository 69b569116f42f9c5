use std::{
    borrow::Cow,
    collections::VecDeque,
    fs::File,
    io,
    ops::Deref,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

/// The text of an output event.
#[derive(Debug)]
pub(super) enum Body {
    /// In memory.
    Memory(Box<str>),
    /// In a spill file, and for a while in memory too.
    Spilled { extent: Extent, recent: Weak<String> },
}

/// The text of a body, for a reader.
pub(super) enum Text<'a> {
    Kept(&'a str),
    Recent(Arc<String>),
    Read(String),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Recent(text) => text,
            Self::Read(text) => text,
        }
    }
}

impl Body {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(text) => text.len(),
            Self::Spilled { extent, .. } => extent.len,
        }
    }

    /// The text. Reads what is only in a spill file on a thread for blocking work.
    ///
    /// # Errors
    /// The spill file cannot be read.
    pub(super) async fn text(&self) -> io::Result<Text<'_>> {
        match self {
            Self::Memory(text) => Ok(Text::Kept(text)),
            Self::Spilled { extent, recent } => match recent.upgrade() {
                Some(text) => Ok(Text::Recent(text)),
                None => {
                    let extent = extent.clone();
                    tokio::task::spawn_blocking(move || extent.read()).await.map_err(io::Error::other)?.map(Text::Read)
                }
            },
        }
    }

    /// The text from `at` on, at most `most` bytes and at least one character of it. Reads what is only in a spill file
    /// on a thread for blocking work.
    pub(super) async fn piece(&self, at: usize, most: usize) -> io::Result<Cow<'_, str>> {
        let piece_of = |text: &'_ str| at..text.floor_char_boundary(at + most);
        match self {
            Self::Memory(text) => Ok(text[piece_of(text)].into()),
            Self::Spilled { extent, recent } => {
                // Not the whole of it: whoever waits for a slow client would keep it.
                if let Some(text) = recent.upgrade() {
                    return Ok(text[piece_of(&text)].to_owned().into());
                }
                let part = extent.part(at, most);
                Ok(tokio::task::spawn_blocking(move || part.read_whole_characters())
                    .await
                    .map_err(io::Error::other)??
                    .into())
            }
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Memory(text) => text.len(),
            Self::Spilled { .. } => 0,
        }
    }
}

/// A stretch of a spill file.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    segment: Arc<File>,
    offset: u64,
    len: usize,
}

impl Extent {
    /// Writes its text. Blocks.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        self.segment.write_all_at(text.as_bytes(), self.offset)
    }

    /// A part of it.
    fn part(&self, at: usize, most: usize) -> Self {
        let segment = Arc::clone(&self.segment);
        Self { segment, offset: self.offset + at as u64, len: most.min(self.len - at) }
    }

    /// Reads its text up to the last character that it holds whole. Blocks.
    fn read_whole_characters(&self) -> io::Result<String> {
        let mut bytes = self.read_bytes()?;
        match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => bytes.truncate(error.valid_up_to()),
            _ => {}
        }
        text(bytes)
    }

    /// Reads its text. Blocks.
    pub(super) fn read(&self) -> io::Result<String> {
        text(self.read_bytes()?)
    }

    fn read_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.segment.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// How much spilled text is in memory at once, where nobody else holds it.
const RECENT_BYTES: usize = 8 << 20;
/// What a text takes beside its bytes.
const RECENT_OVERHEAD: usize = 128;

/// The newest texts that were spilled: whoever follows a command reads them a moment later.
#[derive(Debug, Default)]
pub(super) struct Recent {
    texts: VecDeque<Arc<String>>,
    bytes: usize,
}

impl Recent {
    /// Keeps a text, and fewer of those before it.
    pub(super) fn keep(&mut self, text: Arc<String>) -> Weak<String> {
        let takes = |text: &String| text.capacity() + RECENT_OVERHEAD;
        let kept = Arc::downgrade(&text);
        self.bytes += takes(&text);
        self.texts.push_back(text);
        while self.bytes > RECENT_BYTES {
            self.bytes -= self.texts.pop_front().map_or(0, |text| takes(&text));
        }
        kept
    }
}

/// Hands out stretches of spill files.
///
/// The files have no names, so nothing is left of them when the process ends, and one is freed when the last event with
/// a body in it is forgotten. They are small, because one that is kept by a single event keeps its whole size.
#[derive(Debug)]
pub(super) struct Spill {
    folder: PathBuf,
    current: Option<(Arc<File>, u64)>,
}

const SEGMENT_BYTES: u64 = 16 << 20;

impl Spill {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), current: None }
    }

    /// A stretch for a text of this length, to be written by the caller.
    pub(super) fn reserve(&mut self, len: usize) -> io::Result<Extent> {
        let (segment, offset) = match self.current.take() {
            Some((segment, offset)) if offset < SEGMENT_BYTES => (segment, offset),
            _ => (Arc::new(tempfile::tempfile_in(&self.folder)?), 0),
        };
        self.current = Some((Arc::clone(&segment), offset + len as u64));
        Ok(Extent { segment, offset, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_texts_are_kept_up_to_a_size() {
        let mut recent = Recent::default();
        let texts: Vec<_> =
            (0..4).map(|_| recent.keep(Arc::new("x".repeat(RECENT_BYTES / 2 - RECENT_OVERHEAD)))).collect();
        assert_eq!(texts.iter().map(|text| text.upgrade().is_some()).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(recent.keep(Arc::new("x".repeat(RECENT_BYTES + 1))).upgrade().is_none());
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn texts_come_back_from_the_file_they_share() {
        let mut spill = Spill::new(&std::env::temp_dir());
        let texts: Vec<_> = (0..20).map(|i| format!("{i}é").repeat(500_000)).collect();
        let extents: Vec<_> = texts.iter().map(|text| spill.reserve(text.len()).unwrap()).collect();
        for (extent, text) in extents.iter().zip(&texts).rev() {
            extent.write(text).unwrap();
        }
        for (extent, text) in extents.iter().zip(&texts) {
            assert!(extent.read().unwrap() == *text);
        }
        // `0é0é`, of which the last byte is half a character.
        assert_eq!(extents[0].part(0, 5).read_whole_characters().unwrap(), "0é0");
        assert!(Arc::ptr_eq(&extents[0].segment, &extents[1].segment));
        assert!(!Arc::ptr_eq(&extents[0].segment, &extents[19].segment));
    }
}
