use clap::Args;

/// Of `completion`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(in crate::cli) shell: clap_complete::Shell,
}
