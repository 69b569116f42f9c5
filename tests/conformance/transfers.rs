//! Transfers and reads that meet faults: tried again where that does no harm, and right in the end.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use workspace_fleet::{
    Effect, ErrorKind, Workspace,
    messages::{DirectoryDownload, DirectoryUpload, FileDownload, FileUpload, GitChanges, Placement, TransferProgress},
};

use crate::{
    case::{Case, case},
    files::names,
    sandbox::Sandbox,
    support::{
        pattern,
        proxy::{Fault, Proxy},
        server::connection,
    },
};

pub(crate) const CASES: &[Case] = &[
    case!(a_cut_download_goes_on_where_it_was),
    case!(a_download_of_a_file_that_changed_begins_again),
    case!(an_upload_is_sent_again),
    case!(a_directory_is_sent_again),
    case!(a_directory_goes_on_where_it_was),
    case!(reads_are_tried_again),
    case!(what_stays_is_not_tried_again),
    case!(trying_again_has_a_bound),
    case!(nobody_waits_for_the_next_try),
    case!(uploads_through_one_workspace_keep_their_order),
    case!(a_replaced_file_keeps_its_mode_and_links_are_followed),
    case!(sums_are_compared),
    case!(a_wrong_key_is_told_before_a_large_upload),
];

const MIB: u64 = 1 << 20;

async fn proxied(sandbox: &Sandbox) -> (Proxy, Workspace) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let workspace = sandbox.by_way_of("proxied", &proxy.url()).await;
    // A server that has answered is not taken for one that was never there.
    workspace.get_server_info().await.unwrap();
    (proxy, workspace)
}

async fn retries(workspace: &Workspace) -> u64 {
    workspace.observe().await.unwrap().retries
}

/// Notes how far a transfer is.
fn noting() -> (Arc<Mutex<Vec<TransferProgress>>>, impl Fn(TransferProgress) + Send + Sync + 'static) {
    let notes = Arc::<Mutex<Vec<TransferProgress>>>::default();
    let noted = notes.clone();
    (notes, move |progress| noted.lock().unwrap().push(progress))
}

async fn a_cut_download_goes_on_where_it_was(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    pattern::file(&sandbox.path("remote"), 8 * MIB).unwrap();
    // Each counts from where it went on: nothing, 1 byte, 1 MiB, and almost all.
    for bytes in [0, 1, MIB, 7 * MIB - 2] {
        proxy.spoil_next("/file/download", Fault::CutAnswer(bytes));
    }
    let (notes, note) = noting();
    let download = FileDownload::new(sandbox.remote("remote"), sandbox.path("target")).with_progress(note);
    workspace.ask(download).await.unwrap();
    assert!(pattern::same(&sandbox.path("remote"), &sandbox.path("target")).unwrap());
    assert_eq!((proxy.spoilt(), retries(&workspace).await), (4, 4));
    assert_eq!(names(sandbox.directory()), ["remote", "target"]);
    let notes = notes.lock().unwrap();
    // Cut before its first byte there was nothing to go on from, nor after it: what came last before a cut is read again.
    assert!(notes.iter().all(|note| note.attempt <= 3), "{notes:?}");
    assert!(notes.iter().filter(|note| note.attempt == 3).map(|note| note.done).is_sorted(), "{notes:?}");
    let last = notes.last().unwrap();
    assert_eq!((last.done, last.total), (8 * MIB, Some(8 * MIB)));
}

async fn a_download_of_a_file_that_changed_begins_again(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    pattern::file(&sandbox.path("remote"), 8 * MIB).unwrap();
    proxy.spoil_next("/file/download", Fault::CutAnswer(3 * MIB));
    let (remote, begun) = (sandbox.path("remote"), Mutex::new(true));
    let change = move |progress: TransferProgress| {
        // The head of the answer has come, and the rest is not taken before this is done.
        if progress.done == 0 && std::mem::take(&mut *begun.lock().unwrap()) {
            fs::write(remote.with_extension("new"), vec![7; 100_000]).unwrap();
            fs::rename(remote.with_extension("new"), &remote).unwrap();
        }
    };
    let download = FileDownload::new(sandbox.remote("remote"), sandbox.path("target")).with_progress(change);
    let result = workspace.ask(download).await.unwrap();
    assert_eq!(result.file_size, Some(100_000));
    assert!(fs::read(sandbox.path("target")).unwrap() == vec![7; 100_000]);
    assert_eq!((proxy.spoilt(), names(sandbox.directory()).len()), (1, 2));
}

