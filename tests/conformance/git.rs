//! Git: what changed, how, since when; and where there is no repository.

use std::{collections::BTreeMap, fs};

use workspace_fleet::{
    ErrorKind,
    messages::{DiffBase, GitChanges, GitCommits, GitDiff},
    protocol::{GitChange, GitChangeStatus},
};

use crate::{
    case::{Case, case},
    files::awkward,
    sandbox::Sandbox,
    support::server::Kind,
};

pub(crate) const CASES: &[Case] = &[
    case!(changes),
    case!(diffs),
    case!(commits),
    case!(no_repository),
    case!(a_repository_without_commits),
    case!(a_clean_repository),
    case!(paths),
    case!(awkward_names_exactly).only(Kind::is_embedded),
    case!(awkward_names_as_documented).only(|kind| !kind.is_embedded()),
];

/// Makes git say the same on every machine.
const SETTINGS: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@x GIT_COMMITTER_NAME=A \
                        GIT_COMMITTER_EMAIL=a@x; set -e; ";

async fn git(sandbox: &Sandbox, script: &str) -> String {
    sandbox.output(format!("{SETTINGS}{script}")).await
}

/// A repository with two commits and a change of every kind.
async fn make_repository(sandbox: &Sandbox) {
    let script = r"
git init -q -b main repo; cd repo
printf 'one\ntwo\n' >changed; echo gone >deleted; echo same >same; echo 'to be renamed, long enough' >old; mkdir sub; echo s >sub/file
git add -A; git commit -qm first
printf 'one\n2\n' >changed; git add -A; git commit -qm 'second, with ü'
printf 'uno\n2\n' >changed; rm deleted; echo new >new; git mv old renamed; echo s2 >sub/file";
    git(sandbox, script).await;
}

fn by_path(changes: Vec<GitChange>) -> BTreeMap<String, GitChangeStatus> {
    changes.into_iter().map(|change| (change.path, change.status)).collect()
}

async fn changes(sandbox: &Sandbox) {
    use GitChangeStatus::{Added, Deleted, Updated};
    make_repository(sandbox).await;
    let expect = |expected: &[(&str, GitChangeStatus)]| -> BTreeMap<String, GitChangeStatus> {
        expected.iter().map(|(path, status)| ((*path).to_owned(), *status)).collect()
    };
    let worked = [
        ("changed", Updated),
        ("deleted", Deleted),
        ("new", Added),
        ("old", Deleted),
        ("renamed", Added),
        ("sub/file", Updated),
    ];
    let now = sandbox.workspace.git_changes("repo").await.unwrap();
    assert_eq!(by_path(now), expect(&worked));
    let since = GitChanges::new("repo").with_reference("HEAD");
    assert_eq!(by_path(sandbox.workspace.ask(since).await.unwrap()), expect(&worked));
    git(sandbox, "cd repo; git checkout -q .; git clean -fdq; git reset -q --hard").await;
    let since = GitChanges::new("repo").with_reference("HEAD~1");
    assert_eq!(by_path(sandbox.workspace.ask(since).await.unwrap()), expect(&[("changed", Updated)]));
    let unknown = GitChanges::new("repo").with_reference("no-such-ref");
    let error = sandbox.workspace.ask(unknown).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 400, .. }), "{error}");
}

