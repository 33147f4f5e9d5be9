//! Walking through a model interface's JSON: which member means what, and what is kept of it.
//!
//! A *unit* is an object that says something about a tool call: a message, a call in it, an item, a block,
//! an event. Its members may come in any order, so they are kept, bounded, until it ends.

use super::arguments::Arguments;
use super::read::{Sink, Token};
use super::value::Builder;
use super::{ARGUMENTS, CALL_ID, RESULT_TEXT, TOOL_NAME, Unreadable};

/// Longest `type` or `role`. Those that mean anything here are shorter.
const WORD: usize = 64;

/// An object that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The outermost one: a request, an answer, an event.
    Root,
    /// A message of chat completions, or of Anthropic's messages.
    Message,
    /// A call in a message of chat completions.
    Call,
    /// An item of responses.
    Item,
    /// A block of an Anthropic message.
    Block,
    /// A choice of chat completions.
    Choice,
    /// A part of a text.
    Part,
}

/// Where in the JSON something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing in here says anything.
    Skip,
    /// A list of units.
    Units(What),
    /// A unit.
    Unit(What),
    /// An object whose members belong to the unit around it.
    Inner,
    /// A member that is kept.
    Slot(Slot),
    /// The interface has this member no more, or never had: it must not be there.
    Refused,
}

/// Which member is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `type`
    Kind,
    /// `role`
    Role,
    /// The id that a call has.
    Id,
    /// The id of the call that something belongs to.
    CallId,
    /// The tool's name.
    Name,
    /// Arguments as a text.
    Arguments,
    /// Arguments as JSON.
    Value,
    /// A result's text.
    Text,
    /// `is_error`
    IsError,
    /// `index`
    Index,
}

/// Which member of which object means what.
pub(super) trait Shape {
    /// The place of a member's value.
    fn member(&self, at: Node, name: &str) -> Node;
    /// A unit has ended.
    fn ended(&mut self, what: What, unit: Unit) -> Result<(), Unreadable>;
}

/// What is kept of a unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) kind: Option<String>,
    pub(super) role: Option<String>,
    pub(super) id: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    /// Arguments as a text; `over` when they were too long.
    pub(super) arguments: Option<Kept>,
    /// Arguments as JSON.
    pub(super) value: Option<Option<Arguments>>,
    pub(super) text: Option<Kept>,
    /// There is something else than text where the text stands.
    pub(super) not_text: bool,
    pub(super) is_error: Option<bool>,
    pub(super) index: Option<u64>,
}

/// A text as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) over: bool,
}

impl Kept {
    pub(super) fn push(&mut self, piece: &str, bound: usize) {
        if self.over || self.text.len() + piece.len() > bound {
            self.over = true;
            self.text = String::new();
        } else {
            self.text.push_str(piece);
        }
    }

    /// All of it, unless it was too long.
    pub(super) fn whole(self) -> Option<String> {
        (!self.over).then_some(self.text)
    }
}

/// Walks through one JSON value.
pub(super) struct Walker<S> {
    pub(super) shape: S,
    nodes: Vec<Node>,
    // The place of the value that follows a member's name.
    next: Node,
    units: Vec<Unit>,
    builder: Option<Builder>,
}

impl<S: Shape> Walker<S> {
    pub(super) fn new(shape: S) -> Self {
        Self { shape, nodes: Vec::new(), next: Node::Unit(What::Root), units: Vec::new(), builder: None }
    }

    /// The unit that is being read.
    fn unit(&mut self) -> Result<&mut Unit, Unreadable> {
        self.units.last_mut().ok_or(OTHER_TYPE)
    }

    /// Where the value stands that comes now.
    fn place(&self) -> Node {
        match self.nodes.last() {
            Some(Node::Units(what)) => Node::Unit(*what),
            Some(Node::Skip) => Node::Skip,
            _ => self.next,
        }
    }

