//! What was counted, held against what is stored.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use serde::{Deserialize, Serialize};

use crate::Result;

/// How much more than its bound is still taken for the same, of the bounds that are stored from now on.
const TOLERANCE_PERCENT: u64 = 10;

/// What is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// How much more than its bound is still taken for the same.
    tolerance_percent: u64,
    /// What was counted when they were stored, by what it was counted of.
    counts: BTreeMap<String, u64>,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/bounds.json")
}

impl Bounds {
    pub(crate) fn read() -> Result<Self> {
        let file = file();
        let text = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// Makes these counts the bounds.
    pub(crate) fn store(counts: &[(String, u64)]) -> Result<()> {
        for (name, count) in counts {
            println!("{name:<48}{count:>14}");
        }
        let bounds = Self { tolerance_percent: TOLERANCE_PERCENT, counts: counts.iter().cloned().collect() };
        std::fs::write(file(), serde_json::to_string_pretty(&bounds)? + "\n")?;
        println!("\nstored in {}", file().display());
        Ok(())
    }

    /// Prints each count beside its bound, and fails where one is above it or there is none.
    pub(crate) fn check(&self, counts: &[(String, u64)]) -> Result<ExitCode> {
        println!("{:<48}{:>14}{:>14}", "", "counted", "stored");
        let (mut failed, mut better) = (false, false);
        for (name, count) in counts {
            let stored = self.counts.get(name).copied();
            let verdict = self.verdict(*count, stored);
            failed |= matches!(verdict, Verdict::More | Verdict::Unknown);
            better |= verdict == Verdict::Less;
            let stored = stored.map_or_else(|| "none".to_owned(), |stored| stored.to_string());
            println!("{name:<48}{count:>14}{stored:>14}{}", verdict.words());
        }
        let store = "cargo bench --profile dev --features hot-paths --bench instructions -- --store";
        if failed {
            println!(
                "\nA hot path takes more than {} % above what is stored. Find out why (callgrind_annotate, docs/performance.md); where it \
                 is worth it, store what it takes now and say so in the commit:\n    {store}",
                self.tolerance_percent
            );
        } else if better {
            println!("\nA hot path takes less than what is stored. Keep that:\n    {store}");
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn verdict(&self, count: u64, stored: Option<u64>) -> Verdict {
        let Some(stored) = stored else { return Verdict::Unknown };
        if count * 100 > stored * (100 + self.tolerance_percent) {
            Verdict::More
        } else if count * (100 + self.tolerance_percent) < stored * 100 {
            Verdict::Less
        } else {
            Verdict::Same
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Less,
    More,
    Unknown,
}

impl Verdict {
    const fn words(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Less => "  less",
            Self::More => "  MORE",
            Self::Unknown => "  NOT STORED",
        }
    }
}
