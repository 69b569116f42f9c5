use serde_json::{Value, json};

use crate::support::{Agent, encoded, send};

const SETUP: &str = r#"
set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@x GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@x
git init -q -b main repo; cd repo
echo one > 'sp ace'; echo one > 'qu"ote'; echo é > 'naïve'; echo t > type; echo gone > gone
printf 'a rather long line to be renamed\nand one more\n' > old
git add -A; git commit -qm 'first'; git commit -q --allow-empty -m 'sécond "quoted"'
echo two > 'sp ace'; echo two > 'qu"ote'; echo è > 'naïve'; rm type gone; ln -s nowhere type; git mv old new
echo x > 'un	tracked
file'; echo x > 'über'
"#;

async fn repository() -> Agent {
    let agent = Agent::start();
    let made = agent.execute(SETUP).await;
    assert_eq!(made["exit_code"], 0, "{made}");
    agent
}

fn changed(status: &str, path: &str) -> Value {
    json!({ "status": status, "path": path })
}

#[actix_rt::test]
async fn every_change_is_told_under_its_own_name() {
    let agent = repository().await;
    let changes = agent.get_json(&format!("/api/git/changes?path={}", encoded(agent.path("repo")))).await;
    let expected = [
        changed("DELETED", "gone"),
        changed("UPDATED", "naïve"),
        changed("ADDED", "new"),
        changed("DELETED", "old"),
        changed("UPDATED", "qu\"ote"),
        changed("UPDATED", "sp ace"),
        changed("UPDATED", "type"),
        changed("ADDED", "un\ttracked\nfile"),
        changed("ADDED", "über"),
    ];
    assert_eq!(changes, json!(expected));
    let above = agent.get_json(&format!("/api/git/changes?path={}", encoded(agent.path("")))).await;
    assert_eq!(above[0], changed("DELETED", "repo/gone"));
    assert_eq!(agent.get_json("/api/git/changes?path=repo").await, changes, "relative to the root");
}

#[actix_rt::test]
async fn diffs_hold_both_sides() {
    let agent = repository().await;
    for (name, modified, original) in
        [("repo/sp ace", "two", "one"), ("repo/naïve", "è", "é"), ("repo/gone", "", "gone"), ("repo/über", "x", "")]
    {
        let diff = agent.get_json(&format!("/api/git/diff?path={}", encoded(agent.path(name)))).await;
        assert_eq!(diff, json!({ "modified": modified, "original": original }), "{name}");
    }
}

#[actix_rt::test]
async fn a_path_in_no_repository_is_told_as_the_real_server_tells_it() {
    let agent = Agent::start();
    std::fs::write(agent.path("f"), "x").unwrap();
    let (folder, file) = (encoded(agent.path("")), encoded(agent.path("f")));
    let zeros = "0".repeat(40);
    assert_eq!(agent.get_json(&format!("/api/git/changes?path={folder}&ref={zeros}")).await, json!([]));
    let nothing = json!({ "modified": null, "original": null });
    assert_eq!(agent.get_json(&format!("/api/git/diff?path={file}")).await, nothing);
    let missing = send(agent.get(&format!("/api/git/diff?path={file}x"))).await;
    assert_eq!(
        (missing.status, missing.json()),
        (400, json!({ "detail": format!("File does not exist: {}x", agent.path("f").display()) }))
    );
    agent.execute("git init -q .").await;
    let reply = send(agent.get(&format!("/api/git/changes?path={folder}&ref={zeros}"))).await;
    let detail = format!("Git command failed: git --no-pager rev-parse --verify '{zeros}^{{commit}}'");
    assert_eq!((reply.status, reply.json()), (400, json!({ "detail": detail })));
}

#[actix_rt::test]
async fn commits_are_listed_newest_first() {
    let agent = repository().await;
    let path = encoded(agent.path("repo"));
    let page = agent.get_json(&format!("/api/git/commits?path={path}&limit=1")).await;
    assert_eq!((&page["has_more"], &page["commits"][0]["subject"]), (&json!(true), &json!("sécond \"quoted\"")));
    let all = agent.get_json(&format!("/api/git/commits?path={path}")).await;
    let first = all["commits"][1]["sha"].as_str().unwrap();
    let changes = agent.get_json(&format!("/api/git/commits/{first}/changes?path={path}")).await;
    assert_eq!(changes.as_array().unwrap().len(), 6);
    assert!(changes.as_array().unwrap().contains(&changed("ADDED", "qu\"ote")));
    let file = encoded(agent.path("repo/sp ace"));
    let diff = agent.get_json(&format!("/api/git/diff?path={file}&commit={first}")).await;
    assert_eq!(diff, json!({ "modified": "one", "original": "" }));
    let both = send(agent.get(&format!("/api/git/diff?path={file}&commit={first}&ref=HEAD"))).await;
    assert_eq!(both.status, 400);
}

#[actix_rt::test]
async fn a_delta_can_be_applied_to_a_clean_checkout() {
    let agent = repository().await;
    let reply = send(agent.get(&format!("/api/file/archive?path={}&base_ref=HEAD", encoded(agent.path("repo"))))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("x-archive-base-commit").is_some());
    std::fs::write(agent.path("delta.patch"), &reply.bytes).unwrap();
    let applied =
        agent.execute("git clone -q repo copy && cd copy && git apply ../delta.patch && cat 'sp ace' new").await;
    assert_eq!(applied["stdout"], "two\na rather long line to be renamed\nand one more\n", "{applied}");
}

#[actix_rt::test]
async fn a_pipe_is_compared_as_an_empty_file_and_no_path_has_no_changes() {
    let agent = Agent::start();
    agent.execute("git init -q . && mkfifo pipe && touch new").await;
    let path = crate::support::encoded(agent.path("pipe"));
    assert_eq!(agent.get_json(&format!("/api/git/diff?path={path}")).await["modified"], "");
    for query in ["path=", "path=&ref=zz"] {
        assert_eq!(agent.get_json(&format!("/api/git/changes?{query}")).await, serde_json::json!([]));
    }
}
