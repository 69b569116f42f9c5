//! The fault matrix: every operation, every fault, every stage.

use std::{collections::BTreeSet, fs, path::PathBuf, time::{Duration, Instant}};

use futures::{StreamExt as _, stream};
use workspace_fleet::Effect;

use crate::{
    cells::{Cell, Spot, cells},
    operations::{Bench, Ended, Fixtures, Operation},
    scene::{Scene, impatient, runs},
    support::{eventually, proxy::Proxy},
};

/// How many cells are tried at once.
const AT_ONCE: usize = 64;

/// How long what is over may take to be gone.
const ENDING: Duration = Duration::from_secs(10);

/// What a round came to, to be looked at once more when all is quiet.
struct Played {
    cell: String,
    operation: &'static Operation,
    folder: PathBuf,
    ended: Ended,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_meets_every_fault_at_every_stage() {
    let only = std::env::var("WSFLEET_FAULT_CELLS").unwrap_or_default();
    let scene = Scene::new().await;
    let fixtures = Fixtures::new(&scene, &scene.fleet).await;
    let chosen = cells().into_iter().filter(|cell| cell.name().contains(&only)).enumerate();
    let (slow, quick): (Vec<_>, Vec<_>) = chosen.partition(|(_, cell)| cell.takes_long());
    let count = slow.len() + quick.len();
    let began = Instant::now();
    let play = |(number, cell)| play(&scene, &fixtures, number, cell);
    // Those that do nothing but wait do so beside the others.
    let (slow, quick) = futures::join!(
        stream::iter(slow).map(play).buffer_unordered(usize::MAX).collect::<Vec<_>>(),
        stream::iter(quick).map(play).buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
    );
    let mut problems = Vec::new();
    let mut rounds = Vec::new();
    for (played, wrong) in slow.into_iter().chain(quick) {
        rounds.extend(played);
        problems.extend(wrong);
    }
    problems.extend(scene.quiet().await.into_iter().map(|process| format!("it runs still: {process}")));
    problems.extend(rounds.iter().filter_map(Played::look_back));
    let errors = rounds.iter().filter(|played| matches!(played.ended, Ended::Error(_))).count();
    println!(
        "{count} cells, {} rounds in {:?}: {} right results, {errors} right errors, {} problems",
        rounds.len(),
        began.elapsed(),
        rounds.len() - errors,
        problems.len()
    );
    scene.fleet.remove("direct").await.unwrap();
    drop((fixtures, rounds));
    problems.extend(scene.end().await);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Plays one cell. Returns what it came to, and what was wrong.
async fn play(scene: &Scene, fixtures: &Fixtures, number: usize, cell: Cell) -> (Vec<Played>, Vec<String>) {
    let proxy = Proxy::start(&scene.agent.url()).await.unwrap();
    cell.arm(&proxy).await;
    let name = format!("w{number}");
    let config = impatient(&name, &proxy.url(), scene.root.path()).with_push(cell.operation.push);
    let workspace = scene.fleet.add(config).await.unwrap();
    if let Spot::Refused(Some(time)) = cell.spot {
        tokio::time::sleep(time).await;
        proxy.accept();
    }
    let (mut played, mut problems) = (Vec::new(), Vec::new());
    for (at, operation) in cell.rounds().into_iter().enumerate() {
        let folder = scene.folder(&format!("cell-{number}-{at}"));
        let bench = Bench { workspace: workspace.clone(), folder: folder.clone(), fixtures };
        let began = Instant::now();
        let Ok(ended) = tokio::time::timeout(cell.limit(), (operation.run)(&bench)).await else {
            problems.push(format!("it takes longer than {:?}", cell.limit()));
            break;
        };
        let wrong = match &ended {
            Ended::Right => None,
            Ended::Wrong(wrong) => Some(format!("a wrong result: {wrong}")),
            Ended::Error(error) if cell.must_succeed(operation, at) => Some(format!("an error: {error}")),
            Ended::Error(error) => cell.wrong(operation, error),
        };
        problems.extend(wrong.map(|wrong| format!("round {at}, after {:?}: {wrong}", began.elapsed())));
        played.push(Played { cell: cell.name(), operation, folder, ended });
    }
    if !matches!(cell.spot, Spot::Refused(_)) && proxy.spoilt() == 0 {
        problems.push("the fault was never met".to_owned());
    }
    match tokio::time::timeout(cell.limit(), scene.fleet.remove(&name)).await {
        Ok(removed) => removed.unwrap(),
        Err(_) => problems.push("its workspace is not removed".to_owned()),
    }
    if workspace.observe().await.is_some() {
        problems.push("its actor is there still".to_owned());
    }
    if !eventually(ENDING, || proxy.open() == 0).await {
        problems.push(format!("{} connections are left", proxy.open()));
    }
    if tokio::time::timeout(ENDING, proxy.release()).await.is_err() {
        problems.push("what was held is not delivered".to_owned());
    }
    (played, problems.into_iter().map(|problem| format!("{}: {problem}", cell.name())).collect())
}

impl Played {
    /// What is wrong when everything that was still on its way has arrived.
    fn look_back(&self) -> Option<String> {
        let runs = runs(&self.folder.join("counter"));
        let wrong = match &self.ended {
            _ if runs > 1 => Some(format!("the command ran {runs} times")),
            Ended::Right if self.operation.is_command && runs != 1 => Some("the command never ran".to_owned()),
            Ended::Error(error) if error.effect == Effect::NotSent && runs > 0 => {
                Some(format!("it ran, and yet: {error}"))
            }
            Ended::Error(error) => self.partial(error.effect),
            _ => self.odd(),
        };
        wrong.map(|wrong| format!("{}: {wrong}", self.cell))
    }

    /// Files that are there although nothing should be.
    fn partial(&self, effect: Effect) -> Option<String> {
        let is_download = self.operation.name.contains("download");
        let is_upload = self.operation.name == "file_upload";
        let there = self.folder.join("there");
        if is_download && fs::read_dir(&self.folder).unwrap().next().is_some() {
            return Some(format!("part of it is here: {:?}", self.names()));
        }
        if is_upload && there.exists() && effect == Effect::NotSent {
            return Some("it is there, although it was not sent".to_owned());
        }
        self.odd()
    }

    /// Files that nobody asked for.
    fn odd(&self) -> Option<String> {
        let names = self.names();
        let odd = names.iter().any(|name| !matches!(&**name, "here" | "there" | "counter"));
        odd.then(|| format!("something is left: {names:?}"))
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}
