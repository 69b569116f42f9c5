use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Selector;

/// Numbers those who wait.
pub(super) type Ticket = u64;
/// Tells one holder of a workspace from the next.
pub(super) type Token = u64;

/// Who holds which workspace for themselves, and who waits for one: the rules alone, without I/O.
///
/// A workspace that gets free goes to the first who waits for one like it. That costs as many steps as there are
/// different selectors that are waited with.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    workspaces: HashMap<String, Slot>,
    /// The free ones, in the order in which they were added.
    free: BTreeMap<u64, String>,
    /// Those who wait, by what they wait for.
    lines: Vec<Line>,
    /// Those who wait for one workspace, by its name: a line for each of thousands would have to be looked at each time.
    named: HashMap<String, NamedLine>,
    added: u64,
    next: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    labels: BTreeMap<String, String>,
    state: SlotState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SlotState {
    Free,
    Held(Token),
    Quarantined(String),
}

#[derive(Debug)]
struct Line {
    selector: Selector,
    waiting: VecDeque<Ticket>,
    /// How many workspaces there are that it picks, free or not.
    picked: usize,
}

/// Those who wait for one workspace.
#[derive(Debug, Default)]
struct NamedLine {
    /// They wait on while it is in quarantine.
    patient: VecDeque<Ticket>,
    /// They do not.
    impatient: VecDeque<Ticket>,
}

impl NamedLine {
    fn lines(&mut self) -> [&mut VecDeque<Ticket>; 2] {
        [&mut self.patient, &mut self.impatient]
    }

    fn is_empty(&self) -> bool {
        self.patient.is_empty() && self.impatient.is_empty()
    }
}

/// What became of one who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has this workspace now.
    Granted { ticket: Ticket, name: String, token: Token },
    /// The last workspace that it could have had was removed, or the one that it waited for came into quarantine.
    NothingLeft { ticket: Ticket },
}

/// What came of asking for a workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Granted {
        name: String,
        token: Token,
    },
    Waiting {
        ticket: Ticket,
    },
    /// There is no workspace like that, or the one that was asked for is in quarantine.
    Nothing,
}

/// What came of asking for one workspace without waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Granted(Token),
    /// Somebody else has it, or waits for it and comes first.
    Held,
    Quarantined(String),
    Unknown,
}

impl LeaseTable {
    /// Adds a workspace, which may go to somebody at once.
    pub(super) fn add(&mut self, name: &str, labels: BTreeMap<String, String>) -> Option<Answer> {
        self.added += 1;
        for line in self.lines.iter_mut().filter(|line| line.selector.picks(name, &labels)) {
            line.picked += 1;
        }
        let slot = Slot { number: self.added, labels, state: SlotState::Quarantined(String::new()) };
        self.workspaces.insert(name.to_owned(), slot);
        self.vacate(name)
    }

    /// Forgets a workspace, whoever has it.
    pub(super) fn remove(&mut self, name: &str) -> Vec<Answer> {
        let Some(slot) = self.workspaces.remove(name) else { return Vec::new() };
        self.free.remove(&slot.number);
        let named = self.named.remove(name).unwrap_or_default();
        let named = named.patient.into_iter().chain(named.impatient);
        let mut answers: Vec<_> = named.map(|ticket| Answer::NothingLeft { ticket }).collect();
        for line in self.lines.iter_mut().filter(|line| line.selector.picks(name, &slot.labels)) {
            line.picked -= 1;
            if line.picked == 0 {
                answers.extend(line.waiting.drain(..).map(|ticket| Answer::NothingLeft { ticket }));
            }
        }
        self.lines.retain(|line| !line.waiting.is_empty());
        answers
    }

    /// Asks for any workspace that the selector picks.
    pub(super) fn ask(&mut self, selector: &Selector) -> Asked {
        if let Some(name) = selector.only_name() {
            let picked = self.workspaces.get(name).is_some_and(|slot| selector.picks(name, &slot.labels));
            return if picked { self.ask_for_one(name, true) } else { Asked::Nothing };
        }
        let known = |name: &String| self.workspaces.get(name).is_some_and(|slot| selector.picks(name, &slot.labels));
        // A workspace is free only while nobody waits for one like it.
        if let Some((number, name)) = self.free.iter().find(|(_, name)| known(name)) {
            let (number, name) = (*number, name.clone());
            self.free.remove(&number);
            let token = self.hold(&name);
            return Asked::Granted { name, token };
        }
        let line = match self.lines.iter().position(|line| line.selector == *selector) {
            Some(line) => line,
            None => {
                let picked = self.workspaces.iter().filter(|(name, slot)| selector.picks(name, &slot.labels)).count();
                if picked == 0 {
                    return Asked::Nothing;
                }
                self.lines.push(Line { selector: selector.clone(), waiting: VecDeque::new(), picked });
                self.lines.len() - 1
            }
        };
        let ticket = self.number();
        self.lines[line].waiting.push_back(ticket);
        Asked::Waiting { ticket }
    }

