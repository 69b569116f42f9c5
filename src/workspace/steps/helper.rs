use std::{rc::Rc, time::Duration};

use crate::{
    Failure,
    protocol::{BashOutput, StartBashCommand},
    workspace::core::Core,
};

/// How long a small command of the runtime's own may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a small command of the runtime's own to its end.
pub(crate) async fn run(core: &Rc<Core>, command: String) -> Result<BashOutput, Failure> {
    let start = StartBashCommand { command, cwd: None, timeout: PATIENCE.as_secs().cast_signed() };
    core.client()?.execute_bash_command(&start, PATIENCE + Duration::from_secs(5)).await
}
