//! A command runs exactly once, whatever becomes of the request that starts it and of its answer.

use std::{fs, time::Duration};

use workspace_fleet::Workspace;

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::proxy::{Fault, Proxy},
};

pub(crate) const CASES: &[Case] = &[
    case!(the_answer_is_lost).within(5),
    case!(the_request_is_late).within(5),
    case!(the_request_comes_after_the_client_gave_up).within(5),
    case!(a_gateway_times_out).within(5),
    case!(a_gateway_refuses).within(5),
    case!(a_start_that_is_not_watched).within(5),
];

const START: &str = "/bash/start_bash_command";

/// How often each fault is tried.
const ROUNDS: u32 = 20;

async fn the_answer_is_lost(sandbox: &Sandbox) {
    rounds(sandbox, |_| Fault::DropAnswer).await;
}

async fn the_request_is_late(sandbox: &Sandbox) {
    // It arrives at once, or while the runtime looks for it, or when it has been sent again.
    rounds(sandbox, |round| Fault::DeliverAfter(round % 7)).await;
}

async fn the_request_comes_after_the_client_gave_up(sandbox: &Sandbox) {
    rounds(sandbox, |_| Fault::DeliverWhenGivenUp).await;
}

async fn a_gateway_times_out(sandbox: &Sandbox) {
    rounds(sandbox, |round| Fault::AnswerInstead([504, 502, 500][round as usize % 3])).await;
}

async fn a_gateway_refuses(sandbox: &Sandbox) {
    rounds(sandbox, |round| Fault::Refuse([503, 429][round as usize % 2], u32::from(round % 10 == 0))).await;
}

async fn rounds(sandbox: &Sandbox, fault: impl Fn(u32) -> Fault) {
    let (proxy, workspace) = proxied(sandbox).await;
    for round in 0..ROUNDS {
        proxy.spoil_next(START, fault(round));
        let command = format!("echo ran >>counter-{round}; echo out; echo err >&2; exit 7");
        let result = workspace.execute_command(command.clone()).await;
        let result = result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("out\n", "err\n", 7));
        assert_eq!(result.command, command, "what was put before it does not show");
        assert_eq!(runs(sandbox, round), 1, "round {round}");
    }
    every_command_ran_once(sandbox, &proxy).await;
}

async fn a_start_that_is_not_watched(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    let faults = [Fault::DropAnswer, Fault::DeliverAfter(2), Fault::DeliverWhenGivenUp, Fault::AnswerInstead(504)];
    for round in 0..ROUNDS {
        proxy.spoil_next(START, faults[round as usize % faults.len()]);
        workspace.start_command(format!("echo ran >>counter-{round}")).await.unwrap();
    }
    let done = || (0..ROUNDS).all(|round| runs(sandbox, round) > 0);
    assert!(crate::support::eventually(Duration::from_secs(10), done).await, "all of them have run");
    every_command_ran_once(sandbox, &proxy).await;
}

/// A workspace behind a proxy, which gives up on an answer soon.
async fn proxied(sandbox: &Sandbox) -> (Proxy, Workspace) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let mut config = sandbox.config("proxied", &proxy.url());
    config.limits.answer_timeout = Duration::from_secs(1);
    (proxy, sandbox.add(config).await)
}

/// Lets everything that is still on its way arrive and run, and counts.
async fn every_command_ran_once(sandbox: &Sandbox, proxy: &Proxy) {
    assert!(proxy.spoilt() >= ROUNDS, "only {} starts were spoilt", proxy.spoilt());
    proxy.release().await;
    // A late start has been answered by now; what it started may yet write.
    assert!(sandbox.is_quiet().await);
    let again = |round: &u32| runs(sandbox, *round) != 1;
    let wrong: Vec<(u32, usize)> = (0..ROUNDS).filter(again).map(|round| (round, runs(sandbox, round))).collect();
    assert!(wrong.is_empty(), "(round, how often the command ran): {wrong:?}");
}

/// How often the command of this round ran.
fn runs(sandbox: &Sandbox, round: u32) -> usize {
    fs::read_to_string(sandbox.path(&format!("counter-{round}"))).unwrap_or_default().lines().count()
}
