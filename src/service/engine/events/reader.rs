use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{FleetEvents, State, ring::render};
use crate::service::engine::Engine;

/// How many bytes are handed to a reader at once.
const PIECE: usize = 64 << 10;

/// A place between two events: the id of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) boot: u32,
    /// The number of the event behind it.
    pub(super) next: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.boot, self.next)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (boot, next) = text.split_once('-').ok_or(())?;
        let boot = u32::from_str_radix(boot, 16).map_err(|_| ())?;
        Ok(Self { boot, next: next.parse().map_err(|_| ())? })
    }
}

/// Somebody who follows the fleet.
pub(crate) struct FleetReader {
    events: Arc<FleetEvents>,
    changed: tokio::sync::watch::Receiver<()>,
    /// Where it is; `None` for one that has been told nothing yet.
    at: Option<Place>,
    /// Cancelled when the service ends.
    ending: CancellationToken,
}

/// What a reader is told that begins, or whose place is gone.
#[derive(Serialize)]
struct Begin {
    /// What to do.
    hint: &'static str,
}

impl Engine {
    /// Follows the fleet, from this place on or from now.
    pub(crate) fn follow_fleet(self: &Arc<Self>, from: Option<Place>) -> FleetReader {
        let events = Arc::clone(&self.events);
        let changed = events.changed.subscribe();
        let is_watched = {
            let mut state = events.lock();
            state.readers += 1;
            std::mem::replace(&mut state.is_watched, true)
        };
        if !is_watched {
            let engine = Arc::clone(self);
            self.spawn(async move { engine.look_out().await });
        }
        FleetReader { events, changed, at: from, ending: self.ending.clone() }
    }
}

impl FleetReader {
    /// What happened since the last time, as server-sent events; waits until there is something. `None` when the service ends.
    pub(crate) async fn next(&mut self) -> Option<Vec<Bytes>> {
        loop {
            self.changed.borrow_and_update();
            let events = self.take();
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = self.ending.cancelled() => return None,
            }
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        let state = self.events.lock();
        let Some(ring) = &state.ring else { return Vec::new() };
        let end = Place { boot: self.events.boot, next: ring.next() };
        let Some(at) = self.at else {
            self.at = Some(end);
            return vec![render(
                end,
                "hello",
                &Begin { hint: "load what you show now; what changes is told from here on" },
            )];
        };
        let found = if at.boot == end.boot { ring.from(at.next, PIECE) } else { None };
        let Some(events) = found else {
            self.at = Some(end);
            return vec![render(end, "missed", &Begin { hint: "some events are gone: load what you show anew" })];
        };
        self.at = Some(Place { next: at.next + events.len() as u64, ..at });
        events
    }
}

impl Drop for FleetReader {
    fn drop(&mut self) {
        let mut state = self.events.lock();
        let State { readers, left, .. } = &mut *state;
        *readers -= 1;
        if *readers == 0 {
            *left = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_told() {
        let place = Place { boot: 0xab, next: 17 };
        assert_eq!(place.to_string(), "000000ab-17");
        assert_eq!("000000ab-17".parse(), Ok(place));
        for bad in ["", "17", "x-1", "1-", "1-x", "123456789-1"] {
            assert_eq!(bad.parse::<Place>(), Err(()), "{bad}");
        }
    }
}
