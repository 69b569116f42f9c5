use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules(fanout: usize) -> Rules {
    Rules {
        fanout,
        gap: Duration::ZERO,
        per_host: None,
        per_label: None,
        max_fail: None,
        global_timeout: None,
        retries: 0,
        transport_retries: 0,
        lose_seats: false,
        move_lost: false,
    }
}

/// A run that does the same on each of so many workspaces.
fn each(rules: Rules, targets: usize) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(rules);
    for _ in 0..targets {
        let seat = dispatcher.add_seat(None, None);
        dispatcher.add_bound(seat);
    }
    dispatcher
}

fn started(actions: &[Action]) -> Vec<TargetNo> {
    let target = |action: &Action| match action {
        Action::Start { target, .. } => Some(*target),
        _ => None,
    };
    actions.iter().filter_map(target).collect()
}

/// Ends an attempt and reports it.
fn end(dispatcher: &mut Dispatcher, now: Duration, target: TargetNo, outcome: Outcome, again: Again) -> Vec<Action> {
    let lost = outcome == Outcome::Gone;
    let mut actions = dispatcher.handle(now, Input::Ended { target, outcome, again, lost });
    actions.extend(dispatcher.handle(now, Input::Reported { target }));
    actions
}

#[test]
fn the_window_is_filled_in_order() {
    let mut run = each(rules(2), 4);
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [0, 1]);
    assert_eq!(started(&end(&mut run, Duration::ZERO, 1, Outcome::Succeeded, Again::No)), [2]);
}

#[test]
fn failures_in_percent_are_judged_when_all_targets_are_known() {
    let fail = |run: &mut Dispatcher, target| {
        end(run, Duration::ZERO, target, Outcome::Failed, Again::No);
        run.cancelled()
    };
    let mut run = each(Rules { max_fail: Some("50%".parse().unwrap()), ..rules(1) }, 2);
    run.set_open(true);
    run.handle(Duration::ZERO, Input::Tick);
    assert_eq!(fail(&mut run, 0), None, "more may be added");
    for _ in 0..2 {
        let seat = run.add_seat(None, None);
        run.add_bound(seat);
    }
    run.handle(Duration::ZERO, Input::Tick);
    run.set_open(false);
    run.handle(Duration::ZERO, Input::Tick);
    assert_eq!(run.cancelled(), None, "one of four");
    assert_eq!(fail(&mut run, 1), Some(CancelReason::MaxFailWait));

    let mut run = each(Rules { max_fail: Some("1".parse().unwrap()), ..rules(1) }, 2);
    run.set_open(true);
    run.handle(Duration::ZERO, Input::Tick);
    assert_eq!(fail(&mut run, 0), Some(CancelReason::MaxFailWait), "a count needs no total");
}

#[test]
fn who_never_began_does_not_end_as_the_one_before() {
    for (lost_as, outcome) in [
        (Outcome::TimedOut, Outcome::Rejected),
        (Outcome::OutcomeUnknown, Outcome::Rejected),
        (Outcome::Gone, Outcome::Gone),
        (Outcome::Unreachable, Outcome::Unreachable),
    ] {
        let mut run = Dispatcher::new(Rules { lose_seats: true, ..rules(2) });
        let seat = run.add_seat(None, None);
        let (first, second) = (run.add_bound(seat), run.add_bound(seat));
        assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [first]);
        let ended = Input::Ended { target: first, outcome: lost_as, again: Again::No, lost: true };
        let given_up = Action::GiveUp { target: second, outcome, attempt: 0 };
        let actions = run.handle(Duration::ZERO, ended);
        assert!(actions.contains(&given_up), "{lost_as:?}: {actions:?}");
    }
}

#[test]
fn starts_keep_their_distance_and_are_not_made_up_for() {
    let mut run = each(Rules { gap: SECOND, ..rules(10) }, 4);
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [0]);
    assert_eq!(run.wake_at(), Some(SECOND));
    assert_eq!(started(&run.handle(SECOND / 2, Input::Tick)), [0; 0]);
    assert_eq!(started(&run.handle(SECOND * 5, Input::Tick)), [1]);
    assert_eq!(run.wake_at(), Some(SECOND * 6));
}