    fn begin(&mut self, object: bool) -> Result<(), Unreadable> {
        let node = match (self.place(), object) {
            (Node::Unit(what), true) => {
                self.units.push(Unit::default());
                Node::Unit(what)
            }
            // Something in a list of parts that is no part.
            (Node::Unit(What::Part), false) | (Node::Slot(Slot::Text), true) => {
                self.unit()?.not_text = true;
                Node::Skip
            }
            (Node::Slot(Slot::Text), false) => {
                self.unit()?.text.get_or_insert_default();
                Node::Units(What::Part)
            }
            (Node::Units(what), false) => Node::Units(what),
            (Node::Inner, true) => Node::Inner,
            (Node::Skip, _) => Node::Skip,
            (Node::Refused, _) => return Err(REFUSED),
            (Node::Unit(_) | Node::Units(_) | Node::Inner | Node::Slot(_), _) => return Err(OTHER_TYPE),
        };
        self.nodes.push(node);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        match self.nodes.pop() {
            Some(Node::Unit(What::Part)) => {
                let part = self.units.pop().ok_or(OTHER_TYPE)?;
                self.unit()?.add_part(part);
                Ok(())
            }
            Some(Node::Unit(what)) => {
                let unit = self.units.pop().ok_or(OTHER_TYPE)?;
                self.shape.ended(what, unit)
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), Unreadable> {
        self.next = match self.nodes.last().copied().unwrap_or(Node::Skip) {
            Node::Skip => Node::Skip,
            Node::Unit(What::Part) => match name {
                "type" => Node::Slot(Slot::Kind),
                "text" => Node::Slot(Slot::Text),
                _ => Node::Skip,
            },
            at => self.shape.member(at, name),
        };
        if self.next == Node::Slot(Slot::Value) {
            self.builder = Some(Builder::default());
        }
        // What the model said is not looked at, and it is most of a request.
        if self.next == Node::Slot(Slot::Text) && self.unit()?.role.as_deref() == Some("assistant") {
            self.next = Node::Skip;
        }
        Ok(())
    }

    fn text(&mut self, piece: &str) -> Result<(), Unreadable> {
        let slot = match self.place() {
            Node::Slot(slot) => slot,
            // `input` and `content` may be one text.
            Node::Skip | Node::Units(_) => return Ok(()),
            Node::Unit(What::Part) => {
                self.unit()?.not_text = true;
                return Ok(());
            }
            Node::Refused => return Err(REFUSED),
            Node::Unit(_) | Node::Inner => return Err(OTHER_TYPE),
        };
        let unit = self.unit()?;
        let keep = |field: &mut Option<String>, bound: usize| {
            let field = field.get_or_insert_default();
            if field.len() + piece.len() > bound {
                return Err(Unreadable("a type, role, id or name is too long"));
            }
            field.push_str(piece);
            Ok(())
        };
        match slot {
            Slot::Kind => keep(&mut unit.kind, WORD),
            Slot::Role => keep(&mut unit.role, WORD),
            Slot::Id => keep(&mut unit.id, CALL_ID),
            Slot::CallId => keep(&mut unit.call_id, CALL_ID),
            Slot::Name => keep(&mut unit.name, TOOL_NAME),
            Slot::Arguments => {
                unit.arguments.get_or_insert_default().push(piece, ARGUMENTS);
                Ok(())
            }
            Slot::Text => {
                unit.text.get_or_insert_default().push(piece, RESULT_TEXT);
                Ok(())
            }
            Slot::Value | Slot::IsError | Slot::Index => Err(OTHER_TYPE),
        }
    }

    fn scalar(&mut self, token: Token<'_>) -> Result<(), Unreadable> {
        match (self.place(), token) {
            (Node::Slot(Slot::IsError), Token::Bool(value)) => self.unit()?.is_error = Some(value),
            (Node::Slot(Slot::Index), Token::Number(value)) => {
                self.unit()?.index = Some(value.parse().map_err(|_| OTHER_TYPE)?);
            }
            (Node::Unit(What::Part) | Node::Slot(Slot::Text), Token::Bool(_) | Token::Number(_)) => {
                self.unit()?.not_text = true;
            }
            // A member that is null is not there.
            (Node::Unit(What::Part), _) => self.unit()?.not_text = true,
            (Node::Unit(_), _) => return Err(OTHER_TYPE),
            (Node::Skip, _) | (_, Token::Null) => {}
            _ => return Err(OTHER_TYPE),
        }
        Ok(())
    }
}

impl<S: Shape> Sink for Walker<S> {
    fn token(&mut self, token: Token<'_>) -> Result<(), Unreadable> {
        if let Some(builder) = &mut self.builder {
            let Some(built) = builder.token(token) else { return Ok(()) };
            self.builder = None;
            self.unit()?.value = Some(built.as_ref().map(Arguments::of));
            return Ok(());
        }
        match token {
            Token::Object => self.begin(true),
            Token::Array => self.begin(false),
            Token::EndObject | Token::EndArray => self.end(),
            Token::Name(name) => self.name(name),
            Token::Text(piece) => self.text(piece),
            // An empty text is one, too.
            Token::EndText => self.text(""),
            Token::Number(_) | Token::Bool(_) | Token::Null => self.scalar(token),
        }
    }
}

impl Unit {
    fn add_part(&mut self, part: Unit) {
        let kind = part.kind.unwrap_or_default();
        let text = self.text.get_or_insert_default();
        match part.text.filter(|_| matches!(&*kind, "text" | "input_text" | "output_text")) {
            Some(part) if !part.over => {
                if !text.text.is_empty() {
                    text.push("\n", RESULT_TEXT);
                }
                text.push(&part.text, RESULT_TEXT);
            }
            Some(_) => text.push(&" ".repeat(RESULT_TEXT + 1), RESULT_TEXT),
            None => self.not_text = true,
        }
        self.not_text |= part.not_text;
    }

    /// Its text, when that is all that it has.
    pub(super) fn whole_text(&mut self) -> Option<String> {
        let text = self.text.take().unwrap_or_default();
        if self.not_text { None } else { text.whole() }
    }
}

const OTHER_TYPE: Unreadable = Unreadable("a member has another type than the interface says");
const REFUSED: Unreadable = Unreadable("it uses function_call, which has no ids; tool_calls has");
