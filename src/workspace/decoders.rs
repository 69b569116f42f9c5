//! What this layer reads, for fuzz tests.

use std::{fs, path::Path, time::Instant};

use jiff::Timestamp;

use super::{
    attendant, directory, steps,
    watch::{Assembly, Collector, Progress},
};
use crate::protocol::{BashOutput, EventId, ServerInfo};

/// What a server says of itself.
pub(crate) fn server_info(info: &ServerInfo) {
    attendant::read_again(info, Instant::now());
}

/// The list of processes that a sandbox tells.
pub(crate) fn processes(text: &str) {
    attendant::read_processes(text);
}

/// A path as git tells it.
pub(crate) fn git_path(text: &str) {
    if let Some(name) = steps::git::unquote(text) {
        assert!(!name.is_ascii() && name.len() < text.len());
    }
}

/// A directory as a tar stream. Whatever it holds, nothing appears outside of where it is unpacked to.
pub(crate) fn archive(bytes: &[u8]) {
    let place = tempfile::Builder::new().prefix("wsfleet-fuzz-").tempdir_in(quick()).expect("a folder");
    let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
    for folder in [&inside, &outside] {
        fs::create_dir(folder).expect("a folder");
    }
    fs::write(outside.join("file"), "untouched").expect("a file");
    let destination = inside.join("target");
    let whole = directory::unpack(bytes, &destination).and_then(|unpacked| unpacked.place(&destination));
    let left = fs::read_dir(&inside).expect("it is there").count();
    assert_eq!(left, usize::from(whole.is_ok()), "{whole:?}");
    let names: Vec<_> =
        fs::read_dir(&outside).expect("it is there").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read_to_string(outside.join("file")).expect("it is there"), "untouched");
    assert_eq!(fs::read_dir(place.path()).expect("it is there").count(), 2);
    make_removable(&destination);
}

/// A folder in memory, where there is one.
fn quick() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Gives the owner all rights to what was unpacked, of which the archive may have taken them away.
fn make_removable(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if !directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    // What cannot be changed is reported by the removal that follows.
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        make_removable(&entry.path());
    }
}

/// Events in any order and of any kind, four bytes each: no text is released twice, none that did not come, and the end is
/// told only when all is there.
pub(crate) fn events(bytes: &[u8]) {
    let (mut assembly, mut collector) = (Assembly::default(), Collector::new(64));
    let (mut arrived, mut released) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for event in bytes.chunks_exact(4) {
        let [id, order, time, kind] = *event else { continue };
        let order = if order == u8::MAX { u64::MAX } else { order.into() };
        let text = format!("<{id}>");
        let output = BashOutput {
            id: EventId::nth(id),
            timestamp: Timestamp::from_second(i64::from(time) - 128).unwrap_or_default(),
            command_id: EventId::nil(),
            order,
            exit_code: (kind >= 0xf0).then(|| i32::from(kind & 1) - 1),
            stdout: Some(text.clone()),
            stderr: None,
        };
        arrived.insert(text);
        assembly.add(output);
        while let Some(event) = assembly.release() {
            let text = event.stdout.unwrap_or_default();
            assert!(arrived.contains(&text));
            assert!(event.exit_code.is_some() || released.insert(event.id), "{} twice", event.id);
            collector.push(text);
        }
        if let Progress::Complete { .. } = assembly.progress() {
            assert!(assembly.exit_code().is_some());
        }
        let _ = (assembly.cursor(), assembly.ended_at());
    }
    assembly.salvage();
    let _ = collector.finish();
}
