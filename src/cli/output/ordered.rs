use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
};

use super::{
    Sink,
    spill::{Place, Spill},
    target_of, weight,
};
use crate::fleet::{RunEvent, RunEventKind};

/// How many bytes of events are held in memory; the rest is in a file.
const BOUND: usize = 16 << 20;

/// Hands events on in the order of the targets: what happens on one is held until all before it have ended.
pub(super) struct Ordered<S> {
    inner: S,
    /// Which target has which place.
    places: HashMap<Arc<str>, usize>,
    /// The place whose events are handed on as they come.
    next: usize,
    held: HashMap<usize, VecDeque<Held>>,
    bytes: usize,
    spill: Spill,
}

enum Held {
    Here(Box<RunEvent>, u8),
    Spilled(Place, u8),
}

impl<S: Sink> Ordered<S> {
    pub(super) fn new(inner: S, targets: &[Arc<str>]) -> Self {
        let places = targets.iter().enumerate().map(|(place, name)| (Arc::clone(name), place)).collect();
        Self { inner, places, next: 0, held: HashMap::new(), bytes: 0, spill: Spill::default() }
    }

    fn hold(&mut self, place: usize, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        let bytes = weight(&event.kind);
        let held = if self.bytes + bytes <= BOUND {
            self.bytes += bytes;
            Held::Here(Box::new(event.clone()), exit_code)
        } else {
            Held::Spilled(self.spill.append(&serde_json::to_vec(event)?)?, exit_code)
        };
        self.held.entry(place).or_default().push_back(held);
        Ok(())
    }

    /// Hands on what was held at a place.
    fn release(&mut self, place: usize) -> io::Result<()> {
        for held in self.held.remove(&place).unwrap_or_default() {
            let (event, exit_code) = match held {
                Held::Here(event, exit_code) => {
                    self.bytes -= weight(&event.kind);
                    (*event, exit_code)
                }
                Held::Spilled(place, exit_code) => (serde_json::from_slice(&self.spill.read(place)?)?, exit_code),
            };
            self.hand_on(&event, exit_code)?;
        }
        if self.held.is_empty() {
            self.spill.clear();
        }
        Ok(())
    }

    fn hand_on(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        if matches!(event.kind, RunEventKind::TargetFinished(_)) {
            self.next += 1;
        }
        self.inner.event(event, exit_code)
    }
}

impl<S: Sink> Sink for Ordered<S> {
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        let place = target_of(&event.kind).and_then(|target| self.places.get(target.label()).copied());
        match place {
            Some(place) if place > self.next => self.hold(place, event, exit_code),
            Some(place) if place == self.next => {
                self.hand_on(event, exit_code)?;
                let mut released = place;
                while self.next > released {
                    released = self.next;
                    self.release(released)?;
                }
                Ok(())
            }
            _ => {
                if matches!(event.kind, RunEventKind::RunFinished(_)) {
                    let mut rest: Vec<usize> = self.held.keys().copied().collect();
                    rest.sort_unstable();
                    rest.into_iter().try_for_each(|place| self.release(place))?;
                }
                self.inner.event(event, exit_code)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{OutputStream, cli::output::sample};

    #[derive(Default)]
    struct Seen(Vec<RunEvent>);

    impl Sink for Seen {
        fn event(&mut self, event: &RunEvent, _: u8) -> io::Result<()> {
            self.0.push(event.clone());
            Ok(())
        }
    }

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|number| format!("t{number}").into()).collect()
    }

    #[test]
    fn what_does_not_fit_into_memory_comes_back() {
        let mut ordered = Ordered::new(Seen::default(), &names(5));
        let long = "x".repeat(6 << 20);
        for target in (0..5).rev() {
            for event in sample::events(vec![sample::ran(&format!("t{target}"), 0, &long, "")]) {
                ordered.event(&event, 0).unwrap();
            }
            assert!(ordered.bytes <= BOUND);
        }
        let seen: Vec<_> = ordered.inner.0.iter().map(|event| target_of(&event.kind).unwrap().label()).collect();
        assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
        assert!(ordered.inner.0.iter().all(|event| weight(&event.kind) > long.len()));
    }

    proptest! {
        #[test]
        fn every_event_comes_once_in_the_order_of_the_targets(picks in prop::collection::vec(0..4_usize, 0..30)) {
            let mut left = [3_usize; 4];
            let mut kinds = Vec::new();
            for pick in picks {
                if left[pick] == 0 {
                    continue;
                }
                left[pick] -= 1;
                let name = format!("t{pick}");
                kinds.push(match left[pick] {
                    0 => sample::ran(&name, 0, "", ""),
                    _ => sample::output(&name, OutputStream::Stdout, "x\n"),
                });
            }
            kinds.push(sample::summary(&[]));
            let sent = sample::events(kinds);
            let mut ordered = Ordered::new(Seen::default(), &names(4));
            for event in &sent {
                ordered.event(event, 0).unwrap();
            }
            let mut expected = sent.clone();
            expected.sort_by_key(|event| target_of(&event.kind).map_or("z".to_owned(), |target| target.label().to_owned()));
            prop_assert_eq!(ordered.inner.0, expected);
        }
    }
}
