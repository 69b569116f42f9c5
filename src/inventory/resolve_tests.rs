use std::path::Path;

use super::*;
use crate::inventory::parse_target_list;

const INVENTORY: &str = r#"
        [[workspace]]
        name = "build-1"
        host = "http://h:1"
        labels = { tier = "gpu", zone = "eu" }
        [[workspace]]
        name = "build-2"
        host = "http://h:2"
        labels = { tier = "gpu" }
        [[workspace]]
        name = "web"
        host = "http://h:3"
        api_key_env = "WEB_KEY"
    "#;

fn query(targets: &str, all: bool, labels: &[&str]) -> TargetQuery {
    let targets = parse_target_list(targets).unwrap().into_iter().map(|target| (None, target)).collect();
    let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
    TargetQuery { targets, all, labels, ..TargetQuery::default() }
}

fn names(query: &TargetQuery, text: &str) -> Result<Vec<String>, String> {
    let inventory = |_: &str| Inventory::parse(Path::new("wsfleet.toml"), text);
    let lookup = Lookup { inventory: &inventory, variable: &|_| None };
    resolve(query, &UrlDefaults::default(), &lookup)
        .map(|configs| configs.into_iter().map(|config| config.name).collect())
        .map_err(|error| error.to_string())
}

#[test]
fn names_urls_and_labels_add_up_and_each_workspace_comes_once() {
    let asked = query("http://gw/s/a,build-2,http://gw/s/b,http://gw/s/a/,build-2", false, &[]);
    assert_eq!(names(&asked, INVENTORY).unwrap(), ["gw:80/s/a", "build-2", "gw:80/s/b"]);
    let asked = query("build-2", false, &["tier=gpu"]);
    assert_eq!(names(&asked, INVENTORY).unwrap(), ["build-2", "build-1"]);
    assert_eq!(names(&query("", false, &["tier=gpu", "zone=eu"]), INVENTORY).unwrap(), ["build-1"]);
}

#[test]
fn an_inventory_that_is_not_needed_is_not_read() {
    assert_eq!(names(&query("http://h:9", false, &[]), "not toml at all").unwrap(), ["h:9"]);
}

#[test]
fn an_unknown_name_is_told_with_the_nearest_and_the_file() {
    assert_eq!(
        names(&query("biuld-1", false, &[]), INVENTORY).unwrap_err(),
        "unknown workspace `biuld-1`: wsfleet.toml has none of that name; did you mean `build-1` or `build-2`?"
    );
    let message = names(&query("10.0.0.1:8000", false, &[]), INVENTORY).unwrap_err();
    assert!(message.contains("http://10.0.0.1:8000"), "{message}");
}

#[test]
fn a_missing_key_is_told_only_to_those_who_select_its_workspace() {
    assert!(names(&query("build-1", false, &[]), INVENTORY).is_ok());
    let message = names(&query("", true, &[]), INVENTORY).unwrap_err();
    assert!(message.contains("WEB_KEY") && message.contains("wsfleet.toml:10"), "{message}");
}

#[test]
fn an_empty_selection_says_why() {
    let empty = |query: &TargetQuery, text: &str| {
        let inventory = |_: &str| Inventory::parse(Path::new("wsfleet.toml"), text);
        let error = resolve(query, &UrlDefaults::default(), &Lookup { inventory: &inventory, variable: &|_| None });
        let error = error.unwrap_err();
        assert!(error.is_empty_selection(), "{error}");
        error.to_string()
    };
    assert!(empty(&query(" , ", false, &[]), INVENTORY).contains("no name and no URL"));
    assert!(empty(&query("", true, &[]), "").contains("lists no workspace"));
    assert!(empty(&query("", false, &["tier=tpu"]), INVENTORY).contains("none of the 3 workspaces"));
}

#[test]
fn defaults_hold_for_addresses_alone() {
    let defaults = UrlDefaults {
        api_key_env: Some("KEY".into()),
        headers: vec![("X-Team".into(), "hush".into())],
        ca_file: Some("ca.pem".into()),
    };
    let inventory = |_: &str| Inventory::parse(Path::new("wsfleet.toml"), INVENTORY);
    let lookup = Lookup { inventory: &inventory, variable: &|name| (name == "KEY").then(|| "hush".to_owned()) };
    let configs = resolve(&query("https://h:9,build-1", false, &[]), &defaults, &lookup).unwrap();
    let shown: Vec<String> = configs.iter().map(|config| format!("{:?}", config.connection)).collect();
    assert!(shown[0].contains("X-Team") && shown[0].contains("ca.pem") && shown[0].contains("Some"), "{shown:?}");
    assert!(!shown[1].contains("X-Team") && !shown[1].contains("ca.pem"), "{shown:?}");
    assert!(!shown.concat().contains("hush"));
    let lookup = Lookup { inventory: &inventory, variable: &|_| None };
    let message = resolve(&query("https://h:9", false, &[]), &defaults, &lookup).unwrap_err().to_string();
    assert!(message.contains("--api-key-env") && message.contains("KEY"), "{message}");
}
fn without(mut query: TargetQuery, exclude: &str) -> TargetQuery {
    query.exclude = parse_target_list(exclude).unwrap();
    query
}

