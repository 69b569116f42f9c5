//! The connection is cut after every single byte of an exchange, in both directions.
//!
//! `WSFLEET_CUT_SWEEP=all` cuts after each byte in both ways; by default every other byte is cut after, in turns.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream};
use workspace_fleet::{Effect, ErrorKind, Workspace, WorkspaceError, messages::ExecuteCommand};

use crate::{
    scene::{Scene, alone, impatient, runs},
    support::{
        eventually,
        proxy::{Cut, Direction, Proxy},
    },
};

/// How many cuts are made at once.
const AT_ONCE: usize = 24;

/// Nothing that is cut once takes as long.
const LIMIT: Duration = Duration::from_secs(20);

const CONTENT: &str = "0123456789abcdefghijklmnopqrstuvwxyz\n";

/// An operation in a directory of its own, which gives the right result or an error. What is wrong otherwise is said.
type Exchange = for<'a> fn(&'a Workspace, &'a Path) -> BoxFuture<'a, Result<Result<(), String>, WorkspaceError>>;

fn execute<'a>(
    workspace: &'a Workspace,
    folder: &'a Path,
) -> BoxFuture<'a, Result<Result<(), String>, WorkspaceError>> {
    Box::pin(async move {
        let command = ExecuteCommand::new("echo ran >>counter; echo out; echo err >&2; exit 3");
        let result = workspace.execute_command(command.with_cwd(folder.display().to_string())).await?;
        let got = (&*result.stdout, &*result.stderr, result.exit_code);
        Ok(if got == ("out\n", "err\n", 3) { Ok(()) } else { Err(format!("{result:?}")) })
    })
}

fn download<'a>(
    workspace: &'a Workspace,
    folder: &'a Path,
) -> BoxFuture<'a, Result<Result<(), String>, WorkspaceError>> {
    Box::pin(async move {
        let (there, here) = (folder.parent().unwrap().join("content"), folder.join("here"));
        let downloaded = workspace.file_download(there.display().to_string(), &here).await;
        let read = std::fs::read_to_string(&here).ok();
        let names = std::fs::read_dir(folder).unwrap().count();
        let Err(error) = downloaded else {
            return Ok(if read.as_deref() == Some(CONTENT) { Ok(()) } else { Err(format!("{read:?} is here")) });
        };
        // Nothing, or nothing yet.
        if names == 0 { Err(error) } else { Ok(Err(format!("{error}, and {names} files are here, with {read:?}"))) }
    })
}

#[test]
fn an_execute_command_that_is_cut_after_any_byte_is_carried_out_once() {
    alone(async {
        // Whatever is cut, the command is found again.
        let sweep = Sweep { scene: Scene::new().await, exchange: execute, runs: 1 };
        sweep.all(|error| Some(error.to_string())).await;
    });
}

#[test]
fn a_download_that_is_cut_after_any_byte_is_whole_or_an_error() {
    alone(async {
        let sweep = Sweep { scene: Scene::new().await, exchange: download, runs: 0 };
        std::fs::write(sweep.scene.root.path().join("content"), CONTENT).unwrap();
        let wrong = |error: &WorkspaceError| {
            let says =
                matches!(error.kind, ErrorKind::Unreachable { .. } | ErrorKind::Protocol { cut_short: true, .. });
            let right = says && error.is_retryable() && error.effect != Effect::Done;
            (!right).then(|| format!("another error: {error:?}"))
        };
        sweep.all(wrong).await;
    });
}

struct Sweep {
    scene: Scene,
    exchange: Exchange,
    /// How often the command runs in each.
    runs: usize,
}

