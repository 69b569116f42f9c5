//! Files in and out: every size, every name, whole or not at all.

use std::{fs, path::Path, time::Duration};

use workspace_fleet::{Effect, ErrorKind, Workspace, messages::ExecuteCommand};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{
        memory::Peak,
        pattern,
        proxy::{Fault, Proxy},
        server::{Kind, program},
    },
};

pub(crate) const CASES: &[Case] = &[
    case!(sizes_from_nothing_to_64_mib).alone().within(5),
    case!(a_gibibyte).only(Kind::is_embedded).alone().within(10),
    case!(bytes_from_memory),
    case!(awkward_names),
    case!(parents_are_made_and_files_replaced),
    case!(what_cannot_be_uploaded),
    case!(what_cannot_be_downloaded),
    case!(what_cannot_be_read_here),
    case!(a_cut_download_leaves_the_old_file),
    case!(a_cut_upload_leaves_the_old_file),
    case!(uploads_at_once_are_never_mixed),
];

/// How much memory a transfer may take, whatever its size.
const FLAT: u64 = 48 << 20;

async fn sizes_from_nothing_to_64_mib(sandbox: &Sandbox) {
    for size in [0, 1, 2, (1 << 20) + 1, 64 << 20] {
        there_and_back(sandbox, size).await;
    }
}

async fn a_gibibyte(sandbox: &Sandbox) {
    there_and_back(sandbox, 1 << 30).await;
}

async fn there_and_back(sandbox: &Sandbox, size: u64) {
    let (source, back) = (sandbox.path("source"), sandbox.path("back"));
    let (remote, there) = (sandbox.remote("there"), sandbox.path("there"));
    pattern::file(&source, size).unwrap();
    let memory = Peak::begin();

    let up = sandbox.workspace.file_upload(source.as_path(), &remote).await.unwrap();
    assert!(up.success && up.error.is_none(), "{up:?}");
    assert_eq!((up.source_path.as_str(), up.destination_path.as_str()), (source.to_str().unwrap(), remote.as_str()));
    assert_eq!(up.file_size, Some(size));
    let down = sandbox.workspace.file_download(&remote, &back).await.unwrap();
    assert!(down.success && down.error.is_none(), "{down:?}");
    assert_eq!((down.source_path.as_str(), down.destination_path.as_str()), (remote.as_str(), back.to_str().unwrap()));
    assert_eq!(down.file_size, Some(size));

    let peak = memory.bytes();
    assert!(peak < FLAT, "{size} bytes took {} MiB of memory", peak >> 20);
    assert!(pattern::same(&source, &there).unwrap(), "{size} bytes did not arrive as they were sent");
    assert!(pattern::same(&source, &back).unwrap(), "{size} bytes did not come back as they were sent");
    if program("sha256sum").is_some() {
        let sums = sandbox
            .output(ExecuteCommand::new("sha256sum <source; sha256sum <there").with_timeout(Duration::from_secs(90)))
            .await;
        let (first, second) = sums.split_once('\n').unwrap();
        assert_eq!(first, second.trim_end());
    }
    assert_eq!(names(sandbox.directory()), ["back", "source", "there"], "nothing else is left");
    for file in [source, back, there] {
        fs::remove_file(file).unwrap();
    }
}

async fn bytes_from_memory(sandbox: &Sandbox) {
    let content: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    for length in [0, 1, 300_001] {
        let result = sandbox.workspace.file_upload(content[..length].to_vec(), sandbox.remote("there")).await.unwrap();
        assert_eq!((result.source_path.as_str(), result.file_size), ("<bytes>", Some(length as u64)));
        assert!(fs::read(sandbox.path("there")).unwrap() == content[..length], "{length} bytes");
    }
}

