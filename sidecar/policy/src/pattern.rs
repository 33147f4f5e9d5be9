//! Patterns of tools, operations, hosts and paths, and path templates.
//!
//! Everything in a pattern is literal but `*` (any run of characters within one segment) and, as a
//! whole segment of a path, `**` (any number of segments, none included). Tool names have no
//! segments. A pattern that cannot match anything that the gates accept is refused: it is a mistake,
//! and a Block rule that never matches is a hole.

mod glob;
mod host;
mod path;

pub(crate) use glob::Glob;
pub use host::HostPattern;
pub use path::{PathPattern, PathTemplate};
pub(crate) use path::{PatternSegment, TemplateSegment};

/// Longest pattern of a tool or operation in bytes.
pub const MAX_NAME_PATTERN: usize = 256;

/// Longest path pattern or template in bytes.
pub const MAX_PATH_PATTERN: usize = 1024;

/// Most segments of a path pattern or template: bounds the work of matching.
pub const MAX_PATTERN_SEGMENTS: usize = 64;

/// Most `*` in one segment: bounds the work of matching.
pub const MAX_STARS: usize = 8;

/// Most `**` in one path pattern: bounds the work of matching.
pub const MAX_DOUBLE_STARS: usize = 4;

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(crate) String);

impl PatternError {
    fn new<T>(reason: impl Into<String>) -> Result<T, Self> {
        Err(Self(reason.into()))
    }
}

/// A pattern of tool names: `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolPattern(Glob);

impl ToolPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_NAME_PATTERN`], has more than [`MAX_STARS`] stars, white
    /// space or a control character.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_name(text, "tool")?;
        Ok(Self(Glob::parse(text)?))
    }

    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }

    pub(crate) fn glob(&self) -> &Glob {
        &self.0
    }
}

/// A pattern `upstream.operation`: `*` stands for any run of characters within one segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OperationPattern {
    upstream: Glob,
    operation: Vec<Glob>,
}

impl OperationPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When it is longer than [`MAX_NAME_PATTERN`], has fewer than two segments or an empty one, more
    /// than [`MAX_STARS`] stars in one, white space or a control character.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_name(text, "operation")?;
        if text.split('.').any(str::is_empty) {
            return PatternError::new("the operation pattern has an empty segment; write upstream.operation");
        }
        let mut globs = text.split('.').map(Glob::parse);
        let (Some(upstream), operation) = (globs.next().transpose()?, globs.collect::<Result<Vec<_>, _>>()?) else {
            return PatternError::new("the operation pattern is empty; write upstream.operation");
        };
        if operation.is_empty() {
            return PatternError::new("the operation pattern names no operation; write upstream.operation");
        }
        Ok(Self { upstream, operation })
    }

    /// Whether an operation of an upstream matches.
    #[must_use]
    pub fn matches(&self, upstream: &str, operation: &str) -> bool {
        self.upstream.matches(upstream) && self.matches_operation(operation)
    }

    fn matches_operation(&self, operation: &str) -> bool {
        let mut globs = self.operation.iter();
        let mut segments = operation.split('.');
        loop {
            match (globs.next(), segments.next()) {
                (None, None) => return true,
                (Some(glob), Some(segment)) if glob.matches(segment) => {}
                _ => return false,
            }
        }
    }

    pub(crate) fn upstream(&self) -> &Glob {
        &self.upstream
    }
}

/// Checks what names a tool or operation: a pattern, or (without `*`) a declared name.
fn check_name(text: &str, what: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return PatternError::new(format!("the {what} pattern is empty"));
    }
    if text.len() > MAX_NAME_PATTERN {
        return PatternError::new(format!("the {what} pattern is longer than {MAX_NAME_PATTERN} bytes"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return PatternError::new(format!("the {what} pattern has white space or a control character"));
    }
    Ok(())
}

/// Checks the name of a declared operation: what an [`OperationPattern`] can name, without `*`.
///
/// # Errors
/// When it is empty, too long, or has an empty segment, `*`, white space or a control character.
pub fn check_operation_name(name: &str) -> Result<(), PatternError> {
    check_name(name, "operation")?;
    if name.contains('*') || name.split('.').any(str::is_empty) {
        return PatternError::new("the operation's name has '*' or an empty segment");
    }
    Ok(())
}
