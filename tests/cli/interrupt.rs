//! Signals, and a reader that goes away.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Agent, Ended, Place, is_running};

fn start(place: &Place, args: &[&str]) -> Child {
    place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Starts it with a stdout that nobody reads: from before its start on, and not when some other child that is just being
/// started has let go of it.
fn start_without_reader(place: &Place, args: &[&str]) -> Child {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    place.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Reads lines until one holds this.
fn wait_for(reader: impl std::io::Read, text: &str) -> String {
    let mut read = String::new();
    let mut reader = BufReader::new(reader);
    while !read.contains(text) {
        assert_ne!(reader.read_line(&mut read).unwrap(), 0, "`{text}` never came:\n{read}");
    }
    read
}

#[test]
fn the_first_interrupt_stops_the_commands_and_reports_them() {
    for kind in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        let mark = format!("sleep 7{}", std::process::id());
        // The word is not in the script, which is in the first line of the output.
        let script = format!("echo re''ady; {mark} & wait");
        let mut child = start(&place, &["run", "--local", "2", "--json", "--stream", "-f", "1", "--", &script]);
        let mut stdout = child.stdout.take().unwrap();
        let mut read = wait_for(&mut stdout, "ready");
        assert!(is_running(&mark), "the command runs before the signal");
        signal(&child, kind);
        stdout.read_to_string(&mut read).unwrap();
        let ended = Ended::wait(child).expect(130).says(&["once more leaves at once"]);
        assert!(!is_running(&mark), "the command was left running");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let last: serde_json::Value = serde_json::from_str(read.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "run_finished");
        assert_eq!(last["exit_code"], 130);
        assert_eq!((&last["outcomes"]["stopped"], &last["outcomes"]["skipped"]), (&1.into(), &1.into()), "{last}");
        assert_eq!(std::fs::read_dir(place.temporary()).unwrap().count(), 0, "local directories are removed");
    }
}

#[test]
fn what_was_gathered_is_kept() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let ready = place.path().join("ready");
    let fifo = ready.to_str().unwrap();
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    let script = format!("echo gathered; echo > '{fifo}'; exec sleep 600");
    let child = start(&place, &["run", "-w", &agent.url, "--", &script]);
    // Opening it waits for the command to come this far.
    std::fs::read(&ready).unwrap();
    signal(&child, Signal::INT);
    let ended = Ended::wait(child).expect(130).says(&["interrupted, 1 stopped"]);
    assert!(ended.stdout.ends_with("\ngathered\n"), "{}", ended.stdout);
}

#[test]
fn the_second_interrupt_leaves_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut child = start(&Place::new(), &["run", "-w", &url, "--", "true"]);
    // Taken and never answered, so that the run has something to wait for.
    let _connection = silent.accept().unwrap();
    signal(&child, Signal::INT);
    let mut stderr = child.stderr.take().unwrap();
    wait_for(&mut stderr, "once more leaves at once");
    signal(&child, Signal::INT);
    let ended = Ended::wait(child).expect(130);
    assert_eq!(ended.stdout, "", "nothing was reported");
}

