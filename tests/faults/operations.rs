//! Every operation of a workspace, with the requests that it makes, and whether what it gives is right.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::future::BoxFuture;
use workspace_fleet::{
    Connection, Fleet, Push, Workspace, WorkspaceConfig, WorkspaceError, messages::ExecuteCommand, protocol::EventId,
};

use crate::{
    scene::Scene,
    support::{eventually, pattern, processes},
};

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With the right result.
    Right,
    /// With a result that is not right.
    Wrong(String),
    Error(WorkspaceError),
}

impl Ended {
    fn of<T>(result: Result<T, WorkspaceError>, check: impl FnOnce(T) -> Result<(), String>) -> Self {
        match result.map(check) {
            Ok(Ok(())) => Self::Right,
            Ok(Err(wrong)) => Self::Wrong(wrong),
            Err(error) => Self::Error(error),
        }
    }
}

/// A request of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// A part of its path.
    pub(crate) path: &'static str,
    /// How many requests with this in their path the operation makes before it.
    pub(crate) skip: u32,
    pub(crate) has_body: bool,
    /// Whether it is a command of the runtime's own, which is given more time than an answer.
    pub(crate) is_helper: bool,
    /// Whether what happens to it once and passes is made good, or done without.
    pub(crate) recovers: bool,
    /// Whether nonsense in place of an answer is, too.
    pub(crate) bears_nonsense: bool,
}

const fn get(path: &'static str) -> Route {
    Route { path, skip: 0, has_body: false, is_helper: false, recovers: true, bears_nonsense: false }
}

const fn post(path: &'static str) -> Route {
    Route { has_body: true, ..get(path) }
}

const fn helper(skip: u32) -> Route {
    Route { skip, is_helper: true, ..post("/execute_bash_command") }
}

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) routes: &'static [Route],
    /// Whether it leaves a command whose runs can be counted.
    pub(crate) is_command: bool,
    pub(crate) push: Push,
    pub(crate) run: for<'a> fn(&'a Bench) -> BoxFuture<'a, Ended>,
}

const READ: Operation = Operation {
    name: "",
    routes: &[],
    is_command: false,
    push: Push::Never,
    run: |_| Box::pin(async { Ended::Right }),
};

const START: Route = Route { bears_nonsense: true, ..post("/start_bash_command") };
const SEARCH: Route = get("/bash_events/search");
/// The same while a command is watched.
const LOOK: Route = Route { bears_nonsense: true, ..SEARCH };
/// What removes things is done without.
const fn removal(skip: u32) -> Route {
    Route { bears_nonsense: true, ..helper(skip) }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "execute_command",
        routes: &[START, LOOK],
        is_command: true,
        run: |bench| Box::pin(execute(bench, SHORT, (pattern::seq(1, 3000), pattern::seq(1, 20), 5))),
        ..READ
    },
    Operation {
        name: "execute_command, pushed",
        routes: &[Route { bears_nonsense: true, ..get("/sockets/bash-events") }],
        is_command: true,
        push: Push::Always,
        run: |bench| Box::pin(execute(bench, LONG, (pattern::seq(1, 30), String::new(), 6))),
    },
    Operation {
        name: "execute_command, private",
        routes: &[helper(0), post("/file/upload"), Route { skip: 1, ..post("/file/upload") }, START],
        is_command: true,
        run: |bench| Box::pin(execute_private(bench)),
        ..READ
    },
    Operation {
        name: "start_command",
        routes: &[START],
        is_command: true,
        run: |bench| Box::pin(start(bench)),
        ..READ
    },
    Operation { name: "get_command_output", routes: &[SEARCH], run: |bench| Box::pin(output(bench)), ..READ },
    Operation {
        name: "stop_command",
        routes: &[Route { has_body: false, ..post("/stop") }, get("/bash_events/"), helper(0)],
        run: |bench| Box::pin(stop(bench)),
        ..READ
    },
    Operation { name: "file_upload", routes: &[post("/file/upload")], run: |bench| Box::pin(upload(bench)), ..READ },
    Operation {
        name: "file_download",
        routes: &[get("/file/download")],
        run: |bench| Box::pin(download(bench)),
        ..READ
    },
    Operation {
        name: "directory_upload",
        routes: &[helper(0), post("/file/upload"), START, LOOK, removal(1)],
        run: |bench| Box::pin(directory_upload(bench)),
        ..READ
    },
    Operation {
        name: "directory_download",
        routes: &[START, LOOK, get("/file/download"), removal(0)],
        run: |bench| Box::pin(directory_download(bench)),
        ..READ
    },
    Operation { name: "git_changes", routes: &[get("/git/changes")], run: |bench| Box::pin(changes(bench)), ..READ },
    Operation { name: "git_diff", routes: &[get("/git/diff")], run: |bench| Box::pin(diff(bench)), ..READ },
    Operation { name: "git_commits", routes: &[get("/git/commits")], run: |bench| Box::pin(commits(bench)), ..READ },
    Operation { name: "get_server_info", routes: &[get("/server_info")], run: |bench| Box::pin(info(bench)), ..READ },
    Operation {
        name: "alive",
        routes: &[Route { recovers: false, ..get("/alive") }],
        run: |bench| Box::pin(alive(bench)),
        ..READ
    },
    Operation {
        name: "wait_ready",
        routes: &[get("/ready"), get("/api/init"), get("/server_info")],
        run: |bench| Box::pin(ready(bench)),
        ..READ
    },
];

