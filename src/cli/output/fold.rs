use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    io::{self, Write},
};

use super::{
    body,
    human::{Streams, ended_lines},
    shelf::{Kept, Shelf},
    words,
};
use crate::{
    Outcome,
    fleet::{StepFinished, TargetFinished, TargetId, TargetValue},
};

/// How many targets of a group are named.
const MOST_NAMES: usize = 64;

/// Groups of targets that ended alike: with the same outcome, exit code, stdout and stderr, step by step.
///
/// It takes time linear in the output, and keeps each text once, however many targets wrote it.
#[derive(Default)]
pub(super) struct Fold {
    groups: HashMap<Key, Group>,
    texts: HashMap<Key, Kept>,
    shelf: Shelf,
    /// The steps of targets that have not ended.
    steps: HashMap<TargetId, Vec<Part>>,
    keys: Keys,
}

struct Group {
    outcome: Outcome,
    /// How they ended, in words.
    ending: String,
    names: Vec<String>,
    /// All of them, named or not.
    count: usize,
    parts: Vec<Part>,
}

/// What a step gave, or a target that has no steps.
#[derive(Hash)]
struct Part {
    /// The step, and how it ended.
    title: Option<String>,
    stdout: Key,
    stderr: Key,
}

/// Stands for a content: two keyed hashes of 64 bits, so that no output can be made up to be taken for another.
type Key = (u64, u64);

#[derive(Default)]
struct Keys(RandomState, RandomState);

impl Keys {
    fn of(&self, content: impl Hash) -> Key {
        (self.0.hash_one(&content), self.1.hash_one(&content))
    }
}

impl Fold {
    /// Adds a step of a target that goes on.
    pub(super) fn step(&mut self, step: &StepFinished) -> io::Result<()> {
        let ending = body::step_in_words(step.outcome, step.value.as_ref(), step.error.as_ref());
        let title = format!("{}: {ending}", words::one_line(&step.step));
        let part = self.part(Some(title), step.value.as_ref())?;
        self.steps.entry(step.target.clone()).or_default().push(part);
        Ok(())
    }

    /// Forgets the steps of a target, which is begun again.
    pub(super) fn forget(&mut self, target: &TargetId) {
        self.steps.remove(target);
    }

    /// Adds a target that ended.
    pub(super) fn add(&mut self, target: &TargetFinished) -> io::Result<()> {
        let ending = body::ending_in_words(target);
        let parts = match self.steps.remove(&target.target) {
            Some(parts) => parts,
            None => vec![self.part(None, target.value.as_ref())?],
        };
        let key = self.keys.of((target.outcome, &ending, &parts));
        let (outcome, names) = (target.outcome, Vec::new());
        let group = self.groups.entry(key).or_insert_with(|| Group { outcome, ending, names, count: 0, parts });
        group.count += 1;
        if group.names.len() < MOST_NAMES {
            group.names.push(target.target.label().to_owned());
        }
        Ok(())
    }

    fn part(&mut self, title: Option<String>, value: Option<&TargetValue>) -> io::Result<Part> {
        let stderr = match value {
            Some(TargetValue::Command(result)) => result.stderr.as_str(),
            _ => "",
        };
        let stdout = self.keep(value.map(body::text).unwrap_or_default())?;
        Ok(Part { title, stdout, stderr: self.keep(stderr.into())? })
    }

    fn keep(&mut self, text: Cow<'_, str>) -> io::Result<Key> {
        let key = self.keys.of(&text);
        if !self.texts.contains_key(&key) {
            self.texts.insert(key, self.shelf.keep(text)?);
        }
        Ok(key)
    }

    /// Prints the groups, the largest first.
    pub(super) fn print<O: Write, E: Write>(&mut self, to: &mut Streams<O, E>) -> io::Result<()> {
        let mut groups: Vec<Group> = self.groups.drain().map(|(_, group)| group).collect();
        groups.iter_mut().for_each(|group| group.names.sort_by(|a, b| words::order_of(a).cmp(&words::order_of(b))));
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.names.cmp(&b.names)));
        for group in groups {
            let more = if group.count > group.names.len() { ",..." } else { "" };
            let names = format!("{}{more} ({})", group.names.join(","), group.count);
            let first = match group.count {
                1 => group.names[0].clone(),
                count => format!("{},... ({count})", group.names[0]),
            };
            to.headline(group.outcome, format_args!("{names}: {}", group.ending))?;
            for part in &group.parts {
                if let Some(title) = &part.title {
                    writeln!(to.out, "-- {title}")?;
                }
                ended_lines(&mut to.out, &self.text(part.stdout)?)?;
                to.stderr_lines(&first, &self.text(part.stderr)?)?;
            }
        }
        Ok(())
    }

    fn text(&self, key: Key) -> io::Result<Cow<'_, str>> {
        self.texts.get(&key).map_or(Ok(Cow::Borrowed("")), |kept| self.shelf.read(kept))
    }
}
