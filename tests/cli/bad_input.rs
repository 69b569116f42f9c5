//! What bad input gets: a message that names the thing and the way out, a documented exit code, nothing half done.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt as _,
    thread,
};

use crate::support::{Agent, Ended, Place};

const INVENTORY: &str = "[[workspace]]\nname = \"build-1\"\nhost = \"http://127.0.0.1:1\"\n";

#[test]
fn no_targets() {
    let ended = Place::new().run(&["run", "--", "true"]).expect(2);
    ended.says(&["no targets", "-w NAME|URL", "--hostfile", "--local 2"]);
}

#[test]
fn no_command() {
    Place::new().run(&["run", "--local", "1"]).expect(2).says(&["<COMMAND>"]);
    Place::new().run(&["run", "--local", "1", "--", " "]).expect(2).says(&["the command is empty"]);
}

#[test]
fn unknown_workspace() {
    let place = Place::new();
    place.file("wsfleet.toml", INVENTORY);
    let ended = place.run(&["run", "-w", "biuld-1", "--", "true"]).expect(2);
    ended.says(&["unknown workspace `biuld-1`", "wsfleet.toml", "did you mean `build-1`?"]);
    place.file("hosts", "# ours\nnobody\n");
    place.run(&["ping", "--hostfile", "hosts"]).expect(2).says(&["hosts:2: unknown workspace `nobody`"]);
}

#[test]
fn options_for_urls_without_a_url() {
    let place = Place::new();
    place.file("wsfleet.toml", INVENTORY);
    for option in [["--header", "X-A: b"], ["--api-key-env", "K"], ["--ca-file", "ca.pem"]] {
        let ended = place.run(&["ping", "-a", option[0], option[1]]).expect(2);
        ended.says(&[option[0], "applies to targets that are given by URL"]);
    }
    let mut command = place.command(&["ping", "-a"]);
    command.env("WSFLEET_API_KEY_ENV", "K");
    Ended::of(command).expect(4);
}

#[test]
fn no_inventory() {
    let place = Place::new();
    let ended = place.run(&["ping", "-w", "build-1"]).expect(2);
    let config = place.path().join("config/wsfleet/wsfleet.toml");
    ended.says(&["no inventory found", "`build-1` is a name", "--inventory", config.to_str().unwrap()]);
    place.run(&["ping", "-w", "127.0.0.1:80"]).expect(2).says(&["no inventory found", "write http://127.0.0.1:80 "]);
    let ended = place.run(&["ping", "-a", "--inventory", "gone.toml"]).expect(2);
    ended.says(&["can not read gone.toml", "No such file"]);
}

#[test]
fn malformed_url() {
    let place = Place::new();
    for (url, why) in [
        ("http://127.0.0.1:99999", "port"),
        ("http://", "host"),
        ("ftp://h", "not http or https"),
        ("http://h/?a=1", "without `?`"),
    ] {
        place.run(&["ping", "-w", url]).expect(2).says(&[url, why]);
    }
    let ended = place.run(&["ping", "-w", "http://me:hush@h:1"]).expect(2).says(&["api_key"]);
    assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
    place.file("hosts", "http://127.0.0.1:1\n\nhttp://h:x\n");
    place.run(&["ping", "--hostfile", "hosts"]).expect(2).says(&["hosts:3: ", "http://h:x", "port"]);
}

#[test]
fn malformed_inventory() {
    let place = Place::new();
    for (text, line, why) in [
        ("[[workspace]]\nname = \"a\"\nhots = \"http://h\"\n", 3, "did you mean `host`?"),
        ("[[workspace]]\nname = \"a\"\nhost = 5\n", 3, "expected a string"),
        ("[[workspace]\n", 1, ""),
        ("[[workspace]]\nname = \"a\"\nhost = \"h:1\"\n", 3, "http://h:1"),
    ] {
        place.file("wsfleet.toml", text);
        place.run(&["ping", "-a"]).expect(2).says(&[&format!("wsfleet.toml:{line}: "), why]);
    }
    place.file("wsfleet.toml", b"name = \"\xff\"");
    place.run(&["ping", "-a"]).expect(2).says(&["wsfleet.toml", "not UTF-8"]);
}

#[test]
fn malformed_hostfile() {
    let place = Place::new();
    place.file("hosts", "http://127.0.0.1:1 http://127.0.0.1:2\n");
    place.run(&["ping", "--hostfile", "hosts"]).expect(2).says(&["hosts:1: ", "one name or URL a line"]);
    place.file("binary", b"\x7fELF\xff\xfe\n");
    place.run(&["ping", "--hostfile", "binary"]).expect(2).says(&["binary", "is it a hostfile?"]);
    place.run(&["ping", "--hostfile", "none"]).expect(2).says(&["can not read none", "No such file"]);
    place.run_with_stdin(&["ping", "--hostfile", "-"], "a b\n").expect(2).says(&["stdin:1: "]);
}