#[test]
fn a_cap_holds_back_its_own_only() {
    let mut run = Dispatcher::new(Rules { per_host: Some(1), per_label: Some(2), ..rules(10) });
    for (host, label) in [("a", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("d", "y")] {
        let seat = run.add_seat(Some(host), Some(label));
        run.add_bound(seat);
    }
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [0, 2, 4]);
    assert_eq!(started(&end(&mut run, SECOND, 0, Outcome::Succeeded, Again::No)), [1, 3]);
}

#[test]
fn jobs_of_one_place_do_not_fill_the_window_in_front_of_others() {
    let mut run = Dispatcher::new(Rules { lose_seats: true, ..rules(3) });
    let (narrow, wide) = (run.add_seat(None, None), [run.add_seat(None, None), run.add_seat(None, None)]);
    let places = [run.add_place(&[narrow]), run.add_place(&wide)];
    for place in [0, 0, 0, 1, 1] {
        run.add_any(places[place]);
    }
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [0, 3, 4]);
}

#[test]
fn a_failed_command_is_run_again_and_the_last_attempt_counts() {
    let mut run = each(Rules { retries: 1, ..rules(1) }, 1);
    run.handle(Duration::ZERO, Input::Tick);
    let actions = end(&mut run, SECOND, 0, Outcome::Failed, Again::Command);
    assert_eq!(actions, [Action::Retry { target: 0 }, Action::Start { target: 0, seat: 0, attempt: 2 }]);
    assert_eq!(end(&mut run, SECOND, 0, Outcome::Succeeded, Again::No), [Action::Finish { target: 0 }]);
    assert_eq!((run.flaky(), run.outcomes().get(Outcome::Succeeded), run.is_idle()), (1, 1, true));
}

#[test]
fn a_workspace_that_could_not_be_used_rests_before_it_is_tried_again() {
    let mut run = each(Rules { transport_retries: 1, ..rules(1) }, 1);
    run.handle(Duration::ZERO, Input::Tick);
    let again = Again::Transport { after: SECOND };
    assert_eq!(end(&mut run, SECOND, 0, Outcome::Unreachable, again), [Action::Retry { target: 0 }]);
    assert_eq!(run.wake_at(), Some(SECOND * 2));
    assert_eq!(started(&run.handle(SECOND * 2, Input::Tick)), [0]);
    assert_eq!(end(&mut run, SECOND * 3, 0, Outcome::Unreachable, again), [Action::Finish { target: 0 }]);
}

#[test]
fn a_lost_workspace_is_used_no_more_and_its_job_moves_when_asked() {
    for move_lost in [false, true] {
        let mut run = Dispatcher::new(Rules { lose_seats: true, move_lost, ..rules(1) });
        let seats = [run.add_seat(None, None), run.add_seat(None, None)];
        let place = run.add_place(&seats);
        run.add_any(place);
        run.add_any(place);
        run.handle(Duration::ZERO, Input::Tick);
        let actions = end(&mut run, SECOND, 0, Outcome::Gone, Again::No);
        let expected = if move_lost {
            [Action::Retry { target: 0 }, Action::Start { target: 0, seat: 1, attempt: 2 }]
        } else {
            [Action::Finish { target: 0 }, Action::Start { target: 1, seat: 1, attempt: 1 }]
        };
        assert_eq!(actions, expected);
        // With the last of them, those that wait have nowhere to go.
        let last = usize::from(!move_lost);
        let actions = end(&mut run, SECOND, last, Outcome::Gone, Again::No);
        assert!(actions.contains(&Action::Finish { target: last }), "{actions:?}");
        let gave_up = Action::GiveUp { target: 1, outcome: Outcome::Gone, attempt: 0 };
        assert_eq!(actions.contains(&gave_up), move_lost, "{actions:?}");
        assert!(run.is_idle());
    }
}

#[test]
fn an_occupied_workspace_is_waited_for_outside_of_the_window() {
    let mut run = each(Rules { lose_seats: true, ..rules(1) }, 2);
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Tick)), [0]);
    assert_eq!(started(&run.handle(Duration::ZERO, Input::Occupied { target: 0 })), [1]);
    assert_eq!(started(&run.handle(SECOND, Input::Vacant { seat: 0 })), [0; 0]);
    assert_eq!(started(&end(&mut run, SECOND, 1, Outcome::Succeeded, Again::No)), [0]);
}

