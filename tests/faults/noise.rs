//! Healthy workspaces beside noisy ones: some whose commands flood, some that accept connections and never answer, and a
//! follower that leaves its stream unread.
//!
//! `WSFLEET_NOISE_HEALTHY` (60), `WSFLEET_NOISE_STREAMING` (4) and `WSFLEET_NOISE_SILENT` (8) say how many there are,
//! `WSFLEET_NOISE_BYTES` how much each flood writes in a second (500,000), and `WSFLEET_NOISE_PHASES` how often is measured
//! with and without them (5). With `WSFLEET_NOISE_BARE=1` the floods are read from bare sockets and thrown away, which tells what
//! they cost the machine, and nothing of the runtime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::task::JoinHandle;
use workspace_fleet::{
    CommandStream, Fleet, Workspace,
    fleet::raise_open_file_limit,
    messages::{CommandEvent, ExecuteCommand},
};

use crate::{
    flood::{Floods, read_bare},
    scene::{PATIENCE, Scene, alone, impatient, number},
    support::{
        eventually,
        memory::Peak,
        proxy::{Act, Proxy},
    },
};

/// How long one measurement takes at least.
const PHASE: Duration = Duration::from_millis(1500);

/// How much time there is for one command, on all healthy workspaces together: what is measured is neighbours, not load.
const BEAT: Duration = Duration::from_micros(8333);

/// How long is waited between two looks at what ends.
const LOOK: Duration = Duration::from_millis(50);

/// How much slower the slowest of a hundred commands may be beside noise.
const RATIO: f64 = 1.5;

/// What no measurement on a machine that does other things tells apart.
const BLUR: Duration = Duration::from_millis(10);

/// Which part of the flood has to come for it to be one, on a machine that has more to do.
const ENOUGH: f64 = 0.5;

/// Which part of it may be searched for: what was pushed is not read again.
const SEARCHED: f64 = 0.25;

/// How much more memory each stream may take at its worst: a page of a search, what is read of it, and what waits for a reader.
const MEMORY_OF_A_STREAM: u64 = 8 << 20;

/// The same for all else.
const MEMORY: u64 = 32 << 20;

#[test]
fn noisy_neighbours_are_not_noticed() {
    alone(neighbours());
}

