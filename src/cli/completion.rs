use std::io::Write as _;

use clap::CommandFactory as _;

use super::{
    args::{Cli, CompletionArgs},
    exit,
};

/// `wsfleet completion`: prints the script that a shell sources.
pub(super) fn print(args: &CompletionArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wsfleet", &mut script);
    // Whoever closed stdout has what they wanted.
    let _ = std::io::stdout().write_all(&script);
    exit::SUCCESS
}
