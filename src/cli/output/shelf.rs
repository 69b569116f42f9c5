use std::{borrow::Cow, io};

use super::spill::{Place, Spill};

/// How many bytes of texts are kept in memory; the rest is in a file.
pub(super) const BOUND: usize = 16 << 20;

/// Texts that wait for later: in memory up to a bound, and beyond that in an unnamed file.
#[derive(Default)]
pub(super) struct Shelf {
    /// How many texts there are, and how many bytes of them in memory.
    texts: usize,
    bytes: usize,
    spill: Spill,
}

/// A text on the shelf.
#[derive(Debug)]
pub(super) enum Kept {
    Here(String),
    Spilled(Place),
}

impl Kept {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        // What is empty always fits into memory.
        matches!(self, Self::Here(text) if text.is_empty())
    }
}

impl Shelf {
    /// Puts a text there.
    ///
    /// # Errors
    /// When it is to be put into the file and that takes no more.
    pub(super) fn keep(&mut self, text: Cow<'_, str>) -> io::Result<Kept> {
        let kept = if self.bytes + text.len() > BOUND {
            Kept::Spilled(self.spill.append(text.as_bytes())?)
        } else {
            self.bytes += text.len();
            Kept::Here(text.into_owned())
        };
        self.texts += 1;
        Ok(kept)
    }

    /// Reads a text, which stays there.
    ///
    /// # Errors
    /// When the file can not be read.
    pub(super) fn read<'a>(&self, kept: &'a Kept) -> io::Result<Cow<'a, str>> {
        match kept {
            Kept::Here(text) => Ok(Cow::Borrowed(text)),
            Kept::Spilled(place) => {
                String::from_utf8(self.spill.read(*place)?).map(Cow::Owned).map_err(io::Error::other)
            }
        }
    }

    /// Gives up a text, and with the last one the room in the file.
    pub(super) fn drop(&mut self, kept: Kept) {
        if let Kept::Here(text) = &kept {
            self.bytes -= text.len();
        }
        self.texts -= 1;
        if self.texts == 0 {
            self.spill.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_beyond_memory_come_back_and_their_room_is_used_again() {
        let mut shelf = Shelf::default();
        for _ in 0..2 {
            let texts: Vec<_> = ["a", "b", "c"].map(|text| text.repeat(7 << 20)).into();
            let kept: Vec<_> = texts.iter().map(|text| shelf.keep(text.as_str().into()).unwrap()).collect();
            assert!(shelf.bytes <= BOUND);
            assert!(matches!(kept[2], Kept::Spilled(place) if place == Place::at(0, 7 << 20)), "the file begins anew");
            for (text, kept) in texts.iter().zip(kept) {
                assert!(shelf.read(&kept).unwrap() == *text);
                shelf.drop(kept);
            }
            assert_eq!(shelf.bytes, 0);
        }
    }
}
