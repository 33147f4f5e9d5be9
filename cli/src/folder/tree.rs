//! Where everything stands in a YAML file: its documents, and the position of each node by its path.
//!
//! The parser is the one that the typed reader uses too, so both see the same structure. This tree
//! holds positions, keys and short texts only; values are read by the typed reader.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScanError, Span, StrInput, Tag};

/// Deepest nesting. The deepest field of the API stands at about ten; the rest is room.
pub(crate) const MAX_NESTING: usize = 64;

/// Most nodes of a file: bounds memory and the time of an edit.
pub(crate) const MAX_NODES: usize = 250_000;

/// Most documents of a file.
pub(crate) const MAX_DOCUMENTS: usize = 1_000;

/// A place in a file, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// The line.
    pub(crate) line: usize,
    /// The column.
    pub(crate) column: usize,
}

impl Mark {
    /// Where a file begins.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A mistake in the YAML itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where.
    pub(crate) at: Mark,
    /// What.
    pub(crate) reason: String,
}

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// Its text, from the beginning of its first line.
    pub(crate) text: &'a str,
    /// The number of lines before it.
    pub(crate) lines_before: usize,
    /// Its content.
    pub(crate) root: Node,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A text, number, truth value or null, with its text.
    Scalar(Mark, Box<str>),
    /// A map.
    Map(Mark, Vec<Entry>),
    /// A list.
    List(Mark, Vec<Node>),
    /// A reference to an anchor. What it stands for has its place elsewhere.
    Alias(Mark),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key; absent when it is not a scalar.
    pub(crate) key: Option<Box<str>>,
    /// Where the key stands.
    pub(crate) at: Mark,
    /// The value.
    pub(crate) value: Node,
}

impl Node {
    /// Where it begins.
    pub(crate) fn at(&self) -> Mark {
        match self {
            Self::Scalar(at, _) | Self::Map(at, _) | Self::List(at, _) | Self::Alias(at) => *at,
        }
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match self {
            Self::Map(_, entries) => Some(entries),
            Self::Scalar(..) | Self::List(..) | Self::Alias(..) => None,
        }
    }

    /// The value under a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key.as_deref() == Some(key))
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(_, text) => Some(text),
            Self::Map(..) | Self::List(..) | Self::Alias(..) => None,
        }
    }

    /// What stands at a path such as `spec.rules[3].when`.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        steps(path).try_fold(self, |node, step| match (step, node) {
            (Step::Key(key), _) => node.get(key).map(|entry| &entry.value),
            (Step::Index(index), Self::List(_, items)) => items.get(index),
            (Step::Index(_), Self::Scalar(..) | Self::Map(..) | Self::Alias(..)) => None,
        })
    }

    /// Where a path such as `spec.rules[3].when` stands, or as much of it as exists. A value that is a
    /// scalar is shown itself, a map or list by its key, which stands where a reader looks first.
    pub(crate) fn locate(&self, path: &str) -> Mark {
        let mut node = self;
        let mut at = self.at();
        for step in steps(path) {
            let found = match step {
                Step::Key(key) => node.get(key).map(|entry| match entry.value {
                    Self::Scalar(at, ref text) if !text.is_empty() => (at, &entry.value),
                    _ => (entry.at, &entry.value),
                }),
                Step::Index(index) => match node {
                    Self::List(_, items) => items.get(index).map(|item| (item.at(), item)),
                    Self::Scalar(..) | Self::Map(..) | Self::Alias(..) => None,
                },
            };
            let Some((place, next)) = found else { break };
            (at, node) = (place, next);
        }
        at
    }

    /// The path of the value or key at a place, so that a reader's error can name it.
    pub(crate) fn path_of(&self, at: Mark) -> Option<String> {
        match self {
            Self::Map(_, entries) => entries.iter().find_map(|entry| {
                let key = entry.key.as_deref()?;
                if entry.at == at || entry.value.at() == at {
                    return Some(key.to_owned());
                }
                entry.value.path_of(at).map(|rest| match rest.starts_with('[') {
                    true => format!("{key}{rest}"),
                    false => format!("{key}.{rest}"),
                })
            }),
            Self::List(_, items) => items.iter().enumerate().find_map(|(index, item)| {
                if let Some(rest) = item.path_of(at) {
                    let dot = if rest.starts_with('[') { "" } else { "." };
                    return Some(format!("[{index}]{dot}{rest}"));
                }
                (item.at() == at).then(|| format!("[{index}]"))
            }),
            Self::Scalar(..) | Self::Alias(..) => None,
        }
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a path: keys between dots, indexes in brackets.
fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).map(|part| match part.strip_suffix(']') {
        Some(inner) => inner.parse().map_or(Step::Key(inner), Step::Index),
        None => Step::Key(part),
    })
}

