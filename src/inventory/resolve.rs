use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use super::{Inventory, InventoryEntry, InventoryError, LabelFilter, Target, entry::key_from, error::hint, suggest};
use crate::{Connection, SessionKey, WorkspaceConfig, fleet::NamePattern};

/// How many names a message gives as examples.
const EXAMPLES: usize = 3;

/// Which workspaces are asked for.
#[derive(Debug, Clone, Default)]
pub struct TargetQuery {
    /// By name, pattern or address, each with the file and the line that ask for it, where a file does.
    pub targets: Vec<(Option<String>, Target)>,
    /// All of the inventory.
    pub all: bool,
    /// Those of the inventory that satisfy each of these.
    pub labels: Vec<LabelFilter>,
    /// But none of these.
    pub exclude: Vec<Target>,
    /// Of what is left so many, at random.
    pub pick: Option<usize>,
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
            Target::Name(name) => Some(format!("{}`{name}` is a name{}", place(origin.as_deref()), hint(name, &[]))),
            Target::Pattern(pattern) => {
                Some(format!("{}`{pattern}` is a pattern over names", place(origin.as_deref())))
            }
            Target::Url(_) => None,
        })
    }
}

fn place(origin: Option<&str>) -> String {
    origin.map(|origin| format!("{origin}: ")).unwrap_or_default()
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
    let mut selection = Selection::new(&query.exclude)?;
    for (origin, target) in &query.targets {
        match (target, &inventory) {
            (Target::Url(url), _) => selection.take(by_url(url, origin.as_deref())?),
            (Target::Name(name), Some(inventory)) => selection.take(by_name(name, origin.as_deref(), inventory)?),
            (Target::Pattern(pattern), Some(inventory)) => {
                by_pattern(pattern, origin.as_deref(), inventory)?.into_iter().for_each(|entry| selection.take(entry));
            }
            (Target::Name(_) | Target::Pattern(_), None) => unreachable!("a name needs the inventory"),
        }
    }
    if let Some(inventory) = &inventory
        && (query.all || !query.labels.is_empty())
    {
        let entries = inventory.entries();
        let meant = entries.filter(|entry| query.labels.iter().all(|label| label.matches(&entry.labels)));
        meant.for_each(|entry| selection.take(Chosen::known(entry)));
    }
    let chosen = selection.finish(inventory.as_ref(), query)?;
    let settings = UrlSettings { defaults, lookup, key: OnceCell::new() };
    let config = |chosen: Chosen<'_>| match chosen.from {
        Source::Url(connection) => settings.config(chosen.name, *connection),
        Source::Entry(entry) => {
            let origin = || inventory.as_ref().map(|inventory| inventory.origin(entry)).unwrap_or_default();
            entry.config(origin, lookup.variable)
        }
    };
    chosen.into_iter().map(config).collect()
}

/// A workspace that is meant.
struct Chosen<'a> {
    name: String,
    from: Source<'a>,
}

enum Source<'a> {
    Url(Box<Connection>),
    Entry(&'a InventoryEntry),
}

impl<'a> Chosen<'a> {
    fn known(entry: &'a InventoryEntry) -> Self {
        Self { name: entry.name.clone(), from: Source::Entry(entry) }
    }
}

/// What is meant so far, each once, and what is not to be.
struct Selection<'a> {
    seen: HashSet<String>,
    chosen: Vec<Chosen<'a>>,
    /// Names to leave out, and whether one was met.
    left_out: HashMap<String, bool>,
    left_out_patterns: Vec<NamePattern>,
    /// How many were left out.
    excluded: usize,
}

impl<'a> Selection<'a> {
    fn new(exclude: &[Target]) -> Result<Self, InventoryError> {
        let mut selection = Self {
            seen: HashSet::new(),
            chosen: Vec::new(),
            left_out: HashMap::new(),
            left_out_patterns: Vec::new(),
            excluded: 0,
        };
        for target in exclude {
            match target {
                Target::Name(name) => drop(selection.left_out.insert(name.clone(), false)),
                Target::Pattern(pattern) => selection.left_out_patterns.push(pattern.clone()),
                Target::Url(url) => drop(selection.left_out.insert(by_url(url, None)?.name, false)),
            }
        }
        Ok(selection)
    }

