//! The arguments of an action: one value per name, or none at all.
//!
//! A tool's arguments are its JSON object. A request's are its path variables, its query and the
//! members of its body. The same name from two places, or twice from one, makes all of them unusable:
//! nobody can say which one the receiver takes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelString};
use cel::common::value::Val;
use serde_json::Value;

use super::cost::Size;
use super::scope::Typing;
use super::value::{Object, from_json, text_value};
use crate::document::ArgumentType;
use crate::json::{self, shown};
use crate::{Action, Body, HttpAction};

/// Most names in a query or form. More is no call of an operation, and names are compared with others.
const MAX_FIELDS: usize = 256;

/// The integers that a double holds exactly end here.
const EXACT_DOUBLE: i64 = 1 << 53;

/// The arguments, and how large they are.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) object: Object,
    pub(super) size: Size,
}

/// Fields of a query or form.
pub(super) type Fields<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// Reads the arguments of an action.
pub(super) fn read(action: &Action<'_>, typing: &Typing<'_>, query: Result<&Fields<'_>, &str>) -> Result<Args, String> {
    match action {
        Action::Tool(tool) => match json::parse(tool.args.as_bytes()) {
            Ok(Value::Object(members)) => Builder::default().finish_json(members, typing),
            Ok(_) => Err("the tool's arguments are no JSON object".into()),
            Err(error) => Err(format!("the tool's arguments: {error}")),
        },
        Action::Http(http) => {
            let mut builder = Builder::default();
            for (name, value) in typing.variables() {
                builder.add_text(name, value, typing)?;
            }
            for (name, value) in query? {
                builder.add_text(name, value, typing)?;
            }
            read_body(builder, http, typing)
        }
    }
}

fn read_body(mut builder: Builder, http: &HttpAction<'_>, typing: &Typing<'_>) -> Result<Args, String> {
    let (content_type, bytes) = match http.body {
        Body::Empty => return builder.finish(),
        Body::Full { bytes: [], .. } => return builder.finish(),
        Body::Full { content_type, bytes } => (content_type, bytes),
        Body::Unread => return Err("the body was not read".into()),
        Body::Unusable(why) => return Err(format!("the body is not usable: {why}")),
    };
    match media_type(content_type) {
        Some(Media::Json) => match json::parse(bytes) {
            Ok(Value::Object(members)) => builder.finish_json(members, typing),
            Ok(_) => Err("the body is no JSON object".into()),
            Err(error) => Err(format!("the body: {error}")),
        },
        Some(Media::Form) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "the body is not UTF-8".to_owned())?;
            for (name, value) in &fields(text).map_err(|reason| format!("the body: {reason}"))? {
                builder.add_text(name, value, typing)?;
            }
            builder.finish()
        }
        None => Err(format!("bodies of type {} have no arguments", shown(content_type))),
    }
}

enum Media {
    Json,
    Form,
}

/// The media types whose bodies have arguments, in UTF-8 only: another charset is another text.
fn media_type(content_type: &str) -> Option<Media> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    for part in parts {
        let (name, value) = part.split_once('=')?;
        let charset = name.trim().eq_ignore_ascii_case("charset");
        if charset && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") {
            return None;
        }
    }
    if essence == "application/x-www-form-urlencoded" {
        return Some(Media::Form);
    }
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    json.then_some(Media::Json)
}

/// Splits a query or form (WHATWG URL, application/x-www-form-urlencoded).
///
/// # Errors
/// When a name appears twice, there are too many, or a part has more than one reading: a `;` (a
/// separator to some), a broken escape, a NUL, or what is not UTF-8.
pub(super) fn fields(text: &str) -> Result<Fields<'_>, String> {
    let mut fields = Fields::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        if part.contains(';') {
            return Err("a ';' separates fields for some receivers and not for others".into());
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (unescape(name)?, unescape(value)?);
        if fields.len() == MAX_FIELDS {
            return Err(format!("there are more than {MAX_FIELDS} fields"));
        }
        if fields.contains_key(&name) {
            return Err(format!("the field {} appears twice", shown(&name)));
        }
        fields.insert(name, value);
    }
    Ok(fields)
}