async fn an_upload_is_sent_again(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    pattern::file(&sandbox.path("source"), 4 * MIB).unwrap();
    let upload = [
        Fault::CutRequest(0),
        Fault::CutRequest(3 * MIB),
        Fault::DropAnswer,
        Fault::AnswerInstead(502),
        Fault::Refuse(503, 0),
        Fault::Refuse(429, 1),
    ];
    for (round, fault) in upload.into_iter().enumerate() {
        fs::write(sandbox.path("there"), "old").unwrap();
        proxy.spoil_next("/file/upload", fault);
        workspace.file_upload(sandbox.path("source"), sandbox.remote("there")).await.unwrap();
        assert!(pattern::same(&sandbox.path("source"), &sandbox.path("there")).unwrap(), "{fault:?}");
        assert_eq!(retries(&workspace).await, round as u64 + 1, "{fault:?}");
    }
    // The command that puts it in place is lost, or its answer.
    let quiet = || names(sandbox.directory()) == ["source", "there"];
    assert!(crate::support::eventually(Duration::from_secs(10), quiet).await, "{:?}", names(sandbox.directory()));
    for (round, fault) in [Fault::DropAnswer, Fault::CutRequest(10), Fault::AnswerInstead(504)].into_iter().enumerate()
    {
        fs::write(sandbox.path("there"), "old").unwrap();
        proxy.spoil_next("/bash/execute_bash_command", fault);
        let upload = FileUpload::new(sandbox.path("source"), sandbox.remote("there"));
        workspace.ask(upload.with_placement(Placement::Moved)).await.unwrap();
        assert!(pattern::same(&sandbox.path("source"), &sandbox.path("there")).unwrap(), "{fault:?}");
        assert_eq!(retries(&workspace).await, round as u64 + 7, "{fault:?}");
    }
    // What the server wrote of tries whose answer was lost is removed while nobody waits for that.
    assert!(crate::support::eventually(Duration::from_secs(10), quiet).await, "{:?}", names(sandbox.directory()));
}

fn make_tree(sandbox: &Sandbox) {
    let tree = sandbox.make_directory("tree/be low");
    pattern::file(&tree.join("large"), 5 * MIB).unwrap();
    fs::write(tree.join("small"), "small").unwrap();
}

fn is_same_tree(sandbox: &Sandbox, other: &str) -> bool {
    let (tree, other) = (sandbox.path("tree/be low"), sandbox.path(other).join("be low"));
    names(&other) == ["large", "small"] && pattern::same(&tree.join("large"), &other.join("large")).unwrap()
}

async fn a_directory_is_sent_again(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    make_tree(sandbox);
    proxy.spoil_next("/file/upload", Fault::CutRequest(2 * MIB));
    for _ in 0..3 {
        // Those that make the folder, unpack, and remove the folder; where the size is counted, it is that instead.
        proxy.spoil_next("/bash/execute_bash_command", Fault::DropAnswer);
    }
    let (notes, note) = noting();
    let upload = DirectoryUpload::new(sandbox.path("tree"), sandbox.remote("there")).with_progress(note);
    let result = workspace.ask(upload).await.unwrap();
    assert_eq!((result.files, result.file_size), (Some(2), Some(5 * MIB + 5)));
    assert!(is_same_tree(sandbox, "there"));
    let last = *notes.lock().unwrap().last().unwrap();
    assert!(last.attempt >= 2 && last.done > 5 * MIB && last.total == Some(last.done), "{last:?}");
}

