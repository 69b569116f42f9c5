//! Content that is different everywhere, so that a piece that is missing, doubled or misplaced shows.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    path::Path,
};

/// The lines that `seq first last` writes.
pub(crate) fn seq(first: u64, last: u64) -> String {
    let mut text = Vec::new();
    let mut line = first.to_string().into_bytes();
    for _ in first..=last {
        text.extend_from_slice(&line);
        text.push(b'\n');
        increment(&mut line);
    }
    String::from_utf8(text).expect("digits are ASCII")
}

/// Adds one to a decimal number; formatting millions of them takes too long in a debug build.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// How often a file has a mark that tells its own position.
const MARK_EVERY: u64 = 256 << 10;

/// Makes a file of this size with binary content that is different everywhere and takes little room on the disk.
pub(crate) fn file(path: &Path, size: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(size)?;
    let mut at = 0;
    while at < size {
        file.seek(SeekFrom::Start(at))?;
        let mark = format!("\r\n--\0\u{ff}{at}");
        let room = usize::try_from(size - at).unwrap_or(usize::MAX);
        file.write_all(&mark.as_bytes()[..mark.len().min(room)])?;
        // Not a divisor of any buffer's size.
        at += MARK_EVERY - 13;
    }
    Ok(())
}

/// Whether two files have the same content.
pub(crate) fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut from_a, mut from_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let (read_a, read_b) = (fill(&mut a, &mut from_a)?, fill(&mut b, &mut from_b)?);
        if from_a[..read_a] != from_b[..read_b] {
            return Ok(false);
        }
        if read_a == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
