//! A literal with `*` in it.

use super::{MAX_STARS, PatternError};

/// A text in which `*` stands for any run of characters, the empty one included. Everything else is
/// literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    text: Box<str>,
    exact: bool,
}

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.bytes().filter(|&b| b == b'*').count() > MAX_STARS {
            return Err(PatternError(format!("the pattern has more than {MAX_STARS} '*' in one segment")));
        }
        Ok(Self { exact: !text.contains('*'), text: text.into() })
    }

    /// The literal, when there is no `*`.
    pub(crate) fn exact(&self) -> Option<&str> {
        self.exact.then_some(&*self.text)
    }

    /// What stands before the first `*`.
    pub(crate) fn prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    /// What stands behind the last `*`.
    pub(crate) fn suffix(&self) -> &str {
        self.text.rsplit('*').next().unwrap_or_default()
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.exact {
            return *self.text == *text;
        }
        let Some(mut rest) = text.strip_prefix(self.prefix()) else {
            return false;
        };
        let Some(middle) = rest.strip_suffix(self.suffix()) else {
            return false;
        };
        rest = middle;
        // Between the first and the last `*`, the leftmost place of each part is as good as any.
        let mut parts = self.text.split('*').skip(1).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                break;
            }
            let Some(place) = rest.find(part) else {
                return false;
            };
            rest = rest.get(place + part.len()..).unwrap_or_default();
        }
        true
    }

    /// Whether some text matches both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        overlap(self.text.as_bytes(), other.text.as_bytes())
    }
}

/// Whether two patterns share a text: dynamic programming over their positions.
fn overlap(one: &[u8], two: &[u8]) -> bool {
    let width = two.len() + 1;
    let mut reach = vec![false; (one.len() + 1) * width];
    if let Some(start) = reach.first_mut() {
        *start = true;
    }
    for i in 0..=one.len() {
        for j in 0..=two.len() {
            if !reach.get(i * width + j).copied().unwrap_or_default() {
                continue;
            }
            let (a, b) = (one.get(i).copied(), two.get(j).copied());
            let mut mark = |i: usize, j: usize| {
                if let Some(cell) = reach.get_mut(i * width + j).filter(|_| j < width) {
                    *cell = true;
                }
            };
            // A star matches nothing, or swallows one item of the other pattern.
            if a == Some(b'*') {
                mark(i + 1, j);
                mark(i, j + 1);
            }
            if b == Some(b'*') {
                mark(i, j + 1);
                mark(i + 1, j);
            }
            if a.is_some() && a == b {
                mark(i + 1, j + 1);
            }
        }
    }
    reach.last().copied().unwrap_or_default()
}