async fn a_directory_goes_on_where_it_was(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    make_tree(sandbox);
    proxy.spoil_next("/bash/execute_bash_command", Fault::DropAnswer);
    proxy.spoil_next("/file/download", Fault::CutAnswer(MIB));
    proxy.spoil_next("/file/download", Fault::CutAnswer(2 * MIB));
    let (notes, note) = noting();
    let download = DirectoryDownload::new(sandbox.remote("tree"), sandbox.path("back")).with_progress(note);
    let result = workspace.ask(download).await.unwrap();
    assert_eq!((result.files, result.file_size), (Some(2), Some(5 * MIB + 5)));
    assert!(is_same_tree(sandbox, "back"));
    let last = *notes.lock().unwrap().last().unwrap();
    assert!(last.attempt == 1 && last.done > 5 * MIB, "{last:?}");
}

async fn reads_are_tried_again(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    sandbox.output("git init -q repository; echo one >repository/file").await;
    let id = workspace.start_command("echo out; echo err >&2; exit 3").await.unwrap();
    // While it is watched, searches go on that would meet the faults in place of those that are asked for here.
    while workspace.observe().await.unwrap().commands_finished == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let faults = [
        Fault::DropAnswer,
        Fault::AnswerInstead(502),
        Fault::AnswerInstead(504),
        Fault::Refuse(503, 0),
        Fault::Refuse(429, 0),
        Fault::AnswerInstead(500),
        Fault::CutAnswer(5),
    ];
    for fault in faults {
        let before = retries(&workspace).await;
        // A GET whose connection just ends is sent once more by the client, so that this takes two.
        let each = if fault == Fault::DropAnswer { 2 } else { 1 };
        for path in ["/git/changes", "/git/diff", "/bash_events/search", "/server_info"] {
            for _ in 0..each {
                proxy.spoil_next(path, fault);
            }
        }
        let changes = workspace.git_changes("repository").await.unwrap();
        assert_eq!(changes.len(), 1, "{fault:?}");
        workspace.git_diff("repository/file").await.unwrap();
        let output = workspace.get_command_output(id).await.unwrap();
        assert_eq!((output.stdout.as_str(), output.exit_code), ("out\n", Some(3)), "{fault:?}");
        workspace.get_server_info().await.unwrap();
        assert_eq!(retries(&workspace).await - before, 4, "{fault:?}");
    }
}

async fn what_stays_is_not_tried_again(sandbox: &Sandbox) {
    let (_proxy, workspace) = proxied(sandbox).await;
    let missing = workspace.file_download(sandbox.remote("missing"), sandbox.path("target")).await.unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotFound { .. }), "{missing}");
    let outside = workspace.ask(GitChanges::new(sandbox.remote(""))).await.unwrap_err();
    assert!(matches!(outside.kind, ErrorKind::NotARepository { .. }), "{outside}");
    let directory = workspace.file_upload(b"x".to_vec(), sandbox.remote("")).await.unwrap_err();
    assert!(directory.to_string().contains("irectory"), "{directory}");
    let locked = sandbox.config("locked", &sandbox.server.url());
    let url = sandbox.server.url();
    let mut locked = locked;
    locked.connection = connection(&url, "wrong");
    let locked = sandbox.add(locked).await;
    let error = locked.git_changes("/tmp").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert_eq!((retries(&workspace).await, retries(&locked).await), (0, 0));
}

async fn trying_again_has_a_bound(sandbox: &Sandbox) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let config = sandbox.config("proxied", &proxy.url()).with_retry_for(Duration::from_secs(1));
    let workspace = sandbox.add(config).await;
    workspace.get_server_info().await.unwrap();
    fs::write(sandbox.path("remote"), "content").unwrap();
    proxy.spoil_all("/file/download", Fault::Refuse(502, 0));
    let began = Instant::now();
    let error = workspace.file_download(sandbox.remote("remote"), sandbox.path("target")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::ServerError { status: 502, .. }), "{error}");
    assert!((2..6).contains(&retries(&workspace).await), "{}", retries(&workspace).await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(names(sandbox.directory()), ["remote"]);

    // What a server asks for is not undercut.
    let before = retries(&workspace).await;
    proxy.spoil_all("/git/changes", Fault::Refuse(503, 30));
    let error = workspace.git_changes(sandbox.remote("")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::ServerError { retry_after: Some(asked), .. } if asked.as_secs() == 30));
    assert_eq!(retries(&workspace).await, before);
}