fn unescape(text: &str) -> Result<Cow<'_, str>, String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if digits.is_none() {
            return Err("a percent-escape is broken".into());
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let decoded = match spaced {
        Cow::Borrowed(text) => percent_encoding::percent_decode_str(text).decode_utf8(),
        Cow::Owned(ref text) => {
            percent_encoding::percent_decode_str(text).decode_utf8().map(|text| Cow::Owned(text.into_owned()))
        }
    };
    let decoded = decoded.map_err(|_| "a field does not decode to UTF-8".to_owned())?;
    if decoded.contains('\0') {
        return Err("a field has a NUL character".into());
    }
    Ok(decoded)
}

#[derive(Default)]
struct Builder {
    members: Vec<(CelString<'static>, Box<dyn Val>)>,
    size: Size,
}

impl Builder {
    fn add(&mut self, name: &str, value: Box<dyn Val>) {
        self.members.push((CelString::from(name.to_owned()), value));
    }

    /// A text of a path, query or form: a string, unless its type is declared.
    fn add_text(&mut self, name: &str, text: &str, typing: &Typing<'_>) -> Result<(), String> {
        self.size.values += 1;
        let value: Box<dyn Val> = match typing.kind(name) {
            None | Some(ArgumentType::String) => text_value(text.to_owned(), &mut self.size),
            Some(ArgumentType::Integer) => {
                Box::new(CelInt::from(integer(text).ok_or_else(|| wrong(name, "an integer"))?))
            }
            Some(ArgumentType::Number) => {
                Box::new(CelDouble::from(double(text).ok_or_else(|| wrong(name, "a number"))?))
            }
            Some(ArgumentType::Boolean) => match text {
                "true" => Box::new(CelBool::from(true)),
                "false" => Box::new(CelBool::from(false)),
                _ => return Err(wrong(name, "true or false")),
            },
        };
        self.add(name, value);
        Ok(())
    }

    fn finish_json(mut self, members: serde_json::Map<String, Value>, typing: &Typing<'_>) -> Result<Args, String> {
        self.members.reserve(members.len());
        for (name, value) in members {
            let value = match typing.kind(&name) {
                Some(kind) => self.declared(&name, value, kind)?,
                None => {
                    from_json(value, &mut self.size).map_err(|reason| format!("argument {}: {reason}", shown(&name)))?
                }
            };
            self.members.push((CelString::from(name), value));
        }
        self.finish()
    }

    /// A member whose type is declared.
    fn declared(&mut self, name: &str, value: Value, kind: ArgumentType) -> Result<Box<dyn Val>, String> {
        let fits = match (kind, &value) {
            (ArgumentType::String, Value::String(_)) | (ArgumentType::Boolean, Value::Bool(_)) => true,
            (ArgumentType::Integer, Value::Number(number)) => number.is_i64(),
            (ArgumentType::Number, Value::Number(number)) => {
                self.size.values += 1;
                let exact = number.as_i64().is_none_or(|integer| integer.abs() <= EXACT_DOUBLE) && !overflows(number);
                let double = number.as_f64().filter(|_| exact).ok_or_else(|| wrong(name, "a number of 64 bits"))?;
                return Ok(Box::new(CelDouble::from(double)));
            }
            _ => false,
        };
        match (fits, kind) {
            (true, _) => from_json(value, &mut self.size),
            (false, ArgumentType::String) => Err(wrong(name, "a string")),
            (false, ArgumentType::Integer) => Err(wrong(name, "an integer of 64 bits")),
            (false, ArgumentType::Number) => Err(wrong(name, "a number")),
            (false, ArgumentType::Boolean) => Err(wrong(name, "true or false")),
        }
    }

    fn finish(self) -> Result<Args, String> {
        Ok(Args { object: Object::new(self.members)?, size: self.size })
    }
}

/// Integers beyond `i64`: no double holds them exactly enough to compare.
fn overflows(number: &serde_json::Number) -> bool {
    number.as_i64().is_none() && number.is_u64()
}

fn wrong(name: &str, what: &str) -> String {
    format!("the argument {} is declared as, but is not, {what}", shown(name))
}

/// A decimal integer in its one spelling: no plus sign, no leading zeros.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0')) && text != "-0";
    if plain { text.parse().ok() } else { None }
}

/// A number as JSON spells it.
fn double(text: &str) -> Option<f64> {
    match json::parse(text.as_bytes()) {
        Ok(Value::Number(number)) if !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace) => {
            let exact = number.as_i64().is_none_or(|integer| integer.abs() <= EXACT_DOUBLE) && !overflows(&number);
            number.as_f64().filter(|_| exact)
        }
        _ => None,
    }
}