    /// Asks for one workspace, and not for one in quarantine.
    pub(super) fn ask_for(&mut self, name: &str) -> Asked {
        self.ask_for_one(name, false)
    }

    fn ask_for_one(&mut self, name: &str, patient: bool) -> Asked {
        match self.take(name) {
            Taken::Granted(token) => return Asked::Granted { name: name.to_owned(), token },
            Taken::Held => {}
            Taken::Quarantined(_) if patient => {}
            Taken::Quarantined(_) | Taken::Unknown => return Asked::Nothing,
        }
        let ticket = self.number();
        let line = self.named.entry(name.to_owned()).or_default();
        if patient { &mut line.patient } else { &mut line.impatient }.push_back(ticket);
        Asked::Waiting { ticket }
    }

    /// Takes one workspace if it is free.
    pub(super) fn take(&mut self, name: &str) -> Taken {
        match self.workspaces.get(name) {
            None => Taken::Unknown,
            Some(Slot { state: SlotState::Held(_), .. }) => Taken::Held,
            Some(Slot { state: SlotState::Quarantined(reason), .. }) => Taken::Quarantined(reason.clone()),
            Some(Slot { number, .. }) => {
                self.free.remove(&{ *number });
                Taken::Granted(self.hold(name))
            }
        }
    }

    /// Gives a workspace back. One that its holder has no more is left alone.
    pub(super) fn release(&mut self, name: &str, token: Token) -> Option<Answer> {
        self.holds(name, token).then(|| self.vacate(name)).flatten()
    }

    /// Takes a workspace from its holder and gives it to nobody. Those who wait for it alone wait no longer; those who wait
    /// for any one like it do. `None` when its holder has it no more.
    pub(super) fn quarantine(&mut self, name: &str, token: Token, reason: String) -> Option<Vec<Answer>> {
        let slot = self.workspaces.get_mut(name).filter(|slot| slot.state == SlotState::Held(token))?;
        slot.state = SlotState::Quarantined(reason);
        let told = self.named.get_mut(name).map(|line| std::mem::take(&mut line.impatient)).unwrap_or_default();
        self.forget_empty(name);
        Some(told.into_iter().map(|ticket| Answer::NothingLeft { ticket }).collect())
    }

    /// Ends a quarantine. `None` when there is none.
    pub(super) fn restore(&mut self, name: &str) -> Option<Option<Answer>> {
        let slot = self.workspaces.get(name)?;
        matches!(slot.state, SlotState::Quarantined(_)).then(|| self.vacate(name))
    }

    /// Forgets those who do not wait any more.
    pub(super) fn keep(&mut self, mut waits: impl FnMut(Ticket) -> bool) {
        for line in &mut self.lines {
            line.waiting.retain(|ticket| waits(*ticket));
        }
        self.lines.retain(|line| !line.waiting.is_empty());
        self.named.retain(|_, waiting| {
            waiting.lines().into_iter().for_each(|line| line.retain(|ticket| waits(*ticket)));
            !waiting.is_empty()
        });
    }

