//! Reading an author's configuration: JSON5, as OpenClaw reads it, or not at all.
//!
//! What two readers could take for two things is refused: a key that is there twice, and `__proto__`, which is no
//! ordinary key in JavaScript. So is `$include`: what it would bring in is not here to be looked at.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Largest configuration in bytes. OpenClaw's own with every section written out has some ten kilobytes.
pub const MAX_CONFIG: usize = 1024 * 1024;

/// Deepest nesting. OpenClaw's schema has some twelve levels; reading takes stack with each.
pub const MAX_DEPTH: usize = 64;

/// Why a configuration cannot be merged with what governs OpenClaw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("OpenClaw's configuration: {0}")]
pub struct ConfigError(String);

/// Reads a configuration. An empty text is an empty one.
pub(crate) fn read(text: &str) -> Result<Map<String, Value>, ConfigError> {
    if text.len() > MAX_CONFIG {
        return Err(ConfigError(format!("{} bytes; at most {MAX_CONFIG} are read", text.len())));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match json5::from_str(text).map_err(|error| ConfigError(error.to_string()))? {
        Whole(Value::Object(members)) => Ok(members),
        Whole(_) => Err(ConfigError("it is no object; write { … }".to_owned())),
    }
}

/// A configuration from its first level on.
struct Whole(Value);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(MAX_DEPTH).deserialize(deserializer).map(Self)
    }
}

/// Reads a value with as many levels below it.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom(format!("more than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON5")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(format!("{value} is no number of JSON")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut members = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "$include" => {
                    return Err(A::Error::custom("$include brings in what is not here; write it in one file"));
                }
                "__proto__" => return Err(A::Error::custom("the key __proto__ is refused; remove it")),
                _ if members.contains_key(&key) => {
                    return Err(A::Error::custom(format!("the key {key:?} stands there twice; remove one")));
                }
                _ => {}
            }
            let value = entries.next_value_seed(below)?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json5_is_read_as_openclaw_reads_it() {
        let text = "// a comment\n{ unquoted: 'single', /* more */ hex: 0xFF, plus: +1, dot: .5, list: [1, 2,], nested: {a: null,}, }";
        let expected =
            json!({"unquoted": "single", "hex": 255, "plus": 1, "dot": 0.5, "list": [1, 2], "nested": {"a": null}});
        assert_eq!(Value::Object(read(text).unwrap()), expected);
        assert_eq!(read(" \n").unwrap(), Map::new());
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (text, part) in [
            ("{a: 1, a: 2}", "twice"),
            ("{a: 1, 'a': 2}", "twice"),
            ("{plugins: {$include: './x.json5'}}", "$include"),
            ("{'$include': './x.json5'}", "$include"),
            ("{'\\u0024include': './x.json5'}", "$include"),
            ("{'__proto__': {}}", "__proto__"),
            ("{a: NaN}", "no number"),
            ("{a: Infinity}", "no number"),
            ("[]", "no object"),
            ("null", "no object"),
            ("{} {}", ""),
            ("{", ""),
            ("{a}", ""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("OpenClaw's configuration: ") && error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let deep = |levels: usize| format!("{{a: {}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&deep(MAX_DEPTH - 1)).is_ok());
        assert!(read(&deep(MAX_DEPTH)).unwrap_err().to_string().contains("64 levels"));
        assert!(read(&deep(200_000)).unwrap_err().to_string().contains("64 levels"));
        assert!(read(&" ".repeat(MAX_CONFIG + 1)).unwrap_err().to_string().contains("bytes"));
    }
}
