use std::{
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::{
    ErrorKind, Failure,
    client::UploadBody,
    protocol::{BashCommand, CommandHead},
    workspace::{
        backoff::{NEVER_ANSWERED, Waits},
        core::Core,
        feed::{CommandReach, CommandSearch},
        superseded::{self, Fate},
    },
};

const WAITS: Waits = Waits { first: Duration::from_millis(25), longest: Duration::from_secs(2) };

/// How long the fate of a command is looked into that nobody waits for any more.
const HURRIED: Duration = Duration::from_secs(5);

/// How long a refusal, or an answer that makes no sense, has to last before it is believed, and how often it has to come in a
/// row: what spoilt the answer to the start may spoil the next one as well.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
const REFUSALS: u32 = 3;

/// How much farther back than a start was sent it is looked for where missing it does no harm.
const MARGIN: Duration = Duration::from_secs(30);

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
///
/// The log may be long. All of it is read once, when the command can no longer begin. What is looked for before that
/// is most likely among the newest, and so is what was being written during that reading.
pub(super) async fn recover(
    core: &Rc<Core>,
    head: CommandHead,
    sent: Instant,
    lost: &Failure,
    caller: &CancellationToken,
) -> Result<Recovered, Failure> {
    let mut inquiry = Inquiry::new(core, head, lost, caller);
    if let Some((_, command)) = inquiry.find(&[head], since(sent)).await?.pop() {
        return Ok(Recovered::Found { command, forbidden: false });
    }
    inquiry.until_answered(|| put_tombstone(core, head)).await?;
    for is_first in [true, false] {
        let reach = if is_first { CommandReach::All } else { since(sent) };
        let Some((_, command)) = inquiry.find(&[head], reach).await?.pop() else { continue };
        let fate = inquiry.until_answered(|| async { superseded::fate(&core.client()?, command.id).await }).await?;
        return Ok(if fate == Fate::Superseded {
            Recovered::NeverRuns
        } else {
            Recovered::Found { command, forbidden: true }
        });
    }
    Ok(Recovered::NeverRuns)
}

/// From about this moment on, wherever the server's clock stands.
fn since(moment: Instant) -> CommandReach {
    CommandReach::Recent(SignedDuration::try_from(moment.elapsed() + MARGIN).unwrap_or(SignedDuration::MAX))
}

async fn put_tombstone(core: &Rc<Core>, head: CommandHead) -> Result<(), Failure> {
    core.client()?.upload(&head.tombstone_path(), UploadBody::bytes(Bytes::new())).await.map(drop)
}

/// Repeats harmless requests until they are answered, within one bound for all of them. Other than with what is merely tried
/// again ([`Retry`](crate::workspace::backoff::Retry)) a command hangs on the answer that may run, and so nothing but a refusal
/// that lasts ends it. The bound is short once nobody waits for the command any more; until then the command is not given up
/// lightly.
pub(super) struct Inquiry<'a> {
    core: &'a Rc<Core>,
    head: CommandHead,
    /// How the start failed; absent when it was another process's.
    lost: Option<&'a Failure>,
    caller: &'a CancellationToken,
    began: Instant,
    give_up: Instant,
    hurried: bool,
    tries: u32,
    /// Since when every answer was one that no wait would make better, and how many there were.
    refused: Option<(Instant, u32)>,
}

impl<'a> Inquiry<'a> {
    fn new(core: &'a Rc<Core>, head: CommandHead, lost: &'a Failure, caller: &'a CancellationToken) -> Self {
        let began = Instant::now();
        let give_up = began + core.config.max_outage;
        Self { core, head, lost: Some(lost), caller, began, give_up, hurried: false, tries: 0, refused: None }
    }

    /// For a command that another process may have started.
    pub(super) fn for_resume(core: &'a Rc<Core>, head: CommandHead, caller: &'a CancellationToken) -> Self {
        let began = Instant::now();
        let give_up = began + core.config.max_outage;
        Self { core, head, lost: None, caller, began, give_up, hurried: false, tries: 0, refused: None }
    }

