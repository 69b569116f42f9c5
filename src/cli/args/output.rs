use clap::{Args, ValueEnum};

/// How events are shown.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = super::heading::OUTPUT)]
pub(in crate::cli) struct OutputArgs {
    /// Print JSON Lines: one object an event, as it happens
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// When to colour; NO_COLOR is honoured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, env = "WSFLEET_COLOR", hide_env_values = true)]
    pub(in crate::cli) color: ColorWhen,
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