/// Reads the structure of a file.
///
/// # Errors
/// At the first mistake.
pub(crate) fn parse(text: &str) -> Result<Vec<Document<'_>>, Malformed> {
    refuse_characters(text)?;
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut builder = Builder { parser: Parser::new_from_str_with_options(text, options), nodes: 0 };
    let mut starts: Vec<(usize, usize, Node)> = Vec::new();
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::DocumentStart(..) => {
                if starts.len() == MAX_DOCUMENTS {
                    let reason = format!("more than {MAX_DOCUMENTS} documents; split the file");
                    return Err(Malformed { at: mark(&span), reason });
                }
                let offset = span.start.byte_offset().unwrap_or(0);
                // The first line may be indented; its indentation belongs to the document.
                let start = text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
                let root = builder.required_node(&span)?;
                starts.push((start, span.start.line().saturating_sub(1), root));
            }
            Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => {}
            _ => return Err(Malformed { at: mark(&span), reason: "content outside of a document".to_owned() }),
        }
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(start, ..)| *start).chain([text.len()]).collect();
    let documents = starts.into_iter().zip(ends).map(|((start, lines_before, root), end)| Document {
        text: text.get(start..end).unwrap_or_default(),
        lines_before,
        root,
    });
    Ok(documents.collect())
}

/// Refuses what no policy needs and what readers disagree on: control characters and bare carriage
/// returns.
fn refuse_characters(text: &str) -> Result<(), Malformed> {
    let mut at = Mark::START;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\n' => {
                at = Mark { line: at.line + 1, column: 1 };
                continue;
            }
            '\t' => {}
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => {
                let reason = "a carriage return without a line feed; save the file with Unix line ends".to_owned();
                return Err(Malformed { at, reason });
            }
            character if character.is_control() => {
                let reason = format!("control character U+{:04X}; remove it", u32::from(character));
                return Err(Malformed { at, reason });
            }
            _ => {}
        }
        at.column += 1;
    }
    Ok(())
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    nodes: usize,
}

type Spanned<'a> = (Event<'a>, Span);

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<Spanned<'a>>, Malformed> {
        self.parser.next_event().transpose().map_err(|error| scan_error(&error))
    }

    fn required_node(&mut self, near: &Span) -> Result<Node, Malformed> {
        let unfinished = || Malformed { at: mark(near), reason: "the document is not finished".to_owned() };
        let (event, span) = self.next()?.ok_or_else(unfinished)?;
        self.node(event, &span)?.ok_or_else(unfinished)
    }

    /// The node that an event begins; `None` for the end of a collection. The parser's bounds on
    /// nesting bound the recursion.
    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Option<Node>, Malformed> {
        self.nodes += 1;
        let at = mark(span);
        if self.nodes > MAX_NODES {
            return Err(Malformed { at, reason: format!("more than {MAX_NODES} values; split the file") });
        }
        match event {
            Event::Scalar(text, _, _, tag) => {
                refuse_tag(span, tag)?;
                // The parser says `~` where nothing stands.
                Ok(Some(Node::Scalar(at, if span.is_empty() { "".into() } else { text.into() })))
            }
            Event::SequenceStart(_, _, tag) => {
                refuse_tag(span, tag)?;
                let mut items = Vec::new();
                while let Some(item) = self.child(span)? {
                    items.push(item);
                }
                Ok(Some(Node::List(at, items)))
            }
            Event::MappingStart(_, _, tag) => {
                refuse_tag(span, tag)?;
                let mut entries = Vec::new();
                while let Some(key) = self.child(span)? {
                    let value = self.required_node(span)?;
                    let at = key.at();
                    let key = match key {
                        Node::Scalar(_, text) => Some(text),
                        Node::Map(..) | Node::List(..) | Node::Alias(..) => None,
                    };
                    entries.push(Entry { key, at, value });
                }
                Ok(Some(Node::Map(at, entries)))
            }
            Event::Alias(_) => Ok(Some(Node::Alias(at))),
            _ => Ok(None),
        }
    }

    fn child(&mut self, parent: &Span) -> Result<Option<Node>, Malformed> {
        let Some((event, span)) = self.next()? else {
            return Err(Malformed { at: mark(parent), reason: "the collection is not closed".to_owned() });
        };
        self.node(event, &span)
    }
}

