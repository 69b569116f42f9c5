//! Texts for the sandbox's `/bin/sh`.

use crate::protocol::{CommandHead, EventId};

/// Quotes a text so that the shell takes it as one word, whatever is in it.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether the shell can have a variable of this name.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `export` for one variable.
pub(crate) fn export(name: &str, value: &str) -> String {
    format!("export {name}={}; ", quote(value))
}

/// A script that ends every process of a command, and prints how many it found.
///
/// Processes are found by the command's id in their environment or in their command line: this reaches loops of shell
/// builtins, children in sessions of their own, and children whose shell has exited. Whole process groups get TERM,
/// and after a second KILL if they are still there. The variable's name and the id stand apart in the script, so that
/// it does not find itself.
pub(crate) fn stop_script(id: EventId) -> String {
    stop_script_of(&[id])
}

/// The same for the processes of several commands.
pub(crate) fn stop_script_of(ids: &[EventId]) -> String {
    let ids: Vec<String> = ids.iter().map(EventId::to_string).collect();
    format!(
        r#"name={variable}; patterns=; self=$$
for id in {ids}; do patterns="$patterns -e $name=$id"; done
groups() {{
  for file in $(grep -lsF $patterns /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null); do
    dir=${{file%/*}}
    [ "${{dir#/proc/}}" = "$self" ] && continue
    {{ read -r line < "$dir/stat"; }} 2>/dev/null || continue
    set -- ${{line##*) }}
    [ "$1" = Z ] && continue
    [ "$3" = "$own" ] || echo "$3"
  done | sort -u
}}
read -r line < /proc/$$/stat; set -- ${{line##*) }}; own=$3
found=$(groups); count=0
for group in $found; do kill -TERM "-$group" 2>/dev/null && count=$((count + 1)); done
echo "$count"
[ "$count" = 0 ] && exit 0
for tick in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; [ -z "$(groups)" ] && exit 0; done
for round in 1 2 3; do
  left=$(groups); [ -z "$left" ] && exit 0
  for group in $left; do kill -KILL "-$group" 2>/dev/null; done
  sleep 0.1
done
exit 1"#,
        variable = CommandHead::VARIABLE,
        ids = ids.join(" "),
    )
}

/// A script that lists the processes of all commands: first a line `server` with the process that runs the script, then
/// a line for each process with its command's id and its parent.
pub(crate) fn scan_script() -> String {
    format!(
        r#"name={variable}; echo "server $PPID"
set -- /proc/[0-9]*/environ /proc/[0-9]*/cmdline
marks=$(grep -HasoE "$name=[0-9a-f]{{32}}" "$@" 2>/dev/null)
[ -n "$marks" ] || marks=$(grep -HsoE "$name=[0-9a-f]{{32}}" "$@" 2>/dev/null)
for mark in $marks; do
  dir=${{mark%/*}}
  {{ read -r line < "$dir/stat"; }} 2>/dev/null || continue
  set -- ${{line##*) }}
  [ "$1" = Z ] || echo "${{mark##*=}} $2"
done | sort -u"#,
        variable = CommandHead::VARIABLE,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sh(script: &str) -> String {
        let output = std::process::Command::new("/bin/sh").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn names_of_variables() {
        for good in ["A", "_", "path_2"] {
            assert!(is_variable_name(good), "{good}");
        }
        for bad in ["", "2A", "A-B", "A=B", "Ä", "A B", "A;id"] {
            assert!(!is_variable_name(bad), "{bad}");
        }
    }

    /// Starts a command with a head, and returns its shell and its id.
    fn running(command: &str) -> (std::process::Child, EventId) {
        use std::os::unix::process::CommandExt as _;

        let id = EventId::random();
        let text = format!("{}{command}", CommandHead::new(id));
        let child = std::process::Command::new("/bin/sh").args(["-c", &text]).process_group(0).spawn().unwrap();
        (child, id)
    }

    #[test]
    fn the_stop_script_ends_a_loop_of_builtins_and_children_of_the_shell() {
        for command in ["while :; do :; done", "sleep 1000 & wait", "trap '' TERM; while :; do :; done"] {
            let (mut child, id) = running(command);
            assert_eq!(sh(&stop_script(id)), "1\n", "{command}");
            assert!(!child.wait().unwrap().success(), "{command}");
        }
    }

    #[test]
    fn the_stop_script_finds_nothing_of_other_commands() {
        let (mut other, id) = running("sleep 1000");
        assert_eq!(sh(&stop_script(EventId::random())), "0\n");
        assert!(other.try_wait().unwrap().is_none());
        sh(&stop_script(id));
        other.wait().unwrap();
    }

    #[test]
    fn the_stop_script_of_many_ends_many_and_no_others() {
        let mut running: Vec<_> = (0..3).map(|_| running("sleep 1000")).collect();
        let (mut other, id) = running.pop().unwrap();
        let ids: Vec<_> = running.iter().map(|(_, id)| *id).collect();
        assert_eq!(sh(&stop_script_of(&ids)), "2\n");
        for (mut child, _) in running {
            assert!(!child.wait().unwrap().success());
        }
        assert!(other.try_wait().unwrap().is_none());
        sh(&stop_script(id));
        other.wait().unwrap();
    }

    #[test]
    fn the_scan_lists_commands_with_their_parents_and_not_itself() {
        let (mut child, id) = running("sleep 1000 & wait");
        let own = std::process::id();
        let expected = format!("{id} {own}");
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let found = loop {
            let found = sh(&scan_script());
            // The shell may not have got as far as its child.
            if found.matches(&id.to_string()).count() == 2 || std::time::Instant::now() > give_up {
                break found;
            }
        };
        sh(&stop_script(id));
        child.wait().unwrap();
        assert_eq!(found.lines().next(), Some(format!("server {own}").as_str()));
        assert!(found.lines().any(|line| line == expected), "{found}");
        assert!(found.contains(&format!("{id} {}", child.id())), "{found}");
        assert!(!sh(&scan_script()).contains(&id.to_string()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_arrives_as_it_is(text in "[^\0]{0,40}") {
            let script = format!("{}printf %s \"$X\"", export("X", &text));
            prop_assert_eq!(sh(&script), text);
        }
    }
}
