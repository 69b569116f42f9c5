//! Files and git, both ways.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{Agent, Place};

#[test]
fn a_file_goes_to_a_workspace_and_comes_back() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let remote = place.path().join("remote dir/ü.txt");
    let remote = remote.to_str().unwrap();
    place.file("a.txt", "content\n");
    let ended = place.run(&["upload", "-w", &agent.url, "a.txt", remote]).expect(0);
    assert!(ended.stdout.contains(&format!("succeeded, 8 bytes to {remote}")), "{}", ended.stdout);
    place.run(&["download", "-w", &agent.url, remote, "made/back.txt"]).expect(0);
    assert_eq!(place.read("made/back.txt"), "content\n");
    // A directory keeps the name.
    place.run(&["download", "-w", &agent.url, remote, "made"]).expect(0);
    assert_eq!(place.read("made/ü.txt"), "content\n");
    let directory = format!("{}/", place.path().join("in").display());
    place.run(&["upload", "-w", &agent.url, "a.txt", &directory]).expect(0);
    assert_eq!(place.read("in/a.txt"), "content\n");
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode_and_owner() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let source = place.file("source", "content\n");
    for mode in [0o600, 0o755] {
        let target = place.file("target", "before\n");
        fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
        // Only root may give a file away.
        let _ = chown(&target, Some(4321), Some(1234));
        let before = fs::metadata(&target).unwrap();
        place.run(&["download", "-w", &agent.url, source.to_str().unwrap(), "target"]).expect(0);
        assert_eq!(place.read("target"), "content\n");
        let after = fs::metadata(&target).unwrap();
        assert_ne!(after.ino(), before.ino());
        assert_eq!([after.mode() & 0o777, after.uid(), after.gid()], [mode, before.uid(), before.gid()]);
    }
}

#[test]
fn downloads_of_several_workspaces_do_not_meet() {
    let place = Place::new();
    let agents = [Agent::start(&place, &[], &[]), Agent::start(&place, &[], &[])];
    let targets = format!("{},{}", agents[0].url, agents[1].url);
    let source = place.file("log.txt", "line\n");
    let source = source.to_str().unwrap();
    place.run(&["download", "-w", &targets, source, "out"]).expect(0);
    place.run(&["download", "-w", &targets, source, "flat/{workspace}.log"]).expect(0);
    for agent in &agents {
        assert_eq!(place.read(&format!("out/{}/log.txt", agent.name())), "line\n");
        assert_eq!(place.read(&format!("flat/{}.log", agent.name())), "line\n");
    }
    place.file("taken", "mine");
    let ended = place.run(&["download", "-w", &targets, source, "taken"]).expect(2);
    ended.says(&["taken is a file", "{workspace}"]);
    assert_eq!(place.read("taken"), "mine");
}

#[test]
fn a_missing_remote_file_leaves_nothing_here() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let ended = place.run(&["download", "-w", &agent.url, "/nowhere/at/all", "made"]).expect(4);
    ended.says(&[agent.name(), "not found", "1 rejected"]);
    assert!(!place.path().join("made").exists());
}

fn git(place: &Place, args: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(place.path()).args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(args);
    assert!(git.output().unwrap().status.success(), "git {args:?}");
}

#[test]
fn git_changes_and_differences_are_shown() {
    let place = Place::new();
    let agent = Agent::start(&place, &["--root", place.path().to_str().unwrap()], &[]);
    git(&place, &["init", "-q", "repo"]);
    place.file("repo/a b.txt", "one\ntwo\n");
    git(&place, &["-C", "repo", "add", "."]);
    git(&place, &["-C", "repo", "commit", "-qm", "first"]);
    place.file("repo/a b.txt", "one\n2\n");
    place.file("repo/new.txt", "new\n");
    let repo = place.path().join("repo");
    let repo = repo.to_str().unwrap();

    let ended = place.run(&["changes", "-w", &agent.url, repo]).expect(0);
    assert!(ended.stdout.contains("2 changes"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("UPDATED  a b.txt\n") && ended.stdout.contains("ADDED    new.txt\n"),
        "{}",
        ended.stdout
    );
    let json = place.run(&["changes", "-w", &agent.url, "--cwd", repo, "--json"]).expect(0).json();
    let finished = json.iter().find(|line| line["event"] == "target_finished").unwrap();
    assert_eq!(finished["value"].as_array().unwrap().len(), 2);

    let ended = place.run(&["diff", "-w", &agent.url, "--cwd", repo, "a b.txt"]).expect(0);
    assert!(ended.stdout.contains("\n one\n-two\n+2\n"), "{}", ended.stdout);
    let ended =
        place.run(&["diff", "-w", &agent.url, "--cwd", repo, "a b.txt", "--ref", "HEAD", "--commit", "abcd"]).expect(2);
    ended.says(&["cannot be used with"]);
    let ended = place.run(&["diff", "-w", &agent.url, "--cwd", repo, "a b.txt", "--commit", "HEAD"]).expect(2);
    ended.says(&["a hex id of 4 to 64 digits", "--ref"]);
}

#[test]
fn a_path_in_no_repository_says_so() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let ended = place.run(&["changes", "-w", &agent.url, "/proc"]).expect(4);
    ended.says(&["/proc is in no git repository"]);
}

/// A gateway with nothing behind it: its URL, and how often it was asked for a download.
fn gateway() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            counter.fetch_add(usize::from(head.iter().any(|line| line.contains("/file/download"))), Ordering::SeqCst);
            // Whoever hung up needs no answer.
            let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, asked)
}

#[test]
fn a_request_is_repeated_for_as_long_as_is_said() {
    let place = Place::new();
    for (time, fewest, most) in [("0", 1, 1), ("700ms", 2, 4)] {
        let (url, asked) = gateway();
        place.run(&["download", "-w", &url, "--retry-for", time, "/log", "log"]).expect(4).says(&["502"]);
        let asked = asked.load(Ordering::SeqCst);
        assert!((fewest..=most).contains(&asked), "{time}: asked {asked} times");
    }
    place.run(&["download", "-w", "http://a", "--retry-for", "-1", "/log", "log"]).expect(2).says(&["--retry-for"]);
}
