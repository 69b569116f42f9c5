use crate::{
    peers,
    process::{Result, work},
    report::{Report, Table, number, rounds},
};

/// How long a command takes whose end is waited for, in milliseconds, and how many of them there are in a round.
const DURATIONS: [(u64, usize); 3] = [(20, 200), (300, 80), (2000, 16)];

/// How much later than its end a command's result is there, and how many requests that takes.
pub(crate) fn completion(report: &mut Report) -> Result<()> {
    let root = tempfile::tempdir()?;
    let agent = peers::agent(root.path())?;
    let url = format!("http://127.0.0.1:{}", agent.port);
    let [mut half, mut slowest, mut own_half, mut own_slowest, mut trips] = [(); 5].map(|()| Table::new("ms"));
    for _ in 0..rounds() {
        for (at, (duration, commands)) in DURATIONS.into_iter().enumerate() {
            for (push, way) in [(true, "pushed"), (false, "polled")] {
                let arguments = [url.clone(), push.to_string(), duration.to_string(), commands.to_string()];
                let sample = work("lag", &arguments)?;
                let name = format!("{way}, {duration} ms");
                let [own_median, own_latest] = sample.other;
                for (table, seconds) in [
                    (&mut half, sample.seconds),
                    (&mut slowest, sample.peak),
                    (&mut own_half, own_median),
                    (&mut own_slowest, own_latest),
                    (&mut trips, sample.round_trip),
                ] {
                    table.add(2 * at + usize::from(!push), &name, seconds * 1e3);
                }
            }
        }
    }
    report.table(
        "Completion lag: median",
        "From the server's event of the end of a command to its result; on one server, up to eight at once.",
        &half,
    );
    report.table("Completion lag: 99 of 100", "The same.", &slowest);
    report.table(
        "Completion lag by the command's clock: median",
        "The same from the moment that the command's `date` tells, before that and the command's shell have ended and the server has noticed.",
        &own_half,
    );
    report.table("Completion lag by the command's clock: 99 of 100", "The same.", &own_slowest);
    report.table(
        "Round trip beside that: 99 of 100",
        "A request of the bare client for a page of events, each after up to 20 ms, on a connection of its own.",
        &trips,
    );
    for (clock, half, slowest) in [("the server's event", &half, &slowest), ("its own clock", &own_half, &own_slowest)]
    {
        for (duration, _) in DURATIONS {
            verdicts(report, clock, duration, [half, slowest, &trips]);
        }
    }
    Ok(())
}

/// Whether the ends of commands are seen in time, by one of the clocks. One that is polled may take a round trip longer, whose
/// 99th percentile is taken since the bound is one of 99 in 100.
fn verdicts(report: &mut Report, clock: &str, duration: u64, [half, slowest, trips]: [&Table; 3]) {
    let pushed = format!("pushed, {duration} ms");
    let lag = half.median(&pushed).zip(slowest.median(&pushed));
    let measured =
        lag.map(|(half, all)| (format!("{} and {} ms", number(half), number(all)), half <= 5.0 && all <= 50.0));
    report.verdict(&format!("end seen after {clock}, {pushed}"), "p50 <= 5 ms, p99 <= 50 ms", measured);
    let (polled, share) = (format!("polled, {duration} ms"), (duration as f64 * 0.15).clamp(5.0, 2000.0));
    let trip = trips.median(&polled).unwrap_or_default();
    let measured = slowest.median(&polled).map(|all| (format!("{} ms", number(all)), all <= share + trip));
    let bound = format!("p99 <= {} + {} ms (a round trip)", number(share), number(trip));
    report.verdict(&format!("end seen after {clock}, {polled}"), &bound, measured);
}