/// File names that have hurt somebody.
pub(crate) fn awkward() -> Vec<String> {
    let mut names: Vec<String> = [
        "with blanks ",
        " leading blank",
        "quo'te\"s",
        "new\nline",
        "tab\tand\u{1}control",
        "ünïcödé-日本-😀",
        "e\u{301} combining",
        "-dash",
        "--",
        ".hidden",
        "...",
        "$(touch bad) `touch bad` ; & | * ? [a] {b}",
        "per%41cent+plus&and=eq#hash?",
        "back\\slash",
        "~tilde",
        "semi;colon: and, comma",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("n".repeat(200));
    names.push("ü".repeat(100));
    names
}

async fn awkward_names(sandbox: &Sandbox) {
    let (there, back) = (sandbox.make_directory("the re"), sandbox.make_directory("ba ck"));
    for name in awkward() {
        let content = format!("in {name}").into_bytes();
        let remote = format!("{}/{name}", there.display());
        let up = sandbox.workspace.file_upload(content.clone(), &remote).await.unwrap();
        assert_eq!(up.destination_path, remote);
        assert_eq!(fs::read(there.join(&name)).unwrap(), content, "{name:?}");
        sandbox.workspace.file_download(&remote, back.join(&name)).await.unwrap();
        assert_eq!(fs::read(back.join(&name)).unwrap(), content, "{name:?}");
        // The local name is sent along and must not break the message.
        sandbox.workspace.file_upload(back.join(&name), sandbox.remote("plain")).await.unwrap();
        assert_eq!(fs::read(sandbox.path("plain")).unwrap(), content, "{name:?}");
    }
    let mut expected = awkward();
    expected.sort();
    assert_eq!(names(&there), expected);
    assert_eq!(names(&back), expected);
}

async fn parents_are_made_and_files_replaced(sandbox: &Sandbox) {
    let remote = sandbox.remote("deep/er/and deeper/file");
    sandbox.workspace.file_upload(b"a long first content".to_vec(), &remote).await.unwrap();
    sandbox.workspace.file_upload(b"short".to_vec(), &remote).await.unwrap();
    assert_eq!(fs::read(&remote).unwrap(), b"short");
    let back = sandbox.path("ba/ck/file");
    sandbox.workspace.file_download(&remote, &back).await.unwrap();
    sandbox.workspace.file_download(&remote, &back).await.unwrap();
    assert_eq!(fs::read(&back).unwrap(), b"short");
}

async fn what_cannot_be_uploaded(sandbox: &Sandbox) {
    let error = sandbox.workspace.file_upload(b"x".to_vec(), "relative/path").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidInput { .. }), "{error}");
    assert!(error.to_string().contains("relative/path"), "{error}");
    let error = sandbox.workspace.file_upload(b"x".to_vec(), "/nul\0").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidInput { .. }), "{error}");

    fs::write(sandbox.path("file"), "old").unwrap();
    for target in [sandbox.remote(""), sandbox.remote("file/below"), sandbox.remote(&"n".repeat(300))] {
        let error = sandbox.workspace.file_upload(b"x".to_vec(), &target).await.unwrap_err();
        let refused = matches!(error.kind, ErrorKind::Rejected { .. } | ErrorKind::ServerError { status: 500, .. });
        assert!(refused, "{target}: {error}");
        assert!(error.to_string().starts_with("main: file_upload: "), "{error}");
    }
    assert_eq!(names(sandbox.directory()), ["file"]);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"old");
}

async fn what_cannot_be_downloaded(sandbox: &Sandbox) {
    let target = sandbox.path("target");
    let missing = sandbox.workspace.file_download(sandbox.remote("missing"), &target).await.unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotFound { .. }), "{missing}");
    let directory = sandbox.workspace.file_download(sandbox.remote(""), &target).await.unwrap_err();
    assert!(matches!(directory.kind, ErrorKind::Rejected { status: 400, .. }), "{directory}");
    let relative = sandbox.workspace.file_download("relative", &target).await.unwrap_err();
    assert!(matches!(relative.kind, ErrorKind::InvalidInput { .. }), "{relative}");

    fs::write(sandbox.path("file"), "content").unwrap();
    let onto = sandbox.make_directory("directory");
    let error = sandbox.workspace.file_download(sandbox.remote("file"), &onto).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Local { .. }), "{error}");
    let error = sandbox.workspace.file_download(sandbox.remote("file"), sandbox.path("file/below")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Local { .. }), "{error}");
    assert_eq!(names(sandbox.directory()), ["directory", "file"], "nothing is left of what failed");
}

