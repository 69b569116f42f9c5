//! Variables and standard input; what is secret stays so.

use std::{fs, time::Duration};

use workspace_fleet::messages::{ExecuteCommand, Stdin};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{eventually, http, processes, server::Kind},
};

pub(crate) const CASES: &[Case] = &[
    case!(variables_arrive_as_they_are),
    case!(bad_variables_are_refused),
    case!(stdin_is_safe_for_any_bytes),
    case!(stdin_from_a_file),
    case!(secrets_are_seen_by_the_command_alone),
    case!(a_command_that_is_never_started_leaves_no_secret),
    case!(the_session_key_is_hidden_from_commands).only(|kind| !kind.is_old()),
];

/// Values that a shell takes apart unless they are quoted with care.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "two\nlines\n",
    "it's",
    "\"quoted\"",
    "$HOME `id` $(id)",
    "\\",
    "ü日本😀",
    "-n",
    "a=b",
    "!",
    "*",
    "~",
    "'",
    "''\\''",
];

async fn variables_arrive_as_they_are(sandbox: &Sandbox) {
    for value in AWKWARD {
        let command = ExecuteCommand::new(r#"printf '<%s><%s>' "$PLAIN" "$SECRET""#);
        let command = command.with_env("PLAIN", *value).with_secret_env("SECRET", (*value).to_owned());
        assert_eq!(sandbox.output(command).await, format!("<{value}><{value}>"));
    }
    // They are the command's environment, not only its shell's.
    let command = ExecuteCommand::new("sh -c 'echo $A $B'").with_env("A", "1").with_secret_env("B", "2".to_owned());
    assert_eq!(sandbox.output(command).await, "1 2\n");
    assert_eq!(sandbox.output("echo \"[$A$B]\"").await, "[]\n", "and of no other command");
}

async fn bad_variables_are_refused(sandbox: &Sandbox) {
    for name in ["", "1A", "A-B", "A=B", "A B", "A;id", "Ä"] {
        for command in [
            ExecuteCommand::new("true").with_env(name, "x"),
            ExecuteCommand::new("true").with_secret_env(name, "hush".to_owned()),
        ] {
            let error = sandbox.workspace.execute_command(command).await.unwrap_err();
            assert_eq!(error.kind.name(), "invalid_input", "{name:?}: {error}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
    let nul = ExecuteCommand::new("true").with_secret_env("A", "hu\0sh".to_owned());
    assert_eq!(sandbox.workspace.execute_command(nul).await.unwrap_err().kind.name(), "invalid_input");
}

async fn stdin_is_safe_for_any_bytes(sandbox: &Sandbox) {
    let bytes: Vec<u8> = (0..(1 << 20)).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let command = ExecuteCommand::new("cat >copy; wc -c <copy").with_stdin(bytes.clone());
    assert_eq!(sandbox.output(command).await.trim(), "1048576");
    assert!(fs::read(sandbox.path("copy")).unwrap() == bytes);
    for text in ["", "x", "no line break", "line\n"] {
        let command = ExecuteCommand::new("cat; echo '|'").with_stdin(text.as_bytes().to_vec());
        assert_eq!(sandbox.output(command).await, format!("{text}|\n"));
    }
    let both = ExecuteCommand::new("cat; printf %s \"$S\"").with_stdin("in ").with_secret_env("S", "env".to_owned());
    assert_eq!(sandbox.output(both).await, "in env");
}

async fn stdin_from_a_file(sandbox: &Sandbox) {
    fs::write(sandbox.path("input"), "from a file\n").unwrap();
    let mut command = ExecuteCommand::new("tr a-z A-Z");
    command.stdin = Some(Stdin::Path(sandbox.path("input")));
    assert_eq!(sandbox.output(command.clone()).await, "FROM A FILE\n");
    command.stdin = Some(Stdin::Path(sandbox.path("missing")));
    let error = sandbox.workspace.execute_command(command).await.unwrap_err();
    assert!(error.kind.name() == "local" && error.to_string().contains("missing"), "{error}");
}

async fn secrets_are_seen_by_the_command_alone(sandbox: &Sandbox) {
    let secret = format!("hush-{:016x}", fastrand::u64(..));
    let script = "cat >seen.stdin; printf %s \"$TOKEN\" >seen.env; while [ ! -e go ]; do sleep 0.02; done; : ENDMARK";
    let command = ExecuteCommand::new(script)
        .with_secret_env("TOKEN", secret.clone())
        .with_stdin(format!("{secret} through stdin"))
        .with_timeout(Duration::from_secs(60));
    assert!(!format!("{command:?}").contains(&secret), "{command:?}");
    assert!(serde_json::to_string(&command).is_err(), "a secret is not written down");

    let running = tokio::spawn(sandbox.workspace.execute_command(command));
    let seen = sandbox.path("seen.env");
    assert!(eventually(Duration::from_secs(20), || fs::read_to_string(&seen).is_ok_and(|seen| seen == secret)).await);
    assert_eq!(fs::read_to_string(sandbox.path("seen.stdin")).unwrap(), format!("{secret} through stdin"));

    // It runs, and waits for us to look.
    for line in processes::command_lines() {
        assert!(!line.contains(&secret), "{line}");
    }
    let log = event_log(sandbox).await;
    assert!(log.contains("ENDMARK"), "the command is in the log");
    assert!(!log.contains(&secret), "the secret is not");
    let folders = folders_of(&log, "ENDMARK");
    assert!(!folders.is_empty(), "the command's text names its folder");
    for folder in &folders {
        assert!(!std::path::Path::new(folder).exists(), "{folder} is gone before the command begins");
    }

    fs::write(sandbox.path("go"), "").unwrap();
    let result = running.await.unwrap().unwrap();
    assert!(result.success(), "{result:?}");
    assert!(!format!("{result:?}").contains(&secret));
    assert!(!event_log(sandbox).await.contains(&secret));
}

async fn a_command_that_is_never_started_leaves_no_secret(sandbox: &Sandbox) {
    let before = private_folders();
    let command = ExecuteCommand::new("echo never").with_secret_env("TOKEN", "hush".to_owned()).with_stdin("hush");
    let mut too_long = command.clone();
    too_long.command = "#".repeat(131_071);
    assert_eq!(sandbox.workspace.execute_command(too_long).await.unwrap_err().kind.name(), "invalid_input");
    // Where the directory is missing the command is not started, and cannot remove anything itself.
    let result = sandbox.run(command.with_cwd(sandbox.remote("missing"))).await;
    assert_eq!(result.exit_code, -1);
    let left = eventually(Duration::from_secs(5), || {
        let now = private_folders();
        now.iter().all(|folder| before.contains(folder) || !holds_ours(folder))
    });
    assert!(left.await, "{:?} are left", private_folders());
}

/// The folders of commands, of this and of other cases.
fn private_folders() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir("/tmp").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .filter(|path| path.to_str().is_some_and(|path| path.contains("/.wsfleet-") && path.ends_with(".d")))
        .collect()
}

fn holds_ours(folder: &std::path::Path) -> bool {
    fs::read_to_string(folder.join("stdin")).is_ok_and(|stdin| stdin == "hush")
}

async fn the_session_key_is_hidden_from_commands(sandbox: &Sandbox) {
    let environment = sandbox.output("env; cat /proc/self/environ | tr '\\0' '\\n'").await;
    assert!(environment.contains("PATH="), "{environment}");
    for key in sandbox.server.keys {
        assert!(!environment.contains(key), "{environment}");
    }
    if sandbox.kind() == Kind::Embedded {
        // The runtime marks a command, and the agent does; nothing else of theirs is passed on.
        let marks = ["WSFLEET_COMMAND_ID=", "WSFLEET_AGENT_COMMAND="];
        for line in environment.lines().filter(|line| line.starts_with("WSFLEET_")) {
            assert!(marks.iter().any(|mark| line.starts_with(mark)), "{line}");
        }
    }
}

/// The newest events of the log, as the server tells them.
async fn event_log(sandbox: &Sandbox) -> String {
    let path = "/api/bash/bash_events/search?sort_order=TIMESTAMP_DESC&limit=100&kind__eq=";
    let mut log = String::new();
    for kind in ["BashCommand", "BashOutput"] {
        let (status, page) =
            http::request("GET", &sandbox.server.address, &format!("{path}{kind}"), sandbox.server.keys[0])
                .await
                .unwrap();
        assert_eq!(status, 200, "{page}");
        log.push_str(&page);
    }
    log
}

/// The private folders that a command with this text in it names.
fn folders_of(log: &str, text: &str) -> Vec<String> {
    let commands = log.split("\"command\":").filter(|command| command.contains(text));
    let paths = commands.flat_map(|command| command.split("/tmp/.wsfleet-").skip(1));
    let names = paths.filter_map(|rest| rest.get(..34).filter(|name| name.ends_with(".d")));
    names.map(|name| format!("/tmp/.wsfleet-{name}")).collect()
}
