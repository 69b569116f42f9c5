//! Puts an upload in place that was sent to a temporary name beside its destination.

use std::{cell::Cell, rc::Rc};

use super::{helper, sum};
use crate::{
    ErrorKind, Failure,
    protocol::{BashOutput, EventId},
    workspace::{backoff::Retry, core::Core, shell},
};

/// What the script exits with when
const IS_DIRECTORY: i32 = 91;
const NOT_REGULAR: i32 = 92;
const BROKEN_LINK: i32 = 93;
const MISSING: i32 = 94;
const OTHER_SIZE: i32 = 95;
const OTHER_SUM: i32 = 96;

/// A file of the sandbox that is not at its destination yet.
pub(super) struct Arrival<'a> {
    pub(super) destination: &'a str,
    pub(super) temporary: String,
    pub(super) size: u64,
    /// The SHA-256 that it is to have, where that is compared.
    pub(super) sum: Option<String>,
}

/// A name beside a destination; `None` when the destination can only be a directory.
pub(super) fn temporary_for(destination: &str) -> Option<String> {
    let (directory, name) = destination.trim_end_matches('/').rsplit_once('/')?;
    if matches!(name, "." | "..") {
        return None;
    }
    Some(format!("{directory}/.wsfleet-upload-{}", EventId::random()))
}

