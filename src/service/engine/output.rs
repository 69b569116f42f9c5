use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Engine, EngineError};
use crate::{
    OutputStream,
    protocol::EventId,
    service::{
        StoreError,
        store::{Frame, FrameKind, Log},
    },
};

/// What a command has written, from its log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CommandOutput {
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// How many bytes of its standard output are kept.
    pub(crate) stdout_bytes: u64,
    /// How many bytes of its standard error are kept.
    pub(crate) stderr_bytes: u64,
    /// Whether some of it is left out here: out of the middle, which is read by position, or at the end, where the log is full.
    pub(crate) truncated: bool,
}

/// A part of what a command has written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OutputPage {
    /// The pieces, in the order in which they came.
    pub(crate) output: Vec<OutputPiece>,
    /// The position to go on from. Server-sent events go on from it, too.
    pub(crate) next: u64,
    /// Whether nothing comes behind it.
    pub(crate) complete: bool,
    /// Whether output was left out here, for the log of the command is full.
    pub(crate) truncated: bool,
}

/// A piece of what a command has written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OutputPiece {
    /// To which stream.
    #[schema(value_type = String)]
    pub(crate) stream: OutputStream,
    /// The text.
    pub(crate) text: String,
}

impl Engine {
    /// The log of a command's output.
    pub(crate) fn output(&self, id: EventId) -> Result<Arc<Log>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            return Ok(Arc::clone(handle.log()));
        }
        self.command(id)?;
        let found = self.logs.readable(id)?;
        found.ok_or_else(|| EngineError::NotFound { what: "output of command", name: id.to_string() })
    }

    /// What a command has written until now: of each stream so many bytes at most, the first half and the last half of them.
    pub(crate) async fn collect_output(&self, id: EventId, most: usize) -> Result<CommandOutput, EngineError> {
        let log = self.output(id)?;
        self.blocking(move || collect(&log, most).map_err(|error| unreadable(id, &error))).await
    }

    /// What a command has written behind a position, so many bytes at most but one piece at least. Waits for more where there
    /// is nothing yet, for so long at most.
    pub(crate) async fn read_output(
        &self,
        id: EventId,
        from: u64,
        most: usize,
        wait: Duration,
    ) -> Result<OutputPage, EngineError> {
        let log = self.output(id)?;
        if !wait.is_zero() && from <= log.end() {
            tokio::select! {
                () = log.wait(from) => {}
                () = tokio::time::sleep(wait) => {}
                () = self.ending.cancelled() => {}
            }
        }
        let reader = Arc::clone(&log);
        let read = self.runtime.spawn_blocking(move || reader.read(from, most)).await;
        let frames = match read.map_err(|error| StoreError::Database(error.to_string()))? {
            Ok(frames) => frames,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(EngineError::Invalid(error.to_string()));
            }
            Err(error) => return Err(unreadable(id, &error).into()),
        };
        let next = frames.last().map_or(from, |frame| frame.end);
        let output = frames.iter().filter_map(piece).collect();
        let truncated = frames.iter().any(|frame| frame.kind == FrameKind::Cut);
        Ok(OutputPage { output, next, complete: log.is_over(next), truncated })
    }
}

fn piece(frame: &Frame) -> Option<OutputPiece> {
    let stream = match frame.kind {
        FrameKind::Stdout => OutputStream::Stdout,
        FrameKind::Stderr => OutputStream::Stderr,
        FrameKind::Event | FrameKind::Result | FrameKind::Cut => return None,
    };
    Some(OutputPiece { stream, text: String::from_utf8_lossy(&frame.payload).into_owned() })
}

fn unreadable(id: EventId, error: &io::Error) -> StoreError {
    StoreError::Database(format!("the log of {id}: {error}"))
}

/// How many bytes of each stream a log has.
pub(super) fn stream_bytes(log: &Log) -> io::Result<[u64; 2]> {
    let mut bytes = [0, 0];
    log.scan(0, log.end(), |frame| {
        if let Some(index) = index(frame.kind) {
            bytes[index] += frame.length as u64;
        }
        Ok(true)
    })?;
    Ok(bytes)
}

const fn index(kind: FrameKind) -> Option<usize> {
    match kind {
        FrameKind::Stdout => Some(0),
        FrameKind::Stderr => Some(1),
        FrameKind::Event | FrameKind::Result | FrameKind::Cut => None,
    }
}

/// The first and the last half of the bound of each stream. What is between is passed over without being read.
fn collect(log: &Log, most: usize) -> io::Result<CommandOutput> {
    let total = stream_bytes(log)?;
    let (first, last) = (most as u64 - most as u64 / 2, most as u64 / 2);
    let (mut at, mut kept) = ([0_u64; 2], [Vec::new(), Vec::new()]);
    let (mut left_out, mut is_cut) = ([false; 2], false);
    // What is written meanwhile is not part of it.
    let mut wanted = total;
    log.scan(0, log.end(), |frame| {
        let Some(index) = index(frame.kind) else {
            is_cut |= frame.kind == FrameKind::Cut;
            return Ok(true);
        };
        let length = (frame.length as u64).min(wanted[index]);
        wanted[index] -= length;
        let (begin, end) = (at[index], at[index] + length);
        at[index] = end;
        let tail = total[index].saturating_sub(last).max(first.min(total[index]));
        if begin >= first && end <= tail {
            left_out[index] |= length > 0;
            return Ok(true);
        }
        let payload = frame.payload()?;
        let part = |from: u64, to: u64| {
            let to = usize::try_from(to.clamp(begin, end) - begin).unwrap_or_default();
            let from = usize::try_from(from.clamp(begin, end) - begin).unwrap_or_default();
            payload.get(from..to).unwrap_or_default()
        };
        let kept = &mut kept[index];
        kept.extend_from_slice(part(0, first));
        let middle = part(first, tail);
        left_out[index] |= !middle.is_empty();
        kept.extend_from_slice(part(tail, end));
        Ok(true)
    })?;
    let [stdout, stderr] = kept.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let [stdout_bytes, stderr_bytes] = total;
    Ok(CommandOutput { stdout, stderr, stdout_bytes, stderr_bytes, truncated: left_out[0] || left_out[1] || is_cut })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::store::Logs;

    fn log(pieces: &[(FrameKind, &'static str)]) -> (tempfile::TempDir, Arc<Log>) {
        let directory = tempfile::tempdir().unwrap();
        let log = Logs::open(directory.path().to_owned()).unwrap().writable(EventId::random()).unwrap();
        for (kind, text) in pieces {
            log.append(*kind, bytes::Bytes::from_static(text.as_bytes())).unwrap();
        }
        (directory, log)
    }

    #[test]
    fn output_within_the_bound_is_whole_and_of_more_the_middle_is_left_out() {
        use FrameKind::{Stderr, Stdout};
        let (_directory, log) = log(&[(Stdout, "abc"), (Stderr, "E"), (Stdout, "def"), (Stdout, "ghi"), (Stdout, "j")]);
        let all = collect(&log, 10).unwrap();
        assert_eq!((all.stdout.as_str(), all.stderr.as_str(), all.truncated), ("abcdefghij", "E", false));
        for (most, stdout) in [(9, "abcdeghij"), (4, "abij"), (3, "abj"), (1, "a"), (0, "")] {
            let some = collect(&log, most).unwrap();
            assert_eq!((some.stdout.as_str(), some.stdout_bytes, some.truncated), (stdout, 10, true), "{most}");
        }
    }
}
