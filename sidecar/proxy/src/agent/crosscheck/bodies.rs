//! Bodies of requests to models and of their answers, read on their way. A chunk goes on once it was read:
//! nothing waits for more than the chunk that it is in.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use clawlock_policy::{Code, Denial};
use http::Response;
use hyper::body::Incoming;

use super::{CrossCheck, answer_reader};
use crate::body::{BodyError, Inspect};
use crate::denial;
use crate::llm::ledger::{Conversation, Objection};
use crate::llm::{AnswerReader, Api, RequestReader, Said, Unreadable};

/// What was found in a request's body; nothing while all is in order.
pub(in crate::agent) type Found = Arc<OnceLock<Denial>>;

/// What to do with an agent that disobeyed.
pub(in crate::agent) type OnDisobeyed = Box<dyn FnOnce(Denial) + Send + Sync>;

/// Reads a request to a model.
pub(in crate::agent) struct RequestCheck {
    check: Arc<CrossCheck>,
    reader: RequestReader,
    conversation: Conversation,
    found: Found,
    on_disobeyed: Option<OnDisobeyed>,
}

impl RequestCheck {
    pub(in crate::agent) fn new(check: Arc<CrossCheck>, api: Api, on_disobeyed: OnDisobeyed) -> Self {
        let (reader, conversation) = (RequestReader::new(api), Conversation::default());
        Self { check, reader, conversation, found: Found::default(), on_disobeyed: Some(on_disobeyed) }
    }

    /// Where what is found will be.
    pub(in crate::agent) fn found(&self) -> Found {
        self.found.clone()
    }

    fn judge(&mut self, said: Result<Vec<Said>, Unreadable>) -> Result<(), BodyError> {
        let denial = match said {
            Err(unreadable) => {
                denial::of(Code::BadRequest, format!("the request to the model cannot be checked: {unreadable}"))
            }
            Ok(said) => match self.check.said(&mut self.conversation, &said) {
                Ok(()) => return Ok(()),
                Err(Objection::Unknown(detail)) => denial::of(Code::ToolResultUnknown, detail),
                Err(Objection::Disobeyed(detail)) => {
                    let denial = denial::of(Code::Disobeyed, detail);
                    if let Some(act) = self.on_disobeyed.take() {
                        act(denial.clone());
                    }
                    denial
                }
            },
        };
        let error = denial.detail.clone();
        // The first finding stays.
        let _ = self.found.set(denial);
        Err(error.into())
    }
}

impl Inspect for RequestCheck {
    fn data(&mut self, bytes: &Bytes) -> Result<(), BodyError> {
        let said = self.reader.push(bytes);
        self.judge(said)
    }

    fn end(&mut self) -> Result<(), BodyError> {
        let said = self.reader.finish().map(|()| Vec::new());
        self.judge(said)
    }
}

/// Reads a model's answer.
pub(in crate::agent) struct AnswerCheck {
    check: Arc<CrossCheck>,
    reader: AnswerReader,
}

impl AnswerCheck {
    /// For an answer; `None` when it asks for nothing.
    pub(in crate::agent) fn new(
        check: Arc<CrossCheck>,
        api: Api,
        response: &Response<Incoming>,
    ) -> Result<Option<Self>, Denial> {
        Ok(answer_reader(api, response)?.map(|reader| Self { check, reader }))
    }
}

impl Inspect for AnswerCheck {
    fn data(&mut self, bytes: &Bytes) -> Result<(), BodyError> {
        let asked = self.reader.push(bytes).map_err(unreadable)?;
        self.check.asked(&asked);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BodyError> {
        let asked = self.reader.finish().map_err(unreadable)?;
        self.check.asked(&asked);
        Ok(())
    }
}

impl Drop for AnswerCheck {
    fn drop(&mut self) {
        // The agent may act on what it has got so far.
        self.check.asked(&self.reader.broke_off());
    }
}

fn unreadable(error: Unreadable) -> BodyError {
    tracing::warn!(%error, "a model's answer cannot be checked and was cut off");
    format!("the model's answer cannot be checked: {error}").into()
}
