use std::{rc::Rc, time::Duration};

use crate::{
    Failure,
    protocol::{BashOutput, StartBashCommand},
    workspace::core::Core,
};

/// How long a small command of the runtime's own may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long the slowest of them works: ending processes takes a second from TERM to KILL.
const WORK: Duration = Duration::from_secs(3);

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