/// What the operations work on, made once.
pub(crate) struct Fixtures {
    /// A way to the server that nothing spoils.
    direct: Workspace,
    content: Vec<u8>,
    file: PathBuf,
    directory: PathBuf,
    repository: PathBuf,
    /// A command that has ended.
    ended: EventId,
}

/// What one cell works with.
pub(crate) struct Bench<'a> {
    pub(crate) workspace: Workspace,
    /// Where it works, empty at first.
    pub(crate) folder: PathBuf,
    pub(crate) fixtures: &'a Fixtures,
}

impl Fixtures {
    pub(crate) async fn new(scene: &Scene, fleet: &Fleet) -> Self {
        let folder = scene.folder("fixtures");
        let config = WorkspaceConfig::new("direct", Connection::new(&scene.url()).unwrap())
            .with_default_cwd(folder.display().to_string());
        let direct = fleet.add(config).await.unwrap();
        let ended = direct.start_command("seq 1 30000; exit 4").await.unwrap();
        while direct.get_command_output(ended).await.unwrap().exit_code.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let file = folder.join("file");
        pattern::file(&file, 30_000).unwrap();
        let directory = scene.folder("fixtures/directory/below");
        fs::copy(&file, directory.join("copy")).unwrap();
        fs::write(directory.join("small"), "small").unwrap();
        Self {
            direct,
            content: fs::read(&file).unwrap(),
            file,
            directory: directory.parent().unwrap().to_owned(),
            repository: repository(&scene.folder("fixtures/repository")),
            ended,
        }
    }

    /// What is in the directory that is copied, under its relative paths.
    fn is_copied_to(&self, to: &Path) -> Result<(), String> {
        let copy = to.join("below");
        let whole = fs::read(copy.join("copy")).is_ok_and(|read| read == self.content)
            && fs::read(copy.join("small")).is_ok_and(|read| read == b"small");
        whole.then_some(()).ok_or_else(|| format!("{} is not the whole directory", to.display()))
    }
}

/// A repository with a commit, a changed file and a new one.
fn repository(folder: &Path) -> PathBuf {
    let git = |args: &[&str]| {
        let git = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "init.defaultBranch=main"];
        let done = Command::new("git").args(git).args(args).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q"]);
    fs::write(folder.join("changed"), "before\n").unwrap();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    fs::write(folder.join("changed"), "after\n").unwrap();
    fs::write(folder.join("new"), "new\n").unwrap();
    folder.to_owned()
}

// These append to the file that tells how often they ran.
const SHORT: &str = "echo ran >>counter; seq 1 3000; seq 1 20 >&2; exit 5";
const LONG: &str = "echo ran >>counter; for n in $(seq 30); do echo $n; sleep 0.03; done; exit 6";

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn equal<T: PartialEq + std::fmt::Debug>(got: &T, expected: &T) -> Result<(), String> {
    let mut shown = format!("{got:?}");
    shown.truncate(shown.floor_char_boundary(300));
    (got == expected).then_some(()).ok_or(shown)
}

async fn execute(bench: &Bench<'_>, command: &str, (stdout, stderr, exit_code): (String, String, i32)) -> Ended {
    let command = ExecuteCommand::new(command).with_cwd(text(&bench.folder));
    Ended::of(bench.workspace.execute_command(command).await, |result| {
        let told = (result.stdout_bytes, result.stderr_bytes, result.truncated, result.timeout_occurred);
        equal(&told, &(stdout.len() as u64, stderr.len() as u64, false, false))?;
        equal(&(result.stdout, result.stderr, result.exit_code), &(stdout, stderr, exit_code))
    })
}

async fn execute_private(bench: &Bench<'_>) -> Ended {
    let command = ExecuteCommand::new("echo ran >>counter; cat; test \"$TOKEN\" = hush && exit 7")
        .with_stdin("from stdin\n")
        .with_secret_env("TOKEN", "hush".to_owned());
    Ended::of(bench.workspace.execute_command(command.with_cwd(text(&bench.folder))).await, |result| {
        equal(&(&*result.stdout, &*result.stderr, result.exit_code), &("from stdin\n", "", 7))
    })
}