async fn what_cannot_be_read_here(sandbox: &Sandbox) {
    for (source, words) in [(sandbox.path("missing"), "No such file"), (sandbox.path(""), "directory")] {
        let error = sandbox.workspace.file_upload(source.as_path(), sandbox.remote("there")).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Local { .. }) && error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(source.to_str().unwrap()), "{error}");
        assert_eq!(error.effect, Effect::NotSent);
    }
    assert!(names(sandbox.directory()).is_empty());
}

/// A workspace that tries nothing again.
async fn impatient(sandbox: &Sandbox) -> (Proxy, Workspace) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let config = sandbox.config("proxied", &proxy.url()).with_retry_for(Duration::ZERO);
    (proxy, sandbox.add(config).await)
}

async fn a_cut_download_leaves_the_old_file(sandbox: &Sandbox) {
    let (proxy, workspace) = impatient(sandbox).await;
    pattern::file(&sandbox.path("remote"), 8 << 20).unwrap();
    fs::write(sandbox.path("target"), "old").unwrap();
    for bytes in [0, 1, 3 << 20, (8 << 20) - 1] {
        proxy.spoil_next("/file/download", Fault::CutAnswer(bytes));
        let result = workspace.file_download(sandbox.remote("remote"), sandbox.path("target")).await;
        let error = result.expect_err("half a file is none");
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(fs::read(sandbox.path("target")).unwrap(), b"old");
        assert_eq!(names(sandbox.directory()), ["remote", "target"], "no part of it is left");
    }
    assert_eq!(proxy.spoilt(), 4);
    workspace.file_download(sandbox.remote("remote"), sandbox.path("target")).await.unwrap();
    assert!(pattern::same(&sandbox.path("remote"), &sandbox.path("target")).unwrap());
}

async fn a_cut_upload_leaves_the_old_file(sandbox: &Sandbox) {
    let (proxy, workspace) = impatient(sandbox).await;
    pattern::file(&sandbox.path("source"), 8 << 20).unwrap();
    fs::write(sandbox.path("there"), "old").unwrap();
    for bytes in [0, 1, 3 << 20, 8 << 20] {
        proxy.spoil_next("/file/upload", Fault::CutRequest(bytes));
        let result = workspace.file_upload(sandbox.path("source"), sandbox.remote("there")).await;
        let error = result.expect_err("half a file is none");
        assert!(matches!(error.kind, ErrorKind::Unreachable { .. }), "{error}");
        assert_ne!(error.effect, Effect::Done, "{error}");
        assert!(error.is_retryable(), "writing a file twice does no harm: {error:?}");
        assert_eq!(fs::read(sandbox.path("there")).unwrap(), b"old");
    }
    assert_eq!(proxy.spoilt(), 4);
    workspace.file_upload(sandbox.path("source"), sandbox.remote("there")).await.unwrap();
    assert!(pattern::same(&sandbox.path("source"), &sandbox.path("there")).unwrap());
    assert_eq!(names(sandbox.directory()), ["source", "there"], "no part of it is left");
}

async fn uploads_at_once_are_never_mixed(sandbox: &Sandbox) {
    let contents: Vec<Vec<u8>> = (0..8u8).map(|byte| vec![byte; (3 << 20) + usize::from(byte)]).collect();
    let uploads = contents.iter().enumerate().map(|(number, content)| {
        let (content, remote) = (content.clone(), sandbox.remote("there"));
        async move {
            let workspace = sandbox.by_way_of(&format!("w{number}"), &sandbox.server.url()).await;
            workspace.file_upload(content, remote).await.unwrap();
        }
    });
    let all_done = futures::future::join_all(uploads);
    let watching = async {
        loop {
            if let Ok(seen) = fs::read(sandbox.path("there")) {
                assert!(contents.contains(&seen), "{} bytes that nobody sent", seen.len());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = all_done => {}
        () = watching => {}
    }
    assert!(contents.contains(&fs::read(sandbox.path("there")).unwrap()));
    assert_eq!(names(sandbox.directory()), ["there"]);
}

/// The names in a directory, in order.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
