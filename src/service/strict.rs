//! JSON of which nothing is passed over.

use serde::{Deserialize, Deserializer};

/// Reads a value, and says which setting it would pass over, if there is one, by its path. It is to be refused wherever it is: a
/// misspelt filter would pick everything.
pub(super) fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(json: D) -> Result<(T, Option<String>), D::Error> {
    let mut passed_over = None;
    let value = serde_ignored::deserialize(json, |path| {
        // What has several forms is a question mark in the path.
        passed_over.get_or_insert_with(|| path.to_string().replace(".?", "").escape_debug().to_string());
    })?;
    Ok((value, passed_over))
}