async fn nobody_waits_for_the_next_try(sandbox: &Sandbox) {
    let (proxy, workspace) = proxied(sandbox).await;
    proxy.spoil_all("/git/changes", Fault::Refuse(503, 0));
    let waiting = workspace.git_changes(sandbox.remote(""));
    assert!(tokio::time::timeout(Duration::from_millis(500), waiting).await.is_err(), "it is tried again");
    // The next step has its turn as soon as the one before is given up.
    workspace.file_upload(b"x".to_vec(), sandbox.remote("file")).await.unwrap();
    let (spoilt, counted) = (proxy.spoilt(), retries(&workspace).await);
    assert!(spoilt >= 2 && counted >= 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((proxy.spoilt(), retries(&workspace).await), (spoilt, counted));
}

async fn uploads_through_one_workspace_keep_their_order(sandbox: &Sandbox) {
    let config = sandbox.config("many", &sandbox.server.url()).with_max_concurrent_steps(8);
    let workspace = sandbox.add(config).await;
    let contents: Vec<Vec<u8>> = (0..8u8).map(|byte| vec![byte; 100_000 + usize::from(byte)]).collect();
    for placement in [Placement::Whole, Placement::InPlace] {
        let uploads = contents.iter().map(|content| {
            let upload = FileUpload::new(content.clone(), sandbox.remote("there")).with_placement(placement);
            workspace.ask(upload)
        });
        for result in join_all(uploads.collect::<Vec<_>>()).await {
            result.unwrap();
        }
        assert!(fs::read(sandbox.path("there")).unwrap() == contents[7], "the last one stays");
    }
    assert_eq!(names(sandbox.directory()), ["there"]);
}

async fn a_replaced_file_keeps_its_mode_and_links_are_followed(sandbox: &Sandbox) {
    let (file, link) = (sandbox.make_directory("below").join("file"), sandbox.path("link"));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
    symlink("below/file", &link).unwrap();
    for (content, placement) in [("first", Placement::Whole), ("second", Placement::Moved)] {
        for remote in [file.display().to_string(), link.display().to_string()] {
            let upload = FileUpload::new(format!("{content} {remote}").into_bytes(), &remote);
            sandbox.workspace.ask(upload.with_placement(placement)).await.unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{content} {remote}"));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o750, "{placement:?}");
        }
    }
    assert!(link.is_symlink());
    let new = FileUpload::new(b"new".to_vec(), sandbox.remote("new")).with_placement(Placement::Moved);
    sandbox.workspace.ask(new).await.unwrap();
    assert_eq!(sandbox.path("new").metadata().unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(names(sandbox.directory()), ["below", "link", "new"]);
}

async fn sums_are_compared(sandbox: &Sandbox) {
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for placement in [Placement::Whole, Placement::InPlace] {
        let upload = FileUpload::new(b"abc".to_vec(), sandbox.remote("there")).with_placement(placement);
        let up = sandbox.workspace.ask(upload.with_sha256()).await.unwrap();
        assert_eq!(up.sha256.as_deref(), Some(sum), "{placement:?}");
    }
    let down = FileDownload::new(sandbox.remote("there"), sandbox.path("back")).with_sha256();
    assert_eq!(sandbox.workspace.ask(down).await.unwrap().sha256.as_deref(), Some(sum));
    let empty = FileUpload::new(Vec::new(), sandbox.remote("there")).with_sha256();
    let empty = sandbox.workspace.ask(empty).await.unwrap();
    assert!(empty.sha256.unwrap().starts_with("e3b0c442"));
    assert_eq!(names(sandbox.directory()), ["back", "there"]);
}

async fn a_wrong_key_is_told_before_a_large_upload(sandbox: &Sandbox) {
    let mut config = sandbox.config("locked", &sandbox.server.url());
    config.connection = connection(&sandbox.server.url(), "wrong");
    let workspace = sandbox.add(config).await;
    pattern::file(&sandbox.path("source"), 64 * MIB).unwrap();
    let (notes, note) = noting();
    let upload = FileUpload::new(sandbox.path("source"), sandbox.remote("there")).with_progress(note);
    let error = workspace.ask(upload).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { status: 401, .. }), "{error}");
    assert_eq!(error.effect, Effect::NotSent);
    assert!(notes.lock().unwrap().is_empty(), "nothing was sent");
}