/// Tags change what a value is; nothing in the API needs one.
fn refuse_tag(span: &Span, tag: Option<Cow<'_, Tag>>) -> Result<(), Malformed> {
    if tag.is_none() {
        return Ok(());
    }
    let at = span.tag_start().map_or_else(|| mark(span), place);
    Err(Malformed { at, reason: "a YAML tag (!...); remove it".to_owned() })
}

fn mark(span: &Span) -> Mark {
    place(span.start)
}

fn place(marker: Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

fn scan_error(error: &ScanError) -> Malformed {
    let at = Mark { line: error.marker().line().max(1), column: error.marker().col() + 1 };
    Malformed { at, reason: error.info() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nkind: A\nspec:\n  rules:\n  - name: one\n    when: x > 1\n  - {name: two}\n  empty:\n---\nkind: B\n";

    #[test]
    fn paths_have_places() {
        let documents = parse(TEXT).unwrap();
        assert_eq!(documents.len(), 2);
        let root = &documents[0].root;
        for (path, line, column) in [
            ("kind", 2, 7),
            ("spec", 3, 1),
            ("spec.rules", 4, 3),
            ("spec.rules[0]", 5, 5),
            ("spec.rules[0].when", 6, 11),
            ("spec.rules[1].name", 7, 12),
            ("spec.rules[1].tier", 7, 5),
            ("spec.rules[9].tier", 4, 3),
            ("spec.empty", 8, 3),
            ("metadata.name", 2, 1),
            ("", 2, 1),
        ] {
            assert_eq!(root.locate(path), Mark { line, column }, "{path}");
        }
        assert_eq!(documents[1].root.locate("kind"), Mark { line: 10, column: 7 });
    }

    #[test]
    fn places_have_paths() {
        let documents = parse(TEXT).unwrap();
        let root = &documents[0].root;
        for path in ["kind", "spec.rules[0].when", "spec.rules[1].name", "spec.empty"] {
            assert_eq!(root.path_of(root.locate(path)).as_deref(), Some(path));
        }
        assert_eq!(root.path_of(Mark { line: 99, column: 1 }), None);
    }

    #[test]
    fn documents_keep_their_text_and_line() {
        let documents = parse(TEXT).unwrap();
        assert_eq!((documents[0].lines_before, documents[1].lines_before), (1, 8));
        assert!(documents[0].text.starts_with("kind: A\n"));
        assert_eq!(documents[1].text, "---\nkind: B\n");
        let text = "--- {a: 1}\n...\n  b: 2\n";
        let documents = parse(text).unwrap();
        assert_eq!(documents[1].text, "  b: 2\n");
        assert_eq!(documents[1].lines_before, 2);
    }

    #[test]
    fn mistakes_have_places() {
        for (text, line, column, reason) in [
            ("a: b\n c: d\n", 2, 3, ""),
            ("a: [1, 2\n", 1, 4, "bracket"),
            ("a: b\u{0}\n", 1, 5, "U+0000"),
            ("a: 1\rb: 2", 1, 5, "carriage return"),
            ("a: !!binary aGk=\n", 1, 4, "tag"),
            ("%YAML 1.2\n---\na: b\n", 1, 1, "directive"),
            ("a: *b\n", 1, 4, "anchor"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at.line, line, "{text:?}: {error:?}");
            if !reason.is_empty() {
                assert_eq!(error.at.column, column, "{text:?}: {error:?}");
                assert!(error.reason.to_lowercase().contains(&reason.to_lowercase()), "{text:?}: {error:?}");
            }
        }
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            assert!(parse(&text).is_err());
        }
        let many = format!("[{}]", "1,".repeat(MAX_NODES + 1));
        assert!(parse(&many).unwrap_err().reason.contains("values"));
        let documents = "---\na: 1\n".repeat(MAX_DOCUMENTS + 1);
        assert!(parse(&documents).unwrap_err().reason.contains("documents"));
    }
}
