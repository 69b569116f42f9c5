//! The conformance suite: what a workspace does, case by case, against every agent server there is.
//!
//! Each case runs against the embedded agent server and, where they are installed, against real OpenHands agent servers
//! at pinned versions (`tests/real-servers.sh` installs them; `WSFLEET_REAL_SERVERS` says where they are when that is
//! not `target/real-servers`). `WSFLEET_REQUIRE_REAL=1` makes it a failure when one is missing.

mod attach;
mod case;
mod commands;
mod connections;
mod differential;
mod files;
mod git;
mod health;
mod lost_starts;
mod order;
mod output;
mod push;
mod sandbox;
mod secrets;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod timeouts;
mod transfers;

use libtest_mimic::{Arguments, Trial};
use support::{
    boot,
    server::{Kind, OPENHANDS, Server},
};

/// All cases, by theme.
const THEMES: &[(&str, &[case::Case])] = &[
    // First, since it measures: a server that has carried gigabytes needs longer to start a process.
    ("order", order::CASES),
    ("commands", commands::CASES),
    ("timeouts", timeouts::CASES),
    ("output", output::CASES),
    ("files", files::CASES),
    ("transfers", transfers::CASES),
    ("git", git::CASES),
    ("secrets", secrets::CASES),
    ("connections", connections::CASES),
    ("health", health::CASES),
    ("push", push::CASES),
    ("attach", attach::CASES),
    ("lost_starts", lost_starts::CASES),
    ("differential", differential::CASES),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // More would only make the servers slow: each of them does one thing at a time.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    stop_on_signals();
    let mut trials: Vec<Trial> = Kind::installed().into_iter().flat_map(trials_on).collect();
    trials.extend(OPENHANDS.into_iter().filter(|kind| kind.is_missing()).filter_map(missing));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let problems = Server::stop_all();
    for problem in &problems {
        eprintln!("after the end: {problem}");
    }
    if !problems.is_empty() {
        std::process::exit(101);
    }
    conclusion.exit();
}

fn trials_on(kind: Kind) -> impl Iterator<Item = Trial> {
    THEMES.iter().flat_map(move |(theme, cases)| cases.iter().filter_map(move |case| case.on(kind, theme)))
}

/// Says that a server is missing; where it must not be, that is a failed test.
fn missing(kind: Kind) -> Option<Trial> {
    let words = format!(
        "NOT RUN AGAINST {kind}: it is not installed in {}. Install it with: tests/real-servers.sh {0}",
        boot::directory().display()
    );
    eprintln!("\n*** {words} ***\n");
    let required = std::env::var("WSFLEET_REQUIRE_REAL").is_ok_and(|value| value == "1");
    required.then(|| Trial::test(format!("{kind}::is_installed"), move || Err(words.into())))
}

/// Stops the servers when the suite is interrupted. What is left when it is killed, their guards stop.
fn stop_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        Server::stop_all();
        std::process::exit(130);
    });
}
