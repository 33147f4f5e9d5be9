//! Files of other formats, read with the place of every value. JSON is read as what it is, a subset of YAML.

use std::path::{Path, PathBuf};

use super::Mistakes;
use crate::folder::{self, Mark, Node};
use crate::problem::{Fix, Problem};
use crate::suggest::nearest;

/// A file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        Ok(Self { file: file.to_owned(), text: folder::read_text(file).map_err(|problem| problem.to_string())? })
    }

    /// Its one document.
    ///
    /// # Errors
    /// When it is no YAML, or not one document.
    pub(super) fn tree(&self) -> Result<Node, Mistakes> {
        folder::parse_tree(&self.file, &self.text).map_err(|problem| vec![*problem])
    }

    /// A mistake in it.
    pub(super) fn mistake(&self, at: Mark, reason: impl Into<String>) -> Mistakes {
        vec![Problem::in_file(&self.file, at, reason)]
    }
}

/// A map of a file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    source: &'a Source,
    pub(super) node: &'a Node,
}

impl<'a> Fields<'a> {
    /// A map whose keys are all known.
    ///
    /// # Errors
    /// For each key that is unknown, twice there, or no text.
    pub(super) fn of(source: &'a Source, node: &'a Node, known: &[&str]) -> Result<Self, Mistakes> {
        let fields = Self::any(source, node)?;
        let mut mistakes = Mistakes::new();
        for (key, entry) in fields.entries() {
            if !known.contains(&key) {
                let reason = format!("unknown key {key:?}; known here: {}", known.join(", "));
                let mut problem = Problem::in_file(&source.file, entry.0, reason);
                problem.fix = nearest(key, known.iter().copied())
                    .map(|with| Fix { replace: key.to_owned(), with: with.to_owned() });
                mistakes.push(problem);
            }
        }
        if mistakes.is_empty() { Ok(fields) } else { Err(mistakes) }
    }

    /// A map with any keys, each once.
    ///
    /// # Errors
    /// When it is none, or a key is twice there or no text.
    pub(super) fn any(source: &'a Source, node: &'a Node) -> Result<Self, Mistakes> {
        let Some(entries) = node.entries() else {
            return Err(source.mistake(node.at(), "a map is expected here, written out"));
        };
        for (index, entry) in entries.iter().enumerate() {
            let Some(key) = entry.key.as_deref() else {
                return Err(source.mistake(entry.at, "a key that is not text"));
            };
            if entries.iter().take(index).any(|earlier| earlier.key.as_deref() == Some(key)) {
                return Err(source.mistake(entry.at, format!("the key {key:?} is there twice; remove one")));
            }
        }
        Ok(Self { source, node })
    }

    /// The keys, each with its place, and the values.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, (Mark, &'a Node))> {
        let entries = self.node.entries().unwrap_or_default().iter();
        entries.filter_map(|entry| Some((entry.key.as_deref()?, (entry.at, &entry.value))))
    }

    /// The value of a key.
    pub(super) fn get(self, key: &str) -> Option<&'a Node> {
        self.node.get(key).map(|entry| &entry.value)
    }

    /// The map under a key.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) fn map(self, key: &str, known: &[&str]) -> Result<Option<Self>, Mistakes> {
        self.get(key).map(|node| Self::of(self.source, node, known)).transpose()
    }

    /// The text under a key.
    ///
    /// # Errors
    /// When there is no text.
    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, Mistakes> {
        self.get(key).map(|node| text(self.source, node)).transpose()
    }

    /// The text under a key, which is one of these.
    ///
    /// # Errors
    /// When it is another.
    pub(super) fn one_of(self, key: &str, known: &[&str]) -> Result<Option<&'a str>, Mistakes> {
        let Some(found) = self.text(key)? else { return Ok(None) };
        if known.contains(&found) {
            return Ok(Some(found));
        }
        let at = self.get(key).map_or(Mark::START, Node::at);
        Err(self.source.mistake(at, format!("{key} is {found:?}, not one of {}", known.join(", "))))
    }

    /// The texts under a key; empty when it is not there.
    ///
    /// # Errors
    /// When there is no list of texts.
    pub(super) fn list(self, key: &str) -> Result<Vec<(Mark, &'a str)>, Mistakes> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        let Node::List(_, items) = node else {
            return Err(self.source.mistake(node.at(), format!("{key} is no list; write [] for an empty one")));
        };
        items.iter().map(|item| Ok((item.at(), text(self.source, item)?))).collect()
    }
}

fn text<'a>(source: &Source, node: &'a Node) -> Result<&'a str, Mistakes> {
    match node.text() {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(source.mistake(node.at(), "a text is expected here, written out")),
    }
}

/// Names of tools: literal, since a `*` that was one letter would stand for any.
///
/// # Errors
/// When one could stand for others, or no rule can name it.
pub(super) fn tools(source: &Source, names: &[(Mark, &str)]) -> Result<Vec<String>, Mistakes> {
    let mut tools = Vec::new();
    for (at, name) in names {
        if name.contains('*') {
            return Err(
                source.mistake(*at, format!("{name:?}: write names without '*', which could stand for more here"))
            );
        }
        if let Err(error) = clawlock_policy::pattern::ToolPattern::parse(name) {
            return Err(source.mistake(*at, format!("{name:?} is no name of a tool: {error}")));
        }
        tools.push((*name).to_owned());
    }
    tools.sort();
    tools.dedup();
    Ok(tools)
}

/// Rules for tools, as many as lists of bounded length need.
pub(super) fn tool_rules(name: &str, tools: &[String], tier: &'static str) -> Vec<super::Rule> {
    let chunks = tools.chunks(clawlock_crds::bounds::MAX_PATTERNS).enumerate();
    let rules = chunks.map(|(index, tools)| {
        let name = if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) };
        super::Rule::tools(&name, tools, tier)
    });
    rules.collect()
}
