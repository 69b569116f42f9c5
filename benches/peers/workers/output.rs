use std::io::Write as _;

use futures::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, WorkspaceConfig,
    messages::{CommandEvent, ExecuteCommand},
};

use crate::process::{Result, Sample, Stopwatch};

/// Writes lines of 128 bytes to standard output, so many bytes in all.
pub(crate) fn text(bytes: usize) -> Result<()> {
    let lines = format!("{}\n", "x".repeat(127)).repeat(512);
    let (mut stdout, mut left) = (std::io::stdout().lock(), bytes);
    while left > 0 {
        let piece = &lines.as_bytes()[..left.min(lines.len())];
        stdout.write_all(piece)?;
        left -= piece.len();
    }
    Ok(())
}

/// Reads so many bytes of output of one command, as a stream or collected.
pub(crate) fn run(url: &str, bytes: usize, how: &str) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fleet = Fleet::start()?;
        let workspace = fleet.add(WorkspaceConfig::new("w", Connection::new(url)?.with_api_key("key"))).await?;
        let writer = std::env::current_exe()?;
        let command = ExecuteCommand::new(format!("'{}' --text {bytes}", writer.display())).with_timeout(None);
        let watch = Stopwatch::start();
        let read = match how {
            "streamed" => {
                let mut stream = workspace.follow_command(command.with_max_output(0));
                let mut read = 0;
                while let Some(event) = stream.next().await {
                    if let CommandEvent::Output { text, .. } = event {
                        read += text.len();
                    }
                }
                stream.result().await?;
                read
            }
            _ => workspace.execute_command(command.with_max_output(bytes)).await?.stdout.len(),
        };
        if read != bytes {
            return Err(format!("{read} of {bytes} bytes came").into());
        }
        Ok(watch.sample(bytes))
    })
}
