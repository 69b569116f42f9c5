use std::{fs::File, io, os::unix::fs::FileExt as _};

/// An unnamed temporary file that takes what does not fit into memory, and is gone with the program.
///
/// It is made when it is first needed.
#[derive(Default)]
pub(super) struct Spill {
    file: Option<File>,
    end: u64,
}

/// Where in the file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    offset: u64,
    len: usize,
}

impl Spill {
    /// Adds bytes. After an error the file is as it was before.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<Place> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.write_all_at(bytes, self.end)?;
        let place = Place { offset: self.end, len: bytes.len() };
        self.end += bytes.len() as u64;
        Ok(place)
    }

    /// Reads what was added.
    pub(super) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.len];
        match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, place.offset)?,
            None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
        Ok(bytes)
    }

    /// Gives the space back; nothing that was added is needed any more.
    pub(super) fn clear(&mut self) {
        if let Some(file) = &self.file
            && file.set_len(0).is_ok()
        {
            self.end = 0;
        }
    }
}

#[cfg(test)]
impl Place {
    /// So many bytes from there on.
    pub(super) const fn at(offset: u64, len: usize) -> Self {
        Self { offset, len }
    }
}
