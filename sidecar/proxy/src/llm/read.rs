//! Reading JSON as it comes: bytes in, tokens out, nothing stored but names and what a token needs.
//!
//! It is as strict as [`clawlock_policy::json`]: a text that two parsers could read differently (a member
//! twice, half a surrogate pair, bytes that are not UTF-8, something behind the value) is refused, so what
//! is checked here is what the receiver reads. Texts pass in pieces, however long they are. How the bytes
//! are split into chunks changes nothing but where the pieces of a text end.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::Unreadable;

/// Deepest nesting. Tools' schemas and arguments inside a message stay below thirty.
const DEPTH: usize = 64;

/// Longest name of a member in bytes: names of arguments may be paths.
const NAME: usize = 1024;

/// Longest number in bytes. A double needs 24; arbitrary digits mean a text that nobody reads alike.
const NUMBER: usize = 64;

/// Most members of objects that are open at once. A tool's schema has hundreds.
const MEMBERS: usize = 16 * 1024;

/// Up to this many members a repeated name is found by comparing; beyond, by hashing.
const FEW_MEMBERS: usize = 16;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// `{`
    Object,
    /// `}`
    EndObject,
    /// `[`
    Array,
    /// `]`
    EndArray,
    /// The name of the member whose value follows.
    Name(&'a str),
    /// A piece of a text, without its escapes.
    Text(&'a str),
    /// The text is over.
    EndText,
    /// A number, as it is written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
}

/// Takes tokens.
pub(super) trait Sink {
    /// One token.
    fn token(&mut self, token: Token<'_>) -> Result<(), Unreadable>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// A value, or the end of the array that has just begun.
    FirstItem,
    /// A member's name, or the end of the object that has just begun.
    FirstName,
    /// A member's name.
    Name,
    /// `:`
    Colon,
    /// `,` or the end of the container.
    Next,
    /// Inside a text.
    Text,
    /// Behind `\`.
    Escape,
    /// Behind `\u`.
    Hex,
    /// Behind the first half of a surrogate pair: `\`.
    LowEscape,
    /// Likewise: `u`.
    LowHex,
    /// Inside a number.
    Number,
    /// Inside `true`, `false` or `null`.
    Word,
    /// The value is over.
    Done,
}

struct Frame {
    object: bool,
    // Where this object's names begin in `Reader::names`.
    start: usize,
    many: Option<HashSet<u64>>,
}

/// Reads one JSON value.
pub(super) struct Reader {
    state: State,
    frames: Vec<Frame>,
    names: Vec<u64>,
    hasher: RandomState,
    // The text being read is a member's name, kept in `name`.
    in_name: bool,
    name: String,
    // Bytes of a character that the next chunk goes on with.
    carry: Vec<u8>,
    // Hexadecimal digits read so far, and their value.
    hex: (u8, u32),
    high: Option<u32>,
    // The number or word so far.
    word: String,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            state: State::Value,
            frames: Vec::new(),
            names: Vec::new(),
            hasher: RandomState::new(),
            in_name: false,
            name: String::new(),
            carry: Vec::new(),
            hex: (0, 0),
            high: None,
            word: String::new(),
        }
    }
}