    /// Whether there is a workspace of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.workspaces.contains_key(name)
    }

    fn holds(&self, name: &str, token: Token) -> bool {
        self.workspaces.get(name).is_some_and(|slot| slot.state == SlotState::Held(token))
    }

    /// Gives a workspace to the first who waits for one like it.
    fn vacate(&mut self, name: &str) -> Option<Answer> {
        let slot = self.workspaces.get_mut(name)?;
        let fitting = self.lines.iter_mut().filter(|line| line.selector.picks(name, &slot.labels));
        let named = self.named.get_mut(name).into_iter().flat_map(NamedLine::lines);
        let lines = fitting.map(|line| &mut line.waiting).chain(named).filter(|line| !line.is_empty());
        let Some(line) = lines.min_by_key(|line| line.front().copied()) else {
            slot.state = SlotState::Free;
            self.free.insert(slot.number, name.to_owned());
            return None;
        };
        let ticket = line.pop_front()?;
        if line.is_empty() {
            self.lines.retain(|line| !line.waiting.is_empty());
            self.forget_empty(name);
        }
        let token = self.hold(name);
        Some(Answer::Granted { ticket, name: name.to_owned(), token })
    }

    fn forget_empty(&mut self, name: &str) {
        if self.named.get(name).is_some_and(NamedLine::is_empty) {
            self.named.remove(name);
        }
    }

    fn hold(&mut self, name: &str) -> Token {
        let token = self.number();
        if let Some(slot) = self.workspaces.get_mut(name) {
            slot.state = SlotState::Held(token);
        }
        token
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    #[cfg(test)]
    fn free_names(&self) -> Vec<String> {
        self.free.values().cloned().collect()
    }
}

/// A table of free workspaces, for those who measure it.
#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
pub(crate) struct LeaseLookups(LeaseTable);

#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
impl LeaseLookups {
    pub(crate) fn new(workspaces: impl Iterator<Item = (String, BTreeMap<String, String>)>) -> Self {
        let mut table = LeaseTable::default();
        for (name, labels) in workspaces {
            table.add(&name, labels);
        }
        Self(table)
    }

    /// Whether one was free. It is given back at once.
    pub(crate) fn take_and_release(&mut self, selector: &Selector) -> bool {
        let Asked::Granted { name, token } = self.0.ask(selector) else { return false };
        self.0.release(&name, token).is_none() && self.0.has(&name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn labels(tier: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("tier".to_owned(), tier.to_owned())])
    }

    fn waiting(asked: Asked) -> Ticket {
        let Asked::Waiting { ticket } = asked else { panic!("{asked:?}") };
        ticket
    }

    #[test]
    fn the_first_who_waits_gets_what_is_given_back() {
        let mut table = LeaseTable::default();
        assert_eq!(table.ask(&Selector::all()), Asked::Nothing);
        table.add("a", labels("gpu"));
        let Asked::Granted { token, .. } = table.ask(&Selector::all()) else { panic!() };
        let first = waiting(table.ask(&Selector::label("tier", "gpu")));
        let second = waiting(table.ask(&Selector::all()));
        let Some(Answer::Granted { ticket, token: next, .. }) = table.release("a", token) else { panic!() };
        assert_eq!(ticket, first);
        assert_eq!(table.release("a", token), None, "it has another holder now");
        let Some(Answer::Granted { ticket, .. }) = table.release("a", next) else { panic!() };
        assert_eq!(ticket, second);
    }

    #[test]
    fn a_quarantined_workspace_waits_for_its_restoration() {
        let mut table = LeaseTable::default();
        table.add("a", labels("gpu"));
        let Taken::Granted(token) = table.take("a") else { panic!() };
        let waits = waiting(table.ask_for("a"));
        let told = table.quarantine("a", token, "dirty".to_owned());
        assert_eq!(told, Some(vec![Answer::NothingLeft { ticket: waits }]));
        assert_eq!(table.quarantine("a", token, "twice".to_owned()), None);
        assert_eq!(table.take("a"), Taken::Quarantined("dirty".to_owned()));
        assert_eq!(table.ask_for("a"), Asked::Nothing);
        let ticket = waiting(table.ask(&Selector::all()));
        let Some(Some(Answer::Granted { ticket: granted, .. })) = table.restore("a") else { panic!() };
        assert_eq!(granted, ticket);
        assert_eq!(table.restore("a"), None, "it is not in quarantine");
    }

    #[test]
    fn a_removed_workspace_falls_out() {
        let mut table = LeaseTable::default();
        table.add("a", labels("gpu"));
        let Taken::Granted(token) = table.take("a") else { panic!() };
        let ticket = waiting(table.ask(&Selector::names(["a"])));
        assert_eq!(table.remove("a"), [Answer::NothingLeft { ticket }]);
        assert_eq!(table.release("a", token), None);
        assert_eq!(table.take("a"), Taken::Unknown);
        table.add("a", labels("cpu"));
        assert_eq!(table.release("a", token), None, "the old holder has nothing of the new one");
        assert!(matches!(table.take("a"), Taken::Granted(_)));
    }

