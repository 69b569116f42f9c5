use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{PlaceNo, SeatNo, TargetNo};

type ClassNo = usize;
type GroupNo = usize;

/// Where a target may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Seat(SeatNo),
    Place(PlaceNo),
}

/// What a seat does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Busy,
    /// It could not be used, and is left alone for a while.
    Resting,
    /// Somebody else has it.
    Occupied,
    /// It is used no more.
    Lost,
}

/// Who waits for which workspaces, and which of these can be given out.
#[derive(Debug, Default)]
pub(super) struct Seats {
    per_host: Option<usize>,
    per_label: Option<usize>,
    seats: Vec<Seat>,
    places: Vec<Place>,
    /// Seats with the same host and label: the caps hold for all of them, or for none.
    classes: Vec<Class>,
    class_of: HashMap<[Option<GroupNo>; 2], ClassNo>,
    /// What a cap counts: a host, or a value of a label.
    groups: Vec<Group>,
    group_of: HashMap<(bool, String), GroupNo>,
    /// The queues whose first target can begin, in the order of these.
    ready: BTreeSet<(TargetNo, Queue)>,
    waiting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Queue {
    /// Targets that are bound to a seat of this class.
    Class(ClassNo),
    /// Targets that run anywhere in this place.
    Place(PlaceNo),
}

#[derive(Debug)]
struct Seat {
    class: ClassNo,
    /// The places that it belongs to.
    places: Vec<PlaceNo>,
    /// Targets that are bound to it.
    bound: BTreeSet<TargetNo>,
    /// The one of them that waits in the class, when the seat is free.
    listed: Option<TargetNo>,
    state: State,
    /// How often in a row it could not be used.
    strikes: u32,
}

#[derive(Debug, Default)]
struct Place {
    waiting: BTreeSet<TargetNo>,
    /// Its free seats.
    free: BTreeMap<ClassNo, BTreeSet<SeatNo>>,
    /// The classes of these that no cap holds back.
    open: BTreeSet<ClassNo>,
    /// How many of its seats are not lost.
    left: usize,
    ready: Option<TargetNo>,
}

#[derive(Debug, Default)]
struct Class {
    groups: [Option<GroupNo>; 2],
    /// Targets that are bound to a free seat, with that.
    listed: BTreeSet<(TargetNo, SeatNo)>,
    /// The places that have seats of it.
    places: BTreeSet<PlaceNo>,
    ready: Option<TargetNo>,
}

#[derive(Debug)]
struct Group {
    running: usize,
    cap: usize,
    classes: Vec<ClassNo>,
}

impl Seats {
    pub(super) fn new(per_host: Option<usize>, per_label: Option<usize>) -> Self {
        Self { per_host, per_label, ..Self::default() }
    }

    pub(super) fn add(&mut self, host: Option<&str>, label: Option<&str>) -> SeatNo {
        let groups = [self.group(true, self.per_host, host), self.group(false, self.per_label, label)];
        let class = *self.class_of.entry(groups).or_insert_with(|| {
            for group in groups.into_iter().flatten() {
                self.groups[group].classes.push(self.classes.len());
            }
            self.classes.push(Class { groups, ..Class::default() });
            self.classes.len() - 1
        });
        self.seats.push(Seat {
            class,
            places: Vec::new(),
            bound: BTreeSet::new(),
            listed: None,
            state: State::Free,
            strikes: 0,
        });
        self.seats.len() - 1
    }

    fn group(&mut self, host: bool, cap: Option<usize>, value: Option<&str>) -> Option<GroupNo> {
        let (cap, value) = (cap?.max(1), value?);
        Some(*self.group_of.entry((host, value.to_owned())).or_insert_with(|| {
            self.groups.push(Group { running: 0, cap, classes: Vec::new() });
            self.groups.len() - 1
        }))
    }

