//! What passes between an agent and a model: which tools the model asks for, and which results come back.
//!
//! OpenAI's chat completions and responses and Anthropic's messages are read as they stream, requests
//! ([`RequestReader`]) and answers ([`AnswerReader`]); the [`ledger`] compares what they say with what was
//! decided. Nothing here does I/O, waits or reads a clock, and everything is bounded: texts are skipped
//! without being stored, calls, names and arguments have limits. What cannot be read in exactly one way is
//! refused with a reason.

mod answer;
mod arguments;
pub mod ledger;
mod notices;
mod read;
mod request;
mod sse;
mod unit;
mod value;

#[cfg(test)]
mod tests;

pub use answer::{AnswerReader, Asked};
pub use arguments::Arguments;
pub use request::RequestReader;

/// Longest id of a call in bytes. Providers use 30 to 60; some routers put a signature behind.
pub const CALL_ID: usize = 1024;

/// Longest name of a tool in bytes, as `/v1/decide` has it.
pub const TOOL_NAME: usize = 256;

/// Largest arguments of one call in bytes: as much as `/v1/decide` takes. What is larger can never be decided.
pub const ARGUMENTS: usize = 1024 * 1024;

/// Largest arguments of one answer's calls together, while they stream in.
pub const ANSWER_ARGUMENTS: usize = 4 * 1024 * 1024;

/// Most calls in one answer. Models ask for a handful in parallel.
pub const ANSWER_CALLS: usize = 128;

/// How much of a result is kept until it is judged. Denials and an agent's own notices are shorter; of what
/// is longer only that is known.
pub const RESULT_TEXT: usize = 64 * 1024;

/// Most calls and results in one request: a session of weeks.
pub const REQUEST_CALLS: usize = 16 * 1024;

/// Largest request in bytes. The providers take 32 to 50 MB, pictures included.
pub const REQUEST: u64 = 64 * 1024 * 1024;

/// Why something could not be read in exactly one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub(crate) &'static str);

/// An interface of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// Anthropic's `POST /v1/messages`.
    Messages,
}

impl Api {
    /// The interface at a path that every LLM upstream has.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            "/v1/responses" => Some(Self::Responses),
            "/v1/messages" => Some(Self::Messages),
            _ => None,
        }
    }

    /// The interface at a path that an operation of the upstream names: routers and other providers have
    /// the same ones below a prefix of their own (`/openai/deployments/x/chat/completions`).
    #[must_use]
    pub fn below(path: &str) -> Option<Self> {
        if path.ends_with("/chat/completions") {
            Some(Self::ChatCompletions)
        } else if path.ends_with("/responses") {
            Some(Self::Responses)
        } else if path.ends_with("/messages") {
            Some(Self::Messages)
        } else {
            None
        }
    }
}

/// A tool call, as a model asked for it or as a request's history has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The id that its result will carry.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments; `None` while they are not known, or when they are larger than [`ARGUMENTS`] or no JSON.
    pub arguments: Option<Arguments>,
}

/// A tool's result, as a request carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of its call.
    pub id: String,
    /// All of its text; `None` when it has more than [`RESULT_TEXT`] bytes, or something else than text.
    pub text: Option<String>,
    /// Whether it says of itself that it is an error; `None` where the interface has no such mark.
    pub is_error: Option<bool>,
}

/// What a request says about tools, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The history has this call of the model.
    Call(Call),
    /// The result of a call.
    Result(ToolResult),
}
