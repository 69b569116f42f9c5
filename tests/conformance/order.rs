//! Steps are carried out in the order sent; what is no step overtakes.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::future::join_all;
use workspace_fleet::{
    Effect, ErrorKind,
    messages::{ExecuteCommand, HoldUntil},
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
};

pub(crate) const CASES: &[Case] = &[
    case!(upload_then_execute),
    case!(execute_then_upload_then_download),
    case!(held_until_finished),
    case!(a_long_command_holds_up_nobody),
    case!(what_is_called_off_is_not_started),
    case!(what_is_no_step_overtakes),
    case!(hundred_sleeps).alone(),
];

async fn upload_then_execute(sandbox: &Sandbox) {
    let steps = (0..100).map(|number| {
        let remote = sandbox.remote(&format!("file {number}"));
        let command = format!("cat '{remote}' && rm '{remote}'");
        let upload = sandbox.workspace.file_upload(format!("content {number}").into_bytes(), remote);
        (upload, sandbox.workspace.execute_command(command))
    });
    // All of them are sent before any is awaited, and the second of each pair is awaited first.
    let (uploads, commands): (Vec<_>, Vec<_>) = steps.unzip();
    for (number, result) in join_all(commands).await.into_iter().enumerate() {
        let result = result.unwrap();
        assert_eq!((result.stdout, result.stderr.as_str()), (format!("content {number}"), ""));
    }
    for result in join_all(uploads).await {
        result.unwrap();
    }
}

async fn execute_then_upload_then_download(sandbox: &Sandbox) {
    let remote = sandbox.remote("shared");
    let mut waiting = Vec::new();
    for number in 0..20 {
        let held = |command: String| ExecuteCommand::new(command).with_hold_until(HoldUntil::Finished);
        let wrote = sandbox.workspace.execute_command(held(format!("sleep 0.02; printf 'first {number}' >shared")));
        let first = sandbox.workspace.file_download(&remote, sandbox.path(&format!("first {number}")));
        let upload = sandbox.workspace.file_upload(format!("second {number}").into_bytes(), &remote);
        let read = sandbox.workspace.execute_command(held("sleep 0.02; cat shared".to_owned()));
        waiting.push(async move {
            let (read, first, upload, wrote) = futures::join!(read, first, upload, wrote);
            (read.unwrap().stdout, first.unwrap(), upload.unwrap(), wrote.unwrap())
        });
    }
    for (number, (read, ..)) in join_all(waiting).await.into_iter().enumerate() {
        assert_eq!(read, format!("second {number}"));
        let first = fs::read_to_string(sandbox.path(&format!("first {number}"))).unwrap();
        assert_eq!(first, format!("first {number}"));
    }
}

async fn held_until_finished(sandbox: &Sandbox) {
    sandbox.output("git init -q . && echo before >file && git add file").await;
    for number in 0..5 {
        let command =
            ExecuteCommand::new(format!("sleep 0.2; echo {number} >file")).with_hold_until(HoldUntil::Finished);
        let changing = sandbox.workspace.execute_command(command);
        let diff = sandbox.workspace.git_diff("file").await.unwrap();
        assert_eq!(diff.modified, Some(number.to_string()));
        changing.await.unwrap();
    }
}

async fn a_long_command_holds_up_nobody(sandbox: &Sandbox) {
    let long = tokio::spawn(sandbox.workspace.execute_command(ExecuteCommand::new("sleep 600").with_timeout(None)));
    assert!(sandbox.is_busy().await);
    let began = Instant::now();
    assert_eq!(sandbox.output("echo meanwhile").await, "meanwhile\n");
    sandbox.workspace.file_upload(b"x".to_vec(), sandbox.remote("file")).await.unwrap();
    sandbox.workspace.file_download(sandbox.remote("file"), sandbox.path("back")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(!long.is_finished());
    long.abort();
}

async fn what_is_called_off_is_not_started(sandbox: &Sandbox) {
    let held = ExecuteCommand::new("echo running; sleep 600").with_timeout(None).with_hold_until(HoldUntil::Finished);
    let mut stream = sandbox.workspace.follow_command(held);
    let id = crate::timeouts::started(&mut stream).await;
    let waiting = sandbox.workspace.follow_command(format!(": >{}", sandbox.remote("file")).as_str());
    waiting.call_off();
    let error = waiting.result().await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Stopped { .. }) && error.effect == Effect::NotSent, "{error:?}");
    // One that runs is left alone.
    stream.call_off();
    assert_eq!(sandbox.workspace.get_command_output(id).await.unwrap().exit_code, None);
    sandbox.workspace.stop_command(id).await.unwrap();
    assert!(stream.result().await.unwrap().stopped);
    assert_eq!(sandbox.output("ls").await, "", "what was called off never ran");
}

async fn what_is_no_step_overtakes(sandbox: &Sandbox) {
    let held = ExecuteCommand::new("echo running; sleep 600").with_timeout(None).with_hold_until(HoldUntil::Finished);
    let mut stream = sandbox.workspace.follow_command(held);
    let id = crate::timeouts::started(&mut stream).await;
    let upload = tokio::spawn(sandbox.workspace.file_upload(b"x".to_vec(), sandbox.remote("file")));
    sandbox.workspace.alive().await.unwrap();
    sandbox.workspace.get_server_info().await.unwrap();
    assert_eq!(sandbox.workspace.get_command_output(id).await.unwrap().exit_code, None);
    sandbox.workspace.reset_client().await;
    sandbox.workspace.update_connection(sandbox.server.connection()).await.unwrap();
    let load = sandbox.workspace.observe().await.unwrap();
    assert_eq!((load.running_steps, load.waiting_steps), (1, 1));
    assert!(!upload.is_finished() && !sandbox.path("file").exists(), "it is not its turn");
    sandbox.workspace.stop_command(id).await.unwrap();
    upload.await.unwrap().unwrap();
    assert!(stream.result().await.unwrap().stopped);
    assert!(sandbox.path("file").exists());
}

async fn hundred_sleeps(sandbox: &Sandbox) {
    let bound = if sandbox.kind().is_embedded() { 1.5 } else { 2.5 };
    let mut tries = Vec::new();
    // A machine that is busy otherwise is no fault of the workspace: one try of five has to do.
    for _ in 0..5 {
        sandbox.server.forget_events().await;
        // What the machine itself needs to run so many shells, on a quiet one of two cores 0.1 s beside the sleep.
        let slowness = ((hundred_shells() - 1.0) / 0.1).max(1.0);
        let allowed = 1.0 + (bound - 1.0) * slowness;
        let began = Instant::now();
        let results = join_all((0..100).map(|_| sandbox.workspace.execute_command(SLEEP))).await;
        let took = began.elapsed().as_secs_f64();
        for result in results {
            let result = result.unwrap();
            assert!(result.success() && result.stdout == "done\n", "{result:?}");
        }
        if took < allowed {
            return;
        }
        tries.push((took, allowed));
    }
    panic!("100 commands of a second took, and may take, {tries:.2?} s");
}

const SLEEP: &str = "sleep 1; echo done";

/// How long a hundred shells that sleep take without any server.
fn hundred_shells() -> f64 {
    let began = Instant::now();
    let shells: Vec<_> = (0..100)
        .map(|_| Command::new("sh").args(["-c", SLEEP]).stdout(Stdio::piped()).spawn().expect("a shell starts"))
        .collect();
    for shell in shells {
        shell.wait_with_output().expect("a shell ends");
    }
    began.elapsed().as_secs_f64()
}
