//! What becomes of commands whose server was started anew or replaced, or is reached at another address.
//!
//! A server that restarts leaves its commands running without a parent, and never reports their end. What runs is told
//! by the sandbox's own list of processes: one that carries a command's id is that command's. One whose parent is the
//! server that answers now was started by it. Where nothing is found of any command, neither a process nor an event, the
//! sandbox is another one.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::identity::Identity;
use crate::{
    ErrorKind, Failure,
    protocol::{CommandHead, EventId},
    workspace::{
        backoff::{Waits, until_settled},
        core::Core,
        feed::{self, WatchedCommand},
        shell,
        steps::helper,
        watch::Lost,
    },
};

/// How long a server that has just restarted is asked for its processes.
const PATIENCE: Duration = Duration::from_secs(10);
const WAITS: Waits = Waits { first: Duration::from_millis(500), longest: Duration::from_millis(500) };

/// How many commands' processes one script ends.
const ENDED_AT_ONCE: usize = 500;

/// What was found of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// The server that answers now runs it, or has its last event.
    Alive,
    /// Processes whose parent is gone.
    Orphan,
    /// Its start is in the server's log.
    Event,
    /// Nothing.
    None,
}

/// Why commands are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reason {
    /// The server is another, or was started anew; or may be.
    pub(super) restarted: bool,
    /// That is certain.
    pub(super) surely: bool,
    /// It is reached in another way.
    pub(super) moved: bool,
}

/// Looks into what became of the commands that run, now that their server is another, has restarted, or has another address.
pub(super) fn resolve(core: &Rc<Core>, server: Identity, reason: Reason) {
    let base = core.attendant.base;
    let is_suspect = |watched: &WatchedCommand| reason.moved || server.may_be_younger_than_command(watched, base);
    let suspects: Vec<_> = core.feed.watched().into_iter().filter(is_suspect).collect();
    let age = server.age(Instant::now(), base);
    log::info!("{}: its server started {} s ago; {} commands ran", core.config.name, age.as_secs(), suspects.len());
    if suspects.is_empty() {
        if !reason.moved {
            core.health.replaced(another(age));
        }
        return;
    }
    if core.attendant.resolving.replace(true) {
        *core.attendant.restarted_again.borrow_mut() = Some(Box::new((server, reason)));
        return;
    }
    let core = core.clone();
    actix_rt::spawn(async move {
        settle(&core, suspects, &server, reason).await;
        core.attendant.resolving.set(false);
        let again = core.attendant.restarted_again.take();
        if let Some(again) = again {
            let (server, reason) = *again;
            resolve(&core, server, reason);
        }
    });
}

fn another(age: Duration) -> String {
    format!(
        "another sandbox is behind this address: its server started {} s ago; update the connection or add the workspace \
         again to go on with this one",
        age.as_secs()
    )
}

async fn settle(core: &Rc<Core>, suspects: Vec<WatchedCommand>, server: &Identity, reason: Reason) {
    let (base, age) = (core.attendant.base, server.age(Instant::now(), core.attendant.base));
    let traces = match find(core, &suspects).await {
        Ok(traces) => traces,
        // The watches are told the same when they ask, and know how long to put up with it.
        Err(Failure { kind: ErrorKind::Unauthorized { .. } | ErrorKind::Gone { .. }, .. }) => return,
        // Nothing says that they were lost. It is tried again with the next look.
        Err(_) if !reason.surely => return core.attendant.doubt_again(reason.moved),
        Err(failure) => {
            let why = format!("its server restarted, and what it left could not be looked for ({failure})");
            for suspect in &suspects {
                give_up(core, suspect, unknown(suspect, why.clone())).await;
            }
            return;
        }
    };
    // What a server has an event or a process of was not lost if that server has run all the time.
    let lost = suspects.iter().zip(&traces).filter(|(suspect, trace)| match trace {
        Trace::Alive => false,
        Trace::Orphan | Trace::Event => reason.restarted && server.may_be_younger_than_command(suspect, base),
        Trace::None => true,
    });
    let same_sandbox = traces.iter().any(|trace| *trace != Trace::None);
    // Whoever gave another address knows that it is another one.
    if !same_sandbox && !reason.moved {
        core.health.replaced(another(age));
    }
    let mut orphans = Vec::new();
    for (suspect, trace) in lost {
        let failure = match trace {
            Trace::Orphan => {
                orphans.extend(suspect.head.map(CommandHead::id));
                let rest = if core.config.kill_orphans { "were ended" } else { "were left running" };
                unknown(suspect, format!("the server restarted while it ran; its processes {rest}"))
            }
            Trace::None if reason.moved => {
                Failure::done(ErrorKind::Gone { reason: "the server at the new address does not know it".to_owned() })
            }
            Trace::None if !same_sandbox => Failure::done(ErrorKind::Gone { reason: another(age) }),
            _ => unknown(suspect, "the server restarted, and its end was not reported".to_owned()),
        };
        give_up(core, suspect, failure).await;
    }
    if core.config.kill_orphans {
        for some in orphans.chunks(ENDED_AT_ONCE) {
            let (core, script) = (core.clone(), shell::stop_script_of(some));
            let tasks = core.tasks.clone();
            tasks.spawn_local(async move {
                if let Err(failure) = helper::run(&core, script).await {
                    log::warn!("{}: processes of lost commands may be left: {failure}", core.config.name);
                }
            });
        }
    }
}

