//! Running commands: what they exit with, what they write, where they run, what is refused.

use std::time::{Duration, Instant};

use workspace_fleet::{
    Effect, ErrorKind, WorkspaceConfig,
    messages::{Alive, ExecuteCommand, GetCommandOutput, GetServerInfo},
    protocol::{CommandHead, EventId, MAX_COMMAND_BYTES},
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::eventually,
};

pub(crate) const CASES: &[Case] = &[
    case!(exit_codes),
    case!(exit_codes_of_the_shell),
    case!(signals),
    case!(streams_are_kept_apart),
    case!(text_arrives_as_it_is),
    case!(directories),
    case!(a_bad_directory_is_said),
    case!(length_limit),
    case!(nul_is_refused),
    case!(several_lines),
    case!(start_look_stop),
    case!(a_background_child_is_waited_for),
    case!(unknown_commands),
    case!(any_message_can_be_asked),
    case!(server_info),
    case!(many_at_once_are_not_mixed_up),
];

async fn exit_codes(sandbox: &Sandbox) {
    for code in [0, 1, 3, 125, 126, 127, 128, 255] {
        let result = sandbox.run(format!("echo {code}; exit {code}")).await;
        assert_eq!((result.exit_code, result.raw_exit_code), (code, Some(code)));
        assert_eq!(result.stdout, format!("{code}\n"));
        assert_eq!(result.success(), code == 0);
        assert!(!result.timeout_occurred && !result.stopped && !result.truncated, "{result:?}");
    }
}

async fn exit_codes_of_the_shell(sandbox: &Sandbox) {
    let missing = sandbox.run("no-such-program-at-all").await;
    assert_eq!(missing.exit_code, 127);
    assert!(missing.stderr.contains("no-such-program-at-all"), "{missing:?}");
    std::fs::write(sandbox.path("plain"), "text").unwrap();
    assert_eq!(sandbox.run("./plain").await.exit_code, 126);
    assert_eq!(sandbox.run("if then").await.exit_code, 2);
}

async fn signals(sandbox: &Sandbox) {
    for (signal, exit_code) in [("KILL", -9), ("TERM", -15), ("SEGV", -11), ("HUP", -1)] {
        let result = sandbox.run(format!("echo before; kill -{signal} $$; echo after")).await;
        assert_eq!((result.exit_code, result.raw_exit_code), (exit_code, Some(exit_code)), "{signal}: {result:?}");
        assert_eq!(result.stdout, "before\n", "{signal}");
        assert!(!result.timeout_occurred && !result.stopped, "{signal}: {result:?}");
    }
    // A child that a signal ends is a matter of its shell.
    assert_eq!(sandbox.output("sh -c 'kill -KILL $$' 2>/dev/null; echo $?").await, "137\n");
}

async fn streams_are_kept_apart(sandbox: &Sandbox) {
    let result = sandbox.run("echo out; echo err >&2; echo out again; printf 'no line break' >&2; exit 7").await;
    assert_eq!(result.exit_code, 7);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\nout again\n", "err\nno line break"));
    assert_eq!((result.stdout_bytes, result.stderr_bytes), (14, 17));
    assert_eq!(result.command, "echo out; echo err >&2; echo out again; printf 'no line break' >&2; exit 7");
    let silent = sandbox.run("true").await;
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
}

async fn text_arrives_as_it_is(sandbox: &Sandbox) {
    let text = "  \r\n\t'\"$HOME\\ \u{1b}[1mb\u{8}\u{0}ü日本😀\u{2028}\u{c}\u{85}\n\n";
    std::fs::write(sandbox.path("text"), text).unwrap();
    assert_eq!(sandbox.output("cat text").await, text);
    // What is no UTF-8 cannot be told in JSON.
    assert_eq!(sandbox.output(r"printf 'a\377b\n'").await, "a\u{fffd}b\n");
    let quoted = "printf %s \"a'b\" '$x' \\\\ `echo y` \"$(printf '%s' 'ü  日')\"";
    assert_eq!(sandbox.output(quoted).await, "a'b$x\\yü  日");
}

async fn directories(sandbox: &Sandbox) {
    assert_eq!(sandbox.output("pwd").await.trim_end(), sandbox.directory().to_str().unwrap(), "the default directory");
    let awkward = sandbox.make_directory("with blanks, 'quotes' & ü");
    let there = ExecuteCommand::new("pwd; cat <marker").with_cwd(awkward.to_str().unwrap());
    std::fs::write(awkward.join("marker"), "here").unwrap();
    assert_eq!(sandbox.output(there).await, format!("{}\nhere", awkward.display()));
    let config = WorkspaceConfig::new("no default", sandbox.server.connection());
    let anywhere = sandbox.add(config).await.execute_command("pwd").await.unwrap();
    assert!(anywhere.success() && !anywhere.stdout.contains("wsfleet-case"), "the server's choice: {anywhere:?}");
}

async fn a_bad_directory_is_said(sandbox: &Sandbox) {
    std::fs::write(sandbox.path("file"), "").unwrap();
    for name in ["missing", "file"] {
        let path = sandbox.remote(name);
        let result = sandbox.run(ExecuteCommand::new("echo never").with_cwd(&path)).await;
        assert_eq!(result.exit_code, -1, "{result:?}");
        assert!(!result.timeout_occurred && result.stdout.is_empty(), "{result:?}");
        assert!(result.stderr.contains(&path), "{result:?}");
    }
}

