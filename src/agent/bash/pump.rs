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

/// How long text is held back that comes after a pause: what is written in one go then goes out in one event.
const GATHER: Duration = Duration::from_millis(10);
/// The shortest time between two events of a stream, and so the longest for which text that was read is held back.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);
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
    /// When the text has to go out, if there is any.
    flush_at: Option<Instant>,
    /// When text went out last.
    went_out: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Side<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, decoder: Utf8Decoder::default(), text: String::new(), flush_at: None, went_out: None }
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
            if self.flush_at.is_none() && !self.text.is_empty() {
                self.flush_at = Some(flush_at(Instant::now(), self.went_out));
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
        self.flush_at = None;
        std::mem::take(&mut self.text)
    }

    /// The text, where it has to go out by now.
    fn take_due(&mut self, now: Instant) -> Option<String> {
        let is_due = self.text.len() >= CHUNK_BYTES || self.flush_at.is_some_and(|at| at <= now);
        is_due.then(|| {
            self.went_out = Some(now);
            self.take()
        })
    }
}

/// When text has to go out of which the first was read now.
fn flush_at(now: Instant, went_out: Option<Instant>) -> Instant {
    let soon = now + GATHER;
    went_out.map_or(soon, |last| soon.max(last + BETWEEN_EVENTS))
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
        self.stdout.flush_at.into_iter().chain(self.stderr.flush_at).min()
    }

    /// The text that has to go out now: of the standard output, and of the standard error.
    pub(super) fn take_due(&mut self) -> (Option<String>, Option<String>) {
        if self.stdout.flush_at.is_none() && self.stderr.flush_at.is_none() {
            return (None, None);
        }
        let now = Instant::now();
        (self.stdout.take_due(now), self.stderr.take_due(now))
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn text_after_a_pause_goes_out_soon_and_steady_text_ten_times_a_second() {
        let start = Instant::now();
        assert_eq!(flush_at(start, None), start + ms(10));
        assert_eq!(flush_at(start + ms(500), Some(start)), start + ms(510));
        assert_eq!(flush_at(start + ms(30), Some(start)), start + ms(100));
        assert_eq!(flush_at(start + ms(95), Some(start)), start + ms(105));

        // A line each millisecond, for a second.
        let (mut went_out, mut events) = (None, Vec::new());
        let mut due = None;
        for line in (0..1_000).map(|line| start + ms(line)) {
            let at = *due.get_or_insert_with(|| flush_at(line, went_out));
            if at <= line {
                events.push(line.duration_since(start).as_millis());
                (went_out, due) = (Some(line), None);
            }
        }
        assert_eq!(events, [10, 110, 210, 310, 410, 510, 610, 710, 810, 910]);
    }
}
