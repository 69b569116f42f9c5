//! What was measured, as tables.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, process::Command};

use crate::process::Result;

/// How often each contender of a scenario has its turn.
pub(crate) fn rounds() -> usize {
    std::env::var("WSFLEET_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5).max(1)
}

/// The scenarios so far.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    verdicts: Vec<Verdict>,
    failures: usize,
}

struct Verdict {
    scenario: String,
    bound: String,
    measured: String,
    met: bool,
}

/// What each contender of one scenario measured, round by round, in its unit.
pub(crate) struct Table {
    unit: &'static str,
    rows: BTreeMap<usize, (String, Vec<f64>)>,
}

impl Table {
    pub(crate) fn new(unit: &'static str) -> Self {
        Self { unit, rows: BTreeMap::new() }
    }

    /// Adds what one contender measured in this round.
    pub(crate) fn add(&mut self, place: usize, contender: &str, value: f64) {
        self.rows.entry(place).or_insert_with(|| (contender.to_owned(), Vec::new())).1.push(value);
    }

    /// The median of one contender; `None` where it was left out.
    pub(crate) fn median(&self, contender: &str) -> Option<f64> {
        self.rows.values().find(|(name, _)| name == contender).map(|(_, values)| median(values))
    }

    /// The median of the ratios of two contenders, round by round.
    pub(crate) fn ratio(&self, above: &str, below: &str) -> Option<f64> {
        let of = |contender: &str| self.rows.values().find(|(name, _)| name == contender).map(|(_, values)| values);
        let ratios: Vec<f64> = of(above)?.iter().zip(of(below)?).map(|(above, below)| above / below).collect();
        Some(median(&ratios))
    }
}

impl Report {
    /// Adds the table of a scenario.
    pub(crate) fn table(&mut self, name: &str, what: &str, table: &Table) {
        let mut text = format!(
            "\n## {name}\n\n{what}\n\n| contender | median ({}) | from | to |\n| --- | ---: | ---: | ---: |\n",
            table.unit
        );
        for (contender, values) in table.rows.values() {
            let (from, to) =
                (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
            let _ = writeln!(text, "| {contender} | {} | {} | {} |", number(median(values)), number(from), number(to));
        }
        println!("{text}");
        self.text += &text;
    }

    /// Says whether a bound was met. What could not be measured is said as well.
    pub(crate) fn verdict(&mut self, scenario: &str, bound: &str, measured: Option<(String, bool)>) {
        let (measured, met) = measured.unwrap_or_else(|| ("not measured: the peer is not installed".to_owned(), false));
        println!("{scenario}: {bound}: {measured}{}", if met { "" } else { "  <-- not met" });
        self.verdicts.push(Verdict { scenario: scenario.to_owned(), bound: bound.to_owned(), measured, met });
    }

    /// Takes in that a scenario could not be run to its end.
    pub(crate) fn failed(&mut self, scenario: &str, error: &dyn std::error::Error) {
        println!("{scenario}: {error}  <-- failed");
        let (bound, measured) = ("a whole run".to_owned(), error.to_string());
        self.verdicts.push(Verdict { scenario: scenario.to_owned(), bound, measured, met: false });
        self.failures += 1;
    }

    /// How many scenarios could not be run to their end.
    pub(crate) const fn failures(&self) -> usize {
        self.failures
    }

    /// Writes it all down.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = "# Results\n\nWritten by `cargo bench --bench peers`; [peers/main.rs](peers/main.rs) tells how each figure came about. Each contender \
                        runs in a process of its own, in turns with the others. Figures are medians over the rounds; ratios are taken round by round. \
                        All that is in Rust is built with the release profile.\n\n"
            .to_owned();
        for (what, value) in machine() {
            let _ = writeln!(text, "- {what}: {value}");
        }
        let _ = writeln!(text, "- rounds: {}", rounds());
        text += "\n| scenario | bound | measured | |\n| --- | --- | --- | --- |\n";
        for Verdict { scenario, bound, measured, met } in &self.verdicts {
            let _ =
                writeln!(text, "| {scenario} | {bound} | {measured} | {} |", if *met { "met" } else { "**not met**" });
        }
        std::fs::write(path, text + &self.text)?;
        Ok(())
    }
}

/// What it was measured on.
fn machine() -> Vec<(&'static str, String)> {
    let line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
    };
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut all = vec![("machine", format!("{cores} cores, {model}"))];
    all.extend(line("uname", &["-sr"]).map(|text| ("system", text)));
    all.extend(line("rustc", &["--version"]).map(|text| ("compiler", text)));
    all.extend(
        line("curl", &["--version"]).map(|text| ("curl", text.split(' ').take(2).collect::<Vec<_>>().join(" "))),
    );
    all.extend(line("wrk", &["--version"]).map(|text| ("wrk", text.split(' ').nth(1).unwrap_or_default().to_owned())));
    all.extend(
        crate::peers::python()
            .and_then(|python| line(&python.display().to_string(), &["--version"]))
            .map(|text| ("Python", text)),
    );
    all
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// A number with three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
