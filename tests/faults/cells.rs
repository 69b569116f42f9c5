//! The cells of the fault matrix: which fault meets which request of which operation at which stage, and what may come of it.

use std::time::Duration;

use workspace_fleet::{Effect, ErrorKind, Operation as Kind, Push, WorkspaceError};

use crate::{
    operations::{Ended, OPERATIONS, Operation, Route},
    scene::{ANSWER, TOO_LONG},
    support::proxy::{Act, Fault, Part, Proxy, Stage},
};

/// A moment that everybody waits for.
const MOMENT: Duration = Duration::from_millis(150);

/// What happens in the middle of things.
const ACTS: [Act; 8] = [
    Act::Pause(MOMENT),
    Act::Pause(TOO_LONG),
    Act::Throttle(4096, Duration::from_millis(4)),
    Act::Silence,
    Act::Reset,
    Act::Close,
    Act::HalfClose,
    Act::Garbage,
];

/// What happens to a request that the server does not get, or gets late.
const KEPT: [Act; 8] = [
    Act::Answer(429, Some(1)),
    Act::Answer(503, Some(0)),
    Act::Answer(502, None),
    Act::Answer(504, None),
    Act::DeliverAfter(0),
    Act::DeliverAfter(2),
    Act::DeliverWhenGivenUp,
    Act::DeliverLate(TOO_LONG),
];

/// What happens in place of an answer.
const INSTEAD: [Act; 3] = [Act::Answer(500, None), Act::Answer(502, None), Act::Answer(504, None)];

/// What happens to every request. A server that is too busy for ever is asked for a minute, which is too long for here.
const ALWAYS: [Act; 4] = [Act::Silence, Act::Reset, Act::Garbage, Act::Answer(504, None)];

const STAGES: [Stage; 7] = [
    Stage::RequestHead,
    Stage::RequestBody(Part::Half),
    Stage::Undelivered,
    Stage::Unanswered,
    Stage::AnswerHead,
    Stage::AnswerBody(Part::Half),
    Stage::Idle,
];

/// Where a fault is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spot {
    /// Nobody listens, for so long or for ever.
    Refused(Option<Duration>),
    /// In the middle of a command all connections end, and nobody listens for so long.
    Away(Duration),
    /// A connection before it brings a request.
    Connect(Act),
    Request(Route, Stage, Act),
}

#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) operation: &'static Operation,
    pub(crate) spot: Spot,
    /// Whether it happens to every such request or connection, not to the first alone.
    pub(crate) always: bool,
}

/// All of them.
pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for operation in OPERATIONS {
        let mut put = |spot, always| cells.push(Cell { operation, spot, always });
        put(Spot::Refused(None), true);
        put(Spot::Refused(Some(MOMENT)), false);
        if operation.push == Push::Always {
            put(Spot::Away(3 * MOMENT), true);
        }
        for act in ACTS.iter() {
            put(Spot::Connect(*act), false);
        }
        for act in ALWAYS.iter() {
            put(Spot::Connect(*act), true);
        }
        for (at, route) in operation.routes.iter().enumerate() {
            for stage in STAGES {
                for act in acts(*route, stage) {
                    put(Spot::Request(*route, stage, act), false);
                }
                if at == 0 && !route.is_helper && matches!(stage, Stage::Undelivered | Stage::AnswerBody(_)) {
                    for act in ALWAYS {
                        put(Spot::Request(*route, stage, act), true);
                    }
                }
            }
        }
    }
    cells
}

fn fits_stage(route: Route, stage: Stage) -> bool {
    route.has_body || !matches!(stage, Stage::RequestBody(_))
}

fn acts(route: Route, stage: Stage) -> Vec<Act> {
    if !fits_stage(route, stage) {
        return Vec::new();
    }
    let more: &[Act] = match stage {
        Stage::Undelivered => &KEPT,
        Stage::Unanswered => &INSTEAD,
        // Servers say so before they close an idle connection.
        Stage::Idle => &[Act::Answer(408, None)],
        _ => &[],
    };
    let all = ACTS.iter().chain(more).copied();
    // One look at how long a command of the runtime's own is waited for is enough.
    let bears = |act: &Act| match route.is_helper {
        true => !is_silent(*act) || stage == Stage::Unanswered,
        false => true,
    };
    all.filter(bears).collect()
}

