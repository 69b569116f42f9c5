//! What an earlier process had done.

use super::*;

fn rules(fanout: usize, retries: u32) -> Rules {
    Rules {
        fanout,
        gap: Duration::ZERO,
        per_host: None,
        per_label: None,
        max_fail: Some("2".parse().unwrap()),
        global_timeout: None,
        retries,
        transport_retries: 0,
        lose_seats: true,
        move_lost: true,
    }
}

/// A run of so many jobs over two workspaces.
fn jobs(rules: Rules, targets: usize) -> Dispatcher {
    let mut run = Dispatcher::new(rules);
    let seats = [run.add_seat(None, None), run.add_seat(None, None)];
    let place = run.add_place(&seats);
    for _ in 0..targets {
        run.add_any(place);
    }
    run
}

fn handle(run: &mut Dispatcher, input: Input) -> Vec<Action> {
    run.handle(Duration::ZERO, input)
}

fn ended(target: TargetNo, outcome: Outcome, again: Again) -> Input {
    Input::Ended { target, outcome, again, lost: false }
}

#[test]
fn what_had_begun_goes_on_where_it_was_and_what_had_ended_counts() {
    let mut run = jobs(rules(2, 1), 4);
    run.restore_ended(0, Outcome::Succeeded, 2);
    run.restore_ended(1, Outcome::Failed, 1);
    let begun = run.restore_running(2, 1, Tries::before(2, 1, 0, Some(Outcome::Failed)));
    assert_eq!(begun, Some(Action::Start { target: 2, seat: 1, attempt: 2 }));
    assert_eq!(handle(&mut run, Input::Tick), [Action::Start { target: 3, seat: 0, attempt: 1 }]);
    // It has had the one retry that it may have, and is the second that failed.
    let actions = handle(&mut run, ended(2, Outcome::Failed, Again::Command));
    assert_eq!(actions, [Action::Finish { target: 2 }, Action::Cancelled(CancelReason::MaxFailWait)]);
    assert_eq!((run.flaky(), run.outcomes().total(), run.outcomes().get(Outcome::Failed)), (1, 3, 2));
}

#[test]
fn a_begun_target_waits_for_its_own_workspace_and_for_no_other() {
    let mut run = jobs(rules(2, 1), 2);
    let begun = run.restore_running(0, 1, Tries::before(1, 0, 0, None));
    assert_eq!(begun, Some(Action::Start { target: 0, seat: 1, attempt: 1 }));
    // Somebody else has it for now.
    assert_eq!(handle(&mut run, Input::Occupied { target: 0 }), [Action::Start { target: 1, seat: 0, attempt: 1 }]);
    handle(&mut run, ended(1, Outcome::Succeeded, Again::No));
    assert_eq!(handle(&mut run, Input::Reported { target: 1 }), [], "the other workspace will not do");
    let again = Action::Start { target: 0, seat: 1, attempt: 1 };
    assert_eq!(handle(&mut run, Input::Vacant { seat: 1 }), [again]);
    // Its next attempt may be made anywhere.
    handle(&mut run, Input::Ended { target: 0, outcome: Outcome::Gone, again: Again::No, lost: true });
    assert_eq!(
        handle(&mut run, Input::Reported { target: 0 }),
        [Action::Start { target: 0, seat: 0, attempt: 2 }],
        "its own is lost"
    );
}

#[test]
fn two_that_had_begun_on_one_workspace_go_on_one_after_the_other() {
    let mut run = jobs(rules(2, 0), 2);
    assert!(run.restore_running(0, 0, Tries::before(1, 0, 0, None)).is_some());
    assert_eq!(run.restore_running(1, 0, Tries::before(3, 0, 0, None)), None);
    assert_eq!(handle(&mut run, Input::Tick), []);
    handle(&mut run, ended(0, Outcome::Succeeded, Again::No));
    let next = Action::Start { target: 1, seat: 0, attempt: 3 };
    assert_eq!(handle(&mut run, Input::Reported { target: 0 }), [next]);
}

#[test]
fn what_waited_for_another_attempt_has_its_tries_behind_it_and_a_cancelled_run_gives_it_up() {
    let mut run = jobs(rules(2, 2), 1);
    run.restore_waiting(0, Tries::before(1, 1, 0, Some(Outcome::Failed)));
    assert_eq!(handle(&mut run, Input::Tick), [Action::Start { target: 0, seat: 0, attempt: 2 }]);
    let mut run = jobs(rules(2, 2), 2);
    run.restore_waiting(0, Tries::before(1, 1, 0, Some(Outcome::Failed)));
    run.restore_cancelled(CancelReason::Cancelled);
    let given_up = [
        Action::GiveUp { target: 0, outcome: Outcome::Failed, attempt: 1 },
        Action::GiveUp { target: 1, outcome: Outcome::Skipped, attempt: 0 },
    ];
    assert_eq!(handle(&mut run, Input::Tick), given_up, "and it is not said again that it was cancelled");
}