impl Reader {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Unreadable> {
        while let Some(&first) = bytes.first() {
            let taken = match self.state {
                State::Text => self.text(bytes, sink)?,
                State::Number => self.number(bytes, sink)?,
                _ => {
                    self.byte(first, sink)?;
                    1
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The text is over: was it one value?
    pub(super) fn finish(&mut self, sink: &mut impl Sink) -> Result<(), Unreadable> {
        if self.state == State::Number {
            self.end_number(sink)?;
        }
        if self.state == State::Done { Ok(()) } else { Err(Unreadable("the JSON ends too early")) }
    }

    fn byte(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        match (self.state, byte) {
            (State::Escape, _) => self.escape(byte, sink),
            (State::Hex, _) => self.hex_digit(byte, sink),
            (State::LowEscape, b'\\') => self.go(State::LowHex),
            (State::LowHex, b'u') => {
                self.hex = (0, 0);
                self.go(State::Hex)
            }
            (State::LowEscape | State::LowHex, _) => Err(HALF_PAIR),
            (State::Word, _) => self.letter(byte, sink),
            (_, b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            (State::FirstItem, b']') | (State::FirstName, b'}') | (State::Next, b']' | b'}') => self.end(byte, sink),
            (State::Value | State::FirstItem, _) => self.begin(byte, sink),
            (State::FirstName | State::Name, b'"') => {
                self.in_name = true;
                self.name.clear();
                self.go(State::Text)
            }
            (State::Colon, b':') => self.go(State::Value),
            (State::Next, b',') => {
                let object = self.frames.last().is_some_and(|frame| frame.object);
                self.go(if object { State::Name } else { State::Value })
            }
            (State::Done, _) => Err(Unreadable("there is more text behind the JSON value")),
            _ => Err(Unreadable("the text is not JSON")),
        }
    }

    fn go(&mut self, state: State) -> Result<(), Unreadable> {
        self.state = state;
        Ok(())
    }

    fn begin(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        match byte {
            b'{' | b'[' => {
                if self.frames.len() == DEPTH {
                    return Err(Unreadable("the JSON is nested more than 64 deep"));
                }
                let object = byte == b'{';
                self.frames.push(Frame { object, start: self.names.len(), many: None });
                self.state = if object { State::FirstName } else { State::FirstItem };
                sink.token(if object { Token::Object } else { Token::Array })
            }
            b'"' => {
                self.in_name = false;
                self.go(State::Text)
            }
            b'-' | b'0'..=b'9' => {
                self.word.clear();
                self.word.push(char::from(byte));
                self.go(State::Number)
            }
            b't' | b'f' | b'n' => {
                self.word.clear();
                self.word.push(char::from(byte));
                self.go(State::Word)
            }
            _ => Err(Unreadable("the text is not JSON")),
        }
    }

    fn end(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        match self.frames.pop() {
            Some(frame) if frame.object == (byte == b'}') => {
                self.names.truncate(frame.start);
                self.ended();
                sink.token(if frame.object { Token::EndObject } else { Token::EndArray })
            }
            _ => Err(Unreadable("the text is not JSON")),
        }
    }

    /// A value is over.
    fn ended(&mut self) {
        self.state = if self.frames.is_empty() { State::Done } else { State::Next };
    }

    /// Takes what is plain text up to a quote or an escape; answers how many bytes.
    fn text(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Unreadable> {
        let run = bytes.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(bytes.len());
        let (plain, rest) = bytes.split_at(run);
        self.plain(plain, sink)?;
        let Some(&byte) = rest.first() else { return Ok(run) };
        if !self.carry.is_empty() {
            return Err(NOT_UTF8);
        }
        match byte {
            b'"' => self.end_text(sink)?,
            b'\\' => self.state = State::Escape,
            _ => return Err(Unreadable("a text has a control character that is not escaped")),
        }
        Ok(run + 1)
    }

    fn plain(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Unreadable> {
        while !self.carry.is_empty() {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.carry.push(byte);
            let carry = std::mem::take(&mut self.carry);
            match std::str::from_utf8(&carry) {
                Ok(text) => self.piece(text, sink)?,
                Err(bad) if bad.error_len().is_none() => self.carry = carry,
                Err(_) => return Err(NOT_UTF8),
            }
        }
        let bad = match std::str::from_utf8(bytes) {
            Ok(text) => return self.piece(text, sink),
            Err(bad) => bad,
        };
        let (good, rest) = bytes.split_at(bad.valid_up_to());
        self.piece(std::str::from_utf8(good).map_err(|_| NOT_UTF8)?, sink)?;
        if bad.error_len().is_some() {
            return Err(NOT_UTF8);
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    fn piece(&mut self, text: &str, sink: &mut impl Sink) -> Result<(), Unreadable> {
        if !self.in_name {
            return if text.is_empty() { Ok(()) } else { sink.token(Token::Text(text)) };
        }
        if self.name.len() + text.len() > NAME {
            return Err(Unreadable("a member's name is longer than 1024 bytes"));
        }
        self.name.push_str(text);
        Ok(())
    }

    fn end_text(&mut self, sink: &mut impl Sink) -> Result<(), Unreadable> {
        if !self.in_name {
            self.ended();
            return sink.token(Token::EndText);
        }
        let hash = self.hasher.hash_one(&self.name);
        let Some(frame) = self.frames.last_mut() else { return Err(Unreadable("the text is not JSON")) };
        let known = self.names.get(frame.start..).unwrap_or_default();
        if known.len() == FEW_MEMBERS {
            frame.many = Some(known.iter().copied().collect());
        }
        let repeated = match &mut frame.many {
            Some(many) => !many.insert(hash),
            None => known.contains(&hash),
        };
        if repeated {
            return Err(Unreadable("a member appears twice in one object"));
        }
        if self.names.len() == MEMBERS {
            return Err(Unreadable("more than 16384 members are open at once"));
        }
        self.names.push(hash);
        self.state = State::Colon;
        sink.token(Token::Name(&self.name))
    }

    fn escape(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        let plain = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.hex = (0, 0);
                return self.go(State::Hex);
            }
            _ => return Err(Unreadable("a text has an unknown escape")),
        };
        self.state = State::Text;
        self.piece(plain.encode_utf8(&mut [0; 4]), sink)
    }

    /// One of the four digits of `\uXXXX`; characters beyond U+FFFF take a pair of them.
    fn hex_digit(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        let digit = char::from(byte).to_digit(16).ok_or(Unreadable("a text has an unknown escape"))?;
        self.hex = (self.hex.0 + 1, self.hex.1 * 16 + digit);
        if self.hex.0 < 4 {
            return Ok(());
        }
        let code = match (self.high.take(), self.hex.1) {
            (None, high @ 0xd800..=0xdbff) => {
                self.high = Some(high);
                return self.go(State::LowEscape);
            }
            (Some(high), low @ 0xdc00..=0xdfff) => 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
            (Some(_), _) => return Err(HALF_PAIR),
            (None, code) => code,
        };
        let character = char::from_u32(code).ok_or(HALF_PAIR)?;
        self.state = State::Text;
        self.piece(character.encode_utf8(&mut [0; 4]), sink)
    }

    fn letter(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), Unreadable> {
        self.word.push(char::from(byte));
        let token = match self.word.as_str() {
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            "null" => Token::Null,
            word if ["true", "false", "null"].iter().any(|whole| whole.starts_with(word)) => return Ok(()),
            _ => return Err(Unreadable("the text is not JSON")),
        };
        self.ended();
        sink.token(token)
    }

    fn number(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Unreadable> {
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let run = bytes.iter().position(|b| !part(b)).unwrap_or(bytes.len());
        if self.word.len() + run > NUMBER {
            return Err(Unreadable("a number is longer than 64 characters"));
        }
        self.word.extend(bytes.iter().take(run).map(|&b| char::from(b)));
        if run < bytes.len() {
            self.end_number(sink)?;
        }
        Ok(run)
    }

    fn end_number(&mut self, sink: &mut impl Sink) -> Result<(), Unreadable> {
        // The policy engine's reader knows which numbers there are; an integer that does not fit 64 bits is a
        // double, as those who made the text wrote it.
        let is_number = |text: &str| clawlock_policy::json::parse(text.as_bytes()).is_ok();
        if !is_number(&self.word) && (self.word.contains(['.', 'e', 'E']) || !is_number(&format!("{}e0", self.word))) {
            return Err(Unreadable("a number is none, or does not fit a double"));
        }
        self.ended();
        sink.token(Token::Number(&self.word))
    }
}

const NOT_UTF8: Unreadable = Unreadable("a text is not UTF-8");
const HALF_PAIR: Unreadable = Unreadable("a text has half of a surrogate pair");
