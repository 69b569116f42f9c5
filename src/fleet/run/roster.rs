use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use actix::Addr;

use super::{
    Job, JobPlace,
    dispatcher::{Dispatcher, PlaceNo, SeatNo, TargetNo},
};
use crate::{
    RemoteWorkspace,
    fleet::{Selector, TargetId},
};

/// Why a workspace has no address.
const UNKNOWN: &str = "the fleet has no workspace of this name";

/// One workspace of a run.
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    /// Absent when the fleet has no workspace of this name.
    pub(crate) address: Option<Addr<RemoteWorkspace>>,
    /// The host and port that it is behind.
    pub(crate) host: Arc<str>,
    /// Its labels; empty where the run has no use for them.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The workspaces of a run and what is to be done on them, by the numbers that the dispatcher has for them.
pub(super) struct Roster {
    seats: Vec<Seat>,
    work: Doing,
    /// The label whose values are capped.
    capped_label: Option<String>,
}

struct Seat {
    name: Arc<str>,
    /// The workspace, or why there is none.
    address: Result<Addr<RemoteWorkspace>, Arc<str>>,
}

enum Doing {
    /// The same on each seat.
    Each(Rc<Job>),
    Jobs(Jobs),
}

struct Jobs {
    /// The jobs that have not ended.
    jobs: HashMap<TargetNo, Rc<Job>>,
    names: HashSet<Arc<str>>,
    by_name: HashMap<Arc<str>, SeatNo>,
    labels: Vec<BTreeMap<String, String>>,
    /// The sets of workspaces that jobs asked for so far. None for a selector that picks nothing.
    places: Vec<(Selector, Option<PlaceNo>)>,
}

impl Roster {
    /// The same job on each of these workspaces.
    pub(super) fn each(job: Job, targets: Vec<Target>, label: Option<&str>, dispatcher: &mut Dispatcher) -> Self {
        let mut roster =
            Self { seats: Vec::new(), work: Doing::Each(Rc::new(job)), capped_label: label.map(str::to_owned) };
        for target in targets {
            let (seat, _) = roster.seat(target, dispatcher);
            dispatcher.add_bound(seat);
        }
        roster
    }

    /// Jobs that are worked off over these workspaces. They are added one by one.
    pub(super) fn jobs(targets: Vec<Target>, label: Option<&str>, dispatcher: &mut Dispatcher) -> Self {
        let jobs = Jobs {
            jobs: HashMap::new(),
            names: HashSet::new(),
            by_name: HashMap::new(),
            labels: Vec::new(),
            places: Vec::new(),
        };
        let mut roster = Self { seats: Vec::new(), work: Doing::Jobs(jobs), capped_label: label.map(str::to_owned) };
        for target in targets.into_iter().filter(|target| target.address.is_some()) {
            let name = target.name.clone();
            let (seat, labels) = roster.seat(target, dispatcher);
            if let Doing::Jobs(jobs) = &mut roster.work {
                jobs.by_name.insert(name, seat);
                jobs.labels.push(labels);
            }
        }
        roster
    }

    fn seat(&mut self, target: Target, dispatcher: &mut Dispatcher) -> (SeatNo, BTreeMap<String, String>) {
        let Target { name, address, host, labels } = target;
        let label = self.capped_label.as_ref().and_then(|label| labels.get(label));
        let seat = dispatcher.add_seat(Some(&host), label.map(String::as_str));
        let address = address.ok_or_else(|| UNKNOWN.into());
        self.seats.push(Seat { name, address });
        (seat, labels)
    }

    /// Adds a job. One that cannot be carried out anywhere is rejected when its turn comes.
    pub(super) fn add(&mut self, mut job: Job, dispatcher: &mut Dispatcher) {
        let number = dispatcher.total();
        let name: Arc<str> = job.name.get_or_insert_with(|| format!("job-{}", number + 1)).as_str().into();
        let at = match &mut self.work {
            Doing::Jobs(jobs) => jobs.place_of(&job, name, dispatcher),
            Doing::Each(_) => {
                Err("the run does the same on each workspace; jobs are added to a run of jobs".to_owned())
            }
        };
        let target = match at {
            Ok(At::Seat(seat)) => dispatcher.add_bound(seat),
            Ok(At::Place(place)) => dispatcher.add_any(place),
            Err(reason) => {
                let named = match &job.on {
                    JobPlace::Workspace(name) => name.as_str(),
                    JobPlace::AnyOf(_) | JobPlace::Any => "",
                };
                self.seats.push(Seat { name: named.into(), address: Err(reason.into()) });
                let seat = dispatcher.add_seat(None, None);
                dispatcher.add_bound(seat)
            }
        };
        if let Doing::Jobs(jobs) = &mut self.work {
            jobs.jobs.insert(target, Rc::new(job));
        }
    }