fn unknown(suspect: &WatchedCommand, reason: String) -> Failure {
    let process_id = suspect.head.map(CommandHead::id);
    Failure::done(ErrorKind::OutcomeUnknown { reason, command_id: Some(suspect.id), process_id })
}

async fn give_up(core: &Rc<Core>, suspect: &WatchedCommand, failure: Failure) {
    if let Some(watch) = core.feed.watch(suspect.key) {
        // One that has ended meanwhile knows better.
        let _ = watch.send(Lost(failure)).await;
    }
}

/// What spoilt one answer may spoil the next one as well, and much depends on what is found.
const fn may_pass(kind: &ErrorKind) -> bool {
    kind.is_transient() || matches!(kind, ErrorKind::Protocol { .. })
}

/// What there is of each command, in their order.
async fn find(core: &Rc<Core>, suspects: &[WatchedCommand]) -> Result<Vec<Trace>, Failure> {
    let give_up = Instant::now() + PATIENCE;
    let processes = until_settled(give_up, WAITS, may_pass, || helper::run(core, shell::scan_script())).await?;
    let running = read_scan(processes.stdout.as_deref().unwrap_or_default());
    let mut traces = Vec::with_capacity(suspects.len());
    for suspect in suspects {
        let found = suspect.head.and_then(|head| running.get(&head.id()));
        traces.push(match found {
            Some(true) => Trace::Alive,
            Some(false) => Trace::Orphan,
            None => until_settled(give_up, WAITS, may_pass, || event_of(core, suspect.id)).await?,
        });
    }
    Ok(traces)
}

/// What the server's log has of a command without processes.
async fn event_of(core: &Rc<Core>, id: EventId) -> Result<Trace, Failure> {
    let client = core.client()?;
    if feed::last_output(&client, id).await?.is_some_and(|last| last.is_final()) {
        return Ok(Trace::Alive);
    }
    match client.bash_event(id).await {
        Ok(_) => Ok(Trace::Event),
        Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => Ok(Trace::None),
        Err(failure) => Err(failure),
    }
}

/// The commands of which processes run, and whether one of them is a child of the server.
pub(super) fn read_scan(text: &str) -> HashMap<EventId, bool> {
    let mut lines = text.lines();
    let server = lines.next().and_then(|line| line.strip_prefix("server "));
    let mut running = HashMap::new();
    for line in lines {
        let Some((id, parent)) = line.split_once(' ') else { continue };
        let Ok(id) = id.parse() else { continue };
        *running.entry(id).or_insert(false) |= Some(parent) == server;
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_tells_whose_children_the_processes_are() {
        let (own, orphan) = (EventId::random(), EventId::random());
        let text = format!("server 7\n{own} 12\n{own} 7\n{orphan} 1\nnonsense\nx 7\n");
        let running = read_scan(&text);
        assert_eq!((running.get(&own), running.get(&orphan), running.len()), (Some(&true), Some(&false), 2));
        assert!(read_scan("").is_empty());
    }
}
