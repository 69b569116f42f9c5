use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Sink,
    queue::{Queue, Queued},
};
use crate::fleet::{RunEvent, RunEventKind};

/// How many bytes of events wait in memory for one sink.
const BOUND: usize = 16 << 20;

/// How long a sink rests when it has written all there was. What happens meanwhile is written together; without a rest it would
/// be woken for each of thousands of events.
const REST: Duration = Duration::from_millis(2);

/// A sink, and what is to be known of it.
pub(in crate::cli) struct Outlet {
    /// What it writes, for messages.
    pub(super) what: String,
    /// Whether it takes output while commands run.
    pub(super) takes_output: bool,
    pub(super) sink: Box<dyn Sink + Send>,
    /// A directory that the sink removes at its end.
    pub(in crate::cli) temporary: Option<PathBuf>,
}

/// Why a sink does not have all events.
#[derive(Debug)]
pub(in crate::cli) struct Unwritten {
    pub(in crate::cli) what: String,
    pub(in crate::cli) error: io::Error,
}

/// Hands the events of a run to its sinks, each on a thread of its own behind a queue: a slow sink holds up neither the
/// run nor the other sinks.
pub(in crate::cli) struct Relay {
    lanes: Vec<Lane>,
}

struct Lane {
    what: String,
    takes_output: bool,
    queue: Arc<Queue>,
    thread: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Starts the threads. `failed` is called on the thread of a sink that gives up.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(in crate::cli) fn start(outlets: Vec<Outlet>, failed: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let lanes = outlets.into_iter().map(|outlet| Lane::start(outlet, BOUND, failed.clone()));
        Ok(Self { lanes: lanes.collect::<io::Result<_>>()? })
    }

    /// Hands an event on. It waits only when there is room for it neither in memory nor on disk.
    pub(in crate::cli) fn send(&self, event: RunEvent, exit_code: u8) {
        let is_output = matches!(event.kind, RunEventKind::Output { .. });
        let queued = Arc::new(Queued { event, exit_code });
        for lane in self.lanes.iter().filter(|lane| lane.takes_output || !is_output) {
            lane.queue.push(&queued);
        }
    }

    /// Waits until every sink has taken every event, and says which of them could not.
    pub(in crate::cli) fn finish(self) -> Vec<Unwritten> {
        for lane in &self.lanes {
            lane.queue.end();
        }
        let ended = self.lanes.into_iter().filter_map(|lane| {
            let Lane { what, thread, .. } = lane;
            let written = thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
            written.err().map(|error| Unwritten { what, error })
        });
        ended.collect()
    }
}

impl Lane {
    fn start(outlet: Outlet, bound: usize, failed: impl Fn() + Send + 'static) -> io::Result<Self> {
        let Outlet { what, takes_output, mut sink, .. } = outlet;
        let queue = Arc::new(Queue::new(bound));
        let taken = Arc::clone(&queue);
        let take = move || {
            // Also when the sink panics: the run must not wait for it.
            let given_up = GivenUp(&taken, &failed);
            while let Some(Queued { event, exit_code }) = taken.pop()?.as_deref() {
                sink.event(event, *exit_code)?;
                if taken.is_empty() {
                    sink.flush()?;
                    thread::sleep(REST);
                }
            }
            std::mem::forget(given_up);
            Ok(())
        };
        let thread = thread::Builder::new().name("wsfleet-output".to_owned()).spawn(take)?;
        Ok(Self { what, takes_output, queue, thread })
    }
}