async fn length_limit(sandbox: &Sandbox) {
    let room = MAX_COMMAND_BYTES - CommandHead::new(EventId::nil()).to_string().len();
    let command = |length: usize| format!("{}echo whole", "#".to_owned() + &"x".repeat(length - 12) + "\n");
    let longest = command(room);
    assert_eq!(longest.len(), room);
    assert_eq!(sandbox.output(longest).await, "whole\n");
    let before = sandbox.workspace.observe().await.unwrap().commands_started;
    let error = sandbox.workspace.execute_command(command(room + 1)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidInput { .. }), "{error}");
    assert_eq!(error.effect, Effect::NotSent);
    assert!(error.to_string().contains("131072 bytes") && error.to_string().contains("at most 131071"), "{error}");
    assert_eq!(sandbox.workspace.observe().await.unwrap().commands_started, before);

    // Without the head all of it is the command's.
    let mut config = sandbox.config("no head", &sandbox.server.url());
    config.command_head = false;
    let bare = sandbox.add(config).await;
    assert_eq!(bare.execute_command(command(131_071)).await.unwrap().stdout, "whole\n");
    let error = bare.execute_command(command(131_072)).await.unwrap_err();
    assert!(error.to_string().contains("at most 131071"), "{error}");
}

async fn nul_is_refused(sandbox: &Sandbox) {
    let error = sandbox.workspace.execute_command("echo a\0b").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidInput { .. }), "{error}");
    assert!(error.to_string().contains("NUL"), "{error}");
    let error = sandbox.workspace.start_command("\0").await.unwrap_err();
    assert_eq!(error.effect, Effect::NotSent);
}

async fn several_lines(sandbox: &Sandbox) {
    let lines = "echo 1\n# a comment\n\ncat <<X\n$((1 + 1))\nX\necho 3";
    assert_eq!(sandbox.output(lines).await, "1\n2\n3\n");
    // What is put before a command moves no line of it.
    let wrong = sandbox.run("true\ntrue\nif then").await;
    assert!(wrong.stderr.contains('3') && !wrong.stderr.contains('4'), "{wrong:?}");
    assert_eq!(sandbox.output("").await, "");
    assert_eq!(sandbox.output("# nothing").await, "");
}

async fn start_look_stop(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("echo begun; echo complaint >&2; touch here; sleep 600").with_timeout(None);
    let id = sandbox.workspace.start_command(command).await.unwrap();
    let here = sandbox.path("here");
    assert!(eventually(Duration::from_secs(20), || here.exists()).await);
    let running = sandbox.workspace.get_command_output(id).await.unwrap();
    assert_eq!(running.exit_code, None);
    sandbox.workspace.stop_command(id).await.unwrap();
    assert!(sandbox.is_quiet().await, "its processes are gone");
    let give_up = Instant::now() + Duration::from_secs(5);
    let ended = loop {
        let output = sandbox.workspace.get_command_output(id).await.unwrap();
        if output.exit_code.is_some() || Instant::now() > give_up {
            break output;
        }
    };
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("begun\n", "complaint\n"));
    assert_eq!(ended.exit_code, Some(-15));
    // A second stop finds nothing to do.
    sandbox.workspace.stop_command(id).await.unwrap();
}

async fn a_background_child_is_waited_for(sandbox: &Sandbox) {
    let result = sandbox.run("(sleep 0.7; echo late; echo late >&2) & echo first; exit 4").await;
    assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("first\nlate\n", "late\n", 4));
    // One that does not hold the streams is not waited for.
    let began = Instant::now();
    let result = sandbox.run("setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!").await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(result.success(), "{result:?}");
    assert!(sandbox.is_busy().await, "nobody asked to stop it");
    sandbox.output(format!("kill -KILL {}", result.stdout.trim())).await;
    assert!(sandbox.is_quiet().await);
}

async fn unknown_commands(sandbox: &Sandbox) {
    let error = sandbox.workspace.get_command_output(EventId::random()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
    sandbox.workspace.stop_command(EventId::random()).await.unwrap();
}

async fn any_message_can_be_asked(sandbox: &Sandbox) {
    let result = sandbox.workspace.ask(ExecuteCommand::new("echo asked")).await.unwrap();
    assert_eq!(result.stdout, "asked\n");
    let output = sandbox.workspace.ask(GetCommandOutput { command_id: result.command_id }).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.exit_code), ("asked\n", Some(0)));
    sandbox.workspace.ask(Alive).await.unwrap();
    sandbox.workspace.ask(GetServerInfo).await.unwrap();
}

async fn server_info(sandbox: &Sandbox) {
    let round_trip = sandbox.workspace.alive().await.unwrap();
    assert!(round_trip < Duration::from_secs(10), "{round_trip:?}");
    let info = sandbox.workspace.get_server_info().await.unwrap();
    let title_is_known = info.title.contains("OpenHands Agent Server");
    assert!(title_is_known, "{info:?}");
    assert!(info.uptime >= 0.0 && info.idle_time >= 0.0, "{info:?}");
    assert_eq!(info.instance_id.is_some(), sandbox.kind().is_embedded());
    assert_eq!(info.has_stop_route(), !sandbox.kind().is_old());
    let again = sandbox.workspace.get_server_info().await.unwrap();
    assert_eq!(info.instance_id, again.instance_id);
}

async fn many_at_once_are_not_mixed_up(sandbox: &Sandbox) {
    let commands = (0..30).map(|number| {
        let workspace = sandbox.workspace.clone();
        async move {
            let command =
                format!("echo {number}; echo {number} >&2; sleep 0.{}; echo {number}; exit {number}", number % 4);
            workspace.execute_command(command).await.unwrap()
        }
    });
    for (number, result) in futures::future::join_all(commands).await.into_iter().enumerate() {
        assert_eq!(result.exit_code, i32::try_from(number).unwrap());
        assert_eq!((result.stdout, result.stderr), (format!("{number}\n{number}\n"), format!("{number}\n")));
    }
}