fn is_silent(act: Act) -> bool {
    matches!(act, Act::Silence | Act::DeliverWhenGivenUp | Act::DeliverLate(_))
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        let always = if self.always { ", always" } else { "" };
        match self.spot {
            Spot::Request(route, stage, act) => {
                format!("{}: {}#{}: {stage:?}: {act:?}{always}", self.operation.name, route.path, route.skip)
            }
            spot => format!("{}: {spot:?}{always}", self.operation.name),
        }
    }

    /// Puts the fault in place.
    pub(crate) async fn arm(&self, proxy: &Proxy) {
        match self.spot {
            Spot::Refused(_) => proxy.refuse().await,
            Spot::Away(_) => {}
            Spot::Connect(act) if self.always => proxy.spoil_connections(act),
            Spot::Connect(act) => proxy.spoil_connection(act),
            Spot::Request(route, stage, act) if self.always => proxy.spoil_all(route.path, Fault::At(stage, act)),
            Spot::Request(route, stage, act) => proxy.spoil_after(route.path, route.skip, Fault::At(stage, act)),
        }
    }

    /// Does what is to be done while the operation goes on.
    pub(crate) async fn interfere(&self, proxy: &Proxy) {
        let (before, away) = match self.spot {
            Spot::Refused(Some(time)) => (time, Duration::ZERO),
            Spot::Away(time) => (2 * MOMENT, time),
            _ => return,
        };
        tokio::time::sleep(before).await;
        if !away.is_zero() {
            proxy.refuse().await;
            proxy.cut();
            tokio::time::sleep(away).await;
        }
        proxy.accept();
    }

    /// What is carried out: once more when a connection was spoilt that waits for the next request. A start is what must not
    /// be sent twice over such a one.
    pub(crate) fn rounds(&self) -> Vec<&'static Operation> {
        match self.spot {
            Spot::Request(route, Stage::Idle, _) if route.has_body || route.path.contains("/file/") => {
                vec![self.operation, self.operation]
            }
            Spot::Request(_, Stage::Idle, _) => vec![self.operation, &OPERATIONS[0]],
            _ => vec![self.operation],
        }
    }

    /// Whether it does nothing but wait for an answer that does not come.
    pub(crate) fn waits(&self) -> bool {
        match self.spot {
            Spot::Refused(_) | Spot::Away(_) => false,
            Spot::Connect(act) | Spot::Request(_, _, act) => is_silent(act) || act == Act::Pause(TOO_LONG),
        }
    }

    /// Whether it waits for a command of the runtime's own that says nothing.
    pub(crate) fn takes_long(&self) -> bool {
        let has_helper = self.operation.routes.iter().any(|route| route.is_helper);
        match self.spot {
            Spot::Request(route, stage, act) => {
                has_helper && is_silent(act) && (route.is_helper || stage == Stage::Idle)
            }
            Spot::Connect(act) => has_helper && is_silent(act),
            Spot::Refused(_) | Spot::Away(_) => false,
        }
    }

    /// How long one round may take.
    pub(crate) fn limit(&self) -> Duration {
        match (self.takes_long(), self.always) {
            (true, _) => Duration::from_secs(60),
            (false, true) => Duration::from_secs(30),
            (false, false) => Duration::from_secs(40),
        }
    }

    /// How long a server is borne with that does not answer. Where one request alone is spoilt that is never used up, however
    /// busy the machine is.
    pub(crate) fn patience(&self) -> Duration {
        if self.always { 3 * ANSWER } else { Duration::from_secs(30) }
    }

    /// Whether an error would not be right.
    fn must_succeed(&self, round: &'static Operation, number: usize) -> bool {
        let (act, route, is_idle) = match self.spot {
            Spot::Refused(None) => return false,
            // The start of a command that nobody took is told, and not sent again.
            Spot::Refused(Some(_)) => return round.routes[0].recovers && !round.is_command,
            Spot::Away(_) => return true,
            // So is one whose connection is heard to be cut before anything was sent.
            Spot::Connect(Act::Reset | Act::Close) if round.is_command => return false,
            Spot::Connect(act) => (act, round.routes[0], false),
            Spot::Request(route, stage, act) => (act, route, stage == Stage::Idle),
        };
        // What makes no sense does not pass, as far as can be told.
        let recovers = if act == Act::Garbage { route.bears_nonsense } else { route.recovers };
        let is_harmless = matches!(act, Act::Pause(MOMENT) | Act::Throttle(..));
        // What comes after the last answer does not change it, but for a reset that may overtake it; and a start is made good
        // wherever it meets a fault.
        let is_last = number == 0 && round.routes.len() == 1 && act != Act::Reset;
        let is_over = is_idle && (is_last || round.routes[0].bears_nonsense);
        // What a request made good says nothing of the next one over the same connection.
        let is_first = number == 0 || !is_idle;
        is_harmless || is_over || (recovers && is_first && !self.always)
    }

    /// Whether a round has ended as it may end; if not, what is wrong.
    pub(crate) fn judge(&self, round: &'static Operation, number: usize, ended: &Ended) -> Result<(), String> {
        match ended {
            Ended::Right => Ok(()),
            Ended::Wrong(wrong) => Err(format!("a wrong result: {wrong}")),
            Ended::Error(error) if self.must_succeed(round, number) => Err(format!("an error: {error}")),
            Ended::Error(error) => self.wrong(round, error).map_or(Ok(()), Err),
        }
    }

    /// Whether an answer came too late although nothing held it up: where one request alone is held up, the next are not.
    pub(crate) fn is_late(&self, ended: &Ended) -> bool {
        let is_deadline = matches!(ended, Ended::Error(WorkspaceError { kind: ErrorKind::Deadline { .. }, .. }));
        is_deadline && !(self.always && self.waits())
    }

    /// What is wrong with an error, if anything is.
    fn wrong(&self, round: &'static Operation, error: &WorkspaceError) -> Option<String> {
        let is_command = matches!(error.operation, Kind::ExecuteCommand | Kind::StartCommand);
        let expected = match &error.kind {
            // It says what it waited for.
            ErrorKind::Deadline { .. } if error.operation == Kind::WaitReady => true,
            // Nobody could tell, for as long as is to be waited.
            ErrorKind::OutcomeUnknown { process_id, .. } => is_command && self.always && process_id.is_some(),
            kind => self.explains(kind),
        };
        if !expected {
            return Some(format!("it does not say what happened: {error}"));
        }
        if error.operation.name() != round.name.split(',').next().unwrap_or_default() {
            return Some(format!("it names another operation: {error}"));
        }
        (self.was_carried_out() && error.effect == Effect::NotSent && round.routes.len() == 1)
            .then(|| format!("the server had carried it out: {error}"))
    }

    /// Whether a failure of this kind tells of what was done to the request.
    fn explains(&self, kind: &ErrorKind) -> bool {
        let act = match self.spot {
            Spot::Refused(_) | Spot::Away(_) => return matches!(kind, ErrorKind::Unreachable { .. }),
            Spot::Connect(act) | Spot::Request(_, _, act) => act,
        };
        match act {
            Act::Answer(status, _) => match self.spot {
                // In the middle of an answer it is nothing but more bytes.
                Spot::Request(_, Stage::AnswerHead | Stage::AnswerBody(_), _) => {
                    matches!(kind, ErrorKind::Protocol { .. } | ErrorKind::Unreachable { .. })
                }
                // Said before the request, with the end of the connection, it may be taken for that alone.
                Spot::Connect(_) | Spot::Request(_, Stage::Idle, _)
                    if matches!(kind, ErrorKind::Unreachable { .. }) =>
                {
                    true
                }
                _ => matches!(kind, ErrorKind::ServerError { status: told, .. } if *told == status),
            },
            Act::Garbage => matches!(kind, ErrorKind::Protocol { .. } | ErrorKind::Unreachable { .. }),
            Act::Silence | Act::Pause(_) | Act::DeliverWhenGivenUp | Act::DeliverLate(_) => {
                matches!(kind, ErrorKind::Deadline { .. } | ErrorKind::Unreachable { .. })
            }
            Act::Reset | Act::Close | Act::HalfClose | Act::DeliverAfter(_) => {
                matches!(kind, ErrorKind::Unreachable { .. } | ErrorKind::Protocol { cut_short: true, .. })
            }
            Act::Throttle(..) => false,
        }
    }

    /// Whether the server had all of the request when the fault came.
    fn was_carried_out(&self) -> bool {
        let Spot::Request(_, stage, act) = self.spot else { return false };
        matches!(stage, Stage::Unanswered | Stage::AnswerHead | Stage::AnswerBody(_)) && !matches!(act, Act::Answer(..))
    }
}
