use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures::future::try_join_all;
use workspace_fleet::{
    Connection, Fleet, Push, Workspace, WorkspaceConfig,
    client::{AgentClient, ClientLimits, EventQuery, SharedTls, Transport},
    messages::ExecuteCommand,
    protocol::{BashEvent, EventId, SortOrder},
};

use super::percentiles;
use crate::process::{Result, Sample};

/// How many commands run at once at most.
const AT_ONCE: usize = 8;

/// The longest pause before a command, in which the lanes come apart.
const PAUSE: Duration = Duration::from_millis(300);

/// The longest pause before a request whose round trip is measured.
const BETWEEN_TRIPS: Duration = Duration::from_millis(20);

/// When a command has ended.
#[derive(Clone, Copy)]
struct Seen {
    command: EventId,
    /// By its own clock, which it reads before it and its shell have ended.
    told: SystemTime,
    /// When its result was there.
    result: SystemTime,
}

/// Runs commands that take so many milliseconds and tell when they end. The sample has how much later than the server's
/// event of their end their results were there, the median as `seconds` and the 99th percentile as `peak`, and as `other` how
/// much later than by their own clocks; `round_trip` is the 99th percentile of those that were measured meanwhile.
pub(crate) fn run(url: &str, push: bool, duration: u64, commands: usize) -> Result<Sample> {
    let connection = Connection::new(url)?.with_api_key("key");
    let done = Arc::new(AtomicBool::new(false));
    let trips = std::thread::spawn({
        let (url, done) = (url.to_owned(), Arc::clone(&done));
        move || round_trips(&url, &done).map_err(|error| error.to_string())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(async {
        let fleet = Fleet::start()?;
        let mut lanes = Vec::new();
        for number in 0..AT_ONCE {
            let config = WorkspaceConfig::new(format!("w{number}"), connection.clone());
            lanes.push(fleet.add(config.with_push(if push { Push::Auto } else { Push::Never })).await?);
        }
        let each = commands.div_ceil(AT_ONCE);
        let duration = Duration::from_millis(duration);
        Ok::<_, Box<dyn std::error::Error>>(
            try_join_all(lanes.iter().map(|workspace| lane(workspace, duration, each))).await?.concat(),
        )
    })?;
    done.store(true, Ordering::Relaxed);
    let [_, round_trip] = percentiles(trips.join().expect("the thread of the round trips does not panic")?);
    let recorded = actix_rt::System::new().block_on(recorded(&connection, &seen))?;
    let after = |ends: &dyn Fn(usize) -> SystemTime| {
        let lags = seen.iter().enumerate().map(|(at, seen)| seen.result.duration_since(ends(at)).unwrap_or_default());
        percentiles(lags.collect())
    };
    let ([seconds, peak], other) = (after(&|at| recorded[at]), after(&|at| seen[at].told));
    Ok(Sample { done: seen.len() as f64, seconds, peak, other, round_trip, ..Sample::default() })
}

async fn lane(workspace: &Workspace, duration: Duration, count: usize) -> Result<Vec<Seen>> {
    let command = format!("sleep {:.3}; date +%s%N", duration.as_secs_f64());
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(duration.min(PAUSE).mul_f64(fastrand::f64())).await;
        let result = workspace.execute_command(ExecuteCommand::new(command.clone()).with_timeout(None)).await?;
        let told = SystemTime::UNIX_EPOCH + Duration::from_nanos(result.stdout.trim().parse()?);
        seen.push(Seen { command: result.command_id, told, result: SystemTime::now() });
    }
    Ok(seen)
}

/// How long a request for a page of events takes beside all that, with the bare client and on a connection of its own.
fn round_trips(url: &str, done: &AtomicBool) -> Result<Vec<Duration>> {
    actix_rt::System::new().block_on(async {
        let client = awc::Client::builder().add_default_header(("X-Session-API-Key", "key")).finish();
        let search = format!("{url}/api/bash/bash_events/search?command_id__eq={}&limit=1", EventId::random());
        let mut trips = Vec::new();
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(BETWEEN_TRIPS.mul_f64(fastrand::f64())).await;
            let sent = Instant::now();
            let page = client.get(&search).send().await?.body().await?;
            trips.push(sent.elapsed());
            if !page.starts_with(b"{\"items\"") {
                return Err(format!("no page, but {page:?}").into());
            }
        }
        Ok(trips)
    })
}

/// When the server noticed the end of each, by its events.
async fn recorded(connection: &Connection, seen: &[Seen]) -> Result<Vec<SystemTime>> {
    let client = AgentClient::new(connection, &Transport::new(&SharedTls::new()), ClientLimits::default())?;
    let mut recorded = Vec::with_capacity(seen.len());
    for Seen { command, .. } in seen {
        let query =
            EventQuery { command_id: Some(*command), sort: SortOrder::NewestFirst, limit: 1, ..EventQuery::default() };
        match client.search_bash_events(&query).await?.items.first() {
            Some(BashEvent::Output(last)) if last.exit_code.is_some() => recorded.push(last.timestamp.into()),
            other => return Err(format!("no last event of {command}, but {other:?}").into()),
        }
    }
    Ok(recorded)
}