async fn diffs(sandbox: &Sandbox) {
    make_repository(sandbox).await;
    let text = |text: &str| Some(text.to_owned());
    let working = sandbox.workspace.git_diff("repo/changed").await.unwrap();
    assert_eq!((working.modified, working.original), (text("uno\n2"), text("one\n2")));
    let since_first = GitDiff::new("repo/changed").with_base(DiffBase::Ref("HEAD~1".to_owned()));
    let diff = sandbox.workspace.ask(since_first).await.unwrap();
    assert_eq!((diff.modified, diff.original), (text("uno\n2"), text("one\ntwo")));
    let sha = git(sandbox, "cd repo; git rev-parse HEAD").await.trim().to_owned();
    let of_commit = GitDiff::new("repo/changed").with_base(DiffBase::Commit(sha));
    let diff = sandbox.workspace.ask(of_commit).await.unwrap();
    assert_eq!((diff.modified, diff.original), (text("one\n2"), text("one\ntwo")));

    let same = sandbox.workspace.git_diff("repo/same").await.unwrap();
    assert_eq!((same.modified, same.original), (text("same"), text("same")));
    let new = sandbox.workspace.git_diff("repo/new").await.unwrap();
    assert_eq!((new.modified, new.original.unwrap_or_default()), (text("new"), String::new()));
    let deleted = sandbox.workspace.git_diff("repo/deleted").await;
    if sandbox.kind().is_old() {
        // It does not look at what is not there.
        assert!(matches!(deleted.unwrap_err().kind, ErrorKind::Rejected { status: 400, .. }));
    } else {
        let deleted = deleted.unwrap();
        assert_eq!((deleted.modified, deleted.original), (text(""), text("gone")));
    }
    let error = sandbox.workspace.git_diff("repo/never-was").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { .. } | ErrorKind::NotFound { .. }), "{error}");
    let bad = GitDiff::new("repo/changed").with_base(DiffBase::Commit("not hex".to_owned()));
    let error = sandbox.workspace.ask(bad).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { .. } | ErrorKind::InvalidInput { .. }), "{error}");
}

async fn commits(sandbox: &Sandbox) {
    make_repository(sandbox).await;
    let page = sandbox.workspace.git_commits("repo").await.unwrap();
    let subjects: Vec<&str> = page.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!((subjects.as_slice(), page.has_more), (&["second, with ü", "first"][..], false));
    let sha = git(sandbox, "cd repo; git rev-parse HEAD").await;
    assert_eq!((page.commits[0].sha.as_str(), page.commits[0].author.as_str()), (sha.trim(), "A"));
    assert!(page.commits[0].sha.starts_with(&page.commits[0].short_sha));
    let newest = sandbox.workspace.ask(GitCommits::new("repo").with_limit(1)).await.unwrap();
    assert_eq!((newest.commits.len(), newest.has_more), (1, true));
    assert_eq!(newest.commits[0], page.commits[0]);
    for limit in [0, 201] {
        let error = sandbox.workspace.ask(GitCommits::new("repo").with_limit(limit)).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::InvalidInput { .. }), "{error}");
    }
}

async fn no_repository(sandbox: &Sandbox) {
    sandbox.make_directory("plain");
    fs::write(sandbox.path("plain/file"), "x").unwrap();
    for path in ["plain", "missing", "plain/file"] {
        let error = sandbox.workspace.git_changes(path).await.unwrap_err();
        let ErrorKind::NotARepository { path: named, reason } = &error.kind else { panic!("{path}: {error}") };
        assert_eq!(*named, sandbox.remote(path));
        assert!(!reason.is_empty(), "{error}");
    }
    let reason = |error: workspace_fleet::WorkspaceError| error.to_string();
    assert!(reason(sandbox.workspace.git_changes("plain").await.unwrap_err()).contains("not a git repository"));
    assert!(reason(sandbox.workspace.git_changes("missing").await.unwrap_err()).contains("No such file or directory"));
    let error = sandbox.workspace.git_diff("plain/file").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotARepository { .. }), "{error}");
    let missing = sandbox.workspace.git_diff("plain/missing").await.unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotARepository { .. } | ErrorKind::Rejected { .. }), "{missing}");
}

async fn a_repository_without_commits(sandbox: &Sandbox) {
    git(sandbox, "git init -q -b main empty").await;
    assert_eq!(sandbox.workspace.git_changes("empty").await.unwrap(), []);
    fs::write(sandbox.path("empty/file"), "x\n").unwrap();
    let changes = sandbox.workspace.git_changes("empty").await.unwrap();
    assert_eq!(by_path(changes), BTreeMap::from([("file".to_owned(), GitChangeStatus::Added)]));
    let diff = sandbox.workspace.git_diff("empty/file").await.unwrap();
    assert_eq!((diff.modified.as_deref(), diff.original.unwrap_or_default().as_str()), (Some("x"), ""));
}

