//! The fault matrix: every operation, every fault, every stage.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Instant};

use futures::{StreamExt as _, stream};
use workspace_fleet::Effect;

use crate::{
    cells::{Cell, Spot, cells},
    operations::{Bench, Ended, Fixtures, Operation},
    scene::{Scene, alone, impatient, runs},
    support::{eventually, proxy::Proxy},
};

/// How many cells are tried at once, apart from those that do nothing but wait.
const AT_ONCE: usize = 16;

/// What a round came to, to be looked at once more when all is quiet.
struct Played {
    cell: String,
    operation: &'static Operation,
    folder: PathBuf,
    ended: Ended,
}

#[test]
fn every_operation_meets_every_fault_at_every_stage() {
    alone(matrix());
}

async fn matrix() {
    let only = std::env::var("WSFLEET_FAULT_CELLS").unwrap_or_default();
    let scene = Scene::new().await;
    let fixtures = Fixtures::new(&scene, &scene.fleet).await;
    let chosen = cells().into_iter().filter(|cell| cell.name().contains(&only)).enumerate();
    let (waiting, quick): (Vec<_>, Vec<_>) = chosen.partition(|(_, cell)| cell.waits());
    let count = waiting.len() + quick.len();
    let began = Instant::now();
    let play = |(number, cell)| play(&scene, &fixtures, number, cell);
    let (waiting, quick) = futures::join!(
        stream::iter(waiting).map(play).buffer_unordered(8 * AT_ONCE).collect::<Vec<_>>(),
        stream::iter(quick).map(play).buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
    );
    let (mut rounds, mut problems, mut replayed) = (Vec::new(), Vec::new(), 0);
    for game in waiting.into_iter().chain(quick) {
        rounds.extend(game.rounds);
        problems.extend(game.problems);
        if let Some(cell) = game.was_slow {
            // On a machine that has more to do, an answer may come too late that was not held up. Alone it does not.
            replayed += 1;
            let game = play((count + replayed, cell)).await;
            rounds.extend(game.rounds);
            problems.extend(
                game.problems.into_iter().chain(game.was_slow.map(|cell| format!("{}: too slow", cell.name()))),
            );
        }
    }
    problems.extend(scene.quiet().await.into_iter().map(|process| format!("it runs still: {process}")));
    problems.extend(rounds.iter().filter_map(Played::look_back));
    let errors = rounds.iter().filter(|played| matches!(played.ended, Ended::Error(_))).count();
    println!(
        "{count} cells ({replayed} played again), {} rounds in {:?}: {} right results, {errors} right errors, {} problems",
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

/// A cell that was played.
struct Game {
    rounds: Vec<Played>,
    problems: Vec<String>,
    /// The cell, where an answer was late that nothing held up: how it would have ended is not known then.
    was_slow: Option<Cell>,
}

impl Game {
    fn problem(&mut self, cell: Cell, problem: impl std::fmt::Display) {
        self.problems.push(format!("{}: {problem}", cell.name()));
    }
}

/// Plays one cell.
async fn play(scene: &Scene, fixtures: &Fixtures, number: usize, cell: Cell) -> Game {
    let proxy = Proxy::start(&scene.url()).await.unwrap();
    let name = format!("w{number}");
    let config = impatient(&name, &proxy.url(), scene.root.path())
        .with_push(cell.operation.push)
        .with_max_outage(cell.patience())
        .with_retry_for(cell.patience());
    let workspace = scene.fleet.add(config).await.unwrap();
    if !cell.always {
        // What has never answered is not borne with; what has is tried again. The fault meets a new connection all the same.
        let give_up = Instant::now() + cell.limit();
        while let Err(error) = workspace.alive().await {
            assert!(Instant::now() < give_up, "{error}");
        }
        proxy.cut();
        // The next request is not to slip through the connection while it is being cut.
        assert!(eventually(cell.limit(), || proxy.open() == 0).await, "a connection outlives its cut");
    }
    cell.arm(&proxy).await;
    let mut game = Game { rounds: Vec::new(), problems: Vec::new(), was_slow: None };
    for (at, operation) in cell.rounds().into_iter().enumerate() {
        let folder = scene.folder(&format!("cell-{number}-{at}"));
        let bench = Bench { workspace: workspace.clone(), folder: folder.clone(), fixtures };
        let began = Instant::now();
        let run = async { futures::join!((operation.run)(&bench), cell.interfere(&proxy)).0 };
        let Ok(ended) = tokio::time::timeout(cell.limit(), run).await else {
            game.problem(cell, format!("it takes longer than {:?}", cell.limit()));
            break;
        };
        match cell.judge(operation, at, &ended) {
            Ok(()) => {}
            Err(_) if cell.is_late(&ended) => game.was_slow = Some(cell),
            Err(wrong) => game.problem(cell, format!("round {at}, after {:?}: {wrong}", began.elapsed())),
        }
        game.rounds.push(Played { cell: cell.name(), operation, folder, ended });
    }
    let is_met = matches!(cell.spot, Spot::Refused(_) | Spot::Away(_)) || proxy.spoilt() > 0;
    // What was late may have kept the operation from coming to it.
    if !is_met && game.was_slow.is_none() {
        game.problem(cell, "the fault was never met");
    }
    leave(scene, cell, &mut game, &name, &proxy).await;
    if workspace.observe().await.is_some() {
        game.problem(cell, "its actor is there still");
    }
    game
}

/// Removes a cell's workspace, and looks for what is left.
async fn leave(scene: &Scene, cell: Cell, game: &mut Game, name: &str, proxy: &Proxy) {
    match tokio::time::timeout(cell.limit(), scene.fleet.remove(name)).await {
        Ok(removed) => removed.unwrap(),
        Err(_) => game.problem(cell, "its workspace is not removed"),
    }
    if !eventually(cell.limit(), || proxy.open() == 0).await {
        game.problem(cell, format!("{} connections are left", proxy.open()));
    }
    if tokio::time::timeout(cell.limit(), proxy.release()).await.is_err() {
        game.problem(cell, "what was held is not delivered");
    }
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
