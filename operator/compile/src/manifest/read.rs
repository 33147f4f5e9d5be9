//! A manifest's text as a tree in which every value knows its place, so that a mistake can be shown. The two libraries
//! read JSON and TOML; nothing is parsed here.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Form, Mistake, Place};
use crate::text::quoted;

/// Deepest nesting that is looked into: a role's list of tools stands in the fourth level. What is deeper is no text, list
/// or map of any key, and need not be known.
const MAX_DEPTH: usize = 4;

/// A value and where it begins, in bytes.
#[derive(Debug)]
pub(super) struct Node {
    at: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    Other,
}

/// A key of a map, where it begins, and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    at: usize,
    pub(super) value: Node,
}

impl Entry {
    /// Where its key stands in the text that it was read from.
    pub(super) fn place(&self, text: &str) -> Place {
        place(text, self.at)
    }

    /// A mistake in its key.
    pub(super) fn mistake(&self, text: &str, reason: impl Into<String>) -> Mistake {
        Mistake { at: self.place(text), reason: reason.into(), unknown_key: None }
    }
}

impl Node {
    /// Where it stands in the text that it was read from.
    pub(super) fn place(&self, text: &str) -> Place {
        place(text, self.at)
    }

    /// A mistake in it.
    pub(super) fn mistake(&self, text: &str, reason: impl Into<String>) -> Mistake {
        Mistake { at: self.place(text), reason: reason.into(), unknown_key: None }
    }
}

fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Place { line: before.matches('\n').count() + 1, column }
}

/// Reads a text.
///
/// # Errors
/// When it is not in its form.
pub(super) fn read(text: &str, form: Form) -> Result<Node, Mistake> {
    match form {
        Form::Json => {
            let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
                let at = Place { line: error.line().max(1), column: error.column().max(1) };
                Mistake { at, reason: format!("no JSON: {}", plain(&error)), unknown_key: None }
            })?;
            json(text, raw, 0)
        }
        Form::Toml => {
            let table = DeTable::parse(text).map_err(|error| {
                let at = place(text, error.span().map_or(0, |span| span.start));
                Mistake { at, reason: format!("no TOML: {}", one_line(error.message())), unknown_key: None }
            })?;
            Ok(Node { at: table.span().start, value: toml_table(table.get_ref(), 0) })
        }
    }
}

/// A part of a JSON text. What the library hands out borrows from the text, which tells its place.
fn json(text: &str, raw: &RawValue, depth: usize) -> Result<Node, Mistake> {
    let raw = raw.get();
    let at = offset(text, raw);
    let wrong = |error: serde_json::Error| {
        let reason = format!("no JSON: {}", plain(&error));
        Mistake { at: place(text, at), reason, unknown_key: None }
    };
    let value = match raw.as_bytes().first() {
        Some(b'"') => Value::Text(serde_json::from_str(raw).map_err(wrong)?),
        Some(b'[') if depth < MAX_DEPTH => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(wrong)?;
            Value::List(items.into_iter().map(|item| json(text, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'{') if depth < MAX_DEPTH => {
            let Entries(entries) = serde_json::from_str(raw).map_err(wrong)?;
            let entries = entries.into_iter().map(|(key, value)| {
                let (key, at) = (key.get(), offset(text, key.get()));
                Ok(Entry { key: serde_json::from_str(key).map_err(wrong)?, at, value: json(text, value, depth + 1)? })
            });
            Value::Map(entries.collect::<Result<_, _>>()?)
        }
        _ => Value::Other,
    };
    Ok(Node { at, value })
}

/// Where a part of a text begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The members of an object in their order, also those that are there twice.
struct Entries<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn toml_table(table: &DeTable<'_>, depth: usize) -> Value {
    let entries = table.iter().map(|(key, value)| Entry {
        key: key.get_ref().to_string(),
        at: key.span().start,
        value: toml_value(value, depth + 1),
    });
    Value::Map(entries.collect())
}

fn toml_value(value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
    let at = value.span().start;
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Array(items) if depth < MAX_DEPTH => {
            Value::List(items.iter().map(|item| toml_value(item, depth + 1)).collect())
        }
        DeValue::Table(table) if depth < MAX_DEPTH => toml_table(table, depth),
        _ => Value::Other,
    };
    Node { at, value }
}

/// The error without its place, which is told otherwise.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    one_line(text.strip_suffix(&place).unwrap_or(&text))
}

/// What libraries say can repeat what they read.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) node: &'a Node,
    pub(super) text: &'a str,
}

/// A map whose keys are there once.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    text: &'a str,
    node: &'a Node,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// A map with these keys.
    ///
    /// # Errors
    /// When it has others, or as [`Self::any`].
    pub(super) fn of(text: &'a str, node: &'a Node, known: &[&str]) -> Result<Self, Mistake> {
        let fields = Self::any(text, node)?;
        match fields.entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            None => Ok(fields),
            Some(entry) => {
                let reason = format!("unknown key {}; known here: {}", quoted(&entry.key), known.join(", "));
                Err(Mistake { unknown_key: Some(entry.key.clone()), ..entry.mistake(text, reason) })
            }
        }
    }

    /// A map with any keys.
    ///
    /// # Errors
    /// When it is none, or has a key twice.
    pub(super) fn any(text: &'a str, node: &'a Node) -> Result<Self, Mistake> {
        let Value::Map(entries) = &node.value else {
            return Err(node.mistake(text, "a map is expected here"));
        };
        let mut seen = HashSet::new();
        for entry in entries {
            if !seen.insert(&entry.key) {
                return Err(entry.mistake(text, format!("the key {} is there twice; remove one", quoted(&entry.key))));
            }
        }
        Ok(Self { text, node, entries })
    }

    /// A mistake of the whole map.
    pub(super) fn mistake(&self, reason: &str) -> Mistake {
        self.node.mistake(self.text, reason)
    }

    /// The keys and values.
    pub(super) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// A key and its value.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The text of a key.
    ///
    /// # Errors
    /// When its value is none.
    pub(super) fn text(&self, key: &str) -> Result<Option<Text<'a>>, Mistake> {
        self.get(key).map(|entry| self.text_of(&entry.value)).transpose()
    }

    /// The text of a key, which is one of these.
    ///
    /// # Errors
    /// When it is another.
    pub(super) fn one_of(&self, key: &str, known: &[&'static str]) -> Result<Option<&'static str>, Mistake> {
        let Some(found) = self.text(key)? else { return Ok(None) };
        let reason = || format!("{key} is {}, not one of {}", quoted(found.text), known.join(", "));
        let value = known.iter().find(|known| **known == found.text);
        value.map(|value| Some(*value)).ok_or_else(|| found.node.mistake(self.text, reason()))
    }

    /// The texts of a key; none when it is not there.
    ///
    /// # Errors
    /// When its value is no list of texts.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Text<'a>>, Mistake> {
        let Some(entry) = self.get(key) else { return Ok(Vec::new()) };
        let Value::List(items) = &entry.value.value else {
            return Err(entry.value.mistake(self.text, format!("{key} is no list; write [] for an empty one")));
        };
        items.iter().map(|item| self.text_of(item)).collect()
    }

    fn text_of(&self, node: &'a Node) -> Result<Text<'a>, Mistake> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Ok(Text { node, text }),
            _ => Err(node.mistake(self.text, "a text is expected here")),
        }
    }
}
