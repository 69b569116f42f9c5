//! The `wsfleet` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    workspace_fleet::cli::main()
}
