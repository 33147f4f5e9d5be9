//! Answers of models: the tool calls that they ask for, whole or streamed.

use super::read::Reader;
use super::request::{block, call, item};
use super::sse::Events;
use super::unit::{Kept, Node, Shape, Slot, Unit, Walker, What};
use super::{ANSWER_ARGUMENTS, ANSWER_CALLS, ARGUMENTS, Api, Arguments, Unreadable};

/// What an answer says about tools.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// The model asks for a call. Its arguments may still be on their way.
    Begun {
        /// The id that its result will carry.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// The call is whole.
    Whole {
        /// Its id.
        id: String,
        /// Its arguments; `None` when they are no JSON object or larger than [`ARGUMENTS`].
        arguments: Option<Arguments>,
    },
}

/// Reads one answer as it comes.
pub struct AnswerReader {
    form: Form,
    assembly: Assembly,
}

enum Form {
    Json(Box<Document>),
    Events(Box<(Events, Option<Document>)>),
}

/// One event or a whole answer, while it comes.
struct Document {
    json: Reader,
    walker: Walker<Event>,
}

impl AnswerReader {
    /// For an answer that is one JSON value.
    #[must_use]
    pub fn json(api: Api) -> Self {
        Self { form: Form::Json(Box::new(Document::new(api))), assembly: Assembly::new(api) }
    }

    /// For an answer that is a stream of server-sent events.
    #[must_use]
    pub fn events(api: Api) -> Self {
        Self { form: Form::Events(Box::new((Events::default(), None))), assembly: Assembly::new(api) }
    }

    /// Takes the next bytes; answers what they ask for, in order.
    ///
    /// # Errors
    /// When the answer cannot be read in exactly one way. The rest of it must not reach the agent then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Asked>, Unreadable> {
        match &mut self.form {
            Form::Json(document) => {
                document.json.push(bytes, &mut document.walker)?;
                // What it asks for is known before its end reaches the agent.
                if std::mem::take(&mut document.walker.shape.whole) {
                    let event = std::mem::replace(&mut document.walker.shape, Event::new(self.assembly.api));
                    self.assembly.take(event)?;
                }
            }
            Form::Events(form) => {
                let (events, document) = &mut **form;
                let assembly = &mut self.assembly;
                events.push(bytes, &mut |piece| match piece {
                    Some(data) => {
                        let document = document.get_or_insert_with(|| Document::new(assembly.api));
                        document.json.push(data, &mut document.walker)
                    }
                    None => document.take().map_or(Ok(()), |document| assembly.event(document)),
                })?;
            }
        }
        Ok(std::mem::take(&mut self.assembly.asked))
    }

    /// The answer is over.
    ///
    /// # Errors
    /// As [`AnswerReader::push`].
    pub fn finish(&mut self) -> Result<Vec<Asked>, Unreadable> {
        match &mut self.form {
            Form::Json(document) => document.json.finish(&mut document.walker)?,
            Form::Events(form) => {
                let (events, document) = &mut **form;
                events.finish()?;
                // Some clients take an event without the empty line behind it.
                if let Some(document) = document.take() {
                    self.assembly.event(document)?;
                }
            }
        }
        Ok(self.broke_off())
    }

    /// The answer broke off, or its reader has gone: what was asked for up to now stands.
    pub fn broke_off(&mut self) -> Vec<Asked> {
        self.assembly.close(|_| true);
        std::mem::take(&mut self.assembly.asked)
    }
}

impl Document {
    fn new(api: Api) -> Self {
        Self { json: Reader::default(), walker: Walker::new(Event::new(api)) }
    }
}

/// What one event says, or a whole answer.
struct Event {
    api: Api,
    kind: String,
    index: u64,
    // Calls, by their choice's place and their own.
    parts: Vec<Part>,
    // Of the choice that is being read.
    of_choice: usize,
    // Choices that are over.
    over: Vec<u64>,
    delta: Option<Kept>,
    whole: bool,
}

struct Part {
    place: (u64, u64),
    unit: Unit,
}

impl Event {
    fn new(api: Api) -> Self {
        let (kind, parts, over) = (String::new(), Vec::new(), Vec::new());
        Self { api, kind, index: 0, parts, of_choice: 0, over, delta: None, whole: false }
    }

