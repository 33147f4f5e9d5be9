//! Tries of path patterns and of path templates.

use std::collections::HashMap;

use super::index::List;
use super::{Group, Rule, RuleId};
use crate::path::Segment;
use crate::pattern::{Glob, PathPattern, PathTemplate, PatternSegment, TemplateSegment};

/// Rules by path patterns.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    /// Rules about every path.
    all: List,
    /// A trie; the first node is the root.
    nodes: Vec<PathNode>,
}

#[derive(Debug, Default)]
struct PathNode {
    literals: HashMap<Box<str>, usize>,
    globs: Vec<(Glob, usize)>,
    /// The node behind `**`, which stays where it is whatever segment comes.
    any: Option<usize>,
    stays: bool,
    rules: List,
}

impl PathIndex {
    pub(super) fn has_patterns(&self) -> bool {
        !self.nodes.is_empty()
    }

    pub(super) fn insert_all(&mut self, id: RuleId, rule: &Rule, group: &Group) {
        self.all.push(id, rule, group);
    }

    pub(super) fn insert(&mut self, pattern: &PathPattern, id: RuleId, rule: &Rule, group: &Group) {
        if self.nodes.is_empty() {
            self.nodes.push(PathNode::default());
        }
        let mut at = 0;
        for segment in pattern.segments() {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = match segment {
                PatternSegment::Any => *node.any.get_or_insert(next),
                PatternSegment::One(glob) => match glob.exact() {
                    Some(literal) => *node.literals.entry(literal.into()).or_insert(next),
                    None => match node.globs.iter().find(|(known, _)| known == glob) {
                        Some((_, known)) => *known,
                        None => {
                            node.globs.push((glob.clone(), next));
                            next
                        }
                    },
                },
            };
            if at == next {
                self.nodes.push(PathNode { stays: *segment == PatternSegment::Any, ..PathNode::default() });
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.rules.push(id, rule, group);
        }
    }

    /// Adds the lists of all patterns that match.
    pub(super) fn find<'a>(&'a self, segments: &[Segment<'_>], lists: &mut Vec<&'a [RuleId]>) {
        lists.push(self.all.as_slice());
        let mut active = Vec::new();
        self.enter(0, &mut active);
        for segment in segments {
            let mut next = Vec::new();
            for node in active.iter().filter_map(|&at| self.nodes.get(at).map(|node| (at, node))) {
                self.step(node, segment, &mut next);
            }
            next.sort_unstable();
            next.dedup();
            active = next;
        }
        lists.extend(active.iter().filter_map(|&at| self.nodes.get(at)).map(|node| node.rules.as_slice()));
    }

    fn step(&self, (at, node): (usize, &PathNode), segment: &Segment<'_>, next: &mut Vec<usize>) {
        if node.stays {
            self.enter(at, next);
        }
        if segment.has_slash {
            return;
        }
        if let Some(&child) = node.literals.get(&*segment.text) {
            self.enter(child, next);
        }
        for (_, child) in node.globs.iter().filter(|(glob, _)| glob.matches(&segment.text)) {
            self.enter(*child, next);
        }
    }

    /// A node, and what is behind it when `**` stands for no segment.
    fn enter(&self, at: usize, active: &mut Vec<usize>) {
        let mut next = Some(at);
        while let Some(at) = next {
            let Some(node) = self.nodes.get(at) else { return };
            active.push(at);
            next = node.any;
        }
    }
}

/// Operations by path template. A literal segment beats a variable, as in OpenAPI.
#[derive(Debug, Default)]
pub(super) struct TemplateIndex {
    nodes: Vec<TemplateNode>,
}

#[derive(Debug, Default)]
struct TemplateNode {
    literals: HashMap<Box<str>, usize>,
    variable: Option<usize>,
    operation: Option<usize>,
}

impl TemplateIndex {
    /// Adds an operation, or says which one already has a template of the same shape.
    pub(super) fn insert(&mut self, template: &PathTemplate, operation: usize) -> Result<(), usize> {
        if self.nodes.is_empty() {
            self.nodes.push(TemplateNode::default());
        }
        let mut at = 0;
        for segment in template.segments() {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
            at = match segment {
                TemplateSegment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                TemplateSegment::Variable(_) => *node.variable.get_or_insert(next),
            };
            if at == next {
                self.nodes.push(TemplateNode::default());
            }
        }
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        match node.operation {
            Some(other) => Err(other),
            None => {
                node.operation = Some(operation);
                Ok(())
            }
        }
    }

    pub(super) fn find(&self, segments: &[Segment<'_>]) -> Option<usize> {
        self.walk(0, segments)
    }

    /// Depth is bounded by [`MAX_PATTERN_SEGMENTS`](crate::pattern::MAX_PATTERN_SEGMENTS), and every
    /// node is visited at most once: the trie is a tree.
    fn walk(&self, at: usize, segments: &[Segment<'_>]) -> Option<usize> {
        let node = self.nodes.get(at)?;
        let Some((segment, rest)) = segments.split_first() else {
            return node.operation;
        };
        if segment.has_slash {
            return None;
        }
        let literal = node.literals.get(&*segment.text).and_then(|&child| self.walk(child, rest));
        literal.or_else(|| match node.variable {
            Some(child) if !segment.text.is_empty() => self.walk(child, rest),
            _ => None,
        })
    }
}
