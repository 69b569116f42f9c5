use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{StatusCode, header::HttpDate},
    web::Bytes,
};
use futures::{Stream, StreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::ranges::{self, RangeError};
use crate::agent::http::{ApiError, ApiResult, os_error_text};

/// How much of a file is read at once.
const READ_BYTES: u64 = 256 << 10;
/// What stays as it is in a URL path.
const KEPT_IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');

/// A file that is open for sending, as it was when it was opened.
pub(super) struct OpenFile {
    file: File,
    size: u64,
    modified: SystemTime,
    etag: String,
}

impl OpenFile {
    /// Opens a file of a request. Blocks.
    pub(super) fn open(path: &Path) -> ApiResult<Self> {
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(ApiError::detail(StatusCode::NOT_FOUND, "File not found"));
        }
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ApiError::detail(StatusCode::NOT_FOUND, "File not found")
            }
            _ => ApiError::internal(format_args!("Failed to download file: {}", os_error_text(&error, path))),
        };
        // Asked before it is opened: to open a pipe would wait for a writer.
        if !path.metadata().map_err(fail)?.is_file() {
            return Err(ApiError::bad_request("Path is not a file"));
        }
        Self::of(File::open(path).map_err(fail)?).map_err(fail)
    }

    /// Prepares an open file.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let etag = format!(
            "\"{:x}-{:x}-{:x}{:08x}\"",
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        Ok(Self { file, size: metadata.size(), modified: metadata.modified()?, etag })
    }

    /// Answers a request with it, or with the ranges of it that are asked for.
    pub(super) fn respond(
        self,
        request: &HttpRequest,
        name: &str,
        media_type: &str,
        extra: Vec<(&'static str, String)>,
    ) -> HttpResponse {
        let ranges = match self.wanted_ranges(request) {
            Ok(ranges) => ranges,
            Err(error) => return range_error(error, self.size),
        };
        let mut response = HttpResponse::Ok();
        response
            .insert_header(("accept-ranges", "bytes"))
            .insert_header(("content-disposition", disposition(name)))
            .insert_header(("last-modified", HttpDate::from(self.modified).to_string()))
            .insert_header(("etag", self.etag.as_str()));
        for header in extra {
            response.insert_header(header);
        }
        let (size, file) = (self.size, Arc::new(self.file));
        match ranges.as_slice() {
            [] => response.content_type(media_type).body(SizedStream::new(size, read(file, 0..size))),
            [range] => {
                let range = range.clone();
                response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .insert_header(("content-range", content_range(&range, size)))
                    .content_type(media_type)
                    .body(SizedStream::new(range.end - range.start, read(file, range)))
            }
            several => {
                let boundary = Uuid::new_v4().simple().to_string();
                let (length, parts) = multipart(file, several, size, &boundary, media_type);
                response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .content_type(format!("multipart/byteranges; boundary={boundary}"))
                    .body(SizedStream::new(length, parts))
            }
        }
    }

    /// The ranges of a request; none when the whole file is wanted.
    fn wanted_ranges(&self, request: &HttpRequest) -> Result<Vec<Range<u64>>, RangeError> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(wanted) = header("range") else { return Ok(Vec::new()) };
        let still_valid = |seen: &str| seen == self.etag || seen == HttpDate::from(self.modified).to_string();
        if header("if-range").is_some_and(|seen| !still_valid(seen)) {
            return Ok(Vec::new());
        }
        ranges::parse(wanted, self.size)
    }
}

fn range_error(error: RangeError, size: u64) -> HttpResponse {
    match error {
        RangeError::NotSatisfiable => HttpResponse::RangeNotSatisfiable()
            .insert_header(("content-range", format!("bytes */{size}")))
            .content_type("text/plain; charset=utf-8")
            .finish(),
        RangeError::Malformed(text) => HttpResponse::BadRequest().content_type("text/plain; charset=utf-8").body(text),
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// The header that names a download, in the plain form where the name allows it.
fn disposition(name: &str) -> String {
    let encoded = utf8_percent_encode(name, KEPT_IN_NAMES).to_string();
    if encoded == name {
        format!("attachment; filename=\"{name}\"")
    } else {
        format!("attachment; filename*=utf-8''{encoded}")
    }
}

/// Reads a stretch of a file piece by piece. A file that became shorter is an error, not an end.
fn read(file: Arc<File>, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + 'static {
    stream::try_unfold((file, range), async |(file, range)| {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start + READ_BYTES);
        let reader = Arc::clone(&file);
        let piece = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(end - range.start).map_err(io::Error::other)?];
            reader.read_exact_at(&mut piece, range.start)?;
            io::Result::Ok(Bytes::from(piece))
        });
        Ok(Some((piece.await.map_err(io::Error::other)??, (file, end..range.end))))
    })
}

/// Several ranges as one body, and its length.
fn multipart(
    file: Arc<File>,
    ranges: &[Range<u64>],
    size: u64,
    boundary: &str,
    media_type: &str,
) -> (u64, impl Stream<Item = io::Result<Bytes>> + 'static) {
    let head = |range: &Range<u64>| {
        let content_range = content_range(range, size);
        format!("--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range}\r\n\r\n")
    };
    let tail = format!("--{boundary}--");
    let parts: Vec<_> = ranges.iter().map(|range| (head(range), range.clone())).collect();
    let length: u64 = parts.iter().map(|(head, range)| head.len() as u64 + (range.end - range.start) + 2).sum();
    let total = length + tail.len() as u64;
    let bytes = |text: String| stream::once(async move { io::Result::Ok(Bytes::from(text)) });
    let parts = stream::iter(parts).flat_map(move |(head, range)| {
        bytes(head).chain(read(Arc::clone(&file), range)).chain(bytes("\r\n".to_owned())).boxed_local()
    });
    (total, parts.chain(bytes(tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_quoted_and_any_other_encoded() {
        assert_eq!(disposition("h.txt"), "attachment; filename=\"h.txt\"");
        assert_eq!(disposition("na me é.txt"), "attachment; filename*=utf-8''na%20me%20%C3%A9.txt");
    }
}
