use std::{os::unix::process::ExitStatusExt, process::ExitStatus, rc::Rc, time::Duration};

use rustix::process::Pid;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    child::Child,
    event::CommandRecord,
    process_tree::{Target, end_all},
    pump::{Pace, Pump},
    service::BashService,
};

/// The exit code of a command that ran out of time, or that never ran.
const NO_EXIT_CODE: i32 = -1;
/// Text of a stream above this size is not put into the last event but into a chunk of its own, because the last event
/// stays in memory.
const LAST_EVENT_BYTES: usize = 16 << 10;
/// From this age on the output of a command goes out soon where it is pushed to somebody.
const LONG: Duration = Duration::from_secs(1);
/// How long the streams of a command may stay open after all its processes that can be found are gone.
const LINGER: Duration = Duration::from_millis(200);

/// Runs a command to its end and records what it wrote.
pub(super) async fn run(service: Rc<BashService>, command: Rc<CommandRecord>, stop: CancellationToken) {
    let (exit_code, stdout, stderr) = match service.spawn(&command, &stop).await {
        Ok(child) => Supervised::new(&service, &command, child).run(stop).await,
        Err(problem) => (NO_EXIT_CODE, String::new(), format!("Error executing command: {problem}")),
    };
    service.finish(command.id, exit_code, stdout, stderr).await;
}

/// Why the reading of a command's output ended.
enum End {
    /// Every process had closed both streams, and the shell has exited.
    Exited(Option<ExitStatus>),
    Stopped,
    TimedOut,
}

/// A running command.
struct Supervised<'a> {
    service: &'a BashService,
    command: &'a CommandRecord,
    child: Child,
    pump: Pump,
    began: Instant,
}

impl<'a> Supervised<'a> {
    fn new(service: &'a BashService, command: &'a CommandRecord, mut child: Child) -> Self {
        let pump = Pump::new(child.stdout.take(), child.stderr.take());
        Self { service, command, child, pump, began: Instant::now() }
    }

    /// Gives the exit code and the text that is left for the last event.
    async fn run(mut self, stop: CancellationToken) -> (i32, String, String) {
        let end = self.read_until_end(&stop).await;
        let (status, exit_code) = match end {
            End::Exited(status) => (status, None),
            End::Stopped => (self.end_processes(false).await, None),
            End::TimedOut => (self.end_processes(true).await, Some(NO_EXIT_CODE)),
        };
        let (mut stdout, mut stderr) = self.pump.take_rest();
        if stdout.len() > LAST_EVENT_BYTES {
            self.service.add_chunk(self.command.id, std::mem::take(&mut stdout), true).await;
        }
        if stderr.len() > LAST_EVENT_BYTES {
            self.service.add_chunk(self.command.id, std::mem::take(&mut stderr), false).await;
        }
        (exit_code.or_else(|| status.and_then(exit_code_of)).unwrap_or(NO_EXIT_CODE), stdout, stderr)
    }

    /// The shell, unless it has been waited for.
    fn leader(&self) -> Option<Pid> {
        self.child.pid()
    }

    /// How soon output goes out while the command runs.
    fn pace(&self) -> Pace {
        if self.service.has_subscribers() && self.began.elapsed() >= LONG { Pace::Soon } else { Pace::Together }
    }

    async fn read_until_end(&mut self, stop: &CancellationToken) -> End {
        let time = self.command.time();
        if time.is_zero() {
            return End::TimedOut;
        }
        let deadline = sleep_until(Instant::now() + time);
        tokio::pin!(deadline);
        loop {
            let flush_at = self.pump.flush_at(self.pace());
            let flush = async {
                match flush_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = &mut deadline => return End::TimedOut,
                () = flush => {}
                () = self.pump.read(), if !self.pump.has_ended() => {}
                // Not before the streams have ended: as long as the shell has not been waited for, its number, by
                // which the command's processes are found, is not given away.
                status = self.child.wait(), if self.pump.has_ended() => {
                    let unknown = |error: &std::io::Error| log::error!("how the command {} ended is not known: {error}", self.command.id);
                    return End::Exited(status.inspect_err(unknown).ok());
                }
            }
            self.flush_due(self.pace()).await;
        }
    }

    async fn flush_due(&mut self, pace: Pace) {
        let (stdout, stderr) = self.pump.take_due(pace);
        if let Some(text) = stdout {
            self.service.add_chunk(self.command.id, text, true).await;
        }
        if let Some(text) = stderr {
            self.service.add_chunk(self.command.id, text, false).await;
        }
    }

    /// Ends every process. What they write meanwhile is kept after a stop; after a timeout it is not, as in the real server.
    async fn end_processes(&mut self, timed_out: bool) -> Option<ExitStatus> {
        if self.command.timeout > 0 {
            self.pump.read_what_is_there().await;
        }
        let kept = if timed_out { Some(self.pump.take_rest()) } else { None };
        if let Some(leader) = self.leader() {
            let mut ending = std::pin::pin!(end_all(Target { id: self.command.id, leader }));
            loop {
                tokio::select! {
                    biased;
                    () = &mut ending => break,
                    () = self.pump.read(), if !self.pump.has_ended() => {}
                }
                if timed_out {
                    self.pump.take_rest();
                } else {
                    self.flush_due(Pace::Together).await;
                }
            }
        }
        self.drain(timed_out).await;
        let status = timeout(Duration::from_secs(1), self.child.wait()).await.ok().and_then(Result::ok);
        if let Some((stdout, stderr)) = kept {
            self.pump.put_back(stdout, stderr);
        }
        status
    }

    /// Reads the streams to their end, unless a process that cannot be found holds them open.
    async fn drain(&mut self, discard: bool) {
        let drained = async {
            if discard {
                return self.pump.discard().await;
            }
            while !self.pump.has_ended() {
                self.pump.read().await;
                self.flush_due(Pace::Together).await;
            }
        };
        let _ = timeout(LINGER, drained).await;
    }
}

/// The exit code, or the negative of the signal that ended the shell.
fn exit_code_of(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| -signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_negative_exit_code() {
        assert_eq!(exit_code_of(ExitStatus::from_raw(3 << 8)), Some(3));
        assert_eq!(exit_code_of(ExitStatus::from_raw(15)), Some(-15));
    }
}