#[test]
fn too_many_failures_end_the_run() {
    for (text, stops) in [("2", false), ("2:immediate", true), ("40%:immediate", true)] {
        let mut run = each(Rules { max_fail: Some(text.parse().unwrap()), ..rules(3) }, 5);
        run.handle(Duration::ZERO, Input::Tick);
        assert_eq!(started(&end(&mut run, SECOND, 0, Outcome::Unreachable, Again::No)), [3], "{text}");
        let actions = end(&mut run, SECOND, 1, Outcome::Failed, Again::No);
        assert_eq!(actions.iter().any(|action| matches!(action, Action::StopRunning(_))), stops, "{text}");
        assert!(actions.contains(&Action::GiveUp { target: 4, outcome: Outcome::Skipped, attempt: 0 }), "{text}");
        assert_eq!(started(&end(&mut run, SECOND, 2, Outcome::Succeeded, Again::No)), [0; 0]);
    }
}

#[test]
fn the_runs_own_time_ends_it() {
    let mut run = each(Rules { global_timeout: Some(SECOND), ..rules(1) }, 2);
    run.handle(Duration::ZERO, Input::Tick);
    assert_eq!(run.wake_at(), Some(SECOND));
    let actions = run.handle(SECOND, Input::Tick);
    assert!(actions.contains(&Action::StopRunning(CancelReason::GlobalTimeout)), "{actions:?}");
    assert_eq!(run.wake_at(), None);
    end(&mut run, SECOND, 0, Outcome::TimedOut, Again::Command);
    assert!(run.is_idle());
    assert_eq!(run.cancelled(), Some(CancelReason::GlobalTimeout));
}

#[test]
fn what_waited_for_another_try_ends_as_its_last_one_did() {
    let mut run = each(Rules { transport_retries: 3, ..rules(1) }, 1);
    run.handle(Duration::ZERO, Input::Tick);
    end(&mut run, SECOND, 0, Outcome::Unreachable, Again::Transport { after: SECOND });
    let actions = run.handle(SECOND, Input::Cancel);
    assert!(actions.contains(&Action::GiveUp { target: 0, outcome: Outcome::Unreachable, attempt: 1 }), "{actions:?}");
    assert!(run.is_idle());
}

/// The rows of a table of the documentation whose first column has this title.
fn table(title: &str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let lines = include_str!("../../../../docs/fleet.md").lines().map(cells);
    let rows: Vec<_> = lines.skip_while(|row| row[0] != title).skip(2).take_while(|row| row.len() > 1).collect();
    assert!(!rows.is_empty(), "{title}");
    rows
}

#[test]
fn the_decision_table_of_the_documentation_holds() {
    let rows = table("what happens");
    let reason_of = |row: &[&str]| serde_json::from_str::<CancelReason>(&row[3].replace('`', "\"")).unwrap();
    let reasons: Vec<_> = rows.iter().map(|row| reason_of(row)).collect();
    use CancelReason::{Cancelled, Drained, GlobalTimeout, MaxFailImmediate, MaxFailWait};
    assert_eq!(reasons, [MaxFailWait, Drained, MaxFailImmediate, GlobalTimeout, Cancelled]);
    assert!(reasons.is_sorted(), "a reason further down replaces one further up");
    for (row, reason) in rows.iter().zip(reasons) {
        let said = match reason {
            MaxFailWait => "N:wait",
            Drained => "drain",
            MaxFailImmediate => "N:immediate",
            GlobalTimeout => "--global-timeout",
            Cancelled => "Ctrl-C",
        };
        assert!(row[0].contains(said), "{row:?}");
        let rules = match reason {
            CancelReason::MaxFailWait => Rules { max_fail: Some("1".parse().unwrap()), ..rules(2) },
            CancelReason::MaxFailImmediate => Rules { max_fail: Some("1:immediate".parse().unwrap()), ..rules(2) },
            CancelReason::GlobalTimeout => Rules { global_timeout: Some(SECOND), ..rules(2) },
            CancelReason::Drained | CancelReason::Cancelled => rules(2),
        };
        let mut run = each(rules, 3);
        run.handle(Duration::ZERO, Input::Tick);
        let input = match reason {
            CancelReason::GlobalTimeout => Input::Tick,
            CancelReason::Drained => Input::Drain,
            CancelReason::Cancelled => Input::Cancel,
            _ => Input::Ended { target: 0, outcome: Outcome::Failed, again: Again::No, lost: false },
        };
        let actions = run.handle(SECOND, input);
        assert_eq!(run.cancelled(), Some(reason));
        assert_eq!(row[1] == "is stopped", actions.contains(&Action::StopRunning(reason)), "{row:?}");
        let skipped = Action::GiveUp { target: 2, outcome: Outcome::Skipped, attempt: 0 };
        assert_eq!(row[2] == "is skipped", actions.contains(&skipped), "{row:?}");
    }
}