    fn part(&mut self, place: (u64, u64), unit: Unit) -> Result<(), Unreadable> {
        if self.parts.len() == ANSWER_CALLS {
            return Err(TOO_MANY);
        }
        self.parts.push(Part { place, unit });
        Ok(())
    }
}

impl Shape for Event {
    fn member(&self, at: Node, name: &str) -> Node {
        match (self.api, at, name) {
            (Api::ChatCompletions, Node::Unit(What::Root), "choices") => Node::Units(What::Choice),
            (Api::ChatCompletions, Node::Unit(What::Choice), "index") => Node::Slot(Slot::Index),
            (Api::ChatCompletions, Node::Unit(What::Choice), "finish_reason") => Node::Slot(Slot::Kind),
            (Api::ChatCompletions, Node::Unit(What::Choice), "message" | "delta") => Node::Inner,
            (Api::ChatCompletions, Node::Inner, "tool_calls") => Node::Units(What::Call),
            (Api::ChatCompletions, Node::Inner, "function_call") => Node::Refused,
            (Api::ChatCompletions, at, name) => call(at, name),
            (_, Node::Unit(What::Root), "type") => Node::Slot(Slot::Kind),
            (Api::Responses, Node::Unit(What::Root), "response") => Node::Inner,
            (Api::Responses, Node::Unit(What::Root) | Node::Inner, "output") => Node::Units(What::Item),
            (Api::Responses, Node::Unit(What::Root), "item") => Node::Unit(What::Item),
            (Api::Responses, Node::Unit(What::Item), name) => item(name),
            (Api::Messages, Node::Unit(What::Root), "index") => Node::Slot(Slot::Index),
            (Api::Messages, Node::Unit(What::Root), "message" | "delta") => Node::Inner,
            (Api::Messages, Node::Unit(What::Root) | Node::Inner, "content") => Node::Units(What::Block),
            (Api::Messages, Node::Unit(What::Root), "content_block") => Node::Unit(What::Block),
            (Api::Messages, Node::Inner, "partial_json") => Node::Slot(Slot::Arguments),
            (Api::Messages, Node::Unit(What::Block), name) => block(name),
            _ => Node::Skip,
        }
    }

    fn ended(&mut self, what: What, unit: Unit) -> Result<(), Unreadable> {
        match what {
            What::Root => {
                self.kind = unit.kind.unwrap_or_default();
                self.index = unit.index.unwrap_or_default();
                self.delta = unit.arguments;
                self.whole = true;
                Ok(())
            }
            What::Choice => {
                let choice = unit.index.unwrap_or_default();
                self.parts.iter_mut().skip(self.of_choice).for_each(|part| part.place.0 = choice);
                self.of_choice = self.parts.len();
                if unit.kind.is_some_and(|reason| !reason.is_empty()) {
                    self.over.push(choice);
                }
                Ok(())
            }
            What::Call => {
                let order = u64::try_from(self.parts.len() - self.of_choice).unwrap_or(u64::MAX);
                let index = unit.index.unwrap_or(order);
                self.part((0, index), unit)
            }
            // Items and blocks that are no call have no such id.
            What::Item if unit.call_id.is_some() => self.part((0, 0), unit),
            What::Block if unit.kind.as_deref() == Some("tool_use") => self.part((0, 0), unit),
            _ => Ok(()),
        }
    }
}

/// A call that is still being streamed.
struct Open {
    place: (u64, u64),
    id: String,
    arguments: Kept,
}

/// Puts calls together from events.
struct Assembly {
    api: Api,
    open: Vec<Open>,
    asked: Vec<Asked>,
    // The ids of this answer: an item of responses is said three times.
    known: Vec<String>,
}

impl Assembly {
    fn new(api: Api) -> Self {
        Self { api, open: Vec::new(), asked: Vec::new(), known: Vec::new() }
    }

    fn event(&mut self, mut document: Document) -> Result<(), Unreadable> {
        document.json.finish(&mut document.walker)?;
        self.take(document.walker.shape)
    }

