use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::web::{Bytes, BytesMut};
use futures::StreamExt;
use rustix::io::Errno;
use serde_json::{Value, json};
use tempfile::TempPath;
use tokio::task::spawn_blocking;

use super::resolve_leniently;
use crate::agent::http::{ApiError, ApiResult, Checks, Fault, os_error_text, os_error_words, unreadable};

/// How much of an upload is gathered before it is written.
const WRITE_BYTES: usize = 256 << 10;
/// The longest text that is repeated in an answer.
const ECHO_BYTES: usize = 1_000;

/// Where an upload goes. Blocks.
pub(super) struct Destination {
    /// The path of the request, for messages.
    asked: PathBuf,
    /// The file itself, behind any symbolic link.
    target: PathBuf,
    /// What is there already.
    existing: Option<Metadata>,
}

impl Destination {
    /// Creates missing parents and looks at what is there. Blocks.
    pub(super) fn prepare(asked: PathBuf) -> ApiResult<Self> {
        if asked.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(ApiError::internal("Failed to upload file: embedded null byte"));
        }
        let fail = |error: &io::Error, path: &Path| upload_error(error, path);
        if let Some(parent) = asked.parent() {
            fs::create_dir_all(parent).map_err(|error| fail(&error, parent))?;
        }
        let target = resolve_leniently(&asked);
        let existing = match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(ApiError::bad_request("Path is a directory")),
            // A pipe, a socket or a disk can make a write wait for ever, and with it the agent.
            Ok(found) if !found.is_file() && !found.file_type().is_char_device() => {
                return Err(ApiError::bad_request("Path is not a regular file"));
            }
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(fail(&error, &asked)),
        };
        Ok(Self { asked, target, existing })
    }

    /// Opens what the bytes go into. Blocks.
    fn open(&self) -> ApiResult<Sink> {
        let opened = match &self.existing {
            // A device takes the bytes itself: a rename would put a file in its place.
            Some(found) if !found.is_file() => self.open_target(false),
            // In a directory that is not writable only the file itself can be written to.
            Some(_) => {
                self.open_temporary().or_else(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => self.open_target(true),
                    _ => Err(error),
                })
            }
            None => self.open_temporary(),
        };
        opened.map_err(|error| upload_error(&error, &self.asked))
    }

    /// Opens what is there already. What that is may have changed since, so that the opening must not wait.
    fn open_target(&self, truncate: bool) -> io::Result<Sink> {
        let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = options.write(true).truncate(truncate).custom_flags(without_waiting).open(&self.target)?;
        Ok(Sink { file, temporary: None })
    }

    fn copy_from(&self, path: &Path) -> io::Result<()> {
        io::copy(&mut File::open(path)?, &mut self.open_target(true)?.file).map(drop)
    }

    fn open_temporary(&self) -> io::Result<Sink> {
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        // The library's own way to open one puts the temporary name into its errors and hides the system's number.
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        let made = tempfile::Builder::new().prefix(".wsfleet-upload-").make_in(parent, open)?;
        let (file, path) = made.into_parts();
        if let Some(found) = &self.existing {
            // A file that is replaced keeps its mode and owner, as if it had been written in place.
            if (found.uid(), found.gid()) != file.metadata().map(|own| (own.uid(), own.gid()))? {
                let _ = std::os::unix::fs::fchown(&file, Some(found.uid()), Some(found.gid()));
            }
            file.set_permissions(found.permissions())?;
        }
        Ok(Sink { file, temporary: Some(path) })
    }
}

/// An open file that is not the target yet. Dropping it removes what was written.
struct Sink {
    file: File,
    temporary: Option<TempPath>,
}

/// An upload whose bytes have all come.
pub(super) struct Received {
    sink: Sink,
    pub(super) size: u64,
}

impl Received {
    /// Makes it the target, in one step where that is possible. Blocks.
    ///
    /// Not in one step, so that a reader may see a part of it: a file that is mounted by itself, which cannot be replaced,
    /// and one in a directory that is not writable.
    pub(super) fn persist(self, destination: &Destination) -> ApiResult<u64> {
        if let Some(temporary) = self.sink.temporary {
            let persisted =
                temporary.persist(&destination.target).or_else(|failed| match failed.error.raw_os_error() {
                    Some(code) if Errno::from_raw_os_error(code) == Errno::BUSY => destination.copy_from(&failed.path),
                    _ => Err(failed.error),
                });
            persisted.map_err(|error| upload_error(&error, &destination.asked))?;
        }
        Ok(self.size)
    }
}

fn upload_error(error: &io::Error, path: &Path) -> ApiError {
    match error.kind() {
        ErrorKind::IsADirectory => ApiError::bad_request("Path is a directory"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ApiError::bad_request("A parent of the path is not a directory")
        }
        _ => ApiError::internal(format_args!("Failed to upload file: {}", os_error_text(error, path))),
    }
}

/// Reads the part `file` of a form into a temporary file beside the target. Of several the last counts.
pub(super) async fn receive(mut form: Multipart, destination: &std::sync::Arc<Destination>) -> ApiResult<Received> {
    let mut received = None;
    while let Some(field) = form.next().await {
        let field = field.map_err(form_error)?;
        if field.name() != Some("file") {
            skip(field).await?;
        } else if field.content_disposition().is_some_and(|disposition| disposition.get_filename().is_some()) {
            let destination = std::sync::Arc::clone(destination);
            let sink = blocking(move || destination.open()).await?;
            received = Some(Ok(fill(field, sink).await?));
        } else {
            received = Some(Err(text_of(field).await?));
        }
    }
    let mut checks = Checks::default();
    match received {
        Some(Ok(received)) => return Ok(received),
        Some(Err(text)) => checks.push(not_a_file(), &["body", "file"], json!(text)),
        None => checks.push(Fault::missing(), &["body", "file"], Value::Null),
    }
    checks.finish(()).and(Err(ApiError::internal("no file")))
}

fn not_a_file() -> Fault {
    Fault::with_reason("value_error", "Value error, ", "Expected UploadFile, received: <class 'str'>")
}

fn form_error(error: MultipartError) -> ApiError {
    match error {
        MultipartError::BoundaryMissing => ApiError::bad_request("Missing boundary in multipart."),
        MultipartError::Payload(error) => unreadable(&error),
        _ => ApiError::bad_request("Invalid multipart data."),
    }
}

async fn skip(mut field: Field) -> ApiResult<()> {
    while let Some(chunk) = field.next().await {
        chunk.map_err(form_error)?;
    }
    Ok(())
}

/// The beginning of a field that should have been a file.
async fn text_of(mut field: Field) -> ApiResult<String> {
    let mut text = Vec::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(form_error)?;
        let room = ECHO_BYTES.saturating_sub(text.len());
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn fill(mut field: Field, mut sink: Sink) -> ApiResult<Received> {
    let (mut size, mut gathered) = (0, BytesMut::new());
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(form_error)?;
        size += chunk.len() as u64;
        gathered.extend_from_slice(&chunk);
        if gathered.len() >= WRITE_BYTES {
            sink = write(sink, gathered.split().freeze()).await?;
        }
    }
    sink = write(sink, gathered.freeze()).await?;
    Ok(Received { sink, size })
}

async fn write(mut sink: Sink, bytes: Bytes) -> ApiResult<Sink> {
    blocking(move || match sink.file.write_all(&bytes) {
        Ok(()) => Ok(sink),
        Err(error) => Err(ApiError::internal(format_args!("Failed to upload file: {}", os_error_words(&error)))),
    })
    .await
}

/// Does blocking work elsewhere.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(format_args!("the work was lost: {error}"))))
}