/// Everything a random run is made of.
#[derive(Debug, Clone)]
struct Plan {
    rules: Rules,
    seats: Vec<(u8, u8)>,
    targets: Vec<u8>,
    picks: Vec<u32>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let rules = (
        (1..5usize, 0..3u64, proptest::option::of(1..3usize), proptest::option::of(1..3usize)),
        proptest::option::of("[1-9](%)?(:immediate)?"),
        proptest::option::of(20..200u64),
        (0..3u32, 0..3u32, any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |((fanout, gap, per_host, per_label), max_fail, timeout, (retries, transport, lose, move_lost))| Rules {
                fanout,
                gap: Duration::from_millis(gap),
                per_host,
                per_label,
                max_fail: max_fail.map(|text| text.parse().unwrap()),
                global_timeout: timeout.map(Duration::from_millis),
                retries,
                transport_retries: transport,
                lose_seats: lose,
                move_lost,
            },
        );
    let seats = proptest::collection::vec((0..3u8, 0..3u8), 1..7);
    let targets = proptest::collection::vec(any::<u8>(), 0..25);
    let picks = proptest::collection::vec(any::<u32>(), 8..60);
    (rules, seats, targets, picks).prop_map(|(rules, seats, targets, picks)| Plan { rules, seats, targets, picks })
}

/// What the driver would know.
struct World {
    plan: Plan,
    running: HashMap<TargetNo, SeatNo>,
    ended: HashSet<TargetNo>,
    reporting: HashSet<TargetNo>,
    occupied: Vec<SeatNo>,
    reported: HashMap<TargetNo, u32>,
    cancelled: bool,
    last_start: Option<Duration>,
}

impl World {
    fn check(&mut self, now: Duration, actions: &[Action]) {
        for action in actions {
            match *action {
                Action::Start { target, seat, .. } => {
                    assert!(!self.cancelled, "nothing begins after a cancellation");
                    assert!(!self.running.values().any(|taken| *taken == seat), "one at a time on a seat");
                    assert!(self.running.insert(target, seat).is_none());
                    if let Some(last) = self.last_start.replace(now) {
                        assert!(now >= last + self.plan.rules.gap, "the rate holds");
                    }
                }
                Action::Retry { target } | Action::Finish { target } => {
                    assert!(self.ended.contains(&target) && self.reporting.insert(target));
                    if matches!(action, Action::Finish { .. }) {
                        *self.reported.entry(target).or_default() += 1;
                    }
                }
                Action::GiveUp { target, .. } => *self.reported.entry(target).or_default() += 1,
                Action::Cancelled(_) => self.cancelled = true,
                Action::StopRunning(_) => assert!(self.cancelled),
            }
        }
        let rules = &self.plan.rules;
        assert!(self.running.len() <= rules.fanout);
        for value in 0..3 {
            let of = |pick: fn(&(u8, u8)) -> u8| {
                self.running.values().filter(|seat| pick(&self.plan.seats[**seat]) == value).count()
            };
            assert!(rules.per_host.is_none_or(|cap| of(|seat| seat.0) <= cap));
            assert!(rules.per_label.is_none_or(|cap| of(|seat| seat.1) <= cap));
        }
    }
}

fn add(run: &mut Dispatcher, kind: u8, seats: usize, places: &[PlaceNo]) {
    if kind.is_multiple_of(3) {
        run.add_bound(usize::from(kind) % seats);
    } else {
        run.add_any(places[usize::from(kind) % places.len()]);
    }
}

/// What a random attempt came to.
fn random_end(pick: u32, target: TargetNo) -> Input {
    let (outcome, again, lost) = match pick % 6 {
        0 => (Outcome::Failed, Again::Command, false),
        1 => (Outcome::Unreachable, Again::Transport { after: Duration::from_millis(u64::from(pick % 7)) }, true),
        2 => (Outcome::Gone, Again::No, true),
        3 => (Outcome::TimedOut, Again::Command, false),
        _ => (Outcome::Succeeded, Again::No, false),
    };
    Input::Ended { target, outcome, again, lost }
}

fn any_of<'a>(items: impl Iterator<Item = &'a TargetNo>, pick: u32) -> Option<TargetNo> {
    let mut items: Vec<_> = items.copied().collect();
    items.sort_unstable();
    (!items.is_empty()).then(|| items[pick as usize % items.len()])
}