#[test]
fn missing_local_file() {
    let place = Place::new();
    let ended = place.run(&["upload", "--local", "2", "nothing.txt", "/tmp/x"]).expect(2);
    assert_eq!(ended.stdout, "");
    ended.says(&["nothing.txt", "No such file"]);
    let ended = place.run(&["upload", "--local", "1", ".", "/tmp/x"]).expect(2);
    ended.says(&["is a directory", "with -r"]);
}

fn fifo(place: &Place, name: &str) {
    assert!(std::process::Command::new("mkfifo").arg(place.path().join(name)).status().unwrap().success());
}

#[test]
fn uploads_of_what_is_no_regular_file() {
    let place = Place::new();
    fifo(&place, "fifo");
    for (source, why) in [
        ("fifo", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/proc/self/status", "says that it is empty"),
        ("-", "--stdin"),
    ] {
        let ended = place.run(&["upload", "--local", "1", source, "/tmp/x"]).expect(2).says(&[source, why]);
        assert_eq!(ended.stdout, "");
    }
    place.file("empty", "");
    let destination = place.path().join("empty-too");
    place.run(&["upload", "--local", "1", "empty", destination.to_str().unwrap()]).expect(0);
}

#[test]
fn downloads_to_what_is_no_regular_file() {
    let place = Place::new();
    fifo(&place, "fifo");
    place.file("plain", "");
    place.file("in/local-1/hostname/x", "");
    for (destination, why) in [
        ("fifo", "not a regular file"),
        ("/dev/null", "not a regular file"),
        ("plain/x", "plain is not a directory"),
        ("plain/deeper/x", "plain is not a directory"),
        ("in/{workspace}/hostname", "is a directory"),
        ("-", "not stdout"),
    ] {
        let ended = place.run(&["download", "--local", "1", "/etc/hostname", destination]).expect(2).says(&[why]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn relative_remote_path() {
    let place = Place::new();
    place.file("a.txt", "a");
    place
        .run(&["upload", "--local", "1", "a.txt", "out/a"])
        .expect(2)
        .says(&["DEST `out/a` is relative", "/tmp/out/a"]);
    place.run(&["download", "--local", "1", "a", "b"]).expect(2).says(&["SRC `a` is relative", "/tmp/a"]);
    place.run(&["download", "--local", "1", "/tmp/", "b"]).expect(2).says(&["/tmp/ is a directory"]);
    let ended = place.run(&["changes", "-w", "http://127.0.0.1:1", "repo"]).expect(4);
    ended.says(&["`repo` is relative", "absolute"]);
}

#[test]
fn missing_certificate_file() {
    let place = Place::new();
    let ended = place.run(&["ping", "-w", "https://127.0.0.1:1", "--ca-file", "no.pem"]).expect(2);
    ended.says(&["certificate authorities of no.pem", "No such file"]);
    place.file(
        "sub/wsfleet.toml",
        "[[workspace]]\nname = \"a\"\nhost = \"https://127.0.0.1:1\"\nca_file = \"no.pem\"\n",
    );
    let ended = place.run(&["ping", "-a", "--inventory", "sub/wsfleet.toml"]).expect(2);
    ended.says(&["sub/no.pem", "No such file"]);
}

#[test]
fn non_utf8_local_path() {
    let place = Place::new();
    for args in [&["upload", "--local", "1"][..], &["download", "--local", "1", "/etc/hostname"]] {
        let mut command = place.command(args);
        command.arg(OsStr::from_bytes(b"bad\xff.txt"));
        if args[0] == "upload" {
            command.arg("/tmp/x");
        }
        Ended::of(command).expect(2).says(&["bad\\xFF.txt", "not valid UTF-8", "rename"]);
    }
}

#[test]
fn unreachable_server() {
    // The port was free a moment ago, and loopback refuses at once.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = Place::new().run(&["run", "-w", &format!("http://{address}"), "--", "true"]).expect(4);
    ended.says(&[&format!("{address}: unreachable: "), "refused", "nothing was done", "1 target in", "1 unreachable"]);
}

#[test]
fn wrong_key() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[("OH_SESSION_API_KEYS_0", "right-key")]);
    let mut command = place.command(&["run", "-w", &agent.url, "--api-key-env", "KEY", "--", "true"]);
    command.env("KEY", "wrong-key");
    let ended = Ended::of(command).expect(4);
    assert!(!ended.stderr.contains("wrong-key"), "{}", ended.stderr);
    ended.says(&[agent.name(), "unauthorized (401)", "is the session key right?", "--api-key-env"]);
    let ended = place.run(&["run", "-w", &agent.url, "--api-key-env", "NONE", "--", "true"]).expect(2);
    ended.says(&["--api-key-env", "NONE", "not set"]);
}

/// Answers every request with a page for people.
fn answer_with_a_page(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    // A body left unread would reset the connection, which is another error.
    reader.read_exact(&mut vec![0; length])?;
    let page = "<html>hello</html>\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length";
    write!(&stream, "{head}: {}\r\n\r\n{page}", page.len())
}

#[test]
fn not_an_agent_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hangs up has what it wants.
            let _ = answer_with_a_page(stream.unwrap());
        }
    });
    let url = format!("http://{address}");
    for operation in [&["run", "-w", &url, "--", "true"][..], &["ping", "-w", &url], &["info", "-w", &url]] {
        let ended = Place::new().run(operation).expect(4);
        ended.says(&[&address.to_string(), "this is not an agent server", "<html>hello</html>"]);
    }
}

