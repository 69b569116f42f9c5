use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{helper, process_ids::ProcessIds, recover::Inquiry};
use crate::{
    ErrorKind, Failure,
    protocol::{BashCommand, BashEvent, CommandHead, EventId},
    workspace::{
        core::{Core, count},
        feed::{self, CommandReach},
        superseded::{self, Fate},
        watch::Started,
    },
};

/// How long a command may take to get past its head.
pub(super) const PAST_ITS_HEAD: Duration = Duration::from_secs(2);

/// How often a command is looked for under another name. Each further one takes a process that ended at the wrong moment.
const MOST_NAMES: u32 = 100;

/// What became of a command that an earlier process may have started.
pub(super) enum Resumed {
    /// It was started.
    Found(Started),
    /// It was not started, and will not be under any id that an earlier process has used. It can be under these.
    NeverStarted(ProcessIds),
}

/// Finds the command that an earlier process may have started under these ids, or makes sure that it never runs under
/// them.
///
/// A start of the earlier process may still be on its way. So when the command is not found, the tombstones of all ids that
/// it can have been sent under are put in place, and it is looked for again; what is not there then never runs. It is started
/// under the ids of a successor. This process may end as well, at any moment: so whoever finds the tombstones in place
/// looks for the successor in the same way.
pub(super) async fn resume(
    core: &Rc<Core>,
    mut ids: ProcessIds,
    caller: &CancellationToken,
) -> Result<Resumed, Failure> {
    if !core.config.command_head {
        let reason = "it may have been started before, and has no head to find it by: let the workspace put one before \
                      commands (`command_head`)";
        let kind =
            ErrorKind::OutcomeUnknown { reason: reason.to_owned(), command_id: None, process_id: Some(ids.base()) };
        return Err(Failure::maybe_sent(kind));
    }
    let mut inquiry = Inquiry::for_resume(core, CommandHead::new(ids.base()), caller);
    for _ in 0..MOST_NAMES {
        if let Some(started) = look(core, &mut inquiry, ids).await? {
            return Ok(found(core, started));
        }
        let were_in_place = inquiry.until_answered(|| put_tombstones(core, ids)).await?;
        for _ in 0..2 {
            if let Some(started) = look(core, &mut inquiry, ids).await? {
                return Ok(found(core, started));
            }
        }
        ids = ids.successor();
        if !were_in_place {
            return Ok(Resumed::NeverStarted(ids));
        }
    }
    Err(inquiry.unknown(&format!("its start was called off more than {MOST_NAMES} times")))
}

/// Takes a command over that another process is known to have started. One that its server knows no more is never started
/// again.
pub(super) async fn adopt(
    core: &Rc<Core>,
    ids: ProcessIds,
    command_id: EventId,
    caller: &CancellationToken,
) -> Result<Started, Failure> {
    let mut inquiry = Inquiry::for_resume(core, CommandHead::new(ids.base()), caller);
    let command = match inquiry.until_answered(|| async { core.client()?.bash_event(command_id).await }).await? {
        BashEvent::Command(command) => command,
        _ => return Err(inquiry.unknown("its id is another event's")),
    };
    let last = async || feed::last_output(&core.client()?, command_id).await;
    let has_ended = inquiry.until_answered(last).await?.is_some_and(|last| last.is_final());
    let at = if has_ended { Instant::now() } else { age(core, &mut inquiry, &command).await?.0 };
    let head = CommandHead::strip(&command.command).map(|(head, _)| head);
    Ok(taken_over(&command, head, at))
}

fn taken_over(command: &BashCommand, head: Option<CommandHead>, at: Instant) -> Started {
    Started {
        id: command.id,
        head,
        at,
        server_time: command.timestamp,
        round_trip: None,
        instance: None,
        may_be_superseded: false,
    }
}

fn found(core: &Core, started: Started) -> Resumed {
    count(&core.counters.starts_recovered);
    Resumed::Found(started)
}

/// Looks for a command that runs or ran under one of these ids.
async fn look(core: &Rc<Core>, inquiry: &mut Inquiry<'_>, ids: ProcessIds) -> Result<Option<Started>, Failure> {
    let heads: Vec<_> = ids.all().map(CommandHead::new).collect();
    for (head, command) in inquiry.find(&heads, CommandReach::All).await? {
        let fate = async || superseded::fate(&core.client()?, command.id).await;
        let at = match inquiry.until_answered(fate).await? {
            Fate::Superseded => continue,
            Fate::Ran { ended: true } => Instant::now(),
            Fate::Ran { ended: false } | Fate::Open => match began(core, inquiry, &command).await? {
                Some(at) => at,
                None => continue,
            },
        };
        return Ok(Some(taken_over(&command, Some(head), at)));
    }
    Ok(None)
}

/// When a command began that has not ended, by this machine's clock. One that may still be at its head is waited for;
/// `None` when it turns out to have been called off there.
async fn began(core: &Rc<Core>, inquiry: &mut Inquiry<'_>, command: &BashCommand) -> Result<Option<Instant>, Failure> {
    let (at, age) = age(core, inquiry, command).await?;
    let past_its_head = Instant::now() + PAST_ITS_HEAD.saturating_sub(age);
    while Instant::now() < past_its_head {
        let fate = async || superseded::fate(&core.client()?, command.id).await;
        match inquiry.until_answered(fate).await? {
            Fate::Open => {}
            Fate::Superseded => return Ok(None),
            Fate::Ran { .. } => return Ok(Some(at)),
        }
        actix_rt::time::sleep(PAST_ITS_HEAD / 20).await;
    }
    Ok(Some(at))
}

/// When a command began, by this machine's clock, and how long ago that was. The server's clock may differ, and so it is asked.
async fn age(
    core: &Rc<Core>,
    inquiry: &mut Inquiry<'_>,
    command: &BashCommand,
) -> Result<(Instant, Duration), Failure> {
    let now = inquiry.until_answered(|| helper::run(core, "true".to_owned())).await?;
    let age = Duration::try_from(now.timestamp.duration_since(command.timestamp)).unwrap_or_default();
    Ok((Instant::now().checked_sub(age).unwrap_or_else(Instant::now), age))
}

/// Sees to it that nothing runs any more under these ids. Returns whether that had been seen to before.
async fn put_tombstones(core: &Rc<Core>, ids: ProcessIds) -> Result<bool, Failure> {
    let paths: Vec<_> = ids.all().map(|id| CommandHead::new(id).tombstone_path()).collect();
    // The last one is there when all are.
    let last = paths.last().map(String::as_str).unwrap_or_default();
    let script = format!(
        "[ -e {last} ] && echo before; for file in {}; do : >$file || exit 1; done; echo done",
        paths.join(" ")
    );
    let output = helper::run(core, script).await?;
    match output.stdout.as_deref().unwrap_or_default().trim() {
        "done" => Ok(false),
        "before\ndone" => Ok(true),
        _ => {
            let reason = output.stderr.unwrap_or_default();
            let detail = format!("cannot make a file in /tmp of the sandbox: {}", reason.trim());
            Err(Failure::not_sent(ErrorKind::Rejected { status: 200, detail }))
        }
    }
}