/// The next thing that happens to a random run.
fn next_input(world: &mut World, run: &Dispatcher, now: &mut Duration, pick: u32) -> Input {
    match pick % 97 {
        1 => return Input::Cancel,
        2 => return Input::Drain,
        _ => {}
    }
    if pick % 11 == 2
        && let Some(seat) = world.occupied.pop()
    {
        return Input::Vacant { seat };
    }
    if !pick.is_multiple_of(3) {
        if let Some(target) = any_of(world.reporting.iter(), pick / 3) {
            world.reporting.remove(&target);
            world.ended.remove(&target);
            world.running.remove(&target);
            return Input::Reported { target };
        }
        let going = world.running.keys().filter(|target| !world.ended.contains(target));
        if let Some(target) = any_of(going, pick / 3) {
            // Somebody else may have had it, as long as nothing was heard of it.
            if world.plan.rules.gap.is_zero() && pick % 13 == 5 {
                world.occupied.push(world.running.remove(&target).unwrap());
                return Input::Occupied { target };
            }
            world.ended.insert(target);
            return random_end(pick / 5, target);
        }
        if let Some(seat) = world.occupied.pop() {
            return if pick.is_multiple_of(2) {
                Input::Vacant { seat }
            } else {
                Input::SeatLost { seat, outcome: Outcome::Gone }
            };
        }
    }
    *now += Duration::from_millis(u64::from(pick % 5));
    *now = run.wake_at().filter(|_| pick.is_multiple_of(2)).map_or(*now, |at| at.max(*now));
    Input::Tick
}

proptest! {
    #[test]
    fn any_interleaving_reports_every_target_once_within_the_rules_and_ends(plan in plan()) {
        let mut run = Dispatcher::new(plan.rules.clone());
        for (host, label) in &plan.seats {
            run.add_seat(Some(&host.to_string()), Some(&label.to_string()));
        }
        let all: Vec<_> = (0..plan.seats.len()).collect();
        let places = [run.add_place(&all), run.add_place(&all[..all.len().div_ceil(2)]), run.add_place(&all[..1])];
        let (first, later) = plan.targets.split_at(plan.targets.len() / 2);
        first.iter().for_each(|kind| add(&mut run, *kind, all.len(), &places));
        let mut later = later.iter();
        let mut world = World {
            plan: plan.clone(), running: HashMap::new(), ended: HashSet::new(), reporting: HashSet::new(),
            occupied: Vec::new(), reported: HashMap::new(), cancelled: false, last_start: None,
        };
        let mut now = Duration::ZERO;
        let mut input = Input::Tick;
        for step in 0.. {
            prop_assert!(step < 20_000, "the run does not end: {run:?}");
            let actions = run.handle(now, input);
            world.check(now, &actions);
            // What is picked has to vary with the step, or a run may go in circles.
            let step = u32::try_from(step).unwrap();
            let pick = plan.picks[step as usize % plan.picks.len()].wrapping_add(step.wrapping_mul(2_654_435_761) >> 7);
            if (pick % 4 == 0 || run.is_idle()) && let Some(kind) = later.next() {
                add(&mut run, *kind, all.len(), &places);
            } else if run.is_idle() {
                break;
            }
            input = next_input(&mut world, &run, &mut now, pick);
        }
        prop_assert_eq!(world.reported.len(), plan.targets.len());
        prop_assert!(world.reported.values().all(|times| *times == 1));
        prop_assert_eq!(run.outcomes().total(), plan.targets.len());
    }
}
