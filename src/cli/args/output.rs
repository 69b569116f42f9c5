use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::heading;

/// How events are shown.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub(in crate::cli) struct OutputArgs {
    /// Print JSON Lines: one object an event, as it happens
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// Put the target before each line, in place of a headline before each group
    #[arg(long, conflicts_with = "json")]
    pub(in crate::cli) tag: bool,

    /// Print in the order of the targets
    #[arg(short = 'k', long, conflicts_with = "json")]
    pub(in crate::cli) keep_order: bool,

    /// Fold targets with the same output and exit code into one group, at the end
    #[arg(short = 'b', long, conflicts_with_all = ["json", "tag", "keep_order"])]
    pub(in crate::cli) fold: bool,

    /// Write a JUnit report when the run has ended
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) junit: Option<PathBuf>,

    /// Write a line for each target that ended, as GNU parallel does
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) joblog: Option<PathBuf>,

    /// Write what each target gave to DIR/TARGET/stdout, stderr and meta.json, whole
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) results: Option<PathBuf>,

    /// How to show how far the run has come, on stderr; SIGUSR1 prints what runs now
    #[arg(long, value_enum, value_name = "KIND", default_value_t, env = "WSFLEET_PROGRESS", hide_env_values = true)]
    pub(in crate::cli) progress: ProgressKind,

    /// When to colour; NO_COLOR is honoured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, env = "WSFLEET_COLOR", hide_env_values = true)]
    pub(in crate::cli) color: ColorWhen,
}

/// What is shown of commands.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub(in crate::cli) struct FollowArgs {
    /// Print output as it comes, each line marked with its workspace
    #[arg(long, visible_alias = "line-buffer", conflicts_with = "fold")]
    pub(in crate::cli) stream: bool,

    /// How many bytes of each stream are kept, the first half and the last half of them, as in 64K, 16M or 1G; 0 for none
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16M",
        env = "WSFLEET_MAX_OUTPUT",
        hide_env_values = true,
        value_parser = parse_size
    )]
    pub(in crate::cli) max_output: usize,
}

/// What is left of a run that was carried out before.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = heading::RESUMING)]
pub(in crate::cli) struct ResumeArgs {
    /// Leave out the targets on which the joblog has this command already
    #[arg(long, requires = "joblog")]
    pub(in crate::cli) resume: bool,

    /// The same, but for those that failed: they are carried out again
    #[arg(long, requires = "joblog", conflicts_with = "resume")]
    pub(in crate::cli) resume_failed: bool,

    /// Carry out again what failed according to the joblog, with the command that it has
    #[arg(long, requires = "joblog", conflicts_with_all = ["resume", "resume_failed", "words"])]
    pub(in crate::cli) retry_failed: bool,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum ProgressKind {
    /// A bar on a terminal; elsewhere a line a minute
    #[default]
    Auto,
    /// A bar on a terminal; elsewhere the counter
    Bar,
    /// A line every few seconds, and at each tenth of the targets
    Counter,
    /// Not at all
    None,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum ColorWhen {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A number of bytes, with K, M or G for the powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let bad = || "write a number of bytes, or one with K, M or G, as in 64K".to_owned();
    let (number, unit) = match text.trim().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((number, "k" | "K")) => (number, 10),
        Some((number, "m" | "M")) => (number, 20),
        Some((number, "g" | "G")) => (number, 30),
        _ => (text.trim(), 0),
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << unit));
    bytes.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("17", 17), ("64K", 65_536), ("16M", 16 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1T", "99999999999G", "é"] {
            assert!(parse_size(text).unwrap_err().contains("64K"), "{text}");
        }
    }
}
