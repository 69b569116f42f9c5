use crate::{
    process::{Result, Served, work},
    report::{Report, Table, number, rounds},
};

const WORKSPACES: usize = 5000;
const EACH: usize = 20;

/// Five thousand workspaces over TLS, each answer delayed as by a wide-area network, beside the same on loopback.
pub(crate) fn tls_with_delay(report: &mut Report) -> Result<()> {
    let authority = tempfile::NamedTempFile::new()?;
    let file = authority.path().display().to_string();
    let far = Served::start(&["--stub", "50", &file])?;
    let near = crate::peers::stub()?;
    let (mut cpu, mut took) = (Table::new("µs of processor time per command"), Table::new("s"));
    for _ in 0..rounds() {
        let words = |url: String| vec![url, WORKSPACES.to_string(), EACH.to_string(), "1".to_owned()];
        let mut arguments = words(format!("https://127.0.0.1:{}", far.port));
        arguments.push(file.clone());
        let over_tls = work("fleet-tls", &arguments)?;
        let loopback = work("fleet", &words(format!("http://127.0.0.1:{}", near.port)))?;
        cpu.add(0, "TLS, 50 ms", over_tls.cpu_each() * 1e6);
        cpu.add(1, "loopback", loopback.cpu_each() * 1e6);
        took.add(0, "TLS, 50 ms", over_tls.seconds);
        took.add(1, "loopback", loopback.seconds);
    }
    report.table(
        "Wide area: cost",
        "5,000 workspaces, 20 commands each, one after another; handshakes included.",
        &cpu,
    );
    report.table("Wide area: time", "The same, all of it.", &took);
    let ratio = cpu.ratio("TLS, 50 ms", "loopback").map(|ratio| (format!("{}x", number(ratio)), ratio <= 2.0));
    report.verdict("5,000 workspaces over TLS, 50 ms: processor time per command", "<= 2x loopback", ratio);
    Ok(())
}