async fn a_clean_repository(sandbox: &Sandbox) {
    git(sandbox, "git init -q -b main clean; cd clean; mkdir sub; echo x >sub/file; git add -A; git commit -qm x")
        .await;
    git(sandbox, "git -C clean worktree add -q ../tree 2>/dev/null; git init -q --bare bare").await;
    for path in ["clean", "clean/sub", "tree"] {
        assert_eq!(sandbox.workspace.git_changes(path).await.unwrap(), [], "{path}");
    }
    // There is nothing to compare in it, but it is a repository.
    let error = sandbox.workspace.git_changes("bare").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 400, .. }), "{error}");
}

async fn paths(sandbox: &Sandbox) {
    make_repository(sandbox).await;
    let whole = by_path(sandbox.workspace.git_changes(sandbox.remote("repo")).await.unwrap());
    assert_eq!(by_path(sandbox.workspace.git_changes("./repo/").await.unwrap()), whole, "relative to the directory");
    assert!(whole.len() == 6, "{whole:?}");
    let config = workspace_fleet::WorkspaceConfig::new("no directory", sandbox.server.connection());
    let workspace = sandbox.add(config).await;
    let error = workspace.git_changes("repo").await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::InvalidInput { .. }) && error.to_string().contains("working_dir"),
        "{error}"
    );
}

/// A repository with one commit, in which files of these names are then changed, and as many new ones are.
async fn make_awkward(sandbox: &Sandbox, names: &[String]) {
    let repository = sandbox.make_directory("repo");
    for name in names {
        fs::write(repository.join(name), "before\n").unwrap();
    }
    git(sandbox, "cd repo; git init -q -b main; git add -A; git commit -qm first").await;
    fs::create_dir(repository.join("new")).unwrap();
    for name in names {
        fs::write(repository.join(name), "after\n").unwrap();
        fs::write(repository.join("new").join(name), "new\n").unwrap();
    }
}

async fn awkward_names_exactly(sandbox: &Sandbox) {
    let names = awkward();
    make_awkward(sandbox, &names).await;
    let changes = by_path(sandbox.workspace.git_changes("repo").await.unwrap());
    let changed = names.iter().map(|name| (name.clone(), GitChangeStatus::Updated));
    let new = names.iter().map(|name| (format!("new/{name}"), GitChangeStatus::Added));
    assert_eq!(changes, changed.chain(new).collect());
    check_diffs(sandbox, &names).await;
}

async fn awkward_names_as_documented(sandbox: &Sandbox) {
    // A changed tracked file with a blank in its name makes the whole answer a refusal.
    make_awkward(sandbox, &["with blank".to_owned()]).await;
    let error = sandbox.workspace.git_changes("repo").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 400, .. }), "{error}");
    fs::remove_dir_all(sandbox.path("repo")).unwrap();

    // Other names come back quoted, in a way that loses some; those that can be told are told.
    let names: Vec<String> =
        ["plain", "ü日本😀", "-dash", "quo'te", ".hidden", "per%41cent+plus&and=eq#hash?"].map(str::to_owned).to_vec();
    make_awkward(sandbox, &names).await;
    let changes = by_path(sandbox.workspace.git_changes("repo").await.unwrap());
    let changed = names.iter().map(|name| (name.clone(), GitChangeStatus::Updated));
    let new = names.iter().map(|name| (format!("new/{name}"), GitChangeStatus::Added));
    assert_eq!(changes, changed.chain(new).collect());
    fs::remove_dir_all(sandbox.path("repo")).unwrap();

    // A diff is asked for by the name itself, and works for all but one: git takes `HEAD:...` for a range.
    let names: Vec<String> = awkward().into_iter().filter(|name| name != "...").collect();
    make_awkward(sandbox, &names).await;
    check_diffs(sandbox, &names).await;
}

async fn check_diffs(sandbox: &Sandbox, names: &[String]) {
    for name in names {
        let diff = sandbox.workspace.git_diff(sandbox.remote(&format!("repo/{name}"))).await.unwrap();
        assert_eq!((diff.modified.as_deref(), diff.original.as_deref()), (Some("after"), Some("before")), "{name:?}");
        let new = sandbox.workspace.git_diff(sandbox.remote(&format!("repo/new/{name}"))).await.unwrap();
        assert_eq!((new.modified.as_deref(), new.original.unwrap_or_default().as_str()), (Some("new"), ""), "{name:?}");
    }
}