/// Tells, when dropped, that a sink takes nothing any more.
struct GivenUp<'a>(&'a Queue, &'a dyn Fn());

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.abandon();
        (self.1)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{OutputStream, cli::output::sample, fleet::TargetId, protocol::EventId};

    fn output(seq: u64, length: usize) -> RunEvent {
        let text = format!("{seq}:").repeat(length.div_ceil(4));
        let kind = RunEventKind::Output { target: TargetId::workspace("w1"), stream: OutputStream::Stdout, text };
        RunEvent { seq, time: Timestamp::UNIX_EPOCH, run_id: EventId::random(), trace: None, kind }
    }

    /// Takes nothing before it is told to, and keeps the numbers and lengths of what it took.
    struct Blocked {
        begin: Option<mpsc::Receiver<()>>,
        seen: Arc<Mutex<Vec<(u64, usize)>>>,
    }

    impl Sink for Blocked {
        fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
            if let Some(begin) = self.begin.take() {
                let _ = begin.recv();
            }
            assert_eq!(exit_code, 7);
            self.seen.lock().unwrap().push((event.seq, super::super::weight(&event.kind)));
            Ok(())
        }
    }

    fn outlet(sink: impl Sink + Send + 'static) -> Outlet {
        Outlet { what: "test".to_owned(), takes_output: true, sink: Box::new(sink), temporary: None }
    }

    #[test]
    fn a_blocked_sink_gets_everything_in_order_and_memory_stays_bounded() {
        let (begin, blocked) = mpsc::channel();
        let seen = Arc::default();
        let sink = Blocked { begin: Some(blocked), seen: Arc::clone(&seen) };
        let relay = Relay::start(vec![outlet(sink)], || panic!("the sink works")).unwrap();
        let sent: Vec<_> = (0..10_000).map(|seq| output(seq, 5_000)).collect();
        let expected: Vec<_> = sent.iter().map(|event| (event.seq, super::super::weight(&event.kind))).collect();
        for event in sent {
            relay.send(event, 7);
        }
        {
            let state = relay.lanes[0].queue.state_for_test();
            assert!(state.0 <= BOUND, "{state:?}");
            assert!(state.1 > 5_000, "most of 50 MB is in the file: {state:?}");
        }
        begin.send(()).unwrap();
        assert!(relay.finish().is_empty());
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn what_was_in_the_file_is_what_was_sent() {
        let queue = Queue::new(1);
        let kinds = [sample::failed(), sample::alive(), sample::refused(), sample::step("build")];
        let sent: Vec<_> = kinds
            .into_iter()
            .map(|kind| RunEvent { seq: 1, time: Timestamp::UNIX_EPOCH, run_id: EventId::random(), trace: None, kind })
            .map(|event| Arc::new(Queued { event, exit_code: 4 }))
            .collect();
        sent.iter().for_each(|queued| queue.push(queued));
        assert_eq!(queue.state_for_test().1, sent.len() - 1);
        queue.end();
        for queued in sent {
            assert_eq!(queue.pop().unwrap().unwrap(), queued);
        }
        assert!(queue.pop().unwrap().is_none());
    }

    struct Broken;

    impl Sink for Broken {
        fn event(&mut self, _: &RunEvent, _: u8) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    struct Panicking;

    impl Sink for Panicking {
        fn event(&mut self, _: &RunEvent, _: u8) -> io::Result<()> {
            panic!("a sink that panics, for a test")
        }
    }

    #[test]
    fn a_sink_that_fails_tells_and_harms_no_other() {
        for broken in [outlet(Broken), outlet(Panicking)] {
            let seen = Arc::default();
            let told = Arc::new(AtomicBool::new(false));
            let tell = Arc::clone(&told);
            let whole = Blocked { begin: None, seen: Arc::clone(&seen) };
            let relay = Relay::start(vec![broken, outlet(whole)], move || tell.store(true, Ordering::Relaxed)).unwrap();
            for seq in 0..100 {
                relay.send(output(seq, 1_000_000), 7);
            }
            let unwritten = relay.finish();
            assert_eq!(unwritten.len(), 1);
            assert!(told.load(Ordering::Relaxed));
            assert_eq!(seen.lock().unwrap().len(), 100);
        }
    }

    #[test]
    fn only_those_who_want_output_get_it() {
        let seen = Arc::default();
        let mut sink = outlet(Blocked { begin: None, seen: Arc::clone(&seen) });
        sink.takes_output = false;
        let relay = Relay::start(vec![sink], || {}).unwrap();
        relay.send(output(0, 10), 7);
        relay.finish();
        assert!(seen.lock().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_pushed_and_popped_comes_out_in_order(pushes in prop::collection::vec((0..200_usize, 0..4_usize), 0..60)) {
            let queue = Queue::new(700);
            let (mut next, mut sent) = (0, 0);
            for (length, pops) in pushes {
                queue.push(&Arc::new(Queued { event: output(sent, length), exit_code: 0 }));
                sent += 1;
                for _ in 0..pops.min((sent - next) as usize) {
                    prop_assert_eq!(queue.pop().unwrap().unwrap().event.seq, next);
                    next += 1;
                }
            }
            queue.end();
            while let Some(queued) = queue.pop().unwrap() {
                prop_assert_eq!(queued.event.seq, next);
                next += 1;
            }
            prop_assert_eq!(next, sent);
        }
    }
}
