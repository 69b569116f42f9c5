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
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// How long text is held back where somebody waits for it: what is written in one go then goes out in one event.
const GATHER: Duration = Duration::from_millis(20);
/// The shortest time between two events of a stream, where somebody waits for them, unless they are large.
const BETWEEN_EVENTS: Duration = Duration::from_millis(50);
/// The size at which text goes out at once.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// What a read goes into. Nothing stays in it, so all commands of a thread share it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// How soon text goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// In few events. The last event of a short command has all of its output: clients that only look at the newest rely on
    /// that.
    Together,
    /// Soon, for somebody who is told of each event.
    Soon,
}

/// When text has to go out of which the first was read at `since`, after other text that went out.
fn due(since: Instant, went_out: Option<Instant>, pace: Pace) -> Instant {
    let latest = since + FLUSH_AFTER;
    match pace {
        Pace::Together => latest,
        Pace::Soon => went_out.map_or(since, |went_out| went_out + BETWEEN_EVENTS).max(since + GATHER).min(latest),
    }
}

/// One stream of a command: the pipe and the text that was read from it and has not gone out yet.
struct Side<R> {
    pipe: Option<R>,
    decoder: Utf8Decoder,
    text: String,
    /// Whether a whole chunk went out last. Another is likely to follow, of which all would be copied each time that it grows.
    floods: bool,
    /// When the first of the text was read.
    since: Option<Instant>,
    /// When text went out last.
    went_out: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Side<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, decoder: Utf8Decoder::default(), text: String::new(), floods: false, since: None, went_out: None }
    }

    /// Reads once. Ready when something was read or the stream ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(pipe) = &mut self.pipe else { return Poll::Pending };
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(pipe).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if std::mem::take(&mut self.floods) {
                        self.text.reserve(CHUNK_BYTES + READ_BYTES);
                    }
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
        self.floods = self.text.len() >= CHUNK_BYTES;
        std::mem::take(&mut self.text)
    }

    fn flush_at(&self, pace: Pace) -> Option<Instant> {
        self.since.map(|since| due(since, self.went_out, pace))
    }

    /// The text, where it has to go out by now.
    fn take_due(&mut self, now: Instant, pace: Pace) -> Option<String> {
        let is_due = self.text.len() >= CHUNK_BYTES || self.flush_at(pace).is_some_and(|at| at <= now);
        is_due.then(|| {
            self.went_out = Some(now);
            self.take()
        })
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
    pub(super) fn flush_at(&self, pace: Pace) -> Option<Instant> {
        self.stdout.flush_at(pace).into_iter().chain(self.stderr.flush_at(pace)).min()
    }

    /// The text that has to go out now: of the standard output, and of the standard error.
    pub(super) fn take_due(&mut self, pace: Pace) -> (Option<String>, Option<String>) {
        if self.stdout.since.is_none() && self.stderr.since.is_none() {
            return (None, None);
        }
        let now = Instant::now();
        (self.stdout.take_due(now, pace), self.stderr.take_due(now, pace))
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
    fn text_goes_out_soon_for_who_waits_and_together_for_who_looks_later() {
        let start = Instant::now();
        for went_out in [None, Some(start), Some(start + ms(300))] {
            assert_eq!(due(start + ms(300), went_out, Pace::Together), start + ms(400));
        }
        assert_eq!(due(start, None, Pace::Soon), start + ms(20));
        assert_eq!(due(start + ms(500), Some(start), Pace::Soon), start + ms(520));
        assert_eq!(due(start + ms(10), Some(start), Pace::Soon), start + ms(50));
        assert_eq!(due(start + ms(45), Some(start), Pace::Soon), start + ms(65));
    }

    /// Events that a line each millisecond makes in a second.
    fn events(pace: Pace) -> usize {
        let start = Instant::now();
        let (mut since, mut went_out, mut events) = (None, None, 0);
        for now in (0..1_000).map(|line| start + ms(line)) {
            let at = due(*since.get_or_insert(now), went_out, pace);
            if at <= now {
                (since, went_out, events) = (None, Some(now), events + 1);
            }
        }
        events
    }

    #[test]
    fn steady_text_makes_a_bounded_number_of_events() {
        assert_eq!((events(Pace::Together), events(Pace::Soon)), (9, 20));
    }
}