    fn take(&mut self, chosen: Chosen<'a>) {
        if self.seen.contains(&chosen.name) {
            return;
        }
        self.seen.insert(chosen.name.clone());
        let by_name = self.left_out.get_mut(&chosen.name).map(|met| *met = true).is_some();
        if by_name || self.left_out_patterns.iter().any(|pattern| pattern.matches(&chosen.name)) {
            self.excluded += 1;
        } else {
            self.chosen.push(chosen);
        }
    }

    /// What is meant in the end.
    fn finish(mut self, inventory: Option<&Inventory>, query: &TargetQuery) -> Result<Vec<Chosen<'a>>, InventoryError> {
        let known = |name: &str| inventory.is_some_and(|inventory| inventory.get(name).is_some());
        if let Some(name) =
            self.left_out.iter().filter(|(name, met)| !**met && !known(name)).map(|(name, _)| name).min()
        {
            let nearest = suggest::nearest(name, self.seen.iter().map(String::as_str));
            return Err(InventoryError::UnknownExclusion { name: name.clone(), nearest });
        }
        if self.chosen.is_empty() {
            let reason = match self.excluded {
                0 => why_empty(query, inventory),
                1 => "the only one is excluded by -x".to_owned(),
                all => format!("all {all} of them are excluded by -x"),
            };
            return Err(InventoryError::Empty { reason });
        }
        if let Some(pick) = query.pick.filter(|pick| *pick < self.chosen.len()) {
            // Any so many of them, in the order in which they stand.
            let mut picked = fastrand::choose_multiple(0..self.chosen.len(), pick);
            picked.sort_unstable();
            let mut picked = picked.into_iter().peekable();
            let mut at = 0;
            self.chosen.retain(|_| {
                at += 1;
                picked.next_if_eq(&(at - 1)).is_some()
            });
        }
        Ok(self.chosen)
    }
}

fn by_url(url: &str, origin: Option<&str>) -> Result<Chosen<'static>, InventoryError> {
    let bad = |reason: String| match origin.and_then(|origin| origin.rsplit_once(':')) {
        Some((file, line)) => {
            InventoryError::Malformed { file: file.to_owned(), line: line.parse().unwrap_or_default(), reason }
        }
        // The reason repeats the address without what may be a password in it.
        None => InventoryError::BadUrl { reason },
    };
    let connection = Connection::new(url).map_err(|failure| bad(failure.kind.to_string()))?;
    Ok(Chosen { name: connection.display_name(), from: Source::Url(Box::new(connection)) })
}

/// What holds for all addresses, looked up once.
struct UrlSettings<'a> {
    defaults: &'a UrlDefaults,
    lookup: &'a Lookup<'a>,
    key: OnceCell<SessionKey>,
}

impl UrlSettings<'_> {
    fn config(&self, name: String, mut connection: Connection) -> Result<WorkspaceConfig, InventoryError> {
        if let Some(variable) = &self.defaults.api_key_env {
            if self.key.get().is_none() {
                let key = key_from(variable, || "--api-key-env".to_owned(), self.lookup.variable)?;
                self.key.get_or_init(|| key);
            }
            if let Some(key) = self.key.get() {
                connection = connection.with_api_key(key.clone());
            }
        }
        for (name, value) in &self.defaults.headers {
            connection = connection
                .with_header(name, value.clone())
                .map_err(|failure| InventoryError::BadUrl { reason: format!("--header: {}", failure.kind) })?;
        }
        if let Some(ca_file) = &self.defaults.ca_file {
            connection = connection.with_ca_file(ca_file);
        }
        Ok(WorkspaceConfig::new(name, connection))
    }
}

