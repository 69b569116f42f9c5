use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    process::{ChildStderr, ChildStdout},
    time::{Duration, Instant},
};

use super::decode::Utf8Decoder;

/// The longest time for which text that was read is held back.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// The size at which text goes out at once.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// What a read goes into. Nothing stays in it, so all commands of a thread share it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One stream of a command: the pipe and the text that was read from it and has not gone out yet.
struct Side<R> {
    pipe: Option<R>,
    decoder: Utf8Decoder,
    text: String,
    /// When the first of the text was read.
    since: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Side<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, decoder: Utf8Decoder::default(), text: String::new(), since: None }
    }

    /// Reads once. Ready when something was read or the stream ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(pipe) = &mut self.pipe else { return Poll::Pending };
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(pipe).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.decoder.push(buffer.filled(), &mut self.text)
                }
                Poll::Ready(result) => self.end(result),
            }
            if self.since.is_none() && !self.text.is_empty() {
                self.since = Some(Instant::now());
            }
            Poll::Ready(())
        })
    }

    fn end(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            log::warn!("cannot read from a command: {error}");
        }
        self.decoder.finish(&mut self.text);
        self.pipe = None;
    }

    fn take(&mut self) -> String {
        self.since = None;
        std::mem::take(&mut self.text)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.text.len() >= CHUNK_BYTES || self.since.is_some_and(|since| since + FLUSH_AFTER <= now)
    }
}

/// Both streams of a command.
pub(super) struct Pump {
    stdout: Side<ChildStdout>,
    stderr: Side<ChildStderr>,
}

impl Pump {
    pub(super) fn new(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> Self {
        Self { stdout: Side::new(stdout), stderr: Side::new(stderr) }
    }

    /// Whether every process has closed both streams.
    pub(super) fn has_ended(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    /// Waits until either stream gives something or ends. Neither can keep the other from being read.
    pub(super) async fn read(&mut self) {
        poll_fn(|cx| {
            let stdout = self.stdout.poll_read(cx);
            let stderr = self.stderr.poll_read(cx);
            if stdout.is_ready() || stderr.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Reads what is there already, at most about a chunk of each stream.
    pub(super) async fn read_what_is_there(&mut self) {
        poll_fn(|cx| {
            for _ in 0..CHUNK_BYTES / READ_BYTES {
                let stdout = self.stdout.poll_read(cx);
                let stderr = self.stderr.poll_read(cx);
                if stdout.is_pending() && stderr.is_pending() {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Reads and forgets, until both streams have ended.
    pub(super) async fn discard(&mut self) {
        while !self.has_ended() {
            self.read().await;
            self.stdout.take();
            self.stderr.take();
        }
    }

    /// When the oldest text that was read has to go out.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        let since = self.stdout.since.iter().chain(&self.stderr.since).min()?;
        Some(*since + FLUSH_AFTER)
    }

    /// The text that has to go out now: of the standard output, and of the standard error.
    pub(super) fn take_due(&mut self) -> (Option<String>, Option<String>) {
        if self.stdout.since.is_none() && self.stderr.since.is_none() {
            return (None, None);
        }
        let now = Instant::now();
        let stdout = self.stdout.is_due(now).then(|| self.stdout.take());
        (stdout, self.stderr.is_due(now).then(|| self.stderr.take()))
    }

    /// Makes this the text that has not gone out.
    pub(super) fn put_back(&mut self, stdout: String, stderr: String) {
        self.stdout.text = stdout;
        self.stderr.text = stderr;
    }

    /// All text that has not gone out.
    pub(super) fn take_rest(&mut self) -> (String, String) {
        (self.stdout.take(), self.stderr.take())
    }
}
