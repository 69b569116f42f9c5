use std::path::PathBuf;

use clap::Args;

use super::{OutputArgs, TargetArgs};

/// Copy a local file to workspaces
#[derive(Debug, Args)]
pub(in crate::cli) struct UploadArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    /// The local file
    #[arg(value_name = "SRC")]
    pub(in crate::cli) source: PathBuf,

    /// Where to write it, an absolute path of the workspace; one that ends with `/` is a directory
    #[arg(value_name = "DEST")]
    pub(in crate::cli) destination: String,
}

/// Copy a file of workspaces to here
///
/// {workspace} in DEST becomes the workspace's name, with `_` for each `/` in it. From more than one workspace, DEST
/// without {workspace} is a directory: the files become DEST/<workspace>/<name of SRC>.
#[derive(Debug, Args)]
pub(in crate::cli) struct DownloadArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    /// The file, an absolute path of the workspace
    #[arg(value_name = "SRC")]
    pub(in crate::cli) source: String,

    /// Where to write it; missing directories are made
    #[arg(value_name = "DEST")]
    pub(in crate::cli) destination: PathBuf,
}

/// List the changed files of a git repository
#[derive(Debug, Args)]
pub(in crate::cli) struct ChangesArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    /// The directory to ask about; a relative one is seen from the workspace's working_dir
    #[arg(value_name = "PATH", default_value = ".")]
    pub(in crate::cli) path: String,

    /// The commit or branch to compare with [default: the server's choice]
    #[arg(long = "ref", value_name = "REF")]
    pub(in crate::cli) reference: Option<String>,

    /// The directory that a relative PATH is seen from, in place of the workspace's working_dir
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cwd: Option<String>,
}

/// Show how a file of a git repository differs
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    /// The file to ask about; a relative one is seen from the workspace's working_dir
    #[arg(value_name = "PATH")]
    pub(in crate::cli) path: String,

    /// The commit or branch to compare with [default: the server's choice]
    #[arg(long = "ref", value_name = "REF", conflicts_with = "commit")]
    pub(in crate::cli) reference: Option<String>,

    /// The commit whose own change to show
    #[arg(long, value_name = "COMMIT")]
    pub(in crate::cli) commit: Option<String>,

    /// The directory that a relative PATH is seen from, in place of the workspace's working_dir
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cwd: Option<String>,
}

/// Nothing but targets.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlainArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}
