use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write},
};

use super::{
    body,
    human::{Streams, ended_lines},
    spill::{Place, Spill},
};
use crate::{
    Outcome,
    fleet::{TargetFinished, TargetValue},
};

/// How many bytes of folded output are kept in memory; the rest is in a file.
const BOUND: usize = 16 << 20;

/// How many targets of a group are named.
const MOST_NAMES: usize = 64;

/// Groups of targets that ended alike: with the same outcome, exit code, stdout and stderr.
///
/// It takes time linear in the output. Groups are told apart by two keyed hashes of 64 bits, so that no output can be made
/// up to be taken for another.
#[derive(Default)]
pub(super) struct Fold {
    groups: HashMap<(u64, u64), Group>,
    keys: (RandomState, RandomState),
    bytes: usize,
    spill: Spill,
}

struct Group {
    outcome: Outcome,
    /// How they ended, in words.
    ending: String,
    names: Vec<String>,
    /// All of them, named or not.
    count: usize,
    stdout: Kept,
    stderr: Kept,
}

enum Kept {
    Here(String),
    Spilled(Place),
}

impl Fold {
    /// Adds a target that ended.
    pub(super) fn add(&mut self, target: &TargetFinished) -> io::Result<()> {
        let ending = body::ending_in_words(target);
        let stdout = target.value.as_ref().map(body::text).unwrap_or_default();
        let stderr = match &target.value {
            Some(TargetValue::Command(result)) => result.stderr.as_str(),
            _ => "",
        };
        let content = (target.outcome, &ending, &stdout, stderr);
        let key = (self.keys.0.hash_one(content), self.keys.1.hash_one(content));
        if !self.groups.contains_key(&key) {
            let (stdout, stderr) = (self.keep(&stdout)?, self.keep(stderr)?);
            let (outcome, names) = (target.outcome, Vec::new());
            self.groups.insert(key, Group { outcome, ending, names, count: 0, stdout, stderr });
        }
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            if group.names.len() < MOST_NAMES {
                group.names.push(target.target.label().to_owned());
            }
        }
        Ok(())
    }

    /// Prints the groups, the largest first.
    pub(super) fn print<O: Write, E: Write>(&mut self, to: &mut Streams<O, E>) -> io::Result<()> {
        let mut groups: Vec<Group> = self.groups.drain().map(|(_, group)| group).collect();
        groups.iter_mut().for_each(|group| group.names.sort_unstable());
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.names.cmp(&b.names)));
        for group in groups {
            let more = if group.count > group.names.len() { ",..." } else { "" };
            let names = format!("{}{more} ({})", group.names.join(","), group.count);
            let first = match group.count {
                1 => group.names[0].clone(),
                count => format!("{},... ({count})", group.names[0]),
            };
            to.headline(group.outcome, format_args!("{names}: {}", group.ending))?;
            let (stdout, stderr) = (self.fetch(group.stdout)?, self.fetch(group.stderr)?);
            ended_lines(&mut to.out, &stdout)?;
            to.stderr_lines(&first, &stderr)?;
        }
        Ok(())
    }

    fn keep(&mut self, text: &str) -> io::Result<Kept> {
        if self.bytes + text.len() > BOUND {
            return self.spill.append(text.as_bytes()).map(Kept::Spilled);
        }
        self.bytes += text.len();
        Ok(Kept::Here(text.to_owned()))
    }

    fn fetch(&self, kept: Kept) -> io::Result<String> {
        match kept {
            Kept::Here(text) => Ok(text),
            Kept::Spilled(place) => String::from_utf8(self.spill.read(place)?).map_err(io::Error::other),
        }
    }
}
