use crate::protocol::EventId;

/// How often a command is sent under the ids of one name, because its start got lost or was called off.
pub(super) const MAX_SENDS: u32 = 5;

/// The ids that a command is sent under, one after the other. All of them follow from the first, so that another process
/// that knows this one can find the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessIds {
    base: EventId,
    sent: u32,
}

impl ProcessIds {
    /// Those that follow from this id, which is the first of them.
    pub(super) const fn new(base: EventId) -> Self {
        Self { base, sent: 0 }
    }

    /// The id that all of them follow from.
    pub(super) const fn base(self) -> EventId {
        self.base
    }

    /// All ids before the command goes on under the next name.
    pub(super) fn all(self) -> impl Iterator<Item = EventId> {
        (0..MAX_SENDS).map(move |number| self.nth(number))
    }

    /// Those that are used when it is certain that nothing will ever run under any of these.
    pub(super) fn successor(self) -> Self {
        Self::new(self.base.derived(&[b"next"]))
    }

    /// The id to send the command under next.
    pub(super) fn next(&mut self) -> EventId {
        if self.sent == MAX_SENDS {
            // Each of them was called off before the next was used.
            *self = self.successor();
        }
        self.sent += 1;
        self.nth(self.sent - 1)
    }

    fn nth(self, number: u32) -> EventId {
        match number {
            0 => self.base,
            _ => self.base.derived(&[b"send", &number.to_le_bytes()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_first_is_the_one_that_was_chosen_and_no_two_are_the_same() {
        let mut ids = ProcessIds::new(EventId::nth(7));
        let (all, after) = (ids.all().collect::<Vec<_>>(), ids.successor().all().collect::<Vec<_>>());
        assert_eq!(all[0], EventId::nth(7));
        let used: Vec<_> = (0..2 * MAX_SENDS).map(|_| ids.next()).collect();
        assert_eq!(used, [all, after].concat(), "those of the successor come when the others are used up");
        assert_eq!(used.iter().collect::<HashSet<_>>().len(), used.len());
    }

    #[test]
    fn they_are_the_same_in_every_process() {
        // Whoever changes how ids follow from one another loses the commands of processes that run another version.
        let mut ids = ProcessIds::new("0f8fad5bd9cb469fa16570867728950e".parse().unwrap());
        ids.next();
        assert_eq!(ids.next().to_string(), "fd2ba378385127c19d59cdd6fdb7f6f8");
        assert_eq!(ids.successor().base().to_string(), "d65602896a04bab343cb0740f1401de1");
    }
}