async fn start(bench: &Bench<'_>) -> Ended {
    let command = ExecuteCommand::new(SHORT).with_cwd(text(&bench.folder));
    let id = match bench.workspace.start_command(command).await {
        Ok(id) => id,
        Err(error) => return Ended::Error(error),
    };
    loop {
        match bench.fixtures.direct.get_command_output(id).await {
            Ok(output) if output.exit_code.is_none() => tokio::time::sleep(Duration::from_millis(20)).await,
            output => {
                return Ended::of(output, |output| {
                    equal(&(output.stdout, output.exit_code), &(pattern::seq(1, 3000), Some(5)))
                });
            }
        }
    }
}

async fn output(bench: &Bench<'_>) -> Ended {
    let output = bench.workspace.get_command_output(bench.fixtures.ended).await;
    Ended::of(output, |output| equal(&(output.stdout, output.exit_code), &(pattern::seq(1, 30_000), Some(4))))
}

async fn stop(bench: &Bench<'_>) -> Ended {
    let direct = &bench.fixtures.direct;
    let pids = bench.folder.join("pids");
    let command = ExecuteCommand::new("sleep 100 & echo $$ $! >pids; wait");
    let command = command.with_cwd(text(&bench.folder)).with_timeout(None);
    let id = direct.start_command(command).await.unwrap();
    let begun = || fs::read_to_string(&pids).is_ok_and(|pids| pids.ends_with('\n'));
    assert!(eventually(Duration::from_secs(10), begun).await, "it does not begin");
    let stopped = bench.workspace.stop_command(id).await;
    let left = || fs::read_to_string(&pids).unwrap().split_whitespace().any(processes::runs);
    // What was stopped has ended, within the second that it has from TERM to KILL.
    let ended = eventually(Duration::from_secs(4), || stopped.is_err() || !left()).await;
    direct.stop_command(id).await.unwrap();
    fs::remove_file(&pids).unwrap();
    Ended::of(stopped, |()| if ended { Ok(()) } else { Err("some of it runs still".to_owned()) })
}

async fn upload(bench: &Bench<'_>) -> Ended {
    let there = bench.folder.join("there");
    let uploaded = bench.workspace.file_upload(bench.fixtures.file.as_path(), text(&there)).await;
    Ended::of(uploaded, |_| match fs::read(&there) {
        Ok(read) if read == bench.fixtures.content => Ok(()),
        other => Err(format!("what is there is another: {:?} bytes", other.map(|read| read.len()))),
    })
}

async fn download(bench: &Bench<'_>) -> Ended {
    let here = bench.folder.join("here");
    let downloaded = bench.workspace.file_download(text(&bench.fixtures.file), &here).await;
    Ended::of(downloaded, |_| match fs::read(&here) {
        Ok(read) if read == bench.fixtures.content => Ok(()),
        other => Err(format!("what is here is another: {:?} bytes", other.map(|read| read.len()))),
    })
}

async fn directory_upload(bench: &Bench<'_>) -> Ended {
    let there = bench.folder.join("there");
    let uploaded = bench.workspace.directory_upload(&bench.fixtures.directory, text(&there)).await;
    Ended::of(uploaded, |_| bench.fixtures.is_copied_to(&there))
}

async fn directory_download(bench: &Bench<'_>) -> Ended {
    let here = bench.folder.join("here");
    // A whole one takes an empty one's place only.
    let _ = fs::remove_dir_all(&here);
    let downloaded = bench.workspace.directory_download(text(&bench.fixtures.directory), &here).await;
    Ended::of(downloaded, |_| bench.fixtures.is_copied_to(&here))
}

async fn changes(bench: &Bench<'_>) -> Ended {
    let changes = bench.workspace.git_changes(text(&bench.fixtures.repository)).await;
    Ended::of(changes, |changes| {
        let mut paths: Vec<String> = changes.into_iter().map(|change| change.path).collect();
        paths.sort();
        equal(&paths, &vec!["changed".to_owned(), "new".to_owned()])
    })
}

async fn diff(bench: &Bench<'_>) -> Ended {
    let diff = bench.workspace.git_diff(text(&bench.fixtures.repository.join("changed"))).await;
    Ended::of(diff, |diff| {
        let trimmed = |text: Option<String>| text.unwrap_or_default().trim_end().to_owned();
        equal(&(trimmed(diff.original), trimmed(diff.modified)), &("before".to_owned(), "after".to_owned()))
    })
}

async fn commits(bench: &Bench<'_>) -> Ended {
    let page = bench.workspace.git_commits(text(&bench.fixtures.repository)).await;
    Ended::of(page, |page| {
        equal(&page.commits.into_iter().map(|commit| commit.subject).collect::<Vec<_>>(), &vec!["first".to_owned()])
    })
}

async fn info(bench: &Bench<'_>) -> Ended {
    Ended::of(bench.workspace.get_server_info().await, |info| equal(&info.uptime.is_finite(), &true))
}

async fn alive(bench: &Bench<'_>) -> Ended {
    Ended::of(bench.workspace.alive().await, |_| Ok(()))
}

async fn ready(bench: &Bench<'_>) -> Ended {
    Ended::of(bench.workspace.wait_ready(Duration::from_secs(4)).await, Ok)
}
