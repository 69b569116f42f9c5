use crate::{
    process::{Result, Sample, Served, work},
    report::{Report, Table, number, rounds},
};

const WORKSPACES: usize = 5000;
const EACH: usize = 20;

/// How much time there is from one command of a workspace to its next where lag is measured, in milliseconds.
const PAUSE: usize = 2500;

/// Five thousand workspaces over TLS, each answer delayed as by a wide-area network, beside the same on loopback.
pub(crate) fn tls_with_delay(report: &mut Report) -> Result<()> {
    let authority = tempfile::NamedTempFile::new()?;
    let file = authority.path().display().to_string();
    let mut far = Served::start(&["--stub", "50", &file])?;
    let near = crate::peers::stub()?;
    let url = format!("https://127.0.0.1:{}", far.port);
    let words = |url: &str, last: &[&str]| {
        let mut words = vec![url.to_owned(), WORKSPACES.to_string(), EACH.to_string()];
        words.extend(last.iter().map(|word| (*word).to_owned()));
        words
    };
    let mut tables = Tables::new();
    for _ in 0..rounds() {
        let over_tls = work("fleet-tls", &words(&url, &["1", &file]))?;
        let loopback = work("fleet", &words(&format!("http://127.0.0.1:{}", near.port), &["1"]))?;
        tables.costs(&over_tls, &loopback);
        let before = far.requests()?;
        let lag = work("wide-area", &words(&url, &[&PAUSE.to_string(), &file]))?;
        tables.lags(&lag, far.requests()? - before);
    }
    tables.report(report);
    Ok(())
}

struct Tables {
    cpu: Table,
    took: Table,
    lag: Table,
    requests: Table,
}

impl Tables {
    fn new() -> Self {
        Self {
            cpu: Table::new("µs of processor time per command"),
            took: Table::new("s"),
            lag: Table::new("ms"),
            requests: Table::new("requests"),
        }
    }

    fn costs(&mut self, over_tls: &Sample, loopback: &Sample) {
        self.cpu.add(0, "TLS, 50 ms", over_tls.cpu_each() * 1e6);
        self.cpu.add(1, "loopback", loopback.cpu_each() * 1e6);
        self.took.add(0, "TLS, 50 ms", over_tls.seconds);
        self.took.add(1, "loopback", loopback.seconds);
    }

    fn lags(&mut self, sample: &Sample, requests: f64) {
        self.lag.add(0, "half of them", sample.seconds * 1e3);
        self.lag.add(1, "99 of 100", sample.peak * 1e3);
        self.requests.add(0, "per command", requests / sample.done);
    }

    fn report(&self, report: &mut Report) {
        report.table(
            "Wide area: cost",
            "5,000 workspaces, 20 commands each, one after another as fast as it goes; handshakes included.",
            &self.cpu,
        );
        report.table("Wide area: time", "The same, all of it.", &self.took);
        report.table(
            "Wide area: completion lag",
            "The same, but each workspace begins a command every 2.5 s, the first within 10 s. All have one name, so that most handshakes resume a session. From the end of a command, by the server's clock, to its result; of that \
             the answer to its start takes 50 ms and the answer to the search 50 ms.",
            &self.lag,
        );
        report.table("Wide area: requests", "Of those commands.", &self.requests);
        let ratio = self.cpu.ratio("TLS, 50 ms", "loopback").map(|ratio| (format!("{}x", number(ratio)), ratio <= 2.0));
        report.verdict("5,000 workspaces over TLS, 50 ms: processor time per command", "<= 2x loopback", ratio);
        let lag = self.lag.median("99 of 100").map(|lag| (format!("{} ms", number(lag)), lag <= 150.0));
        report.verdict("5,000 workspaces over TLS, 50 ms, begun within 10 s: completion seen", "p99 <= 150 ms", lag);
        let requests = self.requests.median("per command").map(|requests| (number(requests), true));
        report.verdict("5,000 workspaces over TLS, 50 ms: requests per command", "reported", requests);
    }
}
