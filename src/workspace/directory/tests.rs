use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
    },
};

use tar::{Builder, Header};

use super::{
    super::{measure, pack},
    *,
};

struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry as nobody but an attacker would write it.
    fn with(mut self, kind: EntryType, path: &str, link: &str, contents: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_link_name_literal(link).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    fn file(self, path: &str) -> Self {
        self.with(EntryType::Regular, path, "", b"evil")
    }

    /// What unpacking it says; nothing is left behind, and nothing outside is touched.
    #[track_caller]
    fn refused(self) -> String {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "safe").unwrap();
        let parent = place.path().join("parent");
        let failure = unpack(self.0.into_inner().unwrap().as_slice(), &parent.join("out")).unwrap_err();
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0, "{failure}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "{failure}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{failure}");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "safe");
        failure.to_string()
    }
}

#[test]
fn nothing_is_written_outside() {
    let says = |archive: Hostile, why: &str| {
        let message = archive.refused();
        assert!(message.contains(why), "{message}");
    };
    says(Hostile::new().file("../outside/x"), "`..`");
    says(Hostile::new().file("a/../../outside/x"), "`..`");
    says(Hostile::new().file("/tmp/x"), "absolute");
    says(Hostile::new().with(EntryType::Directory, "../outside/d", "", b""), "`..`");
    let link = |target: &str| Hostile::new().with(EntryType::Symlink, "l", target, b"");
    says(link("../../outside").file("l/x"), "through what is no directory");
    says(link("../../outside/victim").file("l"), "there already");
    says(link("../../outside").with(EntryType::Directory, "l", "", b""), "through what is no directory");
    says(link("../../outside").with(EntryType::Directory, "l/d", "", b""), "through what is no directory");
    says(link("../../outside").with(EntryType::Link, "h", "l/victim", b""), "through what is no directory");
    says(Hostile::new().with(EntryType::Link, "h", "../../outside/victim", b""), "`..`");
    says(Hostile::new().with(EntryType::Link, "h", "/etc/passwd", b""), "absolute");
    says(Hostile::new().with(EntryType::Link, "h", "nothing", b""), "does not have");
    says(Hostile::new().with(EntryType::Symlink, "", "x", b""), "refused");
    for special in [EntryType::Fifo, EntryType::Char, EntryType::Block, EntryType::GNUSparse] {
        says(Hostile::new().with(special, "s", "", b""), "neither a file");
    }
}

#[test]
fn a_hard_link_to_a_link_that_points_out_is_not_written_through() {
    let archive = Hostile::new().with(EntryType::Symlink, "l", "../../outside/victim", b"");
    let message = archive.with(EntryType::Link, "h", "l", b"").file("h").refused();
    assert!(message.contains("there already"), "{message}");
}

#[test]
fn long_names_are_bounded_and_obeyed() {
    let long = vec![b'x'; 100 << 10];
    let message = Hostile::new().with(EntryType::GNULongName, "n", "", &long).file("a").refused();
    assert!(message.contains("a name of 102400 bytes"), "{message}");
    let message = Hostile::new().with(EntryType::GNULongName, "n", "", b"../outside/x\0").file("a").refused();
    assert!(message.contains("`..`"), "{message}");
    let pax = |text: &[u8]| Hostile::new().with(EntryType::XHeader, "n", "", text).file("a").refused();
    assert!(pax(b"21 path=../outside/x\n").contains("`..`"));
    assert!(pax(b"10 size=9\n").contains("8 GiB"));
}

#[test]
fn an_archive_that_ends_early_leaves_nothing() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(5000);
    header.set_mode(0o644);
    builder.append_data(&mut header, "a", [7_u8; 5000].as_slice()).unwrap();
    let archive = builder.into_inner().unwrap();
    let place = tempfile::tempdir().unwrap();
    for length in [100, 512, 3000] {
        let result = unpack(&archive[..length], &place.path().join("out"));
        assert!(length == 512 || result.is_err(), "{length}");
        drop(result);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{length}");
    }
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("a b/empty")).unwrap();
    let odd = OsStr::from_bytes(b"-\xff\n'");
    fs::write(from.join(odd), "odd").unwrap();
    fs::write(from.join("a b/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("a b/run"), Permissions::from_mode(0o751)).unwrap();
    symlink("../gone/./x", from.join("a b/link")).unwrap();
    symlink("y".repeat(300), from.join("long")).unwrap();
    let deep = from.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), vec![7; 100_000]).unwrap();
    fs::set_permissions(from.join("a b"), Permissions::from_mode(0o555)).unwrap();

    let mut archive = Vec::new();
    let packed = pack(&from, &mut archive).unwrap();
    assert_eq!((packed.size, packed.files), (archive.len() as u64, 5));
    assert_eq!(measure(&from).unwrap(), packed);

    let to = place.path().join("some/where/to");
    let unpacked = unpack(archive.as_slice(), &to).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (5, packed.bytes));
    assert!(!to.exists(), "it appears when it is whole");
    unpacked.place(&to).unwrap();
    assert_eq!(fs::read(to.join(odd)).unwrap(), b"odd");
    assert_eq!(fs::metadata(to.join("a b/run")).unwrap().mode() & 0o777, 0o751);
    assert_eq!(fs::metadata(to.join("a b")).unwrap().mode() & 0o777, 0o555);
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(to.join("a b/link")).unwrap(), Path::new("../gone/./x"));
    assert_eq!(fs::read_link(to.join("long")).unwrap().as_os_str().len(), 300);
    assert_eq!(fs::read_dir(to.join("a b/empty")).unwrap().count(), 0);
    assert_eq!(fs::read(to.join("d".repeat(120)).join("e".repeat(120)).join("f")).unwrap(), vec![7; 100_000]);
    for directory in [&from, &to] {
        fs::set_permissions(directory.join("a b"), Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_pipe_is_not_sent_and_a_socket_is_left_out() {
    let place = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
    assert_eq!(measure(place.path()).unwrap().files, 0);
    assert!(std::process::Command::new("mkfifo").arg(place.path().join("pipe")).status().unwrap().success());
    let message = measure(place.path()).unwrap_err().to_string();
    assert!(message.contains("/pipe") && message.contains("can not be sent"), "{message}");
}