async fn neighbours() {
    raise_open_file_limit();
    let scene = Scene::new().await;
    let silent = Proxy::start(&scene.url()).await.unwrap();
    silent.spoil_connections(Act::Silence);
    let healthy = workspaces(&scene, "healthy", number("WSFLEET_NOISE_HEALTHY", 60), &scene.url()).await;
    let streams = number("WSFLEET_NOISE_STREAMING", 4);
    let unanswered = workspaces(&scene, "silent", number("WSFLEET_NOISE_SILENT", 8), &silent.url()).await;
    let peak = Peak::begin();
    // The first of each opens connections and is not counted.
    measure(&healthy).await;
    let (mut ratios, mut again, phases) = (Vec::new(), Vec::new(), number("WSFLEET_NOISE_PHASES", 5) as usize);
    for turn in 1.. {
        let quiet = measure(&healthy).await;
        let noise = Noise::begin(&scene, streams, &unanswered).await;
        noise.flows().await;
        let (began, before) = (Instant::now(), noise.came());
        let noisy = measure(&healthy).await;
        let asked = (streams * flood_bytes()) as f64 * began.elapsed().as_secs_f64();
        let [read, searched] = [0, 1].map(|way| (noise.came()[way] - before[way]) as f64 / asked);
        noise.end(&scene.fleet).await;
        println!(
            "99 of 100: {quiet:?} without noise, {noisy:?} with {:.0} % of the flood; {:.0} % was searched for",
            read * 100.0,
            searched * 100.0
        );
        if read >= ENOUGH {
            again.push(searched / read);
            ratios.push(noisy.as_secs_f64() / (quiet + BLUR).as_secs_f64());
        }
        if ratios.len() == phases {
            break;
        }
        assert!(turn < 3 * phases, "nothing floods");
    }
    ratios.sort_by(f64::total_cmp);
    let (best, median) = (ratios[0], ratios[ratios.len() / 2]);
    println!("{best:.2} times as long at best, {median:.2} as a rule; {} MiB of memory", peak.bytes() >> 20);
    let mut problems = Vec::new();
    if again.iter().all(|part| *part > SEARCHED) {
        problems.push(format!("what was pushed is read again: {again:.2?}"));
    }
    // In the short run the machine may have more to do, which comes and goes; what the noise does comes each time.
    let ratio = if std::env::var_os("WSFLEET_NOISE_HEALTHY").is_some() { median } else { best };
    if ratio > RATIO {
        problems.push(format!("beside noise, 99 of 100 commands take {ratio:.2} times as long: {ratios:.2?}"));
    }
    if peak.bytes() > MEMORY + MEMORY_OF_A_STREAM * streams {
        problems.push(format!("{} MiB more memory are taken", peak.bytes() >> 20));
    }
    for workspace in healthy.into_iter().chain(unanswered) {
        scene.fleet.remove(workspace.name()).await.unwrap();
    }
    drop(silent);
    problems.extend(scene.end().await);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// How much each flood writes in a second.
fn flood_bytes() -> u64 {
    number("WSFLEET_NOISE_BYTES", 500_000)
}

async fn workspaces(scene: &Scene, kind: &str, count: u64, url: &str) -> Vec<Workspace> {
    let mut workspaces = Vec::new();
    for at in 0..count {
        let config = impatient(&format!("{kind}-{at}"), url, scene.root.path());
        workspaces.push(scene.fleet.add(config).await.unwrap());
    }
    workspaces
}

/// Gives each workspace a command now and then, all of them at different times. Returns how long 99 of 100 took at most.
async fn measure(workspaces: &[Workspace]) -> Duration {
    let round = BEAT * workspaces.len() as u32;
    let end = Instant::now() + round.max(PHASE);
    let beats = workspaces.iter().zip(0u32..).map(|(workspace, at)| async move {
        let mut next = Instant::now() + BEAT * at;
        let took = FuturesUnordered::new();
        while next < end {
            tokio::time::sleep_until(next.into()).await;
            let began = Instant::now();
            let running = workspace.execute_command("echo here");
            took.push(tokio::spawn(async move {
                assert_eq!(running.await.unwrap().stdout, "here\n");
                began.elapsed()
            }));
            next += round;
        }
        took.map(Result::unwrap).collect::<Vec<_>>().await
    });
    let mut took: Vec<Duration> = join_all(beats).await.into_iter().flatten().collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// What goes on beside the healthy.
///
/// Each workspace that floods has a server of its own, which on a machine of its own would take nothing from the healthy:
/// measured is the runtime, and neither a server nor a processor that is shared.
struct Noise {
    floods: Floods,
    streaming: Vec<Workspace>,
    readers: Vec<JoinHandle<()>>,
    /// How many bytes the readers have read.
    read: Arc<AtomicU64>,
    unread: CommandStream,
    stop: tokio_util::sync::CancellationToken,
    unanswered: Vec<JoinHandle<()>>,
}

impl Noise {
    async fn begin(scene: &Scene, streams: u64, unanswered: &[Workspace]) -> Self {
        let floods = Floods::start(streams, flood_bytes());
        let mut streaming = Vec::new();
        for (at, url) in floods.urls().iter().enumerate() {
            let config = impatient(&format!("streaming-{at}"), url, scene.root.path());
            streaming.push(scene.fleet.add(config).await.unwrap());
        }
        let flood = ExecuteCommand::new("yes").with_timeout(None).with_max_output(0);
        let stop = tokio_util::sync::CancellationToken::new();
        let read = Arc::new(AtomicU64::new(0));
        let follow = |workspace: &Workspace| {
            let (mut running, stop, read) = (workspace.follow_command(flood.clone()), stop.clone(), read.clone());
            tokio::spawn(async move {
                while let Some(event) = stop.run_until_cancelled(running.next()).await.flatten() {
                    if let CommandEvent::Output { text, .. } = event {
                        read.fetch_add(text.len() as u64, Ordering::Relaxed);
                    }
                }
            })
        };
        let bare = |url: &String| {
            let (reading, stop) = (read_bare(url.clone(), read.clone()), stop.clone());
            tokio::spawn(async move { drop(stop.run_until_cancelled(reading).await) })
        };
        let readers = match number("WSFLEET_NOISE_BARE", 0) {
            0 => streaming.iter().map(follow).collect(),
            _ => floods.urls().iter().map(bare).collect(),
        };
        let mut unread = streaming[0].follow_command(flood.clone());
        let begun = unread.next().await;
        assert!(matches!(begun, Some(CommandEvent::Started { .. })), "{begun:?}");
        let ask = |workspace: &Workspace| {
            let running = workspace.execute_command("true");
            // How that ends is what the other tests look at.
            tokio::spawn(async move { drop(running.await) })
        };
        Self { readers, read, unread, stop, unanswered: unanswered.iter().map(ask).collect(), floods, streaming }
    }

    /// Waits until all of it flows.
    async fn flows(&self) {
        let streams = self.streaming.len() as u64;
        let flows = || self.floods.sockets() >= streams && self.read.load(Ordering::Relaxed) > streams * flood_bytes();
        assert!(eventually(PATIENCE, flows).await, "nothing floods");
    }

    /// How many bytes were read, and how many were in answers to searches.
    fn came(&self) -> [u64; 2] {
        [self.read.load(Ordering::Relaxed), self.floods.searched()]
    }

    /// Ends it.
    async fn end(self, fleet: &Fleet) {
        self.stop.cancel();
        drop(self.unread);
        for running in self.unanswered {
            running.abort();
        }
        join_all(self.readers).await.into_iter().for_each(Result::unwrap);
        // What is being stopped would be heard in the next measurement.
        while fleet.status().await.running_commands > 0 {
            tokio::time::sleep(LOOK).await;
        }
        for workspace in self.streaming {
            fleet.remove(workspace.name()).await.unwrap();
        }
        drop(self.floods);
    }
}
