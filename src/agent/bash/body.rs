use std::{
    borrow::Cow,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The text of an output event.
#[derive(Debug)]
pub(super) enum Body {
    /// In memory.
    Memory(Box<str>),
    /// In a spill file.
    Spilled(Extent),
}

impl Body {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(text) => text.len(),
            Self::Spilled(extent) => extent.len,
        }
    }

    /// The text from `at` on, at most `most` bytes and at least one character of it. Reads spilled text on a thread for
    /// blocking work.
    pub(super) async fn piece(&self, at: usize, most: usize) -> io::Result<Cow<'_, str>> {
        match self {
            Self::Memory(text) => Ok(text[at..text.floor_char_boundary(at + most)].into()),
            Self::Spilled(extent) => {
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
            Self::Spilled(_) => 0,
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