#[test]
fn ranges_and_globs_name_workspaces_of_the_inventory() {
    assert_eq!(names(&query("build-[1-2]", false, &[]), INVENTORY).unwrap(), ["build-1", "build-2"]);
    assert_eq!(names(&query("build-2*,build-[1-2],build*", false, &[]), INVENTORY).unwrap(), ["build-2", "build-1"]);
    assert_eq!(names(&query("http://h:[1-2]", false, &[]), INVENTORY).unwrap(), ["h:1", "h:2"]);
    assert_eq!(
        names(&query("build-[1-20]", false, &[]), INVENTORY).unwrap_err(),
        "18 of the 20 workspaces of `build-[1-20]` are not in wsfleet.toml: `build-3`, `build-4`, `build-5` and more"
    );
    assert_eq!(
        names(&query("build-[2-3]", false, &[]), INVENTORY).unwrap_err(),
        "1 of the 2 workspaces of `build-[2-3]` is not in wsfleet.toml: `build-3`"
    );
    assert!(names(&query("a[1-2000000]", false, &[]), INVENTORY).unwrap_err().contains("2000000 names"));
}

#[test]
fn a_glob_that_matches_nothing_is_told_with_near_misses() {
    for (glob, hint) in [
        ("biuld*", "did you mean `build*`?"),
        ("WEB*", "did you mean `web`?"),
        ("uild-?", "did you mean `build-1` or `build-2`?"),
        ("zzzzzz*", "it has `build-1`, `build-2`, `web`"),
    ] {
        let message = names(&query(glob, false, &[]), INVENTORY).unwrap_err();
        assert!(message.contains(&format!("`{glob}` matches none of the 3 workspaces of wsfleet.toml")), "{message}");
        assert!(message.contains(hint), "{glob}: {message}");
    }
}

#[test]
fn what_is_excluded_is_not_selected() {
    let all = || query("", true, &[]);
    assert_eq!(names(&without(all(), "web,build-[2-9]"), INVENTORY).unwrap(), ["build-1"]);
    assert_eq!(names(&without(query("http://h:[1-3]", false, &[]), "http://h:2"), INVENTORY).unwrap(), ["h:1", "h:3"]);
    // A workspace that the inventory has may be excluded although it is not selected.
    assert_eq!(names(&without(query("build-1", false, &[]), "build-2"), INVENTORY).unwrap(), ["build-1"]);
    let message = names(&without(query("build-[1-2]", false, &[]), "biuld-2"), INVENTORY).unwrap_err();
    assert!(message.contains("-x `biuld-2`") && message.contains("did you mean `build-2`"), "{message}");
    assert!(names(&without(all(), "*"), INVENTORY).unwrap_err().contains("all 3 of them are excluded"));
}

#[test]
fn a_missing_key_of_one_that_is_excluded_is_not_missed() {
    assert!(names(&without(query("", true, &[]), "web"), INVENTORY).is_ok());
}

#[test]
fn so_many_are_picked_in_their_order() {
    let picked = |pick| {
        let asked = TargetQuery { pick: Some(pick), ..query("http://h:[1-9]", false, &[]) };
        names(&asked, INVENTORY).unwrap()
    };
    assert_eq!(picked(20).len(), 9);
    let several: HashSet<Vec<String>> = (0..200).map(|_| picked(3)).collect();
    assert!(several.len() > 1, "always the same");
    for names in several {
        assert!(names.len() == 3 && names.is_sorted(), "{names:?}");
    }
}

#[test]
fn labels_may_be_asked_for_in_three_ways() {
    assert_eq!(names(&query("", false, &["tier"]), INVENTORY).unwrap(), ["build-1", "build-2"]);
    assert_eq!(names(&query("", false, &["tier", "zone!=eu"]), INVENTORY).unwrap(), ["build-2"]);
    let message = names(&query("", false, &["tier!=gpu", "tier"]), INVENTORY).unwrap_err();
    assert!(message.contains("satisfies tier!=gpu and tier"), "{message}");
}
