use std::time::Duration;

/// The bounds of every request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// How long a connection may take: name resolution, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// How long an answer may take, from the moment there is a connection to the head of the answer. The rest of a JSON
    /// answer has as long again, and a second for each MiB.
    pub answer_timeout: Duration,
    /// How long a transfer may stand still, in either direction.
    pub idle_timeout: Duration,
    /// The most bytes of a JSON answer.
    pub max_json_bytes: usize,
    /// The most bytes of a message on the event socket.
    pub max_socket_frame: usize,
    /// How many requests are under way at once; more wait for one of them. Transfers and commands that the server is
    /// asked to run to their end are counted apart, so that they do not hold up polls.
    pub connections: usize,
}

/// Longer than anybody waits, and short enough for any clock.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// More connections than a process may have.
const MANY: usize = 1 << 20;

impl ClientLimits {
    /// The same within what clocks and counters can hold.
    pub(super) fn bounded(self) -> Self {
        Self {
            connect_timeout: bounded(self.connect_timeout),
            answer_timeout: bounded(self.answer_timeout),
            idle_timeout: bounded(self.idle_timeout),
            connections: self.connections.clamp(1, MANY),
            ..self
        }
    }
}

/// A wait that can be added to a time.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.min(FOREVER)
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            max_json_bytes: 160 << 20,
            max_socket_frame: 16 << 20,
            connections: 4,
        }
    }
}