    fn take(&mut self, event: Event) -> Result<(), Unreadable> {
        let Event { api, kind, index, parts, of_choice: _, over, delta, whole: _ } = event;
        match api {
            Api::ChatCompletions => {
                for Part { place, unit } in parts {
                    self.fragment(place, unit)?;
                }
                self.close(|open| over.contains(&open.place.0));
            }
            Api::Responses => {
                let added = kind == "response.output_item.added";
                parts.into_iter().try_for_each(|part| self.item(part.unit, added))?;
            }
            Api::Messages => {
                for Part { place: _, unit } in parts {
                    let (id, name) = id_and_name(unit.id, unit.name)?;
                    self.begin(id.clone(), name)?;
                    match kind.as_str() {
                        "content_block_start" => self.open((index, 0), id)?,
                        _ => self.asked.push(Asked::Whole { id, arguments: unit.value.flatten() }),
                    }
                }
                if let Some(delta) = delta {
                    self.append((index, 0), &delta)?;
                }
                if kind == "content_block_stop" {
                    self.close(|open| open.place == (index, 0));
                }
            }
        }
        Ok(())
    }

    /// A call of chat completions, or a piece of one.
    fn fragment(&mut self, place: (u64, u64), unit: Unit) -> Result<(), Unreadable> {
        let known = self.open.iter().find(|open| open.place == place);
        let id = unit.id.filter(|id| !id.is_empty());
        // Some routers repeat the id with every piece.
        let same = known.is_some_and(|open| id.as_ref().is_none_or(|id| *id == open.id));
        if !same {
            self.close(|open| open.place == place);
            let (id, name) = id_and_name(id, unit.name)?;
            self.begin(id.clone(), name)?;
            self.open(place, id)?;
        }
        unit.arguments.map_or(Ok(()), |piece| self.append(place, &piece))
    }

    /// An item of responses: when it is added, when it is done, and once more in the whole answer.
    fn item(&mut self, unit: Unit, added: bool) -> Result<(), Unreadable> {
        let kind = unit.kind.unwrap_or_default();
        if kind.ends_with("_output") {
            return Ok(());
        }
        let is_function = kind == "function_call";
        let (id, name) = id_and_name(unit.call_id, unit.name.or(Some(kind)))?;
        self.begin(id.clone(), name)?;
        if added {
            return self.open((u64::MAX, 0), id);
        }
        self.open.retain(|open| open.id != id);
        let text = unit.arguments.unwrap_or_default().whole().filter(|_| is_function);
        self.asked.push(Asked::Whole { id, arguments: text.as_deref().and_then(Arguments::parse) });
        Ok(())
    }

    fn begin(&mut self, id: String, name: String) -> Result<(), Unreadable> {
        if self.known.contains(&id) {
            return Ok(());
        }
        if self.known.len() == ANSWER_CALLS {
            return Err(TOO_MANY);
        }
        self.known.push(id.clone());
        self.asked.push(Asked::Begun { id, name });
        Ok(())
    }

    fn open(&mut self, place: (u64, u64), id: String) -> Result<(), Unreadable> {
        if self.open.len() == ANSWER_CALLS {
            return Err(TOO_MANY);
        }
        self.open.push(Open { place, id, arguments: Kept::default() });
        Ok(())
    }

    fn append(&mut self, place: (u64, u64), piece: &Kept) -> Result<(), Unreadable> {
        let held: usize = self.open.iter().map(|open| open.arguments.text.len()).sum();
        if held + piece.text.len() > ANSWER_ARGUMENTS {
            return Err(Unreadable("the arguments of the answer's tool calls have more than 4 MiB"));
        }
        // A piece of a block that is no call.
        let Some(open) = self.open.iter_mut().find(|open| open.place == place) else { return Ok(()) };
        open.arguments.push(&piece.text, ARGUMENTS);
        open.arguments.over |= piece.over;
        Ok(())
    }

    fn close(&mut self, which: impl Fn(&Open) -> bool) {
        for Open { place, id, arguments } in self.open.extract_if(.., |open| which(open)) {
            let arguments = arguments.whole().as_deref().and_then(Arguments::parse);
            // Nothing is known of what was not streamed to here.
            let arguments = if place.0 == u64::MAX { None } else { arguments };
            self.asked.push(Asked::Whole { id, arguments });
        }
    }
}

fn id_and_name(id: Option<String>, name: Option<String>) -> Result<(String, String), Unreadable> {
    match (id, name) {
        (Some(id), Some(name)) if !id.is_empty() && !name.is_empty() => Ok((id, name)),
        _ => Err(Unreadable("a tool call has no id or no name")),
    }
}

const TOO_MANY: Unreadable = Unreadable("the answer asks for more than 128 tool calls");
