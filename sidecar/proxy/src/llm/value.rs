//! Putting a JSON value together from tokens, within a bound.

use serde_json::{Map, Value};

use super::ARGUMENTS;
use super::read::Token;

/// What a value takes beside its text.
const OVERHEAD: usize = 16;

/// A value that is being read.
#[derive(Debug, Default)]
pub(super) struct Builder {
    open: Vec<(Value, String)>,
    name: String,
    text: String,
    size: usize,
    depth: usize,
}

impl Builder {
    /// Takes a token. Answers once the value is whole; with `None` when it was larger than [`ARGUMENTS`].
    pub(super) fn token(&mut self, token: Token<'_>) -> Option<Option<Value>> {
        match token {
            Token::Object | Token::Array => self.depth += 1,
            Token::EndObject | Token::EndArray => self.depth -= 1,
            _ => {}
        }
        let piece = match token {
            Token::Name(text) | Token::Text(text) | Token::Number(text) => text.len(),
            _ => 0,
        };
        self.size = self.size.saturating_add(piece + OVERHEAD * usize::from(!matches!(token, Token::Text(_))));
        if self.size > ARGUMENTS {
            (self.open, self.text) = (Vec::new(), String::new());
            let ended = self.depth == 0 && !matches!(token, Token::Text(_) | Token::Name(_));
            return ended.then_some(None);
        }
        let value = match token {
            Token::Object => return self.begin(Value::Object(Map::new())),
            Token::Array => return self.begin(Value::Array(Vec::new())),
            Token::Name(name) => {
                name.clone_into(&mut self.name);
                return None;
            }
            Token::Text(piece) => {
                self.text.push_str(piece);
                return None;
            }
            Token::EndText => Value::String(std::mem::take(&mut self.text)),
            // A number that the strict reader does not know is its text: it is only compared.
            Token::Number(text) => clawlock_policy::json::parse(text.as_bytes()).unwrap_or_else(|_| text.into()),
            Token::Bool(value) => Value::Bool(value),
            Token::Null => Value::Null,
            Token::EndObject | Token::EndArray => {
                let (value, name) = self.open.pop().unwrap_or_default();
                self.name = name;
                value
            }
        };
        match self.open.last_mut() {
            None => Some(Some(value)),
            Some((Value::Object(members), _)) => {
                members.insert(std::mem::take(&mut self.name), value);
                None
            }
            Some((Value::Array(items), _)) => {
                items.push(value);
                None
            }
            Some(_) => None,
        }
    }

    fn begin(&mut self, value: Value) -> Option<Option<Value>> {
        self.open.push((value, std::mem::take(&mut self.name)));
        None
    }
}