impl Sweep {
    /// Cuts everywhere. `wrong` says what is wrong with an error.
    async fn all(self, wrong: impl Fn(&WorkspaceError) -> Option<String>) {
        let (up, down) = self.length().await;
        let points = (0..=up).map(|at| (Direction::Up, at)).chain((0..=down).map(|at| (Direction::Down, at)));
        let cuts: Vec<_> = if std::env::var("WSFLEET_CUT_SWEEP").is_ok_and(|how| how == "all") {
            points.flat_map(|(way, at)| [(way, at, Cut::Reset), (way, at, Cut::Close)]).collect()
        } else {
            let how = |at: u64| if at.is_multiple_of(4) { Cut::Reset } else { Cut::Close };
            points.filter(|(_, at)| at.is_multiple_of(2)).map(|(way, at)| (way, at, how(at))).collect()
        };
        let (began, count) = (Instant::now(), cuts.len());
        let numbered = cuts.into_iter().enumerate();
        let tried = numbered.map(|(number, cut)| self.try_one(number, cut, &wrong));
        let tried: Vec<_> = stream::iter(tried).buffer_unordered(AT_ONCE).collect().await;
        let met = tried.iter().filter(|(_, was_cut, _)| *was_cut).count();
        let errors = tried.iter().filter(|(.., ended)| matches!(ended, Ok(false))).count();
        println!("{up} bytes up, {down} down: {met} of {count} cuts met, {errors} errors, {:?}", began.elapsed());
        let mut problems: Vec<String> = tried.iter().filter_map(|(.., ended)| ended.clone().err()).collect();
        // An exchange may be some polls shorter than the one that was measured.
        if met * 10 < count * 9 {
            problems.push(format!("only {met} of {count} cuts were met"));
        }
        problems.extend(self.scene.quiet().await);
        for ((folder, how), ..) in &tried {
            let runs = runs(&folder.join("counter"));
            if runs != self.runs {
                problems.push(format!("{how}: the command ran {runs} times"));
            }
        }
        problems.extend(self.scene.end().await);
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    }

    /// How many bytes go in both directions when nothing is cut.
    async fn length(&self) -> (u64, u64) {
        let proxy = Proxy::cable(&self.scene.url()).await.unwrap();
        let (folder, config) = (self.scene.folder("whole"), impatient("whole", &proxy.url(), self.scene.root.path()));
        let workspace = self.scene.fleet.add(config).await.unwrap();
        (self.exchange)(&workspace, &folder).await.unwrap().unwrap();
        self.scene.fleet.remove("whole").await.unwrap();
        (proxy.bytes(Direction::Up), proxy.bytes(Direction::Down))
    }

    /// Cuts once. Returns where it worked, whether the cut was made, and whether the result was the right one and no error;
    /// or what was wrong.
    async fn try_one(
        &self,
        number: usize,
        cut: (Direction, u64, Cut),
        wrong: &impl Fn(&WorkspaceError) -> Option<String>,
    ) -> ((PathBuf, String), bool, Result<bool, String>) {
        let (name, how) = (format!("w{number}"), format!("{cut:?}"));
        let proxy = Proxy::cable(&self.scene.url()).await.unwrap();
        proxy.cut_after(cut.0, cut.1, cut.2);
        let (folder, config) = (self.scene.folder(&name), impatient(&name, &proxy.url(), self.scene.root.path()));
        let workspace = self.scene.fleet.add(config).await.unwrap();
        let mut ended = match tokio::time::timeout(LIMIT, (self.exchange)(&workspace, &folder)).await {
            Err(_) => Err(format!("{how}: it takes longer than {LIMIT:?}")),
            Ok(Ok(Ok(()))) => Ok(true),
            Ok(Ok(Err(wrong))) => Err(format!("{how}: a wrong result: {wrong}")),
            Ok(Err(error)) => wrong(&error).map_or(Ok(false), |wrong| Err(format!("{how}: {wrong}"))),
        };
        self.scene.fleet.remove(&name).await.unwrap();
        if !eventually(LIMIT, || proxy.open() == 0).await {
            ended = Err(format!("{how}: {} connections are left", proxy.open()));
        }
        ((folder, how), proxy.was_cut(), ended)
    }
}