    pub(super) fn add_place(&mut self, seats: &[SeatNo]) -> PlaceNo {
        let place = self.places.len();
        self.places.push(Place::default());
        for &seat in seats {
            let class = self.seats[seat].class;
            self.seats[seat].places.push(place);
            self.classes[class].places.insert(place);
            if self.seats[seat].state != State::Lost {
                self.places[place].left += 1;
            }
            if self.seats[seat].state == State::Free {
                self.places[place].free.entry(class).or_default().insert(seat);
                self.reopen(place, class);
            }
        }
        place
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn state(&self, seat: SeatNo) -> State {
        self.seats[seat].state
    }

    /// Counts whether a seat could not be used once more, and says how often in a row that was so.
    pub(super) fn strike(&mut self, seat: SeatNo, unusable: bool) -> u32 {
        let strikes = &mut self.seats[seat].strikes;
        *strikes = if unusable { *strikes + 1 } else { 0 };
        *strikes
    }

    /// Whether there is any seat left for it, free or not.
    pub(super) fn can_run(&self, at: At) -> bool {
        match at {
            At::Seat(seat) => self.seats[seat].state != State::Lost,
            At::Place(place) => self.places[place].left > 0,
        }
    }

    pub(super) fn wait(&mut self, target: TargetNo, at: At) {
        self.waiting += 1;
        match at {
            At::Seat(seat) => {
                self.seats[seat].bound.insert(target);
                self.list(seat);
            }
            At::Place(place) => {
                self.places[place].waiting.insert(target);
                self.refresh_place(place);
            }
        }
    }

    pub(super) fn forget(&mut self, target: TargetNo, at: At) {
        self.waiting -= 1;
        match at {
            At::Seat(seat) => {
                self.seats[seat].bound.remove(&target);
                self.list(seat);
            }
            At::Place(place) => {
                self.places[place].waiting.remove(&target);
                self.refresh_place(place);
            }
        }
    }

    /// The first target that can begin, and where.
    pub(super) fn next(&self) -> Option<(TargetNo, SeatNo)> {
        let (target, queue) = self.ready.first()?;
        let seat = match queue {
            Queue::Class(class) => self.classes[*class].listed.first()?.1,
            Queue::Place(place) => {
                let place = &self.places[*place];
                *place.free.get(place.open.first()?)?.first()?
            }
        };
        Some((*target, seat))
    }

    pub(super) fn set(&mut self, seat: SeatNo, state: State) {
        self.seats[seat].state = state;
        self.list(seat);
        let class = self.seats[seat].class;
        for at in 0..self.seats[seat].places.len() {
            let place = self.seats[seat].places[at];
            let free = self.places[place].free.entry(class).or_default();
            let _ = if state == State::Free { free.insert(seat) } else { free.remove(&seat) };
            self.reopen(place, class);
        }
    }

    /// Counts one more that runs on a seat.
    pub(super) fn enter(&mut self, seat: SeatNo) {
        for group in self.classes[self.seats[seat].class].groups.into_iter().flatten() {
            self.groups[group].running += 1;
            if self.groups[group].running == self.groups[group].cap {
                self.refresh_group(group);
            }
        }
    }

    /// Counts one less.
    pub(super) fn leave(&mut self, seat: SeatNo) {
        for group in self.classes[self.seats[seat].class].groups.into_iter().flatten() {
            self.groups[group].running -= 1;
            if self.groups[group].running + 1 == self.groups[group].cap {
                self.refresh_group(group);
            }
        }
    }

    /// Uses a seat no more, and returns the targets that could run on no other; they wait no longer.
    pub(super) fn lose(&mut self, seat: SeatNo) -> Vec<TargetNo> {
        if self.seats[seat].state == State::Lost {
            return Vec::new();
        }
        self.set(seat, State::Lost);
        let mut stranded: Vec<_> = std::mem::take(&mut self.seats[seat].bound).into_iter().collect();
        for at in 0..self.seats[seat].places.len() {
            let place = self.seats[seat].places[at];
            self.places[place].left -= 1;
            if self.places[place].left == 0 {
                stranded.extend(std::mem::take(&mut self.places[place].waiting));
                self.refresh_place(place);
            }
        }
        self.waiting -= stranded.len();
        stranded.sort_unstable();
        stranded
    }

    /// Takes all that wait. Those that can run nowhere are among them.
    pub(super) fn drain(&mut self) -> Vec<TargetNo> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let mut drained = Vec::with_capacity(self.waiting);
        for seat in 0..self.seats.len() {
            drained.extend(std::mem::take(&mut self.seats[seat].bound));
            self.list(seat);
        }
        for place in 0..self.places.len() {
            drained.extend(std::mem::take(&mut self.places[place].waiting));
            self.refresh_place(place);
        }
        self.waiting = 0;
        drained.sort_unstable();
        drained
    }

    /// Puts the first target that is bound to a seat into the seat's class while the seat is free.
    fn list(&mut self, seat: SeatNo) {
        let Seat { class, ref bound, listed, state, .. } = self.seats[seat];
        let first = bound.first().copied().filter(|_| state == State::Free);
        if first == listed {
            return;
        }
        self.seats[seat].listed = first;
        let queue = &mut self.classes[class].listed;
        if let Some(target) = listed {
            queue.remove(&(target, seat));
        }
        if let Some(target) = first {
            queue.insert((target, seat));
        }
        self.refresh_class(class);
    }

    fn has_room(&self, class: ClassNo) -> bool {
        let groups = self.classes[class].groups.into_iter().flatten();
        groups.map(|group| &self.groups[group]).all(|group| group.running < group.cap)
    }

    fn refresh_group(&mut self, group: GroupNo) {
        for at in 0..self.groups[group].classes.len() {
            let class = self.groups[group].classes[at];
            self.refresh_class(class);
            let places: Vec<_> = self.classes[class].places.iter().copied().collect();
            for place in places {
                self.reopen(place, class);
            }
        }
    }

    fn refresh_class(&mut self, class: ClassNo) {
        let room = self.has_room(class);
        let Class { listed, ready, .. } = &mut self.classes[class];
        let first = listed.first().map(|(target, _)| *target).filter(|_| room);
        let before = std::mem::replace(ready, first);
        self.replace(before, first, Queue::Class(class));
    }

    fn reopen(&mut self, place: PlaceNo, class: ClassNo) {
        let room = self.has_room(class);
        let Place { free, open, .. } = &mut self.places[place];
        if room && free.get(&class).is_some_and(|free| !free.is_empty()) {
            open.insert(class);
        } else {
            open.remove(&class);
        }
        self.refresh_place(place);
    }

    fn refresh_place(&mut self, place: PlaceNo) {
        let Place { waiting, open, ready, .. } = &mut self.places[place];
        let first = waiting.first().copied().filter(|_| !open.is_empty());
        let before = std::mem::replace(ready, first);
        self.replace(before, first, Queue::Place(place));
    }

    fn replace(&mut self, before: Option<TargetNo>, after: Option<TargetNo>, queue: Queue) {
        if before != after {
            if let Some(target) = before {
                self.ready.remove(&(target, queue));
            }
            if let Some(target) = after {
                self.ready.insert((target, queue));
            }
        }
    }
}
