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
    let (mut half, mut slowest) = (Table::new("ms"), Table::new("ms"));
    for _ in 0..rounds() {
        for (at, (duration, commands)) in DURATIONS.into_iter().enumerate() {
            for (push, way) in [(true, "pushed"), (false, "polled")] {
                let arguments = [url.clone(), push.to_string(), duration.to_string(), commands.to_string()];
                let sample = work("lag", &arguments)?;
                let name = format!("{way}, {duration} ms");
                half.add(2 * at + usize::from(!push), &name, sample.seconds * 1e3);
                slowest.add(2 * at + usize::from(!push), &name, sample.peak * 1e3);
            }
        }
    }
    report.table(
        "Completion lag: median",
        "From the end of a command, by its own clock, to its result; eight at once.",
        &half,
    );
    report.table("Completion lag: 99 of 100", "The same.", &slowest);
    for (duration, _) in DURATIONS {
        let pushed = format!("pushed, {duration} ms");
        let lag = half.median(&pushed).zip(slowest.median(&pushed));
        let measured =
            lag.map(|(half, all)| (format!("{} and {} ms", number(half), number(all)), half <= 5.0 && all <= 50.0));
        report.verdict(&format!("completion seen, {pushed}"), "p50 <= 5 ms, p99 <= 50 ms", measured);
        let bound = (duration as f64 * 0.15).clamp(5.0, 2000.0) + 2.0;
        let lag = slowest.median(&format!("polled, {duration} ms"));
        let measured = lag.map(|all| (format!("{} ms", number(all)), all <= bound));
        report.verdict(
            &format!("completion seen, polled, {duration} ms"),
            &format!("p99 <= {} ms", number(bound)),
            measured,
        );
    }
    Ok(())
}
