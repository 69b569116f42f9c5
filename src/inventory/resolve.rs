use std::{collections::HashSet, path::PathBuf};

use super::{Inventory, InventoryError, LabelFilter, Target, entry::key_from, error::hint};
use crate::{Connection, SessionKey, WorkspaceConfig};

/// Which workspaces are asked for.
#[derive(Debug, Clone, Default)]
pub struct TargetQuery {
    /// By name or address, each with the file and the line that ask for it, where a file does.
    pub targets: Vec<(Option<String>, Target)>,
    /// All of the inventory.
    pub all: bool,
    /// Those of the inventory that satisfy each of these.
    pub labels: Vec<LabelFilter>,
}

/// What holds for workspaces that are given by their address.
#[derive(Debug, Clone, Default)]
pub struct UrlDefaults {
    /// The environment variable with the session key.
    pub api_key_env: Option<String>,
    /// Headers for a gateway; their values are secrets.
    pub headers: Vec<(String, SessionKey)>,
    /// The certificate authorities, as a PEM file.
    pub ca_file: Option<PathBuf>,
}

/// Where things are looked up.
pub struct Lookup<'a> {
    /// Reads the inventory; called at most once, and only when it is needed. The text says what for.
    pub inventory: &'a dyn Fn(&str) -> Result<Inventory, InventoryError>,
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl TargetQuery {
    /// What the inventory is needed for, if it is.
    fn needs_inventory(&self) -> Option<String> {
        if self.all {
            return Some("-a asks for all of its workspaces".to_owned());
        }
        if !self.labels.is_empty() {
            return Some("-l asks for workspaces by label".to_owned());
        }
        self.targets.iter().find_map(|(origin, target)| match target {
            Target::Name(name) => {
                let place = origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
                Some(format!("{place}`{name}` is a name{}", hint(name, &[])))
            }
            Target::Url(_) => None,
        })
    }
}

/// The workspaces that are asked for, each once, in the order in which they were asked for.
///
/// # Errors
/// A name is unknown, an address or a key is unusable, the inventory is missing or wrong, or nothing is selected.
pub fn resolve(
    query: &TargetQuery,
    defaults: &UrlDefaults,
    lookup: &Lookup<'_>,
) -> Result<Vec<WorkspaceConfig>, InventoryError> {
    let inventory = query.needs_inventory().map(|why| (lookup.inventory)(&why)).transpose()?;
    let mut seen = HashSet::new();
    let mut configs = Vec::new();
    let mut take = |config: WorkspaceConfig| {
        if seen.insert(config.name.clone()) {
            configs.push(config);
        }
    };
    for (origin, target) in &query.targets {
        match (target, &inventory) {
            (Target::Url(url), _) => take(by_url(url, origin.as_deref(), defaults, lookup)?),
            (Target::Name(name), Some(inventory)) => take(by_name(name, origin.as_deref(), inventory, lookup)?),
            (Target::Name(_), None) => unreachable!("a name needs the inventory"),
        }
    }
    if let Some(inventory) = &inventory
        && (query.all || !query.labels.is_empty())
    {
        for entry in inventory.entries().filter(|entry| query.labels.iter().all(|label| label.matches(&entry.labels))) {
            take(entry.config(|| inventory.origin(entry), lookup.variable)?);
        }
    }
    if configs.is_empty() {
        return Err(InventoryError::Empty { reason: why_empty(query, inventory.as_ref()) });
    }
    Ok(configs)
}

fn by_url(
    url: &str,
    origin: Option<&str>,
    defaults: &UrlDefaults,
    lookup: &Lookup<'_>,
) -> Result<WorkspaceConfig, InventoryError> {
    let bad = |reason: String| match origin.and_then(|origin| origin.rsplit_once(':')) {
        Some((file, line)) => {
            InventoryError::Malformed { file: file.to_owned(), line: line.parse().unwrap_or_default(), reason }
        }
        // The reason repeats the address without what may be a password in it.
        None => InventoryError::BadUrl { reason },
    };
    let mut connection = Connection::new(url).map_err(|failure| bad(failure.kind.to_string()))?;
    if let Some(variable) = &defaults.api_key_env {
        let key = key_from(variable, || "--api-key-env".to_owned(), lookup.variable)?;
        connection = connection.with_api_key(key);
    }
    for (name, value) in &defaults.headers {
        connection = connection
            .with_header(name, value.clone())
            .map_err(|failure| InventoryError::BadUrl { reason: format!("--header: {}", failure.kind) })?;
    }
    if let Some(ca_file) = &defaults.ca_file {
        connection = connection.with_ca_file(ca_file);
    }
    Ok(WorkspaceConfig::new(connection.display_name(), connection))
}

fn by_name(
    name: &str,
    origin: Option<&str>,
    inventory: &Inventory,
    lookup: &Lookup<'_>,
) -> Result<WorkspaceConfig, InventoryError> {
    let Some(entry) = inventory.get(name) else {
        return Err(InventoryError::UnknownWorkspace {
            name: name.to_owned(),
            origin: origin.map(str::to_owned),
            inventory: inventory.file().to_owned(),
            nearest: inventory.nearest(name),
        });
    };
    entry.config(|| inventory.origin(entry), lookup.variable)
}

fn why_empty(query: &TargetQuery, inventory: Option<&Inventory>) -> String {
    let Some(inventory) = inventory else {
        return "the targets given hold no name and no URL; give some with -w, --hostfile, -a, -l or --local"
            .to_owned();
    };
    let file = inventory.file().display();
    match inventory.entries().count() {
        0 => format!("{file} lists no workspace; add one as [[workspace]] with `name` and `host`"),
        total => {
            let labels: Vec<String> = query.labels.iter().map(|l| format!("{}={}", l.label, l.value)).collect();
            format!("none of the {total} workspaces of {file} is labelled {}", labels.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests {
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
        TargetQuery { targets, all, labels: labels.iter().map(|label| label.parse().unwrap()).collect() }
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
}
