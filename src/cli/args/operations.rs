use std::path::PathBuf;

use clap::Args;

use super::{OutputArgs, TargetArgs};

/// Of `upload`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UploadArgs {
    /// The local file, or with -r the local directory
    #[arg(value_name = "SRC")]
    pub(in crate::cli) source: PathBuf,

    /// Where to write it, an absolute path of the workspace; one that ends with `/` is a directory
    #[arg(value_name = "DEST")]
    pub(in crate::cli) destination: String,

    /// Copy a directory with all that is in it
    ///
    /// DEST becomes a copy of SRC, and is made when it is missing; a DEST that ends with `/` gets it under its own name. Files
    /// that are there are replaced, others stay. The workspace needs tar. Links and modes are kept, owners are not.
    #[arg(short = 'r', long)]
    pub(in crate::cli) recursive: bool,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Of `download`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DownloadArgs {
    /// The file, or with -r the directory, an absolute path of the workspace
    #[arg(value_name = "SRC")]
    pub(in crate::cli) source: String,

    /// Where to write it; missing directories are made
    #[arg(value_name = "DEST")]
    pub(in crate::cli) destination: PathBuf,

    /// Copy a directory with all that is in it
    ///
    /// It must not be here yet, unless it is empty, and appears when it is whole. Nothing is written outside of it. The
    /// workspace needs tar. Links and modes are kept, owners are not.
    #[arg(short = 'r', long)]
    pub(in crate::cli) recursive: bool,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Of `changes`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ChangesArgs {
    /// The directory to ask about; a relative one is seen from the workspace's working_dir
    #[arg(value_name = "PATH", default_value = ".")]
    pub(in crate::cli) path: String,

    /// The commit or branch to compare with [default: the server's choice]
    #[arg(long = "ref", value_name = "REF")]
    pub(in crate::cli) reference: Option<String>,

    /// The directory that a relative PATH is seen from, in place of the workspace's working_dir
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cwd: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Of `diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The file to ask about; a relative one is seen from the workspace's working_dir
    #[arg(value_name = "PATH")]
    pub(in crate::cli) path: String,

    /// The commit or branch to compare with [default: the server's choice]
    #[arg(long = "ref", value_name = "REF", conflicts_with = "commit")]
    pub(in crate::cli) reference: Option<String>,

    /// The commit whose own change to show, a hex id of 4 to 64 digits
    #[arg(long, value_name = "COMMIT", value_parser = commit_id)]
    pub(in crate::cli) commit: Option<String>,

    /// The directory that a relative PATH is seen from, in place of the workspace's working_dir
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cwd: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// The same rule as the servers', told before anything is sent.
fn commit_id(text: &str) -> Result<String, String> {
    if (4..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err("write a hex id of 4 to 64 digits, as git rev-parse prints it; --ref takes names".to_owned())
}

/// Of `ping` and `info`: nothing but targets.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlainArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}
