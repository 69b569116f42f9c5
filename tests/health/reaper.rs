//! A real server whose platform ends it when it seems idle, as those do that announce an idle timeout.
//!
//! `WSFLEET_IDLE_LIMIT` is that time in seconds, by default one that is soon over; the command takes four times as long.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use workspace_fleet::{Connection, Push, Workspace, messages::ExecuteCommand};

use crate::{
    servers::workspace,
    support::boot::{self, Process, Program},
};

const VERSION: &str = "1.58.0";
const KEYS: [&str; 2] = ["first", "second"];

/// Real servers take most of the machine while they boot.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_sandbox_is_not_reaped_while_it_is_polled() {
    a_real_sandbox_is_not_reaped(Push::Never).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_sandbox_is_not_reaped_while_it_pushes() {
    a_real_sandbox_is_not_reaped(Push::Always).await;
}

async fn a_real_sandbox_is_not_reaped(push: Push) {
    if !boot::python(VERSION).is_file() {
        let required = std::env::var("WSFLEET_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "OpenHands {VERSION} is not installed; tests/real-servers.sh installs it");
        return eprintln!("not run: OpenHands {VERSION} is not installed");
    }
    let _turn = ONE_AT_A_TIME.lock().await;
    let limit: u32 = std::env::var("WSFLEET_IDLE_LIMIT").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let root = tempfile::tempdir().unwrap();
    let program = Program::openhands(VERSION).with_variable("OH_RUNTIME_IDLE_TIMEOUT_SECONDS", &limit.to_string());
    let (address, server) = boot::start(&program, root.path(), KEYS).unwrap();
    let url = format!("http://{address}");
    let connect = || Connection::new(&url).unwrap().with_api_key(KEYS[0]);
    let (fleet, used) = workspace(&url, |mut config| {
        config.connection = connect();
        config.with_push(push)
    })
    .await;
    let (others, watching) = workspace(&url, |config| config).await;
    let limit = Duration::from_secs(limit.into());
    // It may have been idle for longer than that until all of this was there.
    used.execute_command("true").await.unwrap();

    let began = Instant::now();
    let command = ExecuteCommand::new(format!("sleep {}; echo done", 4 * limit.as_secs())).with_timeout(None);
    let mut server = Some(server);
    let result = tokio::select! {
        result = used.execute_command(command) => result.unwrap(),
        () = reap(&watching, limit, &mut server) => panic!("it was reaped after {:?}", began.elapsed()),
    };
    assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("done\n", "", 0));
    let seen = used.observe().await.unwrap();
    assert_eq!(seen.pushed_events > 0, push == Push::Always, "{seen:?}");
    let halves = began.elapsed().as_secs_f64() / (limit.as_secs_f64() / 2.0);
    assert!(seen.keepalives >= 2 && (seen.keepalives as f64) <= halves, "{seen:?} in {halves} half intervals");
    println!("{} signs of use in {halves:.1} half intervals, {} searches", seen.keepalives, seen.polls);

    // Nobody uses it any more: the platform would end it now.
    let let_go = tokio::time::timeout(20 * limit, reap(&watching, limit, &mut server)).await;
    assert!(let_go.is_ok(), "it is let go");
    fleet.shutdown().await;
    others.shutdown().await;
}

/// Ends the server when it has been idle for longer than it announced.
async fn reap(watching: &Workspace, limit: Duration, server: &mut Option<Process>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let info = watching.get_server_info().await.unwrap();
        if info.idle_time > limit.as_secs_f64() {
            server.take().map(Process::stop);
            return;
        }
    }
}
