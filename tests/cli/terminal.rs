//! The program on a terminal: a pseudo-terminal of script(1), with keys pressed.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use workspace_fleet::agent::{AgentConfig, AgentServer};

use crate::{passage::Passage, support::Place};

/// How long something may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

/// A shell on a terminal of 100 columns.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: Receiver<String>,
    seen: String,
}

impl Terminal {
    /// Runs a script on it; `wsfleet` is the program.
    fn start(place: &Place, script: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_wsfleet");
        let folder = std::path::Path::new(program).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("script");
        for (name, value) in place.command(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("PATH", format!("{folder}:{path}")).env("TERM", "xterm").env("SHELL", "/bin/sh");
        // The shell survives Ctrl-C, to tell of the terminal afterwards.
        let script = format!(
            "trap : INT; stty cols 100 rows 30; stty -a > before; {script}; code=$?; stty -a > after; exit $code"
        );
        command.current_dir(place.path()).args(["-qefc", &script, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                let _ = send.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        });
        Self { child, keys, output, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until this has appeared since the last time, and returns what came before its end.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.seen.find(text) {
                let rest = self.seen.split_off(place + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(more) => self.seen.push_str(&more),
                Err(_) => panic!("`{text}` never came:\n{:?}", self.seen),
            }
        }
    }

    /// Waits for the end; returns the exit code and the rest of the output.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(more) => self.seen.push_str(&more),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end:\n{:?}", self.seen),
            }
        }
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What is left on the screen of what was written last: the lines after the last time that the display was cleared.
fn is_sane(place: &Place, output: &str) {
    assert_eq!(place.read("before"), place.read("after"), "the terminal is as it was");
    let hidden = output.rfind("\x1b[?25l");
    let shown = output.rfind("\x1b[?25h");
    assert!(hidden.is_none() || shown > hidden, "the cursor is visible: {output:?}");
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn a_display_while_it_runs_and_nothing_of_it_at_the_end() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place, "wsfleet run --local 2 --color never -- 'sleep 1; echo d''one'");
    terminal.wait_for("0/2 (0 %)  2 of 2 at a time");
    terminal.wait_for("running: local-");
    let (code, output) = terminal.end();
    assert_eq!(code, Some(0), "{output}");
    is_sane(&place, &output);
    let (_, end) = output.rsplit_once(": 2 succeeded").unwrap();
    // What is drawn after the summary, if anything, is cleared again.
    let drawn = end.rfind("at a time").unwrap_or_default();
    assert!(drawn == 0 || end[drawn..].contains("\x1b["), "{end:?}");
    assert!(output.contains("\r\ndone\r\n"), "{output:?}");
}

#[test]
fn no_display_where_none_is_wanted() {
    let place = Place::new();
    for script in ["wsfleet run --progress none --local 1 -- sleep 1", "TERM=dumb wsfleet run --local 1 -- sleep 1"] {
        let (code, output) = Terminal::start(&place, script).end();
        assert_eq!(code, Some(0), "{output}");
        assert!(!output.contains("at a time"), "{output:?}");
    }
}

#[test]
fn colours_on_a_terminal_unless_nobody_wants_them() {
    let place = Place::new();
    let shown = |script: &str| Terminal::start(&place, script).end().1;
    assert!(shown("wsfleet run --progress none --local 1 -- echo hi").contains("\x1b[32m"));
    let plain = shown("NO_COLOR=1 wsfleet run --progress none --local 1 -- echo hi");
    assert!(!plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn the_first_interrupt_reports_what_was_gathered() {
    let place = Place::new();
    let mut terminal =
        Terminal::start(&place, "wsfleet run --local 1 --color never -- 'echo gathered; exec sleep 600'");
    terminal.wait_for("running: local-1");
    terminal.press(CTRL_C);
    terminal.wait_for("once more leaves at once");
    let (code, output) = terminal.end();
    assert_eq!(code, Some(130), "{output}");
    assert!(output.contains("\r\ngathered\r\n") && output.contains("interrupted, 1 stopped"), "{output:?}");
    is_sane(&place, &output);
}

#[test]
fn the_second_interrupt_leaves_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut terminal = Terminal::start(&place, &format!("wsfleet run -w {url} -- true"));
    let _connection = silent.accept().unwrap();
    terminal.wait_for("of 1 at a time");
    terminal.press(CTRL_C);
    terminal.wait_for("once more leaves at once");
    terminal.press(CTRL_C);
    let (code, output) = terminal.end();
    assert_eq!(code, Some(130), "{output}");
    is_sane(&place, &output);
}

#[test]
fn it_stops_and_goes_on_as_the_shell_says() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place, "PS1='%% ' bash --norc --noprofile -i");
    terminal.wait_for("%% ");
    terminal.press("wsfleet run --local 1 --color never -- 'sleep 2; echo d''one'\n");
    terminal.wait_for("running: local-1");
    terminal.press(CTRL_Z);
    let stopping = terminal.wait_for("Stopped");
    let (_, last_drawn) = stopping.rsplit_once("local-1").unwrap_or(("", "\x1b["));
    assert!(last_drawn.contains("\x1b["), "what was drawn last is not cleared: {stopping:?}");
    terminal.press("echo st''ill\n");
    terminal.wait_for("still\r\n");
    // Longer than the display takes to be drawn anew.
    terminal.press("sleep 0.5; echo qu''iet\n");
    let meanwhile = terminal.wait_for("quiet\r\n");
    assert!(!meanwhile.contains("at a time"), "{meanwhile:?}");
    terminal.press("fg\n");
    terminal.wait_for("\r\ndone\r\n");
    terminal.wait_for(": 1 succeeded");
    terminal.press("exit\n");
    let (code, output) = terminal.end();
    assert_eq!(code, Some(0), "{output}");
    is_sane(&place, &output);
}

#[test]
fn no_event_socket_is_open_while_it_is_stopped() {
    let place = Place::new();
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let passage = Passage::to(agent.url().trim_start_matches("http://"));
    let mut terminal = Terminal::start(&place, "PS1='%% ' bash --norc --noprofile -i");
    terminal.wait_for("%% ");
    let command = format!("wsfleet run -w {} --progress none -- 'sleep 3; echo d''one'\n", passage.url);
    terminal.press(&command);
    passage.wait_for_sockets(1);
    terminal.press(CTRL_Z);
    terminal.wait_for("Stopped");
    // What were still open would stay so: it is stopped.
    passage.wait_for_sockets(0);
    terminal.press("fg\n");
    passage.wait_for_sockets(1);
    terminal.wait_for("done\r\n");
    terminal.press("exit\n");
    let (code, output) = terminal.end();
    assert_eq!(code, Some(0), "{output}");
    futures::executor::block_on(agent.stop());
}

#[test]
fn a_reader_that_goes_away_leaves_the_terminal_clean() {
    let place = Place::new();
    let script = "wsfleet run --local 2 --stream -- 'yes wsfleet-pipe' | head -1";
    let (code, output) = Terminal::start(&place, script).end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("local-"), "{output:?}");
    is_sane(&place, &output);
}
