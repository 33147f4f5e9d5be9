//! Lists of rules, and the index of tools.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Group, Rule, RuleId};
use crate::document::Category;
use crate::pattern::{Glob, ToolPattern};

/// Rules that are about the same actions, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    rules: Vec<RuleId>,
    /// The group whose later rules cannot be reached any more.
    closed: Option<usize>,
}

impl List {
    /// Adds a rule; rules come in ascending order. A rule behind one of its policy that decides
    /// whatever is asked could never decide, and is left out.
    pub(super) fn push(&mut self, id: RuleId, rule: &Rule, group: &Group) {
        if self.closed == Some(rule.group) || self.rules.last() == Some(&id) {
            return;
        }
        self.rules.push(id);
        if rule.when.is_none() && rule.schedule.is_none() && group.mode.is_some() {
            self.closed = Some(rule.group);
        }
    }

    /// Adds a rule about a category to the list of actions of a category, where it is about them or may be:
    /// where the category is unknown the rule cannot decide, so it hides none that comes later.
    pub(super) fn push_category(
        &mut self,
        about: Category,
        own: Option<Category>,
        id: RuleId,
        rule: &Rule,
        group: &Group,
    ) {
        match own {
            Some(own) if own == about => self.push(id, rule, group),
            None if self.closed != Some(rule.group) => self.rules.push(id),
            Some(_) | None => {}
        }
    }

    pub(super) fn as_slice(&self) -> &[RuleId] {
        &self.rules
    }
}

/// Joins lists into one that ascends and names no rule twice.
pub(super) fn join<'a>(lists: &[&'a [RuleId]]) -> Cow<'a, [RuleId]> {
    let mut filled = lists.iter().filter(|list| !list.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => Cow::Borrowed(&[]),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => {
            let mut all = lists.concat();
            all.sort_unstable();
            all.dedup();
            Cow::Owned(all)
        }
    }
}

/// Rules by the name of a tool: exact names by hash, patterns by their literal beginning or, when they
/// start with a star, by their literal end.
#[derive(Debug, Default)]
pub(super) struct ToolIndex {
    exact: HashMap<Box<str>, List>,
    prefixes: Buckets,
    suffixes: Buckets,
    /// Rules about the categories of tools; those of no category last. Empty when there are none.
    categories: Vec<(Option<Category>, List)>,
}

/// Patterns by a literal part, and the lengths that these parts have.
#[derive(Debug, Default)]
struct Buckets {
    lengths: Vec<usize>,
    patterns: HashMap<Box<str>, Vec<(Glob, List)>>,
}

impl ToolIndex {
    pub(super) fn insert(&mut self, pattern: &ToolPattern, id: RuleId, rule: &Rule, group: &Group) {
        let glob = pattern.glob();
        let list = match glob.exact() {
            Some(name) => self.exact.entry(name.into()).or_default(),
            None if glob.prefix().is_empty() => self.suffixes.list(glob.suffix(), glob),
            None => self.prefixes.list(glob.prefix(), glob),
        };
        list.push(id, rule, group);
    }

    /// Adds a rule about a category.
    pub(super) fn insert_category(&mut self, category: Category, id: RuleId, rule: &Rule, group: &Group) {
        if self.categories.is_empty() {
            let known = Category::ALL.map(Some);
            self.categories = known.into_iter().chain([None]).map(|category| (category, List::default())).collect();
        }
        for (own, list) in &mut self.categories {
            list.push_category(category, *own, id, rule, group);
        }
    }

    pub(super) fn find(&self, name: &str, category: Option<Category>) -> Cow<'_, [RuleId]> {
        let exact = self.exact.get(name).map(List::as_slice).unwrap_or_default();
        let categorised = self.categories.iter().find(|(own, _)| *own == category);
        let categorised = categorised.map(|(_, list)| list.as_slice()).unwrap_or_default();
        if self.prefixes.lengths.is_empty() && self.suffixes.lengths.is_empty() && categorised.is_empty() {
            return Cow::Borrowed(exact);
        }
        let mut lists = vec![exact, categorised];
        self.prefixes.find(name, |length| name.get(..length), &mut lists);
        self.suffixes.find(name, |length| name.get(name.len().checked_sub(length)?..), &mut lists);
        join(&lists)
    }
}

impl Buckets {
    fn list(&mut self, part: &str, glob: &Glob) -> &mut List {
        if let Err(place) = self.lengths.binary_search(&part.len()) {
            self.lengths.insert(place, part.len());
        }
        let bucket = self.patterns.entry(part.into()).or_default();
        let place = bucket.iter().position(|(known, _)| known == glob).unwrap_or(bucket.len());
        if place == bucket.len() {
            bucket.push((glob.clone(), List::default()));
        }
        let (_, list) = bucket.get_mut(place).expect("the place was just filled");
        list
    }

    fn find<'a, 'n>(&'a self, name: &str, part: impl Fn(usize) -> Option<&'n str>, lists: &mut Vec<&'a [RuleId]>) {
        for &length in &self.lengths {
            let Some(bucket) = part(length).and_then(|part| self.patterns.get(part)) else { continue };
            let matching = bucket.iter().filter(|(glob, _)| glob.matches(name));
            lists.extend(matching.map(|(_, list)| list.as_slice()));
        }
    }
}
