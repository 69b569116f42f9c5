//! What the proxy can do to a request, and where.

use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out; in place of its answer the connection is reset.
    DropAnswer,
    /// The connection is reset at once. The request is delivered when so many others have been answered since.
    DeliverAfter(u32),
    /// Nothing happens until the client gives up. Then the request is delivered.
    DeliverWhenGivenUp,
    /// Nothing happens for so long. Then the request is delivered, whether the client has given up or not.
    DeliverLate(Duration),
    /// It is carried out; its answer is replaced by this status with a page of HTML.
    AnswerInstead(u16),
    /// It is not delivered: this status, with this Retry-After.
    Refuse(u16, u32),
    /// It is carried out; so many bytes of the answer's body are passed on, then the connection is reset.
    CutAnswer(u64),
    /// So many bytes of its body are delivered, then both connections are reset.
    CutRequest(u64),
    /// Anything else: how far the exchange goes undisturbed, and what happens then.
    At(Stage, Act),
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Half of the request's head was delivered.
    RequestHead,
    /// This part of its body was delivered.
    RequestBody(Part),
    /// The proxy has all of the request, and the server nothing.
    Undelivered,
    /// The server has carried it out and answered, and the client knows nothing of it.
    Unanswered,
    /// The client has half of the answer's head.
    AnswerHead,
    /// The client has this part of the answer's body; on an event socket, of what the server sends.
    AnswerBody(Part),
    /// All has gone well, and the connection waits for another request.
    Idle,
}

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Half,
    Bytes(u64),
}

impl Part {
    /// How many bytes of a body of this length.
    pub(super) fn of(self, length: u64) -> u64 {
        match self {
            Self::Half => length / 2,
            Self::Bytes(bytes) => bytes.min(length),
        }
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing goes on for so long. Then everything does.
    Pause(Duration),
    /// It goes on with so many bytes at a time, and so long between them.
    Throttle(usize, Duration),
    /// Nothing ever goes on. The connection stays until the client closes it.
    Silence,
    /// Both sides are reset.
    Reset,
    /// Both sides are closed in peace.
    Close,
    /// The client is told that no more comes; what it sends is still taken.
    HalfClose,
    /// The client gets bytes that are no HTTP, and the end of the connection.
    Garbage,
    /// The client gets this status in place of what else would come, with a Retry-After if there is one.
    Answer(u16, Option<u32>),
    /// The connection is reset, and the request delivered when so many others have been answered since.
    DeliverAfter(u32),
    /// The request is delivered when the client has given up.
    DeliverWhenGivenUp,
    /// The request is delivered after so long.
    DeliverLate(Duration),
}

impl Fault {
    /// How far the exchange goes, and what happens then.
    pub(super) const fn plan(self) -> (Stage, Act) {
        match self {
            Self::DropAnswer => (Stage::Unanswered, Act::Reset),
            Self::DeliverAfter(others) => (Stage::Undelivered, Act::DeliverAfter(others)),
            Self::DeliverWhenGivenUp => (Stage::Undelivered, Act::DeliverWhenGivenUp),
            Self::DeliverLate(time) => (Stage::Undelivered, Act::DeliverLate(time)),
            Self::AnswerInstead(status) => (Stage::Unanswered, Act::Answer(status, None)),
            Self::Refuse(status, retry_after) => (Stage::Undelivered, Act::Answer(status, Some(retry_after))),
            Self::CutAnswer(bytes) => (Stage::AnswerBody(Part::Bytes(bytes)), Act::Reset),
            Self::CutRequest(bytes) => (Stage::RequestBody(Part::Bytes(bytes)), Act::Reset),
            Self::At(stage, act) => (stage, act),
        }
    }
}

/// A request that comes through the proxy.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    /// How many requests on the same route came before it, whatever their query.
    pub(crate) number: u32,
}

/// Decides about each request.
pub(super) type Judge = Box<dyn Fn(&Request<'_>) -> Option<Fault> + Send>;

/// A fault and the request that it waits for.
struct Trap {
    path: &'static str,
    fault: Fault,
    /// How many such requests pass before it.
    skip: u32,
    /// Whether it goes on waiting for the next.
    stays: bool,
}

/// What happens to which request.
#[derive(Default)]
pub(super) struct Script {
    traps: Vec<Trap>,
    /// What happens to connections before they bring a request, and whether it does so to every one.
    connections: Vec<(Act, bool)>,
    judge: Option<Judge>,
    /// How many requests came on each route.
    routes: std::collections::HashMap<String, u32>,
    /// Requests and connections that met a fault.
    pub(super) sprung: u32,
}

impl Script {
    pub(super) fn spoil(&mut self, path: &'static str, skip: u32, stays: bool, fault: Fault) {
        self.traps.push(Trap { path, fault, skip, stays });
    }

    pub(super) fn spoil_connection(&mut self, act: Act, stays: bool) {
        self.connections.push((act, stays));
    }

    pub(super) fn judge(&mut self, judge: Judge) {
        self.judge = Some(judge);
    }

    /// What happens to a connection that was just made.
    pub(super) fn for_connection(&mut self) -> Option<Act> {
        let (act, stays) = *self.connections.first()?;
        if !stays {
            self.connections.remove(0);
        }
        self.sprung += 1;
        Some(act)
    }

    /// What happens to a request. Traps on one path are taken in the order in which they were put.
    pub(super) fn for_request(&mut self, path: &str) -> Option<Fault> {
        let fault = self.trapped(path).or_else(|| self.judged(path))?;
        self.sprung += 1;
        Some(fault)
    }

    fn trapped(&mut self, path: &str) -> Option<Fault> {
        let at = self.traps.iter().position(|trap| path.contains(trap.path))?;
        let trap = &mut self.traps[at];
        if trap.skip > 0 {
            trap.skip -= 1;
            return None;
        }
        let fault = trap.fault;
        if !trap.stays {
            self.traps.remove(at);
        }
        Some(fault)
    }

    fn judged(&mut self, path: &str) -> Option<Fault> {
        let judge = self.judge.as_ref()?;
        let route = path.split('?').next().unwrap_or_default();
        let before = self.routes.entry(route.to_owned()).or_default();
        let number = *before;
        *before += 1;
        judge(&Request { path, number })
    }
}
