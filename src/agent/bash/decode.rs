/// Turns the bytes of one stream into text, however they are cut into reads: a character that is split between two reads
/// comes out whole, and bytes that are no UTF-8 become U+FFFD exactly as in a decoding of the whole stream.
#[derive(Debug, Default)]
pub(super) struct Utf8Decoder {
    /// The beginning of a character whose rest has not been read.
    partial: [u8; 4],
    held: usize,
}

impl Utf8Decoder {
    /// Appends the text of these bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8], text: &mut String) {
        while self.held > 0 && !bytes.is_empty() {
            bytes = self.extend_partial(bytes, text);
        }
        self.push_unheld(bytes, text);
    }

    /// Adds one byte to the held beginning of a character and settles what can be settled.
    fn extend_partial<'a>(&mut self, bytes: &'a [u8], text: &mut String) -> &'a [u8] {
        self.partial[self.held] = bytes[0];
        let candidate = self.partial;
        let candidate = &candidate[..=self.held];
        match std::str::from_utf8(candidate) {
            Ok(whole) => {
                text.push_str(whole);
                self.held = 0;
                &bytes[1..]
            }
            Err(error) if error.error_len().is_none() => {
                self.held += 1;
                &bytes[1..]
            }
            Err(_) => {
                // What was held cannot go on like this. The new byte may begin a character of its own.
                text.push(char::REPLACEMENT_CHARACTER);
                self.held = 0;
                bytes
            }
        }
    }

    fn push_unheld(&mut self, mut bytes: &[u8], text: &mut String) {
        loop {
            match std::str::from_utf8(bytes) {
                Ok(valid) => return text.push_str(valid),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(invalid) = error.error_len() else {
                        self.partial[..rest.len()].copy_from_slice(rest);
                        self.held = rest.len();
                        return;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    bytes = &rest[invalid..];
                }
            }
        }
    }

    /// Appends what a stream that has ended left behind.
    pub(super) fn finish(&mut self, text: &mut String) {
        if std::mem::take(&mut self.held) > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let (mut decoder, mut text) = (Utf8Decoder::default(), String::new());
        for piece in pieces {
            decoder.push(piece, &mut text);
        }
        decoder.finish(&mut text);
        text
    }

    /// Bytes in which whole, cut and broken characters are common.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            any::<char>().prop_map(|c| {
                let mut bytes = c.to_string().into_bytes();
                bytes.pop();
                bytes
            }),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_gives_the_text_of_the_whole(
            bytes in bytes(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(decode(pieces), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn bytes_one_by_one_give_the_text_of_the_whole(bytes in bytes()) {
            prop_assert_eq!(decode(bytes.chunks(1)), String::from_utf8_lossy(&bytes));
        }
    }
}
