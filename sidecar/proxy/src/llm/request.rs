//! Requests to models: the calls in their history, and the results that come back.

use super::read::Reader;
use super::unit::{Node, Shape, Slot, Unit, Walker, What};
use super::{Api, Arguments, Call, REQUEST, REQUEST_CALLS, Said, ToolResult, Unreadable};

/// Reads one request as it comes.
pub struct RequestReader {
    json: Reader,
    walker: Walker<Request>,
    bytes: u64,
}

struct Request {
    api: Api,
    said: Vec<Said>,
    count: usize,
}

impl RequestReader {
    /// For a request of an interface.
    #[must_use]
    pub fn new(api: Api) -> Self {
        let shape = Request { api, said: Vec::new(), count: 0 };
        Self { json: Reader::default(), walker: Walker::new(shape), bytes: 0 }
    }

    /// Takes the next bytes; answers what they say, in order.
    ///
    /// # Errors
    /// When the request cannot be read in exactly one way. It must go no further then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Said>, Unreadable> {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.bytes > REQUEST {
            return Err(Unreadable("the request has more than 64 MiB"));
        }
        self.json.push(bytes, &mut self.walker)?;
        Ok(std::mem::take(&mut self.walker.shape.said))
    }

    /// The request is over.
    ///
    /// # Errors
    /// When it was not one JSON object.
    pub fn finish(&mut self) -> Result<(), Unreadable> {
        self.json.finish(&mut self.walker)
    }
}

impl Shape for Request {
    fn member(&self, at: Node, name: &str) -> Node {
        match (self.api, at) {
            (Api::ChatCompletions, at) => chat(at, name),
            (Api::Responses, Node::Unit(What::Root)) if name == "input" => Node::Units(What::Item),
            (Api::Responses, Node::Unit(What::Item)) => item(name),
            (Api::Messages, at) => messages(at, name),
            _ => Node::Skip,
        }
    }

    fn ended(&mut self, what: What, mut unit: Unit) -> Result<(), Unreadable> {
        match what {
            What::Message if self.api == Api::ChatCompletions => self.message(unit),
            What::Call => self.call(unit),
            What::Item => match unit.kind.take().unwrap_or_default() {
                // Messages, thoughts, and what the provider's own tools did.
                _ if unit.call_id.is_none() => Ok(()),
                kind if kind.is_empty() => Err(Unreadable("an item has no type")),
                kind if kind.ends_with("_output") => self.result(unit),
                kind => {
                    unit.id = unit.call_id.take();
                    unit.name.get_or_insert(kind);
                    self.call(unit)
                }
            },
            What::Block => match unit.kind.as_deref() {
                Some("tool_use") => self.call(unit),
                Some("tool_result") => self.result(unit),
                Some(_) => Ok(()),
                None => Err(Unreadable("a block has no type")),
            },
            _ => Ok(()),
        }
    }
}

impl Request {
    fn message(&mut self, unit: Unit) -> Result<(), Unreadable> {
        match unit.role.as_deref() {
            Some("tool") => self.result(unit),
            Some("system" | "developer" | "user" | "assistant") if unit.call_id.is_none() => Ok(()),
            Some("function") => Err(Unreadable("it has a message of role function, which has no id; role tool has")),
            _ => Err(Unreadable("a message has no role, or one that does not go with its members")),
        }
    }

    fn call(&mut self, unit: Unit) -> Result<(), Unreadable> {
        let (Some(id), Some(name)) = (unit.id, unit.name) else {
            return Err(Unreadable("a tool call has no id or no name"));
        };
        let text = unit.arguments.and_then(super::unit::Kept::whole);
        let arguments = unit.value.unwrap_or_else(|| text.as_deref().and_then(Arguments::parse));
        self.said(Said::Call(Call { id, name, arguments }))
    }

    fn result(&mut self, mut unit: Unit) -> Result<(), Unreadable> {
        let text = unit.whole_text();
        let id = unit.call_id.ok_or(Unreadable("a tool result has no id of its call"))?;
        self.said(Said::Result(ToolResult { id, text, is_error: unit.is_error }))
    }

    fn said(&mut self, said: Said) -> Result<(), Unreadable> {
        self.count += 1;
        if self.count > REQUEST_CALLS {
            return Err(Unreadable("the request has more than 16384 tool calls and results"));
        }
        self.said.push(said);
        Ok(())
    }
}

fn chat(at: Node, name: &str) -> Node {
    match (at, name) {
        (Node::Unit(What::Root), "messages") => Node::Units(What::Message),
        (Node::Unit(What::Message), "role") => Node::Slot(Slot::Role),
        (Node::Unit(What::Message), "tool_call_id") => Node::Slot(Slot::CallId),
        (Node::Unit(What::Message), "content") => Node::Slot(Slot::Text),
        (Node::Unit(What::Message), "tool_calls") => Node::Units(What::Call),
        (Node::Unit(What::Message), "function_call") => Node::Refused,
        (at, name) => call(at, name),
    }
}

/// A call of chat completions, in requests and answers.
pub(super) fn call(at: Node, name: &str) -> Node {
    match (at, name) {
        (Node::Unit(What::Call), "id") => Node::Slot(Slot::Id),
        (Node::Unit(What::Call), "index") => Node::Slot(Slot::Index),
        (Node::Unit(What::Call), "function" | "custom") => Node::Inner,
        (Node::Inner, "name") => Node::Slot(Slot::Name),
        (Node::Inner, "arguments" | "input") => Node::Slot(Slot::Arguments),
        _ => Node::Skip,
    }
}

/// An item of responses, in requests and answers.
pub(super) fn item(name: &str) -> Node {
    match name {
        "type" => Node::Slot(Slot::Kind),
        "call_id" => Node::Slot(Slot::CallId),
        "name" => Node::Slot(Slot::Name),
        "arguments" | "input" => Node::Slot(Slot::Arguments),
        "output" => Node::Slot(Slot::Text),
        _ => Node::Skip,
    }
}

/// A block of an Anthropic message, in requests and answers.
pub(super) fn block(name: &str) -> Node {
    match name {
        "type" => Node::Slot(Slot::Kind),
        "id" => Node::Slot(Slot::Id),
        "name" => Node::Slot(Slot::Name),
        "input" => Node::Slot(Slot::Value),
        "tool_use_id" => Node::Slot(Slot::CallId),
        "content" => Node::Slot(Slot::Text),
        "is_error" => Node::Slot(Slot::IsError),
        _ => Node::Skip,
    }
}

fn messages(at: Node, name: &str) -> Node {
    match (at, name) {
        (Node::Unit(What::Root), "messages") => Node::Units(What::Message),
        (Node::Unit(What::Message), "content") => Node::Units(What::Block),
        (Node::Unit(What::Block), name) => block(name),
        _ => Node::Skip,
    }
}
