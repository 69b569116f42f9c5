use crate::{
    peers,
    process::{Result, work},
    report::{Report, Table, number, rounds},
};

const SIZE: usize = 1 << 30;

/// A command that writes 1 GiB, streamed and collected.
pub(crate) fn one_gib(report: &mut Report) -> Result<()> {
    let root = tempfile::tempdir()?;
    let (mut speed, mut memory) = (Table::new("MB/s"), Table::new("MB"));
    for _ in 0..rounds() {
        // A server that has kept a few gigabytes would spill the next ones to disk.
        for (place, how) in ["streamed", "collected"].into_iter().enumerate() {
            let agent = peers::agent(root.path())?;
            let url = format!("http://127.0.0.1:{}", agent.port);
            let sample = work("output", &[url, SIZE.to_string(), how.to_owned()])?;
            speed.add(place, how, sample.per_second() / 1e6);
            memory.add(place, how, sample.peak / 1e6);
        }
    }
    report.table(
        "1 GiB of output",
        "Written by one command on the embedded agent server as fast as it is taken.",
        &speed,
    );
    report.table("1 GiB of output: memory", "The most that the reading process took.", &memory);
    let measured = speed.median("streamed").map(|speed| (format!("{} MB/s", number(speed)), speed >= 300.0));
    report.verdict("1 GiB of output, streamed", ">= 300 MB/s", measured);
    let measured = memory.median("streamed").map(|peak| (format!("{} MB", number(peak)), peak <= 64.0));
    report.verdict("1 GiB of output, streamed: memory", "flat (<= 64 MB)", measured);
    Ok(())
}
