use std::{rc::Rc, time::Duration};

use crate::{
    Failure,
    protocol::{BashOutput, StartBashCommand},
    workspace::core::Core,
};

/// How long a small command of the runtime's own may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a small command of the runtime's own to its end.
pub(crate) async fn run(core: &Rc<Core>, command: String) -> Result<BashOutput, Failure> {
    run_within(core, command, PATIENCE).await
}

/// The same for one that may take longer.
pub(super) async fn run_within(core: &Rc<Core>, command: String, patience: Duration) -> Result<BashOutput, Failure> {
    let start = StartBashCommand { command, cwd: None, timeout: patience.as_secs().cast_signed() };
    core.client()?.execute_bash_command(&start, patience + Duration::from_secs(5)).await
}
