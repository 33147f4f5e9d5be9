//! Host patterns.

use super::{Glob, PatternError};
use crate::HostName;

/// A host, or a pattern of hosts: `*` stands for any run of characters within one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    text: Box<str>,
    labels: Vec<Glob>,
}

impl HostPattern {
    /// Parses a host or a pattern of hosts.
    ///
    /// # Errors
    /// When, with a letter in place of every `*`, it is no [`HostName`], has more than
    /// [`MAX_STARS`](super::MAX_STARS) stars in one label, or has one in its last label (which would
    /// match names of every owner).
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        HostName::parse(&text.replace('*', "x"))
            .map_err(|error| PatternError(format!("the host {text:?}: {error}")))?;
        let text = text.to_ascii_lowercase();
        let labels = text.split('.').map(Glob::parse).collect::<Result<Vec<_>, _>>()?;
        if labels.last().is_some_and(|last| last.exact().is_none()) {
            return PatternError::new(format!("the host {text:?} has '*' in its last label"));
        }
        Ok(Self { text: text.into(), labels })
    }

    /// Whether it stands for one host only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// Whether a host matches.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        if self.is_exact() {
            return *self.text == *host.as_str();
        }
        let mut labels = self.labels.iter();
        host.as_str().split('.').all(|label| labels.next().is_some_and(|glob| glob.matches(label)))
            && labels.next().is_none()
    }

    /// Whether some host matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.labels.len() == other.labels.len()
            && self.labels.iter().zip(&other.labels).all(|(one, two)| one.overlaps(two))
    }

    /// As it was written, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
