use std::{path::PathBuf, thread};

use crate::{
    counter::Counter,
    peers::{self, python, python_command},
    process::{Result, work},
    report::{Report, Table, number},
};

/// How long the command takes, in seconds.
const SECONDS: &str = "60";

/// A contender, and how it waits for a command of so many seconds.
type Contender = (&'static str, Box<dyn Fn(&str) -> Result<()> + Send>);

/// How many requests it takes to wait for a command of a minute. All contenders wait at once for one each, and it is done
/// once: it is counted, and not timed.
pub(crate) fn one_minute(report: &mut Report) -> Result<()> {
    let root = tempfile::tempdir()?;
    let agent = peers::agent(root.path())?;
    let mut table = Table::new("requests");
    let waiting: Vec<_> = contenders(python())
        .into_iter()
        .map(|(name, wait)| {
            let counter = Counter::before(agent.port)?;
            let url = format!("http://127.0.0.1:{}", counter.port);
            let waiting = thread::spawn(move || wait(&url).map_err(|error| error.to_string()));
            Ok((name, counter, waiting))
        })
        .collect::<Result<_>>()?;
    for (place, (name, counter, waiting)) in waiting.into_iter().enumerate() {
        waiting.join().map_err(|_| "a thread panicked")??;
        table.add(place, name, counter.requests());
    }
    report.table(
        "Requests for one command of 60 s",
        "All that is sent from the first connection to the result, on the embedded agent server. One round, since it is counted and not timed.",
        &table,
    );
    for (way, bound) in [("pushed", 50.0), ("polled", 80.0)] {
        let measured = table.median(way).map(|requests| (number(requests), requests <= bound));
        report.verdict(&format!("requests for one 60 s command, {way}"), &format!("<= {bound}"), measured);
    }
    Ok(())
}

fn contenders(python: Option<PathBuf>) -> Vec<Contender> {
    let ours =
        |push: bool| move |url: &str| work("long", &[url.to_owned(), push.to_string(), SECONDS.to_owned()]).map(drop);
    let mut all: Vec<Contender> = vec![("pushed", Box::new(ours(true))), ("polled", Box::new(ours(false)))];
    if let Some(python) = python {
        let wait = move |url: &str| python_command(&python, url, &format!("sleep {SECONDS}")).map(drop);
        all.push(("AsyncRemoteWorkspace", Box::new(wait)));
    }
    all
}
