//! Output that servers push over their event socket, wherever the caller asks for that.

use std::time::Duration;

use futures::future::join_all;
use workspace_fleet::{Push, Workspace, messages::ExecuteCommand};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::pattern,
};

pub(crate) const CASES: &[Case] = &[
    case!(the_end_of_a_long_command_is_pushed),
    case!(what_is_pushed_is_complete).within(5),
    case!(many_are_pushed_at_once),
    case!(a_command_that_is_stopped_ends),
];

async fn pushed(sandbox: &Sandbox) -> Workspace {
    let url = sandbox.server.url();
    sandbox.add(sandbox.config("pushed", &url).with_push(Push::Always)).await
}

async fn the_end_of_a_long_command_is_pushed(sandbox: &Sandbox) {
    let workspace = pushed(sandbox).await;
    let result = workspace.execute_command("echo out; echo err >&2; sleep 10; echo end; exit 3").await.unwrap();
    assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("out\nend\n", "err\n", 3));
    let seen = workspace.observe().await.unwrap();
    assert!(seen.pushed_events >= 1, "{seen:?}");
    // Polled alone it takes more than 40.
    assert!(seen.polls <= 35, "{seen:?}");
}

async fn what_is_pushed_is_complete(sandbox: &Sandbox) {
    let workspace = pushed(sandbox).await;
    let (first, last) = (1_000_000_000u64, 1_000_999_999u64);
    let expected = pattern::seq(first, last);
    let script = format!("sleep 1; seq {first} {last} & seq {first} {last} >&2; wait");
    for round in 1..=3 {
        let command = ExecuteCommand::new(script.as_str()).with_timeout(Duration::from_secs(120));
        let result = workspace.execute_command(command).await.unwrap();
        assert!(result.success() && !result.truncated, "round {round}: {} bytes", result.stdout_bytes);
        assert!(result.stdout == expected, "round {round}: standard output, {} bytes", result.stdout_bytes);
        assert!(result.stderr == expected, "round {round}: standard error, {} bytes", result.stderr_bytes);
    }
    assert!(workspace.observe().await.unwrap().pushed_events > 0);
}

async fn many_are_pushed_at_once(sandbox: &Sandbox) {
    let workspace = pushed(sandbox).await;
    let commands = (0..20).map(|number| workspace.execute_command(format!("sleep 3; echo {number}; exit {number}")));
    for (number, result) in join_all(commands).await.into_iter().enumerate() {
        let result = result.unwrap();
        assert_eq!((result.stdout, result.exit_code), (format!("{number}\n"), number as i32));
    }
}

async fn a_command_that_is_stopped_ends(sandbox: &Sandbox) {
    let workspace = pushed(sandbox).await;
    let command = ExecuteCommand::new("echo begun; sleep 600").with_timeout(Duration::from_secs(3));
    let result = workspace.execute_command(command).await.unwrap();
    assert_eq!((result.exit_code, result.timeout_occurred, result.stdout.as_str()), (-1, true, "begun\n"));
    assert!(sandbox.is_quiet().await);
}
