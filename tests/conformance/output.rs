//! Output: all of it arrives, in order, collected or streamed.

use std::{sync::LazyLock, time::Duration};

use futures::StreamExt as _;
use workspace_fleet::{
    CommandResult, CommandStream, OutputStream,
    messages::{CommandEvent, ExecuteCommand},
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{pattern, server::Kind},
    timeouts::started,
};

pub(crate) const CASES: &[Case] = &[
    case!(flood_collected).alone().within(10),
    case!(flood_streamed).alone().within(10),
    case!(streamed_output_is_the_collected_output),
    case!(a_slow_reader_gets_everything),
    case!(too_much_is_cut_in_the_middle_and_said),
    case!(output_comes_while_the_command_runs).only(Kind::is_embedded),
    case!(characters_are_never_cut).only(Kind::is_embedded),
    case!(many_small_writes),
];

/// How many lines of 11 bytes make 65 MB. Both streams: 130 MB.
const LINES: u64 = 5_909_090;
const FLOOD: &str = "seq 1000000000 1005909089 & seq 2000000000 2005909089 >&2; wait";
static FLOOD_STDOUT: LazyLock<String> = LazyLock::new(|| pattern::seq(1_000_000_000, 1_000_000_000 + LINES - 1));
static FLOOD_STDERR: LazyLock<String> = LazyLock::new(|| pattern::seq(2_000_000_000, 2_000_000_000 + LINES - 1));

/// How often the floods come, each way: 20 times together.
const ROUNDS: u32 = 10;

fn flood() -> ExecuteCommand {
    ExecuteCommand::new(FLOOD).with_timeout(Duration::from_secs(120))
}

async fn flood_collected(sandbox: &Sandbox) {
    for round in 1..=ROUNDS {
        let result = sandbox.run(flood()).await;
        assert!(result.success() && !result.truncated, "round {round}: {}", facts(&result));
        // The texts are too long to be shown.
        assert!(result.stdout == *FLOOD_STDOUT, "round {round}: standard output: {}", facts(&result));
        assert!(result.stderr == *FLOOD_STDERR, "round {round}: standard error: {}", facts(&result));
        sandbox.server.forget_events().await;
    }
}

async fn flood_streamed(sandbox: &Sandbox) {
    for round in 1..=ROUNDS {
        let mut stream = sandbox.workspace.follow_command(flood().with_max_output(1000));
        let mut stdout = Expected { text: &FLOOD_STDOUT, at: 0 };
        let mut stderr = Expected { text: &FLOOD_STDERR, at: 0 };
        while let Some(event) = stream.next().await {
            match event {
                CommandEvent::Started { .. } => {}
                CommandEvent::Output { stream: OutputStream::Stdout, text } => stdout.take(&text),
                CommandEvent::Output { stream: OutputStream::Stderr, text } => stderr.take(&text),
            }
        }
        let result = stream.result().await.unwrap();
        assert_eq!((stdout.missing(), stderr.missing()), (0, 0), "round {round}: {}", facts(&result));
        assert_eq!(result.exit_code, 0, "round {round}");
        assert_eq!((result.stdout_bytes, result.stderr_bytes), (LINES * 11, LINES * 11));
        sandbox.server.forget_events().await;
    }
}

/// A text that has to arrive piece by piece.
struct Expected {
    text: &'static str,
    at: usize,
}

impl Expected {
    fn take(&mut self, piece: &str) {
        let expected = self.text.get(self.at..self.at + piece.len());
        assert!(expected == Some(piece), "what comes at byte {} is not what was written there", self.at);
        self.at += piece.len();
    }

    fn missing(&self) -> usize {
        self.text.len() - self.at
    }
}

/// A result without its texts.
fn facts(result: &CommandResult) -> String {
    format!(
        "exit {} (raw {:?}), {} and {} bytes, timeout {}, truncated {}",
        result.exit_code,
        result.raw_exit_code,
        result.stdout.len(),
        result.stderr.len(),
        result.timeout_occurred,
        result.truncated
    )
}