#[test]
fn the_second_interrupt_leaves_no_local_command_behind() {
    let place = Place::new();
    let mark = format!("sleep 6{}", std::process::id());
    // The reader stalls, so that the first interrupt does not end it.
    let script = format!("{mark} & yes");
    let mut child = start(&place, &["run", "--local", "1", "--stream", "--", &script]);
    let (stdout, mut stderr) = (child.stdout.take(), child.stderr.take().unwrap());
    thread::sleep(Duration::from_secs(1));
    assert!(is_running(&mark), "the command runs before the signal");
    signal(&child, Signal::INT);
    wait_for(&mut stderr, "once more leaves at once");
    signal(&child, Signal::INT);
    Ended::wait(child).expect(130);
    drop(stdout);
    assert!(!is_running(&mark), "the command was left running");
    assert_eq!(std::fs::read_dir(place.temporary()).unwrap().count(), 0, "local directories are removed");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    for output in ["--json", "--color=never"] {
        let place = Place::new();
        let mark = format!("y{}", std::process::id());
        let script = format!("yes {mark}");
        let mut child = start(&place, &["run", "--local", "2", "--stream", output, "--", &script]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        drop(stdout);
        // The commands were stopped, so all is not well.
        let ended = Ended::wait(child).expect(5);
        assert_eq!(ended.stderr, "");
        assert!(!is_running(&script), "the command was left running");
    }
}

#[test]
fn a_reader_that_went_away_is_one_code_however_far_the_run_had_come() {
    let place = Place::new();
    for script in ["true", "exit 3", "sleep 0.2"] {
        for flags in [&["--json"][..], &["-b"], &["-k"], &["--stream", "-S"]] {
            let words = format!("echo {}; {script}", "x".repeat(10));
            let mut args = vec!["run", "--local", "2"];
            args.extend(flags);
            args.extend(["--", &words]);
            let ended = Ended::wait(start_without_reader(&place, &args)).expect(5);
            assert_eq!(ended.stderr, "");
        }
    }
    // Also where it is no command.
    Ended::wait(start_without_reader(&place, &["ping", "--local", "2"])).expect(5);
}

#[test]
fn lists_and_help_end_quietly_without_a_reader() {
    let place = Place::new();
    let names: String =
        (0..20_000).map(|number| format!("http://10.0.{}.{}:1\n", number / 250, number % 250)).collect();
    place.file("hosts", names);
    for args in [
        &["ping", "--hostfile", "hosts", "--list-targets"][..],
        &["ping", "--hostfile", "hosts", "--dry-run"],
        &["run", "--help"],
        &["completion", "bash"],
    ] {
        let ended = Ended::wait(start_without_reader(&place, args)).expect(0);
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("ipe"), "{}", ended.stderr);
    }
}

#[test]
fn an_interrupt_counts_also_when_nobody_reads() {
    let place = Place::new();
    let script = "yes | head -c 1000000; exec sleep 600";
    let mut child = start(&place, &["run", "--local", "2", "-f", "1", "--stream", "--", script]);
    let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Long enough for the pipe to be full.
    thread::sleep(Duration::from_secs(1));
    signal(&child, Signal::INT);
    wait_for(&mut stderr, "once more leaves at once");
    drop(stdout);
    Ended::wait(child).expect(130);
}

#[test]
fn targets_that_a_closed_output_skips_were_stopped() {
    let place = Place::new();
    let script = "yes | head -c 1000000; exec sleep 600";
    let args = ["run", "--local", "2", "-f", "1", "--stream", "--", script];
    Ended::wait(start_without_reader(&place, &args)).expect(5);
}

/// The memory of a process, in bytes.
fn resident(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_reader_that_stalls_costs_no_memory() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    for output in ["--json", "--color=never"] {
        let script = "head -c 400000000 /dev/zero | tr '\\0' x";
        let mut child = start(&place, &["run", "-w", &agent.url, "--stream", output, "--", script]);
        let stdout = child.stdout.take().unwrap();
        let mut most = 0;
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(100));
            most = most.max(resident(&child));
        }
        assert!(most < 150 << 20, "{most} bytes are held");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdout);
    }
}

#[test]
fn an_interrupt_before_anything_runs_ends_it_at_once() {
    let place = Place::new();
    for args in [&["ping", "--hostfile", "-"][..], &["run", "--local", "2", "--stdin", "--", "cat"]] {
        let mut command = place.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        // Long enough for it to be reading.
        thread::sleep(Duration::from_secs(1));
        signal(&child, Signal::INT);
        Ended::wait(child).expect(130).says(&["nothing was sent"]);
        drop(stdin);
        assert_eq!(std::fs::read_dir(place.temporary()).unwrap().count(), 0, "local directories are removed");
    }
}

#[test]
fn an_agent_ends_on_a_signal_with_its_commands() {
    for kind in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        let agent = Agent::start(&place, &[], &[]);
        let mark = format!("sleep 8{}", std::process::id());
        let script = format!("echo ready; {mark} & wait");
        let mut child = start(&place, &["run", "-w", &agent.url, "--stream", "--", &script]);
        wait_for(child.stdout.take().unwrap(), "ready");
        assert!(is_running(&mark), "the command runs before the signal");
        agent.signal(kind);
        assert_eq!(agent.wait(), Some(0));
        assert!(!is_running(&mark), "the command was left running");
        signal(&child, Signal::KILL);
        child.wait().unwrap();
    }
}
