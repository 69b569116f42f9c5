use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    ErrorKind, Failure,
    client::UploadBody,
    protocol::{BashCommand, CommandHead},
    workspace::{core::Core, feed, superseded::is_superseded},
};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What became of a command whose start was not answered.
pub(super) enum Recovered {
    /// It was started; `forbidden` when it was found only after its start had been forbidden.
    Found { command: BashCommand, forbidden: bool },
    /// It was not started, and will not be: its tombstone is in place.
    NeverRuns,
}

/// Finds a command whose start was not answered, or makes sure that it never runs.
///
/// Merely searching and sending again could start it twice: the lost request may still be on its way. So before it is
/// sent again its tombstone is put in place, which the command's head looks for, and only then is its absence final.
pub(super) async fn recover(core: &Rc<Core>, head: CommandHead, lost: &Failure) -> Result<Recovered, Failure> {
    let mut retry = Retry::new(core, head, lost);
    if let Some(command) = retry.until_answered(|| feed::find_command(core, head)).await? {
        return Ok(Recovered::Found { command, forbidden: false });
    }
    retry.until_answered(|| put_tombstone(core, head)).await?;
    for _ in 0..2 {
        let Some(command) = retry.until_answered(|| feed::find_command(core, head)).await? else { continue };
        let last = retry.until_answered(|| async { feed::last_output(&core.client()?, command.id).await }).await?;
        let superseded =
            last.is_some_and(|last| is_superseded(last.exit_code, last.stderr.as_deref().unwrap_or_default()));
        return Ok(if superseded { Recovered::NeverRuns } else { Recovered::Found { command, forbidden: true } });
    }
    Ok(Recovered::NeverRuns)
}

async fn put_tombstone(core: &Rc<Core>, head: CommandHead) -> Result<(), Failure> {
    core.client()?.upload(&head.tombstone_path(), UploadBody::bytes(Bytes::new())).await.map(drop)
}

/// Repeats harmless requests until they are answered, within one bound for all of them.
struct Retry<'a> {
    core: &'a Rc<Core>,
    head: CommandHead,
    lost: &'a Failure,
    give_up: Instant,
    wait: Duration,
}

impl<'a> Retry<'a> {
    fn new(core: &'a Rc<Core>, head: CommandHead, lost: &'a Failure) -> Self {
        Self { core, head, lost, give_up: Instant::now() + core.config.max_outage, wait: FIRST_WAIT }
    }

    async fn until_answered<T, F: Future<Output = Result<T, Failure>>>(
        &mut self,
        request: impl Fn() -> F,
    ) -> Result<T, Failure> {
        loop {
            let failure = match request().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.kind.is_transient()
                || Instant::now() + self.wait > self.give_up
                || self.core.closing.is_cancelled()
            {
                return Err(self.unknown(&failure));
            }
            actix_rt::time::sleep(self.wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
    }

    fn unknown(&self, failure: &Failure) -> Failure {
        let reason = format!("the answer to its start was lost ({}), and looking for it failed ({failure})", self.lost);
        Failure::maybe_sent(ErrorKind::OutcomeUnknown { reason, command_id: Some(self.head.id()) })
    }
}
