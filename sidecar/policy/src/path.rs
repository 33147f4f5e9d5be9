//! Request paths: one reading, or none.
//!
//! Servers disagree on `//`, `/./`, `/../`, `;`, `\` and their encoded forms. A path that two
//! servers could read differently is refused, so the decided path is the forwarded path, byte for
//! byte. Patterns are compared with the decoded segments.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

/// A path in origin-form without its query, whose every segment has one reading.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestPath(String);

/// Longest path in bytes. Servers commonly end at 8 KiB for the whole request line.
pub const MAX_PATH: usize = 8 * 1024;

/// Most segments of a path: bounds the work of matching.
pub const MAX_SEGMENTS: usize = 256;

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(&'static str);

/// A decoded segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The decoded text.
    pub text: Cow<'a, str>,
    /// It holds an encoded `/`: some servers read two segments here, so only `**` matches it.
    pub has_slash: bool,
}

impl RequestPath {
    /// Parses a path.
    ///
    /// # Errors
    /// When it does not start with `/`, is too long, has an empty segment other than the last, a dot
    /// segment (also encoded, once or twice, also followed by `;`), a `;`, `\`, `#`, `?`, a control character, a broken
    /// percent-escape, or does not decode to UTF-8.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_PATH {
            return Err(PathError("the path is longer than 8192 bytes"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PathError("the path does not start with '/'"));
        };
        check_bytes(text.as_bytes())?;
        let count = rest.split('/').count();
        if count > MAX_SEGMENTS {
            return Err(PathError("the path has more than 256 segments"));
        }
        for (index, raw) in rest.split('/').enumerate() {
            if raw.is_empty() {
                if index + 1 == count {
                    continue;
                }
                return Err(PathError("the path has an empty segment ('//')"));
            }
            let decoded =
                percent_decode_str(raw).decode_utf8().map_err(|_| PathError("the path does not decode to UTF-8"))?;
            if decoded.chars().any(|c| c.is_control() || c == '\\' || c == ';') {
                return Err(PathError("the path has ';', '\\' or a control character"));
            }
            if decoded.split('/').any(|part| part == "." || part == ".." || part.is_empty()) {
                return Err(PathError("the path has a dot segment or an encoded empty segment"));
            }
            // Some servers, or what is in front of them, decode twice: `%252e%252e` is `..` there.
            let twice = percent_decode_str(&decoded).decode_utf8_lossy();
            let splits = |c: char| c.is_control() || matches!(c, '/' | '\\' | ';');
            if twice != decoded && (twice == "." || twice == ".." || twice.contains(splits)) {
                return Err(PathError("the path has a separator or dot segment that is encoded twice"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as it was sent and is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The decoded segments. `/` has one empty segment; a trailing slash adds an empty one.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.0.get(1..).unwrap_or_default().split('/').map(|raw| {
            let text = percent_decode_str(raw).decode_utf8_lossy();
            Segment { has_slash: text.contains('/'), text }
        })
    }
}

fn check_bytes(bytes: &[u8]) -> Result<(), PathError> {
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'%' => {
                let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
                if !hex(index + 1) || !hex(index + 2) {
                    return Err(PathError("the path has a broken percent-escape"));
                }
                index += 2;
            }
            b'#' | b'?' | b'\\' | b';' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                return Err(PathError("the path has a character that RFC 3986 does not allow there, or ';'"));
            }
            0x21..=0x7e => {}
            _ => return Err(PathError("the path has a control, space or non-ASCII character")),
        }
        index += 1;
    }
    Ok(())
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestPath({})", self.0)
    }
}
