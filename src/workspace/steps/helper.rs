use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    protocol::{BashOutput, StartBashCommand},
    workspace::{
        backoff::{Waits, until_answered},
        core::Core,
    },
};

/// How long a small command of the runtime's own may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long the slowest of them works: ending processes takes a second from TERM to KILL.
const WORK: Duration = Duration::from_secs(3);

/// How long removing something is tried.
const TIDYING: Duration = Duration::from_secs(5);
const WAITS: Waits = Waits { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

/// How much longer than the command its answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Runs a small command of the runtime's own to its end. Where answers are given little time, so is this.
pub(crate) async fn run(core: &Rc<Core>, command: String) -> Result<BashOutput, Failure> {
    run_within(core, command, PATIENCE.min(core.config.limits.answer_timeout.saturating_add(WORK))).await
}

/// The same for one that may take longer.
pub(super) async fn run_within(core: &Rc<Core>, command: String, patience: Duration) -> Result<BashOutput, Failure> {
    let start = StartBashCommand { command, cwd: None, timeout: patience.as_secs().cast_signed() };
    let wait = patience + ANSWER.min(core.config.limits.answer_timeout);
    core.client()?.execute_bash_command(&start, wait).await
}

/// Removes what the runtime made in the sandbox, with a command that does no harm when it is run twice.
pub(super) async fn tidy(core: &Rc<Core>, what: &str, command: String) {
    let tried = until_answered(Instant::now() + TIDYING, WAITS, || run(core, command.clone())).await;
    if let Err(failure) = tried {
        log::warn!("{}: {what} could not be removed from the sandbox: {failure}", core.config.name);
    }
}