impl Arrival<'_> {
    /// Compares it with what was sent, and puts it in place.
    ///
    /// A server that answers late may have done so already, which a second try can tell: the temporary file is gone.
    pub(super) async fn place(&self, core: &Rc<Core>, retry: &Retry) -> Result<(), Failure> {
        let is_repeated = Cell::new(false);
        let attempt = || helper::run_within(core, self.script(is_repeated.replace(true)), sum::patience(self.size));
        self.judge(&retry.until_answered(attempt).await?)
    }

    /// A link is followed to the file's own name. A file that can not be replaced, since it is mounted by itself or in a directory
    /// that others own, is written to; but not for want of room, which would cost what was there. What failed is noted beside the
    /// temporary file, for a second try whose first one's answer was lost.
    fn script(&self, is_repeated: bool) -> String {
        let Self { size, .. } = self;
        let (target, temporary) = (shell::quote(self.destination), shell::quote(&self.temporary));
        let beside = shell::quote(&self.temporary[self.temporary.rfind('/').map_or(0, |at| at + 1)..]);
        let same_size = |name: &str| format!("[ \"$(wc -c <\"${name}\")\" -eq {size} ]");
        let same_sum = |name: &str| match &self.sum {
            Some(sum) => format!("[ \"$(sha256sum <\"${name}\" | cut -c1-64)\" = {sum} ]"),
            None => "true".to_owned(),
        };
        let needed = if self.sum.is_some() { sum::needed() } else { String::new() };
        let already = if is_repeated {
            format!(
                "[ ! -s \"$p.failed\" ] || exit \"$(cat \"$p.failed\")\"; [ -f \"$t\" ] && {} && {} && exit 0; ",
                same_size("t"),
                same_sum("t")
            )
        } else {
            String::new()
        };
        format!(
            r#"t={target}; p={temporary}
no() {{
  [ "$1" -eq 0 ] || [ ! -f "$p" ] || {{ echo "$1" >"$p.failed"; }} 2>/dev/null
  rm -f -- "$p"; exit "$1"
}}
if [ -L "$t" ]; then t=$(readlink -f -- "$t") && [ -n "$t" ] || no {BROKEN_LINK}; fi
[ ! -d "$t" ] || no {IS_DIRECTORY}
if [ ! -f "$p" ]; then {already}exit {MISSING}; fi
{needed}{size_is_right} || {{ wc -c <"$p"; no {OTHER_SIZE}; }}
{sum_is_right} || no {OTHER_SUM}
if [ -e "$t" ] && [ ! -f "$t" ]; then
  [ -c "$t" ] || no {NOT_REGULAR}
  cat <"$p" >"$t"; no $?
fi
if [ -e "$t" ]; then
  chown "$(stat -c %u:%g -- "$t")" "$p" 2>/dev/null
  chmod "$(stat -c %a -- "$t")" "$p" || no 1
fi
if [ "${{t%/*}}" != "${{p%/*}}" ]; then
  q="${{t%/*}}/"{beside}
  if e=$( {{ true >"$q"; }} 2>&1 ); then
    cp -p -- "$p" "$q" || {copy_is_whole} || {{ rm -f -- "$q"; no 1; }}
    mv -f -- "$q" "$t" 2>/dev/null && no 0
    rm -f -- "$q"
  else
    case "$e" in *space*|*uota*) printf '%s\n' "$e" >&2; no 1;; esac
  fi
else
  mv -f -- "$p" "$t" 2>/dev/null && exit 0
fi
[ -f "$p" ] || exit 0
cat <"$p" >"$t"; no $?"#,
            size_is_right = same_size("p"),
            copy_is_whole = same_size("q"),
            sum_is_right = same_sum("p"),
        )
    }

    fn judge(&self, placed: &BashOutput) -> Result<(), Failure> {
        let said = placed.stderr.as_deref().unwrap_or_default().trim();
        let refused = |detail: &str| ErrorKind::Rejected { status: 400, detail: detail.to_owned() };
        let cut = |reason: String| ErrorKind::Protocol { reason, cut_short: true };
        let kind = match placed.exit_code {
            Some(0) => return Ok(()),
            Some(IS_DIRECTORY) => refused("Path is a directory"),
            Some(NOT_REGULAR) => refused("Path is not a regular file"),
            Some(BROKEN_LINK) => refused("Path is a link that leads nowhere"),
            Some(sum::NO_SHA256SUM) => sum::missing(),
            Some(MISSING) => cut("the server says that it wrote the file, but there is none".to_owned()),
            Some(OTHER_SIZE) => {
                let wrote = placed.stdout.as_deref().unwrap_or_default().trim();
                cut(format!("the server wrote {wrote} bytes, but {} were sent", self.size))
            }
            Some(OTHER_SUM) => cut("what the server wrote has another SHA-256 than what was sent".to_owned()),
            code => ErrorKind::Rejected {
                status: 200,
                detail: format!("it arrived and could not be put in place (exit code {code:?}): {said}"),
            },
        };
        Err(Failure::not_sent(kind))
    }

    /// Removes it from its temporary name, and what was noted of it.
    pub(super) fn remove(&self, core: &Rc<Core>) -> impl Future<Output = ()> + use<> {
        let (path, core) = (shell::quote(&self.temporary), core.clone());
        async move { helper::tidy(&core, &path, format!("rm -f -- {path} {path}.failed")).await }
    }

    /// The same while nobody waits for that.
    pub(super) fn remove_later(&self, core: &Rc<Core>) {
        core.tasks.spawn_local(self.remove(core));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
        process::Command,
    };

    use super::*;

    /// Carries the script out for a file of these bytes; returns its exit code.
    fn place(destination: &Path, content: &str, size: u64, sum: Option<&str>, is_repeated: bool) -> Option<i32> {
        let destination = destination.to_str().unwrap();
        let temporary = temporary_for(destination).unwrap();
        if !is_repeated {
            fs::write(&temporary, content).unwrap();
        }
        let arrival = Arrival { destination, temporary, size, sum: sum.map(str::to_owned) };
        Command::new("/bin/sh").args(["-c", &arrival.script(is_repeated)]).status().unwrap().code()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_temporary_name_is_beside_its_destination() {
        assert!(temporary_for("/a/b").unwrap().starts_with("/a/.wsfleet-upload-"));
        assert!(temporary_for("/b").unwrap().starts_with("/.wsfleet-upload-"));
        assert!(temporary_for("/a/b/").unwrap().starts_with("/a/.wsfleet"));
        for directory in ["/", "/a/..", "/a/.", "/a/../"] {
            assert_eq!(temporary_for(directory), None, "{directory}");
        }
    }

    #[test]
    fn a_file_gets_into_place_with_the_mode_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("it's a $(file)\n");
        assert_eq!(place(&target, "one", 3, None, false), Some(0));
        fs::set_permissions(&target, fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(place(&target, "three", 5, None, false), Some(0));
        assert_eq!(fs::read(&target).unwrap(), b"three");
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(names(folder.path()).len(), 1);
        assert_eq!(place(&target, "three", 5, None, true), Some(0), "what was placed already is well");
        assert_eq!(place(&target, "three", 6, None, true), Some(MISSING));
    }

    #[test]
    fn what_failed_is_not_taken_for_done_the_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        let temporary = temporary_for(target.to_str().unwrap()).unwrap();
        fs::write(&temporary, "longer").unwrap();
        for is_repeated in [false, true] {
            let (destination, temporary) = (target.to_str().unwrap(), temporary.clone());
            let script = Arrival { destination, temporary, size: 3, sum: None }.script(is_repeated);
            assert_eq!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().code(), Some(OTHER_SIZE));
        }
    }

    #[test]
    fn want_of_room_behind_a_link_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (folder.path().join("elsewhere"), folder.path().join("link"));
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "old").unwrap();
        symlink("elsewhere/file", &link).unwrap();
        let temporary = temporary_for(link.to_str().unwrap()).unwrap();
        fs::write(&temporary, "newer").unwrap();
        // The copy beside the file takes no byte, as on a full disk.
        symlink("/dev/full", elsewhere.join(Path::new(&temporary).file_name().unwrap())).unwrap();
        let arrival = Arrival { destination: link.to_str().unwrap(), temporary, size: 5, sum: None };
        // A device is never at its end, so that the size of this copy is not counted by reading it.
        let script = arrival.script(false).replace("wc -c <\"$q\"", "stat -Lc %s \"$q\"");
        assert_eq!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().code(), Some(1));
        assert_eq!(fs::read(elsewhere.join("file")).unwrap(), b"old");
    }

    #[test]
    fn links_are_followed_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (folder.path().join("else where"), folder.path().join("link"));
        fs::create_dir(&elsewhere).unwrap();
        symlink("else where/file", &link).unwrap();
        for content in ["new", "newer"] {
            assert_eq!(place(&link, content, content.len() as u64, None, false), Some(0));
            assert_eq!(fs::read(elsewhere.join("file")).unwrap(), content.as_bytes());
        }
        assert!(link.is_symlink());
        assert_eq!((names(folder.path()), names(&elsewhere).len()), (vec!["else where".into(), "link".into()], 1));
        symlink("loop", folder.path().join("loop")).unwrap();
        assert_eq!(place(&folder.path().join("loop"), "x", 1, None, false), Some(BROKEN_LINK));
    }

    #[test]
    fn what_is_not_what_was_sent_is_not_put_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(place(&target, "ab", 3, None, false), Some(OTHER_SIZE));
        assert_eq!(place(&target, "abd", 3, Some(sum), false), Some(OTHER_SUM));
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(place(&target, "abc", 3, Some(sum), false), Some(0));
        assert_eq!(fs::read(&target).unwrap(), b"abc");
        assert_eq!(place(folder.path(), "abc", 3, None, false), Some(IS_DIRECTORY));
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(place(&pipe, "abc", 3, None, false), Some(NOT_REGULAR));
    }

    #[test]
    fn a_device_takes_the_bytes_itself() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        assert_eq!(place(&link, "abc", 3, None, false), Some(0));
        assert_eq!(names(folder.path()), ["null"]);
    }
}