#[test]
fn empty_target_set() {
    let place = Place::new();
    place.file("wsfleet.toml", "");
    place.run(&["ping", "-a"]).expect(6).says(&["no workspace selected", "lists no workspace"]);
    place.file("wsfleet.toml", INVENTORY);
    place.run(&["ping", "-l", "tier=gpu"]).expect(6).says(&["no workspace selected", "tier=gpu"]);
    place.file("hosts", "# nobody\n\n");
    place.run(&["ping", "--hostfile", "hosts"]).expect(6).says(&["no workspace selected", "--hostfile"]);
    place.run(&["ping", "-w", ""]).expect(6).says(&["no workspace selected"]);
}

#[test]
fn impossible_timeouts() {
    let place = Place::new();
    for (time, why) in [
        ("NaN", "NaN is not a time"),
        ("-1", "must not be negative"),
        ("-5s", "must not be negative"),
        ("inf", "must end"),
        ("0", "shorter than a millisecond"),
        ("1e400", "not a time"),
        ("99999999999999999999h", "longer than 365 days"),
        ("5 parsecs", "`parsecs` is not a unit"),
    ] {
        for flag in ["-u", "-t"] {
            place.run(&["run", "--local", "1", flag, time, "--", "true"]).expect(2).says(&[why, time]);
        }
    }
    let mut command = place.command(&["run", "--local", "1", "--", "true"]);
    command.env("WSFLEET_COMMAND_TIMEOUT", "NaN");
    Ended::of(command).expect(2).says(&["NaN is not a time"]);
}

#[test]
fn a_command_over_the_shells_limit() {
    let word = "x".repeat(70_000);
    let ended = Place::new().run(&["run", "--local", "1", "--", "true", &word, &word]).expect(4);
    ended.says(&["local-1: rejected: ", "131071", "upload it as a file", "nothing was done"]);
}

#[test]
fn impossible_variables() {
    let place = Place::new();
    let run = |flag: &str, value: &str| place.run(&["run", "--local", "1", flag, value, "--", "true"]).expect(2);
    run("-e", "A").says(&["KEY=VALUE"]);
    run("-e", "1A=x").says(&["`1A` is no name"]);
    run("--secret-env", "NOT_THERE_77").says(&["NOT_THERE_77", "not set"]);
    let ended = run("--secret-env", "TOKEN=hush-hush").says(&["never the value itself"]);
    // clap shows the argument it refuses; that much is on the caller's own command line already.
    assert_eq!(ended.stdout, "");
    let mut command = place.command(&["run", "--local", "1", "-e", "A=1", "--secret-env", "A=HOME", "--", "true"]);
    Ended::of(std::mem::replace(&mut command, place.command(&[]))).expect(2).says(&["-e and with --secret-env"]);
}

#[test]
fn impossible_numbers() {
    let place = Place::new();
    place.run(&["ping", "--local", "0"]).expect(2).says(&["--local", "1..=256"]);
    place.run(&["ping", "--local", "257"]).expect(2).says(&["1..=256"]);
    place.run(&["ping", "--local", "1", "-f", "0"]).expect(2).says(&["--fanout"]);
    place.run(&["ping", "--local", "1", "-a"]).expect(2).says(&["--local", "cannot be used with"]);
}

#[test]
fn an_agent_for_everybody_needs_a_key() {
    let ended = Place::new().run(&["agent", "--host", "0.0.0.0"]).expect(2);
    ended.says(&["key"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    Place::new().run(&["agent", "--port", &port]).expect(1).says(&["cannot listen", &port]);
    Place::new().run(&["agent", "--root", "/nowhere/at/all"]).expect(2).says(&["/nowhere/at/all"]);
}

#[test]
fn stdin_is_read_by_one_option() {
    let place = Place::new();
    for (args, one, other) in [
        (&["run", "-w", "-", "--stdin", "--", "cat"][..], "--stdin", "-w -"),
        (&["run", "--inventory", "-", "-a", "--jobs", "-"], "--jobs -", "--inventory -"),
    ] {
        // Also when nothing comes from there.
        place.run(args).expect(2).says(&[one, other, "put one of them into a file"]);
    }
}
