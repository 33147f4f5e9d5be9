//! Path patterns and path templates.
//!
//! Both are compared with decoded segments, so they are written decoded: `%` has no meaning here and
//! is refused. What [`RequestPath`](crate::RequestPath) refuses cannot be written either.

use std::sync::Arc;

use super::{Glob, MAX_DOUBLE_STARS, MAX_PATH_PATTERN, MAX_PATTERN_SEGMENTS, PatternError};
use crate::path::Segment;

/// A pattern of paths: `*` stands for any run of characters within one segment, `**` as a whole
/// segment for any number of segments, none included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern(Vec<PatternSegment>);

/// A segment of a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PatternSegment {
    /// One segment.
    One(Glob),
    /// `**`.
    Any,
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When it does not start with `/`, is longer than [`MAX_PATH_PATTERN`], has too many segments or
    /// stars, mixes `**` with other characters, or could match no path that the gates accept.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut segments = Vec::new();
        for raw in split(text, "path pattern")? {
            if raw == "**" {
                // `/**/**` means the same as `/**`.
                if segments.last() != Some(&PatternSegment::Any) {
                    segments.push(PatternSegment::Any);
                }
            } else if raw.contains("**") {
                return PatternError::new(format!("in the path pattern {text:?}, '**' must be a whole segment"));
            } else {
                segments.push(PatternSegment::One(Glob::parse(raw)?));
            }
        }
        if segments.iter().filter(|&segment| *segment == PatternSegment::Any).count() > MAX_DOUBLE_STARS {
            return PatternError::new(format!("the path pattern {text:?} has more than {MAX_DOUBLE_STARS} '**'"));
        }
        Ok(Self(segments))
    }

    /// Whether decoded segments match. A segment with an encoded slash is matched by `**` only.
    #[must_use]
    pub fn matches(&self, segments: &[Segment<'_>]) -> bool {
        // Back to the last `**` is enough, as for `*` in a glob.
        let (mut pattern, mut at) = (0, 0);
        let mut resume: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(pattern), segments.get(at)) {
                (Some(PatternSegment::Any), _) => {
                    pattern += 1;
                    resume = Some((pattern, at));
                    continue;
                }
                (Some(PatternSegment::One(glob)), Some(segment))
                    if !segment.has_slash && glob.matches(&segment.text) =>
                {
                    (pattern, at) = (pattern + 1, at + 1);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((after, from)) = resume.filter(|&(_, from)| from < segments.len()) else {
                return false;
            };
            (pattern, at) = (after, from + 1);
            resume = Some((after, from + 1));
        }
    }

    pub(crate) fn segments(&self) -> &[PatternSegment] {
        &self.0
    }
}

/// A path template: literal segments and `{variables}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate(Vec<TemplateSegment>);

/// A segment of a [`PathTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TemplateSegment {
    /// Exactly this text.
    Literal(Box<str>),
    /// One non-empty segment, which is the argument of this name.
    Variable(Arc<str>),
}

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// When it does not start with `/`, is longer than [`MAX_PATH_PATTERN`], has too many segments,
    /// braces that do not enclose a whole segment, a variable twice, or could match no path that the
    /// gates accept.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut segments: Vec<TemplateSegment> = Vec::new();
        for raw in split(text, "path template")? {
            let segment = match raw.strip_prefix('{').and_then(|raw| raw.strip_suffix('}')) {
                Some(name) => {
                    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
                    if name.is_empty() || !name.bytes().all(fits) {
                        return PatternError::new(format!(
                            "in the path template {text:?}, a variable has letters, digits, '_', '-' and '.'"
                        ));
                    }
                    TemplateSegment::Variable(name.into())
                }
                None if raw.contains(['{', '}', '*']) => {
                    return PatternError::new(format!(
                        "in the path template {text:?}, braces must enclose a whole segment, and '*' has no meaning"
                    ));
                }
                None => TemplateSegment::Literal(raw.into()),
            };
            if matches!(segment, TemplateSegment::Variable(_)) && segments.contains(&segment) {
                return PatternError::new(format!("the path template {text:?} has a variable twice"));
            }
            segments.push(segment);
        }
        Ok(Self(segments))
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            TemplateSegment::Variable(name) => Some(&**name),
            TemplateSegment::Literal(_) => None,
        })
    }

    /// The template with every variable written `{}`: templates of one shape match the same paths.
    #[must_use]
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.0 {
            shape.push('/');
            match segment {
                TemplateSegment::Literal(text) => shape.push_str(text),
                TemplateSegment::Variable(_) => shape.push_str("{}"),
            }
        }
        shape
    }

    pub(crate) fn segments(&self) -> &[TemplateSegment] {
        &self.0
    }
}

/// Splits a pattern or template into its segments and refuses what no accepted path can hold.
fn split<'a>(text: &'a str, what: &str) -> Result<Vec<&'a str>, PatternError> {
    let refuse = |reason: &str| PatternError::new(format!("the {what} {text:?} {reason}"));
    if text.len() > MAX_PATH_PATTERN {
        return PatternError::new(format!("the {what} is longer than {MAX_PATH_PATTERN} bytes"));
    }
    let Some(rest) = text.strip_prefix('/') else {
        return refuse("does not start with '/'");
    };
    let segments: Vec<&str> = rest.split('/').collect();
    if segments.len() > MAX_PATTERN_SEGMENTS {
        return PatternError::new(format!("the {what} has more than {MAX_PATTERN_SEGMENTS} segments"));
    }
    if text.contains('%') {
        return refuse("has '%'; write the decoded character");
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '\\' | ';' | '?' | '#')) {
        return refuse("has a character that no accepted path has");
    }
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return refuse("has a dot segment, which no accepted path has");
    }
    let inner = segments.len() - 1;
    if segments.iter().take(inner).any(|segment| segment.is_empty()) {
        return refuse("has an empty segment ('//'), which no accepted path has");
    }
    Ok(segments)
}