    /// Finds the newest command of each of these heads.
    pub(super) async fn find(
        &mut self,
        heads: &[CommandHead],
        reach: CommandReach,
    ) -> Result<Vec<(CommandHead, BashCommand)>, Failure> {
        let (mut search, core) = (CommandSearch::new(heads, reach), self.core);
        while !self.until_answered(async || search.read_page(core).await).await? {}
        Ok(search.found())
    }

    pub(super) async fn until_answered<T>(
        &mut self,
        mut request: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            self.hurry_if_abandoned();
            let give_up = self.give_up();
            let bound = give_up.saturating_duration_since(Instant::now());
            let failure = match actix_rt::time::timeout(bound, request()).await {
                Ok(Ok(answer)) => {
                    (self.refused, self.tries) = (None, 0);
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
                Err(_) => return Err(self.given_up(&"no answer came in time")),
            };
            if self.is_to_be_believed(&failure) {
                return Err(self.refused(failure));
            }
            // A step is held up meanwhile, and somebody may give it up.
            let wait = WAITS.after(self.tries, &failure, fastrand::f64()).min(WAITS.longest);
            if Instant::now() + wait > self.give_up() {
                return Err(self.given_up(&failure));
            }
            actix_rt::time::sleep(wait).await;
            self.tries += 1;
        }
    }

    /// Whether a failure will not pass.
    fn is_to_be_believed(&mut self, failure: &Failure) -> bool {
        if failure.kind.is_transient() {
            self.refused = None;
            return false;
        }
        let (since, times) = self.refused.get_or_insert_with(|| (Instant::now(), 0));
        *times += 1;
        let is_of_this_side = matches!(failure.kind, ErrorKind::InvalidInput { .. } | ErrorKind::Local { .. });
        is_of_this_side || (*times >= REFUSALS && since.elapsed() >= REFUSAL_PATIENCE)
    }

    /// Until when to try. A server that has answered before is given the whole time; one from which nothing but silence
    /// or server errors ever came has most likely not started the command either.
    fn give_up(&self) -> Instant {
        match self.lost {
            Some(_) if !self.core.health.has_answered() => self.give_up.min(self.began + NEVER_ANSWERED),
            _ => self.give_up,
        }
    }

    /// What is said when the time is over: the start's own failure, where the server has never answered anything.
    fn given_up(&self, failure: &(impl fmt::Display + ?Sized)) -> Failure {
        match self.lost {
            Some(lost) if !self.core.health.has_answered() => Self::never_answered(lost),
            _ => self.unknown(failure),
        }
    }

    fn never_answered(lost: &Failure) -> Failure {
        let kind = match &lost.kind {
            ErrorKind::Deadline { .. } => {
                ErrorKind::Unreachable { reason: format!("{}; the server has never answered anything", lost.kind) }
            }
            kind => kind.clone(),
        };
        Failure { kind, effect: lost.effect }
    }

    fn hurry_if_abandoned(&mut self) {
        if !self.hurried && (self.caller.is_cancelled() || self.core.closing.is_cancelled()) {
            self.hurried = true;
            self.give_up = self.give_up.min(Instant::now() + HURRIED);
        }
    }

    /// What answers has answered, but not as the agent server that the command was sent to.
    fn refused(&self, failure: Failure) -> Failure {
        match (self.lost.map(|lost| (lost, &lost.kind)), &failure.kind) {
            // It did not understand the start either: it is no agent server, and says so.
            (
                Some((lost, ErrorKind::Protocol { cut_short: false, .. })),
                ErrorKind::Protocol { .. } | ErrorKind::Gone { .. },
            ) => lost.clone(),
            _ => self.unknown(&failure),
        }
    }

    pub(super) fn unknown(&self, failure: &(impl fmt::Display + ?Sized)) -> Failure {
        let why = match self.lost {
            Some(lost) => format!("the answer to its start was lost ({lost})"),
            None => "it may have been started before".to_owned(),
        };
        let reason = format!("{why}, and looking for it failed ({failure})");
        let process_id = Some(self.head.id());
        Failure::maybe_sent(ErrorKind::OutcomeUnknown { reason, command_id: None, process_id })
    }
}
