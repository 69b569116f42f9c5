//! Directories, both ways.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
};

use crate::support::{Agent, Ended, Place};

/// A directory with what is hard to copy.
fn fill(directory: &Path) {
    fs::create_dir_all(directory.join("sub dir/empty")).unwrap();
    fs::write(directory.join("-rf"), "dash").unwrap();
    fs::write(directory.join("new\nline"), "line").unwrap();
    fs::write(directory.join(OsStr::from_bytes(b"\xff")), "odd").unwrap();
    fs::write(directory.join("sub dir/big"), vec![7; 1_500_000]).unwrap();
    fs::write(directory.join("sub dir/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(directory.join("sub dir/run"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("sub dir/run", directory.join("link")).unwrap();
    symlink("/nowhere/at/all", directory.join("dangling")).unwrap();
}

#[track_caller]
fn same(a: &Path, b: &Path) {
    let diff = std::process::Command::new("diff").args(["-r", "--no-dereference"]).args([a, b]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    let mode = |path: &Path| fs::metadata(path.join("sub dir/run")).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(a), mode(b)), (0o750, 0o750));
    assert!(b.join("sub dir/empty").is_dir());
}

/// Nothing is left of the archive in the sandbox.
#[track_caller]
fn nothing_left(before: &[String]) {
    let left: Vec<_> = archives().into_iter().filter(|name| !before.contains(name)).collect();
    // Other tests may be copying right now: only what stays is left behind.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let files = ["directory.tar", "directory.tar.1"];
    let stays = |name: &String| files.iter().any(|file| Path::new("/tmp").join(name).join(file).exists());
    while left.iter().any(stays) {
        assert!(std::time::Instant::now() < deadline, "{left:?}");
        std::thread::yield_now();
    }
}

fn archives() -> Vec<String> {
    let entries = fs::read_dir("/tmp").unwrap().filter_map(Result::ok);
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".wsfleet-"))
        .collect()
}

#[test]
fn a_directory_goes_to_a_workspace_and_comes_back() {
    let (place, before) = (Place::new(), archives());
    let agent = Agent::start(&place, &[], &[]);
    let from = place.path().join("from");
    fill(&from);
    let remote = place.path().join("remote's \"dir\"");
    let ended = place.run(&["upload", "-r", "-w", &agent.url, "from", remote.to_str().unwrap()]).expect(0);
    assert!(ended.stdout.contains("7 files, 1500021 bytes to"), "{}", ended.stdout);
    same(&from, &remote);
    let ended =
        place.run(&["download", "-r", "--json", "-w", &agent.url, remote.to_str().unwrap(), "made/back"]).expect(0);
    let finished = ended.json().into_iter().find(|line| line["event"] == "target_finished").unwrap();
    assert_eq!(finished["value"]["files"].as_u64().or(finished["files"].as_u64()), Some(7), "{finished}");
    same(&from, &place.path().join("made/back"));
    // A slash at the end keeps the name, here and there.
    let into = format!("{}/in/", place.path().display());
    place.run(&["upload", "-r", "-w", &agent.url, "from", &into]).expect(0);
    same(&from, &place.path().join("in/from"));
    place.run(&["download", "-r", "-w", &agent.url, &format!("{into}from/"), "made"]).expect(0);
    same(&from, &place.path().join("made/from"));
    nothing_left(&before);
}

#[test]
fn an_upload_adds_to_what_is_there() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    place.file("from/a", "new");
    place.file("to/a", "old");
    place.file("to/b", "stays");
    place.run(&["upload", "-r", "-w", &agent.url, "from", place.path().join("to").to_str().unwrap()]).expect(0);
    assert_eq!((place.read("to/a"), place.read("to/b")), ("new".into(), "stays".into()));
}

#[test]
fn directories_of_several_workspaces_do_not_meet() {
    let place = Place::new();
    let agents = [Agent::start(&place, &[], &[]), Agent::start(&place, &[], &[])];
    let targets = format!("{},{}", agents[0].url, agents[1].url);
    place.file("logs/log.txt", "line\n");
    let source = place.path().join("logs");
    place.run(&["download", "-r", "-w", &targets, source.to_str().unwrap(), "out"]).expect(0);
    place.run(&["download", "-r", "-w", &targets, source.to_str().unwrap(), "flat/{workspace}"]).expect(0);
    for agent in &agents {
        assert_eq!(place.read(&format!("out/{}/logs/log.txt", agent.name())), "line\n");
        assert_eq!(place.read(&format!("flat/{}/log.txt", agent.name())), "line\n");
    }
    assert_eq!(fs::read_dir(place.path().join("flat")).unwrap().count(), 2, "nothing temporary is left");
}

#[test]
fn what_can_not_be_copied_is_told() {
    let (place, before) = (Place::new(), archives());
    let agent = Agent::start(&place, &[], &[]);
    let run = |args: &[&str]| place.run(&[&[args[0], "-r", "-w", &agent.url], &args[1..]].concat());
    place.file("full/x", "mine");
    place.file("file", "f");
    run(&["download", "/etc/ssl", "full/x"]).expect(2).says(&["full/x", "no directory"]);
    run(&["download", "/", "out"]).expect(2).says(&["no name"]);
    place.file("made/ssl/x", "mine");
    run(&["download", "/etc/ssl", "made"]).expect(2).says(&["made/ssl", "something in it already"]);
    run(&["download", "/no/such/dir", "out"]).expect(4).says(&["the sandbox has no directory /no/such/dir"]);
    assert!(!place.path().join("out").exists());
    run(&["upload", "file", "/tmp/x"]).expect(2).says(&["not a directory", "-r"]);
    run(&["upload", "gone", "/tmp/x"]).expect(2).says(&["gone", "No such file"]);
    run(&["upload", "full", "relative"]).expect(2).says(&["absolute"]);
    run(&["upload", "full", place.path().join("file").to_str().unwrap()]).expect(4).says(&["can not unpack", "exist"]);
    assert!(std::process::Command::new("mkfifo").arg(place.path().join("full/pipe")).status().unwrap().success());
    run(&["upload", "full", "/tmp/x"]).expect(4).says(&["full/pipe", "can not be sent"]);
    nothing_left(&before);
}

#[test]
fn a_sandbox_without_tar_says_so() {
    let place = Place::new();
    fs::create_dir_all(place.path().join("bin")).unwrap();
    symlink("/bin/sh", place.path().join("bin/sh")).unwrap();
    let bin = place.path().join("bin");
    let agent = Agent::start(&place, &[], &[("PATH", bin.to_str().unwrap())]);
    place.file("from/a", "a");
    let upload = place.run(&["upload", "-r", "-w", &agent.url, "from", "/tmp/nothing"]);
    let download = place.run(&["download", "-r", "-w", &agent.url, "/etc", "out"]);
    let says = |ended: Ended| drop(ended.expect(4).says(&["the sandbox has no `tar`", "install it"]));
    says(upload);
    says(download);
}
