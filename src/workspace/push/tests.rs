use super::*;

fn failure(kind: ErrorKind) -> Failure {
    Failure::maybe_sent(kind)
}

fn away() -> Failure {
    failure(ErrorKind::Unreachable { reason: "gone".to_owned() })
}

/// How long after a failure at `now` a session may begin again.
fn rest(pushing: &Pushing, now: Instant) -> Option<Duration> {
    (0..=LONGEST_REST.as_secs()).map(Duration::from_secs).find(|wait| pushing.may_begin(Push::Always, now + *wait))
}

#[test]
fn a_socket_is_opened_where_it_is_asked_for_or_announced() {
    let (pushing, now) = (Pushing::default(), Instant::now());
    let may = |push| pushing.may_begin(push, now);
    assert_eq!([Push::Auto, Push::Always, Push::Never].map(may), [false, true, false]);
    pushing.announce(true);
    assert_eq!([Push::Auto, Push::Always, Push::Never].map(may), [true, true, false]);
    pushing.running.set(true);
    assert_eq!([Push::Auto, Push::Always, Push::Never].map(may), [false; 3]);
    pushing.running.set(false);
    pushing.set_suspended(true);
    assert_eq!([Push::Auto, Push::Always, Push::Never].map(may), [false; 3]);
}

#[test]
fn a_lost_socket_is_tried_again_ever_later() {
    let (pushing, now) = (Pushing::default(), Instant::now());
    let rests: Vec<_> = (0..8)
        .map(|_| {
            pushing.failed(&away(), Duration::from_secs(1), now, 1.0);
            rest(&pushing, now).unwrap().as_secs()
        })
        .collect();
    assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
    pushing.failed(&away(), Duration::ZERO, now, 0.0);
    assert_eq!(rest(&pushing, now).unwrap().as_secs(), 45, "not all at once");
    pushing.failed(&away(), STABLE, now, 1.0);
    assert_eq!(rest(&pushing, now).unwrap().as_secs(), 1, "it had been open for long");
}

#[test]
fn a_server_that_refuses_is_asked_again_only_under_another_link() {
    let detail = || "no".to_owned();
    for kind in [
        ErrorKind::Unauthorized { status: 401, detail: detail() },
        ErrorKind::Unauthorized { status: 403, detail: detail() },
        ErrorKind::NotFound { detail: detail() },
    ] {
        let (pushing, now) = (Pushing::default(), Instant::now());
        pushing.failed(&failure(kind.clone()), Duration::ZERO, now, 1.0);
        assert_eq!(rest(&pushing, now), None, "{kind:?}");
        pushing.new_link();
        assert!(pushing.may_begin(Push::Always, now), "{kind:?}");
    }
}

#[test]
fn a_server_without_a_place_is_asked_again_late() {
    let (pushing, now) = (Pushing::default(), Instant::now());
    let full = ErrorKind::ServerError { status: 1013, detail: "full".to_owned(), retry_after: None };
    pushing.failed(&failure(full), Duration::ZERO, now, 1.0);
    assert_eq!(rest(&pushing, now), Some(LONGEST_REST));
}
