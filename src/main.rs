//! The `wsfleet` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Gives memory back that a burst of commands has taken, which the system's allocator keeps between what is still in use.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    workspace_fleet::cli::main()
}