async fn streamed_output_is_the_collected_output(sandbox: &Sandbox) {
    let stream = sandbox.workspace.follow_command("for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.2; done; exit 9");
    let (stdout, stderr, result) = take_all(stream).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("1\n2\n3\n", "e1\ne2\ne3\n"));
    assert_eq!((result.stdout, result.stderr, result.exit_code), (stdout, stderr, 9));
}

async fn a_slow_reader_gets_everything(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("seq 1000000000 1002999999; echo end >&2").with_timeout(Duration::from_secs(60));
    let mut stream = sandbox.workspace.follow_command(command.with_max_output(100));
    started(&mut stream).await;
    // Nothing is taken until it has long ended and others have run.
    assert!(sandbox.is_quiet_within(Duration::from_secs(60)).await);
    for _ in 0..10 {
        assert_eq!(sandbox.output("echo meanwhile").await, "meanwhile\n");
    }
    let (stdout, stderr, result) = take_all(stream).await;
    assert!(stdout == pattern::seq(1_000_000_000, 1_002_999_999), "{} bytes: {}", stdout.len(), facts(&result));
    assert_eq!((stderr.as_str(), result.exit_code), ("end\n", 0));
}

async fn too_much_is_cut_in_the_middle_and_said(sandbox: &Sandbox) {
    let result = sandbox.run(ExecuteCommand::new("seq 1 100000; echo short >&2").with_max_output(1000)).await;
    assert!(result.truncated && result.success(), "{}", facts(&result));
    assert_eq!(result.stdout_bytes, pattern::seq(1, 100_000).len() as u64);
    assert!(result.stdout.starts_with("1\n2\n3\n") && result.stdout.ends_with("\n99999\n100000\n"), "both ends stay");
    assert!(result.stdout.len() < 1200, "{}", facts(&result));
    assert_eq!(result.stderr, "short\n");
    let fits = sandbox.run(ExecuteCommand::new("printf 1234567890").with_max_output(10)).await;
    assert!(!fits.truncated && fits.stdout == "1234567890", "{fits:?}");
}

async fn output_comes_while_the_command_runs(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second");
    let mut stream = sandbox.workspace.follow_command(command);
    started(&mut stream).await;
    // The command does not end before its first output has been seen.
    let first = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("output while it runs");
    assert_eq!(first, Some(CommandEvent::Output { stream: OutputStream::Stdout, text: "first\n".to_owned() }));
    std::fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(stream.result().await.unwrap().stdout, "first\nsecond\n");
}

async fn characters_are_never_cut(sandbox: &Sandbox) {
    // 21 bytes a line, so that every kind of character comes to lie on every border of a buffer.
    let text = "aü日本😀é€\n".repeat(200_000);
    std::fs::write(sandbox.path("text"), &text).unwrap();
    let result = sandbox.run("cat text; cat text >&2").await;
    assert!(result.stdout == text && result.stderr == text, "{}", facts(&result));
    // A character that is written in two goes.
    assert_eq!(sandbox.output(r"printf '\360\237'; sleep 0.3; printf '\230\200'").await, "😀");
}

async fn many_small_writes(sandbox: &Sandbox) {
    let command = "i=0; while [ $i -lt 3000 ]; do echo $i; echo $i >&2; i=$((i+1)); done";
    let result = sandbox.run(command).await;
    assert_eq!(result.stdout, pattern::seq(0, 2999));
    assert_eq!(result.stderr, pattern::seq(0, 2999));
}

/// Takes a stream to its end.
async fn take_all(mut stream: CommandStream) -> (String, String, CommandResult) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    while let Some(event) = stream.next().await {
        match event {
            CommandEvent::Started { .. } => {}
            CommandEvent::Output { stream: OutputStream::Stdout, text } => stdout.push_str(&text),
            CommandEvent::Output { stream: OutputStream::Stderr, text } => stderr.push_str(&text),
        }
    }
    (stdout, stderr, stream.result().await.unwrap())
}