fn by_name<'a>(name: &str, origin: Option<&str>, inventory: &'a Inventory) -> Result<Chosen<'a>, InventoryError> {
    inventory.get(name).map(Chosen::known).ok_or_else(|| InventoryError::UnknownWorkspace {
        name: name.to_owned(),
        origin: origin.map(str::to_owned),
        inventory: inventory.file().to_owned(),
        nearest: inventory.nearest(name),
    })
}

/// The workspaces of a range, all of which must be there, or of a glob, of which there must be one.
fn by_pattern<'a>(
    pattern: &NamePattern,
    origin: Option<&str>,
    inventory: &'a Inventory,
) -> Result<Vec<Chosen<'a>>, InventoryError> {
    let origin = origin.map(str::to_owned);
    if !pattern.is_list() {
        let found: Vec<_> =
            inventory.entries().filter(|entry| pattern.matches(&entry.name)).map(Chosen::known).collect();
        if found.is_empty() {
            return Err(InventoryError::NoMatch {
                pattern: pattern.to_string(),
                origin,
                inventory: inventory.file().to_owned(),
                total: inventory.len(),
                hint: near_misses(pattern, inventory),
            });
        }
        return Ok(found);
    }
    let names = pattern.expand().map_err(|error| InventoryError::BadTarget {
        target: format!("{}{pattern}", place(origin.as_deref())),
        reason: error.to_string(),
    })?;
    let unknown = names.iter().filter(|name| inventory.get(name).is_none());
    let first: Vec<String> = unknown.clone().take(EXAMPLES).cloned().collect();
    if !first.is_empty() {
        return Err(InventoryError::UnknownOfRange {
            pattern: pattern.to_string(),
            origin,
            inventory: inventory.file().to_owned(),
            first,
            unknown: unknown.count(),
            of: names.len(),
        });
    }
    Ok(names.iter().filter_map(|name| inventory.get(name)).map(Chosen::known).collect())
}

/// What a glob that matches nothing may have been meant to match.
fn near_misses(pattern: &NamePattern, inventory: &Inventory) -> String {
    let letters = pattern.as_str().replace(['*', '?'], "");
    let is_like = |name: &&str| !letters.is_empty() && name.to_lowercase().contains(&letters.to_lowercase());
    let names = || inventory.entries().map(|entry| entry.name.as_str());
    let mut near: Vec<String> = names().filter(is_like).take(EXAMPLES).map(str::to_owned).collect();
    if near.is_empty() {
        near = inventory.nearest(&letters);
    }
    if near.is_empty() {
        // Another beginning: compared with as much of each name.
        let length = letters.chars().count();
        let begins: HashSet<String> = names().map(|name| name.chars().take(length).collect()).collect();
        near = suggest::nearest(&letters, begins.iter().map(String::as_str))
            .into_iter()
            .map(|begin| begin + "*")
            .collect();
    }
    if !near.is_empty() {
        return format!("; did you mean {}?", suggest::list(&near));
    }
    let some: Vec<String> = names().take(EXAMPLES).map(str::to_owned).collect();
    match some.len() {
        0 => String::new(),
        few if few == inventory.len() => format!("; it has {}", suggest::all(&some)),
        few => format!("; it has {} and {} more", suggest::all(&some), inventory.len() - few),
    }
}

fn why_empty(query: &TargetQuery, inventory: Option<&Inventory>) -> String {
    let Some(inventory) = inventory else {
        return "the targets given hold no name and no URL; give some with -w, --hostfile, -a, -l or --local"
            .to_owned();
    };
    let file = inventory.file().display();
    match inventory.len() {
        0 => format!("{file} lists no workspace; add one as [[workspace]] with `name` and `host`"),
        total => {
            let labels: Vec<String> = query.labels.iter().map(ToString::to_string).collect();
            format!("none of the {total} workspaces of {file} satisfies {}", labels.join(" and "))
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