    #[test]
    fn one_who_waits_for_a_name_is_in_the_same_line_as_all_others() {
        let mut table = LeaseTable::default();
        assert_eq!(table.ask_for("a"), Asked::Nothing);
        table.add("a", labels("gpu"));
        let Asked::Granted { token, .. } = table.ask_for("a") else { panic!() };
        let expected =
            [table.ask(&Selector::all()), table.ask_for("a"), table.ask(&Selector::all()), table.ask_for("a")];
        let mut next = token;
        for ticket in expected.map(waiting) {
            let Some(Answer::Granted { ticket: granted, token, .. }) = table.release("a", next) else { panic!() };
            assert_eq!(granted, ticket);
            next = token;
        }
        let last = waiting(table.ask_for("a"));
        assert_eq!(table.remove("a"), [Answer::NothingLeft { ticket: last }]);
    }

    /// A line for each name would make this a matter of minutes.
    #[test]
    fn thousands_wait_each_for_another_name() {
        let mut table = LeaseTable::default();
        let names: Vec<_> = (0..50_000).map(|number| format!("w{number}")).collect();
        let held: Vec<_> = names
            .iter()
            .map(|name| {
                table.add(name, BTreeMap::new());
                let Asked::Granted { token, .. } = table.ask_for(name) else { panic!() };
                waiting(table.ask(&Selector::names([name.clone()])));
                waiting(table.ask_for(name));
                token
            })
            .collect();
        let began = std::time::Instant::now();
        for (name, token) in names.iter().zip(held) {
            let Some(Answer::Granted { token, .. }) = table.release(name, token) else { panic!() };
            assert!(table.release(name, token).is_some());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn any_order_keeps_workspaces_exclusive_the_line_in_order_and_nobody_forgotten(
            steps in proptest::collection::vec((0..7u8, 0..5u8), 1..80)
        ) {
            let mut table = LeaseTable::default();
            let mut held: HashMap<String, Token> = HashMap::new();
            let mut quarantined = BTreeSet::new();
            let mut line: Vec<(Ticket, Selector)> = Vec::new();
            let tier = |number: u8| if number.is_multiple_of(2) { "gpu" } else { "cpu" };
            for (step, number) in steps {
                let name = format!("w{number}");
                let mut answers = Vec::new();
                match step {
                    0 if !table.has(&name) => answers.extend(table.add(&name, labels(tier(number)))),
                    1 => {
                        answers = table.remove(&name);
                        held.remove(&name);
                        quarantined.remove(&name);
                    }
                    2 | 3 => {
                        let selector = match number {
                            0 => Selector::all(),
                            1 | 2 => Selector::label("tier", tier(number)),
                            _ => Selector::names([name.clone()]),
                        };
                        let asked = match number {
                            0..=3 => table.ask(&selector),
                            _ => table.ask_for(&name),
                        };
                        match asked {
                            Asked::Granted { name, token } => prop_assert!(held.insert(name, token).is_none()),
                            Asked::Waiting { ticket } => line.push((ticket, selector)),
                            Asked::Nothing => {}
                        }
                    }
                    4 => if let Taken::Granted(token) = table.take(&name) {
                        prop_assert!(held.insert(name, token).is_none());
                    },
                    5 => if let Some(token) = held.remove(&name) {
                        answers.extend(table.release(&name, token));
                    },
                    _ => if let Some(token) = held.remove(&name) {
                        answers = table.quarantine(&name, token, "dirty".to_owned()).unwrap();
                        quarantined.insert(name);
                    } else if quarantined.remove(&name) {
                        answers.extend(table.restore(&name).unwrap());
                    },
                }
                for answer in answers {
                    let (Answer::Granted { ticket, .. } | Answer::NothingLeft { ticket }) = &answer;
                    let at = line.iter().position(|(waits, _)| waits == ticket).unwrap();
                    let (_, selector) = line.remove(at);
                    if let Answer::Granted { name, token, .. } = answer {
                        let number: u8 = name[1..].parse().unwrap();
                        let labels = labels(tier(number));
                        prop_assert!(selector.picks(&name, &labels));
                        prop_assert!(line[..at].iter().all(|(_, before)| !before.picks(&name, &labels)), "in order");
                        prop_assert!(held.insert(name, token).is_none(), "exclusive");
                    }
                }
                for name in table.free_names() {
                    let labels = labels(tier(name[1..].parse().unwrap()));
                    prop_assert!(!held.contains_key(&name));
                    prop_assert!(line.iter().all(|(_, selector)| !selector.picks(&name, &labels)), "nobody is forgotten");
                }
            }
        }
    }
}
