use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use actix::Message;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Failure,
    messages::{CommandEvent, OnDrop},
    protocol::{BashOutput, CommandHead, EventId},
    workspace::feed::Reach,
};

/// A command that a server has started.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    /// The id that the server gave it.
    pub(crate) id: EventId,
    /// What was put before it.
    pub(crate) head: Option<CommandHead>,
    /// When its start was answered.
    pub(crate) at: Instant,
    /// When it was started, by the server's clock.
    pub(crate) server_time: Timestamp,
    /// How long the answer to the start took; absent of one whose answer did not come, or came to somebody else.
    pub(crate) round_trip: Option<Duration>,
    /// Which start of which server started it, where servers tell.
    pub(crate) instance: Option<String>,
    /// Whether it was found after its start had been forbidden: it may yet turn out not to have run.
    pub(crate) may_be_superseded: bool,
}

/// How the end of a command stands, for those who are ending it.
#[derive(Default)]
pub(crate) struct Settled {
    /// Cancelled when its end is settled.
    pub(crate) token: CancellationToken,
    /// Whether it had ended before it could be ended: its processes are then left alone.
    pub(crate) by_itself: Cell<bool>,
    /// Cancelled when what was done to end its processes is done.
    pub(crate) processes_ended: CancellationToken,
    /// Whether that reached the server, so that they have ended as far as can be known.
    pub(crate) surely: Cell<bool>,
}

/// Who waits for a command.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) caller: CancellationToken,
    pub(crate) on_drop: OnDrop,
    /// Closed when nobody is there any more, whether output is followed or not.
    pub(crate) events: Option<mpsc::Sender<CommandEvent>>,
    pub(crate) follow_output: bool,
    /// Whether the command goes on when the workspace ends.
    pub(crate) outlives: bool,
    /// For a command that was started before, from which bytes of its streams on the output is wanted.
    pub(crate) from: Option<[u64; 2]>,
    /// How many bytes of its streams the follower has got already.
    pub(crate) told: [u64; 2],
    /// Whether it is a command of the runtime's own, which is not counted.
    pub(crate) is_own: bool,
}

/// Output events of this command, or the word that there are no more for now.
#[derive(Message)]
#[rtype(result = "Appetite")]
pub(crate) enum News {
    /// A search has found these.
    Found(Vec<BashOutput>),
    /// That was all that there is: the look is over that the child asked for, which began then and reached so far back.
    Looked(Instant, Reach),
    /// The server has told of this by itself.
    Pushed(BashOutput),
}

/// Whether a child can take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, actix::MessageResponse)]
pub(crate) enum Appetite {
    /// It can.
    More,
    /// It cannot; it asks again when it can.
    Full,
}

/// A look failed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NewsFailed(pub(crate) Failure);

/// Nobody can tell any more what became of the command, for its server is another now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lost(pub(crate) Failure);

/// Ends the command. Answered when what can be done to end its processes is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;