    /// What the targets are called that have not been forgotten.
    pub(super) fn labels(&self) -> Vec<(TargetNo, Arc<str>)> {
        match &self.work {
            Doing::Each(_) => self.seats.iter().map(|seat| seat.name.clone()).enumerate().collect(),
            Doing::Jobs(jobs) => {
                let name = |job: &Job| job.name.as_deref().unwrap_or_default().into();
                jobs.jobs.iter().map(|(target, job)| (*target, name(job))).collect()
            }
        }
    }

    /// Adds a target that the run had before and that cannot be carried out any more.
    pub(super) fn add_absent(&mut self, label: &str, dispatcher: &mut Dispatcher) -> TargetNo {
        let target = dispatcher.total();
        match &self.work {
            Doing::Each(_) => {
                let seat = self.absent_seat(label, dispatcher);
                dispatcher.add_bound(seat)
            }
            Doing::Jobs(_) => {
                self.add(Job::new([]).with_name(label), dispatcher);
                target
            }
        }
    }

    /// The workspace of this name, for this target. One that is not there any more has no address.
    pub(super) fn seat_named(&mut self, name: &str, target: TargetNo, dispatcher: &mut Dispatcher) -> SeatNo {
        match &self.work {
            Doing::Each(_) => target,
            Doing::Jobs(jobs) => match jobs.by_name.get(name) {
                Some(seat) => *seat,
                None => self.absent_seat(name, dispatcher),
            },
        }
    }

    fn absent_seat(&mut self, name: &str, dispatcher: &mut Dispatcher) -> SeatNo {
        self.seats.push(Seat { name: name.into(), address: Err(UNKNOWN.into()) });
        dispatcher.add_seat(None, None)
    }

    /// Whether each workspace is for one job alone.
    pub(super) const fn is_exclusive(&self) -> bool {
        matches!(self.work, Doing::Jobs(_))
    }

    pub(super) fn job(&self, target: TargetNo) -> Option<Rc<Job>> {
        match &self.work {
            Doing::Each(job) => Some(job.clone()),
            Doing::Jobs(jobs) => jobs.jobs.get(&target).cloned(),
        }
    }

    /// Forgets a job that has ended.
    pub(super) fn forget(&mut self, target: TargetNo) {
        if let Doing::Jobs(jobs) = &mut self.work {
            jobs.jobs.remove(&target);
        }
    }

    pub(super) fn seat_name(&self, seat: SeatNo) -> &Arc<str> {
        &self.seats[seat].name
    }

    pub(super) fn address(&self, seat: SeatNo) -> Result<Addr<RemoteWorkspace>, Arc<str>> {
        self.seats[seat].address.clone()
    }

    /// What a target is called, on this workspace if it has one.
    pub(super) fn id(&self, target: TargetNo, seat: Option<SeatNo>) -> TargetId {
        match &self.work {
            Doing::Each(_) => TargetId { workspace: self.seats[seat.unwrap_or(target)].name.clone(), job: None },
            Doing::Jobs(jobs) => {
                let job = jobs.jobs.get(&target);
                let workspace = match (seat, job.map(|job| &job.on)) {
                    (Some(seat), _) => self.seats[seat].name.clone(),
                    (None, Some(JobPlace::Workspace(name))) => name.as_str().into(),
                    (None, _) => "".into(),
                };
                TargetId { workspace, job: job.and_then(|job| job.name.as_deref()).map(Into::into) }
            }
        }
    }
}

enum At {
    Seat(SeatNo),
    Place(PlaceNo),
}

impl Jobs {
    fn place_of(&mut self, job: &Job, name: Arc<str>, dispatcher: &mut Dispatcher) -> Result<At, String> {
        if !self.names.insert(name.clone()) {
            return Err(format!("the run has a job named {name} already; give each its own name"));
        }
        if job.steps.is_empty() && job.finally.is_empty() {
            return Err("the job has no steps; give it one".to_owned());
        }
        let selector = match &job.on {
            JobPlace::Workspace(name) => {
                let seat = self.by_name.get(name.as_str()).copied().map(At::Seat);
                return seat.ok_or_else(|| format!("no workspace of the run is named {name}; add it to the run's"));
            }
            JobPlace::AnyOf(selector) => selector.clone(),
            JobPlace::Any => Selector::all(),
        };
        let known = self.places.iter().find(|(known, _)| *known == selector).map(|(_, place)| *place);
        let place = known.unwrap_or_else(|| {
            let picked = self.by_name.iter().filter(|(name, seat)| selector.picks(name, &self.labels[**seat]));
            let mut seats: Vec<_> = picked.map(|(_, seat)| *seat).collect();
            seats.sort_unstable();
            let place = (!seats.is_empty()).then(|| dispatcher.add_place(&seats));
            self.places.push((selector, place));
            place
        });
        let nothing = || "no workspace of the run is one that the job asks for; change its selector".to_owned();
        place.map(At::Place).ok_or_else(nothing)
    }
}
