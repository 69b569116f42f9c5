//! Waits until a server is ready to work, and wakes one that waits for its configuration.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    Effect, ErrorKind, Failure, InitConfig,
    client::AgentClient,
    workspace::{attendant, core::Core},
};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long one question may take. A server that is starting may take a connection and forget about it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than anybody waits, and short enough for any clock.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a server says when it is asked whether it is ready.
enum Answer {
    Ready,
    /// Not yet, and why.
    NotYet(String),
}

/// Waits until the server is ready, at most so long.
pub(crate) async fn wait_ready(core: &Rc<Core>, timeout: Duration) -> Result<(), Failure> {
    let give_up = Instant::now() + timeout.min(FOREVER);
    let mut last = "it was not asked yet".to_owned();
    let mut wait = FIRST_WAIT;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let asked = actix_rt::time::timeout(left.min(PATIENCE), ask(core));
        let answer = tokio::select! {
            answer = asked => answer,
            () = core.closing.cancelled() => {
                let reason = "the workspace was shut down before its server was ready".to_owned();
                return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
            }
        };
        match answer {
            Ok(Ok(Answer::Ready)) => return Ok(()),
            Ok(Ok(Answer::NotYet(why))) => last = why,
            Ok(Err(failure)) => return Err(failure),
            Err(_) if left > Duration::ZERO => {
                last = format!("it gave no answer for {:.1} s", left.min(PATIENCE).as_secs_f64())
            }
            Err(_) => {}
        }
        let left = give_up.saturating_duration_since(Instant::now());
        let Some(pause) = pause(wait, left, fastrand::f64()) else {
            let waiting_for = format!("waiting for the server to be ready; its last answer: {last}");
            return Err(Failure::not_sent(ErrorKind::Deadline { waiting_for, limit: timeout }));
        };
        // A workspace that ends meanwhile is noticed at once.
        let _ = actix_rt::time::timeout(pause, core.closing.cancelled()).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// How long to wait before the server is asked again, and that it is not, with too little time left for an answer. The last
/// waits are shorter: one that gets ready shortly before the end is seen. `jitter` is between 0 and 1.
fn pause(wait: Duration, left: Duration, jitter: f64) -> Option<Duration> {
    (left > FIRST_WAIT).then(|| wait.mul_f64(0.75 + jitter / 4.0).min(left / 2))
}

/// Asks once, and wakes the server if it can be woken.
async fn ask(core: &Rc<Core>) -> Result<Answer, Failure> {
    let client = core.client()?;
    if let Some(not_yet) = is_up(&client).await? {
        return Ok(Answer::NotYet(not_yet));
    }
    if let Some(not_yet) = wake(core, &client).await? {
        return Ok(Answer::NotYet(not_yet));
    }
    // Now is the time to learn which server this is, and whether it is still the one that it was.
    match attendant::server_info(core).await {
        Ok(_) => core.health.check().map(|()| Answer::Ready),
        Err(failure) => Ok(Answer::NotYet(failure.to_string())),
    }
}

/// Whether the server is up; if not, why not.
async fn is_up(client: &AgentClient) -> Result<Option<String>, Failure> {
    let failure = match client.ready().await {
        Ok(reply) if reply.status == "initializing" => {
            return Ok(Some(reply.message.unwrap_or(reply.status)));
        }
        Ok(_) => return Ok(None),
        // Older servers do not have the route.
        Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => match client.alive().await {
            Ok(_) => return Ok(None),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    match failure.kind {
        // No wait makes these right.
        ErrorKind::InvalidInput { .. } | ErrorKind::Local { .. } | ErrorKind::Unauthorized { .. } => Err(failure),
        kind => Ok(Some(kind.to_string())),
    }
}

/// Wakes a server that waits for its configuration. Returns what there is still to wait for.
async fn wake(core: &Rc<Core>, client: &AgentClient) -> Result<Option<String>, Failure> {
    let status = match client.init_status().await {
        Ok(status) => status,
        Err(failure) if failure.kind.is_transient() => return Ok(Some(failure.to_string())),
        // A server that never waits for a configuration says so; older ones do not know what is asked.
        Err(_) => return Ok(None),
    };
    match (status.state.as_str(), &core.config.init) {
        ("dormant", Some(init)) => post(client, init).await,
        ("dormant", None) => Ok(Some(
            "it is dormant: it waits for POST /api/init; give the workspace an `init`, or have the server woken"
                .to_owned(),
        )),
        ("initializing", _) => Ok(Some("it is being initialized".to_owned())),
        _ => Ok(None),
    }
}

async fn post(client: &AgentClient, init: &InitConfig) -> Result<Option<String>, Failure> {
    match client.init(&init.key, &init.config.0).await {
        Ok(_) => Ok(None),
        // Somebody else was faster; the next look at its state tells.
        Err(Failure { kind: ErrorKind::Rejected { status: 400, detail }, .. }) => Ok(Some(detail)),
        // It may have arrived; the next look at its state tells. It is sent again only to a server that is still dormant.
        Err(failure)
            if failure.effect == Effect::MaybeSent && !matches!(failure.kind, ErrorKind::ServerError { .. }) =>
        {
            Ok(Some(failure.to_string()))
        }
        Err(failure) if matches!(failure.kind, ErrorKind::Unreachable { .. }) => Ok(Some(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_until_shortly_before_the_end() {
        let (mut left, mut wait, mut asked) = (Duration::from_secs(10), FIRST_WAIT, 0);
        while let Some(pause) = pause(wait, left, 1.0) {
            left -= pause;
            wait = (wait * 2).min(LONGEST_WAIT);
            asked += 1;
        }
        assert!(left <= FIRST_WAIT, "{left:?} are given away");
        assert!(asked < 20, "{asked}");
    }
}
