use std::{process::Command, time::Instant};

use crate::{
    peers::WSFLEET,
    process::Result,
    report::{Report, Table, number, rounds},
};

/// How often the program is started in a round.
const STARTS: u32 = 50;

/// How fast the program starts, and how large it is.
pub(crate) fn version_and_size(report: &mut Report) -> Result<()> {
    let mut table = Table::new("ms");
    for _ in 0..rounds() {
        let began = Instant::now();
        for _ in 0..STARTS {
            Command::new(WSFLEET).arg("--version").output()?;
        }
        table.add(0, "wsfleet --version", began.elapsed().as_secs_f64() * 1e3 / f64::from(STARTS));
    }
    report.table("Start-up", "From the start of a process to its end.", &table);
    let measured = table.median("wsfleet --version").map(|millis| (format!("{} ms", number(millis)), millis <= 5.0));
    report.verdict("wsfleet --version", "<= 5 ms", measured);
    let size = std::fs::metadata(WSFLEET)?.len() as f64 / 1e6;
    report.verdict("size of the program, stripped", "<= 15 MB", Some((format!("{} MB", number(size)), size <= 15.0)));
    Ok(())
}
