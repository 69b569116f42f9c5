use std::ops::Range;

/// Why a `Range` header cannot be honoured.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RangeError {
    /// It makes no sense: 400 with this text.
    Malformed(&'static str),
    /// It lies outside the file: 416.
    NotSatisfiable,
}

/// More ranges than this are ignored and the whole file is sent.
const MOST_RANGES: usize = 100;

/// Reads a `Range` header as the real server does. Gives no range when the header is to be ignored; overlapping ones are
/// joined.
pub(super) fn parse(header: &str, size: u64) -> Result<Vec<Range<u64>>, RangeError> {
    let Some((unit, list)) = header.split_once('=') else {
        return Err(RangeError::Malformed("Malformed range header."));
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Err(RangeError::Malformed("Only support bytes range"));
    }
    if list.split(',').count() > MOST_RANGES {
        return Ok(Vec::new());
    }
    let mut ranges: Vec<_> = list.split(',').filter_map(|part| one(part.trim(), size)).collect();
    if ranges.is_empty() {
        return Err(RangeError::Malformed("Range header: range must be requested"));
    }
    if ranges.iter().any(|(start, _)| *start >= size) {
        return Err(RangeError::NotSatisfiable);
    }
    if ranges.iter().any(|(start, end)| start >= end) {
        return Err(RangeError::Malformed("Range header: start must be less than end"));
    }
    ranges.sort_unstable();
    let mut joined: Vec<Range<u64>> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => joined.push(start..end),
        }
    }
    Ok(joined)
}

/// Start and exclusive end; `None` for a part that is ignored.
fn one(part: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = part.split_once('-')?;
    let (start, end) = (start.trim(), end.trim());
    let end = if end.is_empty() { None } else { Some(end.parse::<u64>().ok()?) };
    match (start.is_empty(), end) {
        (true, None) => None,
        (true, Some(suffix)) => Some((size.saturating_sub(suffix), size)),
        (false, end) => Some((start.parse().ok()?, end.filter(|end| *end < size).map_or(size, |end| end + 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_by_the_real_server() {
        let of_11 = |header| parse(header, 11);
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("bytes=-3", 8..11),
            ("bytes=5-", 5..11),
            ("bytes=0-100", 0..11),
            ("bytes=-100", 0..11),
            ("Bytes = 0-1", 0..2),
            ("bytes=0-1,1-3", 0..4),
        ] {
            assert_eq!(of_11(header), Ok(vec![range]), "{header}");
        }
        assert_eq!(of_11("bytes=3-4, 0-1"), Ok(vec![0..2, 3..5]));
        for header in ["bytes=11-", "bytes=20-30", "bytes=-0"] {
            assert_eq!(of_11(header), Err(RangeError::NotSatisfiable), "{header}");
        }
        assert_eq!(parse("bytes=0-0", 0), Err(RangeError::NotSatisfiable));
        for header in ["bytes=5-2", "bytes=abc", "items=0-1", "bytes=", "bytes=-", "bytes"] {
            assert!(matches!(of_11(header), Err(RangeError::Malformed(_))), "{header}");
        }
    }
}
