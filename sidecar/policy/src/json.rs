//! Strict JSON: one reading, or none.
//!
//! Parsers disagree on repeated member names, on what follows the value, on very deep nesting and on
//! numbers that do not fit (RFC 8259 sections 4 and 6). A text that two parsers could read
//! differently is refused here, so what was decided on is what the receiver reads. This module only
//! knows JSON; what a value must look like is for its callers.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects. Real tool arguments stay below ten; the parser recurses, so
/// this also bounds the stack.
pub const MAX_DEPTH: usize = 64;

/// Largest text in bytes: no gate buffers more of a body, and no document is larger.
pub const MAX_JSON: usize = 16 * 1024 * 1024;

/// Up to this many members a repeated name is found by comparing; beyond, by hashing.
const FEW_MEMBERS: usize = 16;

/// Longest part of a member's name that an error repeats.
const SHOWN_NAME: usize = 64;

/// Why a text was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line} column {column}")]
pub struct JsonError {
    /// What is wrong.
    pub reason: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

/// Parses a text that is exactly one JSON value.
///
/// Integers must fit 64 bits (signed or unsigned), other numbers a finite double.
///
/// # Errors
/// When it is not JSON in UTF-8, larger than [`MAX_JSON`], deeper than [`MAX_DEPTH`], names a member
/// twice (escapes count as what they stand for) or has anything but white space behind the value.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let refuse = |reason: &str, at: usize| Err(error(bytes, reason.to_owned(), at));
    if bytes.len() > MAX_JSON {
        return refuse("the text is larger than 16 MiB", 0);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(bad) => return refuse("the text is not UTF-8", bad.valid_up_to()),
    };
    let mut parser = Parser { text, bytes, at: 0, depth: 0 };
    let value = parser.value().and_then(|value| {
        parser.skip_space();
        if parser.at < bytes.len() { Err("there is more text behind the value".into()) } else { Ok(value) }
    });
    value.map_err(|reason| error(bytes, reason, parser.at))
}

fn error(bytes: &[u8], reason: String, at: usize) -> JsonError {
    let before = bytes.get(..at.min(bytes.len())).unwrap_or_default();
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    JsonError { reason, line, column: before.len() - line_start + 1 }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// The reason; where is the parser's position.
type Parsed<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Parsed<Value> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(_) => Err("expected a JSON value".into()),
            None => Err("the text ends where a JSON value is expected".into()),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Parsed<Value>) -> Parsed<Value> {
        if self.depth == MAX_DEPTH {
            return Err("the value is nested more than 64 deep".into());
        }
        self.depth += 1;
        self.at += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self, word: &str, value: Value) -> Parsed<Value> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return Err("expected a JSON value".into());
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self) -> Parsed<Value> {
        let mut items = Vec::new();
        self.skip_space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err("expected ',' or ']'".into());
            }
        }
    }

    fn object(&mut self) -> Parsed<Value> {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Value::Object(Map::new()));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err("expected a member name in double quotes".into());
            }
            let start = self.at;
            let name = self.string()?;
            if members.len() == FEW_MEMBERS {
                names.extend(members.iter().map(|(name, _)| name.clone()));
            }
            let repeated = match members.len() < FEW_MEMBERS {
                true => members.iter().any(|(known, _)| *known == name),
                false => !names.insert(name.clone()),
            };
            if repeated {
                self.at = start;
                return Err(format!("the member {} appears twice", shown(&name)));
            }
            self.skip_space();
            if !self.eat(b':') {
                return Err("expected ':'".into());
            }
            members.push((name, self.value()?));
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Object(members.into_iter().collect()));
            }
            if !self.eat(b',') {
                return Err("expected ',' or '}'".into());
            }
        }
    }

    fn string(&mut self) -> Parsed<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err("a string has a control character that is not escaped".into()),
                None => return Err("the text ends inside a string".into()),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err("a string has an unknown escape".into()),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `\uXXXX`, and a pair of them for characters beyond U+FFFF.
    fn unicode(&mut self) -> Parsed<char> {
        let lone = || String::from("a string has half of a surrogate pair");
        self.at += 1;
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.eat(b'\\') && self.eat(b'u')) {
                    return Err(lone());
                }
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone());
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(lone)
    }

    fn hex4(&mut self) -> Parsed<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        code.ok_or_else(|| "expected four hexadecimal digits after \\u".into())
    }

    fn digits(&mut self) -> Parsed<()> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err("expected a digit".into());
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Parsed<Number> {
        let start = self.at;
        let negative = self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        } else if self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err("a number starts with 0".into());
        }
        let mut integer = true;
        if self.eat(b'.') {
            integer = false;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if !self.eat(b'-') {
                self.eat(b'+');
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let number = match (integer, negative) {
            (true, false) => text.parse::<u64>().ok().map(Number::from),
            (true, true) => text.parse::<i64>().ok().map(Number::from),
            (false, _) => text.parse::<f64>().ok().and_then(Number::from_f64),
        };
        number.ok_or_else(|| {
            self.at = start;
            "a number does not fit 64 bits".into()
        })
    }
}

/// A name for an error: quoted, without control characters, shortened.
pub(crate) fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(SHOWN_NAME).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("{short:?}")
}
