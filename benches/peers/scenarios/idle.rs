use crate::{
    peers::stub,
    process::{Result, work},
    report::{Report, Table, number, rounds},
};

/// What a workspace takes that does nothing.
pub(crate) fn memory(report: &mut Report) -> Result<()> {
    let stub = stub()?;
    let mut table = Table::new("KB per workspace");
    for _ in 0..rounds() {
        let sample = work("idle", &[format!("http://127.0.0.1:{}", stub.port), "10000".to_owned()])?;
        table.add(0, "workspace-fleet", sample.peak / sample.done / 1024.0);
    }
    report.table(
        "Idle workspaces",
        "Resident memory that 10,000 workspaces added that had run a command and were idle again for two seconds.",
        &table,
    );
    let measured = table.median("workspace-fleet").map(|each| (format!("{} KB", number(each)), each <= 4.0));
    report.verdict("memory per idle workspace", "<= 4 KB", measured);
    Ok(())
}
