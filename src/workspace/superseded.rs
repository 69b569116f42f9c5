use super::feed;
use crate::{
    Failure,
    client::AgentClient,
    protocol::{BashOutput, EventId, MARKER, SUPERSEDED_EXIT_CODE},
};

/// The most events in which a server can tell what a superseded command says.
const MOST_CHUNKS: u64 = 4;

/// Whether a command ended because its tombstone was in place before it began.
pub(crate) fn is_superseded(exit_code: Option<i32>, stderr: &str) -> bool {
    exit_code == Some(SUPERSEDED_EXIT_CODE) && stderr.trim_end() == MARKER
}

/// What the output of a command tells of whether it was called off at its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: it may still be at its head.
    Open,
    /// It was called off.
    Superseded,
    /// It got past its head, and may have ended.
    Ran { ended: bool },
}

/// Reads what a command's output tells of its fate. A server may tell what it said before it tells how it ended.
pub(crate) async fn fate(client: &AgentClient, id: EventId) -> Result<Fate, Failure> {
    let Some(last) = feed::last_output(client, id).await? else { return Ok(Fate::Open) };
    if !may_be_superseded(&last) {
        return Ok(Fate::Ran { ended: last.is_final() });
    }
    if !last.is_final() {
        return Ok(Fate::Open);
    }
    let mut stderr = Vec::new();
    feed::read_all(client, id, |output| stderr.push((output.order, output.stderr.unwrap_or_default()))).await?;
    stderr.sort();
    stderr.dedup();
    let text: String = stderr.into_iter().map(|(_, text)| text).collect();
    Ok(if is_superseded(last.exit_code, &text) { Fate::Superseded } else { Fate::Ran { ended: true } })
}

/// Whether this newest event can be one of a command that was called off.
fn may_be_superseded(last: &BashOutput) -> bool {
    let says = |text: &Option<String>| text.as_deref().unwrap_or_default().trim_end().to_owned();
    last.order < MOST_CHUNKS
        && last.exit_code.is_none_or(|code| code == SUPERSEDED_EXIT_CODE)
        && says(&last.stdout).is_empty()
        && MARKER.contains(&says(&last.stderr))
}
