//! The cross-check: what passes to and from models against what `/v1/decide` said.
//!
//! It is the pod's one [`Ledger`] behind a lock, written down so that it outlives the process, and the
//! bodies that are read on their way. An agent that disobeys is halted: from then on its gate answers
//! everything with why, and its open streams end.

mod bodies;
mod journal;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawlock_policy::document::Protocol;
use clawlock_policy::{Code, Denial, Policy};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use hyper::body::Incoming;

use crate::denial;
use crate::gate::Asked;
use crate::llm::ledger::{Conversation, Decided, Ledger, Objection};
use crate::llm::{AnswerReader, Api, Asked as AskedFor, Said};
use crate::metrics::Metrics;
use journal::Journal;

pub(super) use bodies::{AnswerCheck, Found, RequestCheck};

/// What is known of the pod's calls.
pub(super) struct CrossCheck {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    journal: Option<Journal>,
}

impl State {
    fn write(&mut self) {
        let changes = self.ledger.changes();
        if let Some(journal) = &mut self.journal {
            journal.write(&changes, &self.ledger);
        }
    }
}

impl CrossCheck {
    /// One that begins with nothing, and keeps nothing when the process ends.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), metrics }
    }

    /// Goes on with what a folder holds, and writes there.
    pub(super) fn remember(&self, folder: &Path) -> io::Result<()> {
        let (journal, ledger) = Journal::open(folder)?;
        *self.lock() = State { ledger, journal: Some(journal) };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call was decided.
    pub(super) fn decided(&self, decided: Decided<'_>) {
        let mut state = self.lock();
        state.ledger.decided(decided);
        state.write();
    }

    /// A model asks for calls.
    fn asked(&self, asked: &[AskedFor]) {
        if asked.is_empty() {
            return;
        }
        let mut state = self.lock();
        asked.iter().for_each(|asked| state.ledger.asked(asked));
        state.write();
    }

    /// A request says something about calls.
    fn said(&self, conversation: &mut Conversation, said: &[Said]) -> Result<(), Objection> {
        if said.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        for said in said {
            let judged = state.ledger.said(conversation, said);
            if let Some(judged) = judged.as_ref().map_or_else(|objection| Some(Err(objection)), |fits| fits.map(Ok)) {
                self.metrics.tool_result(judged);
            }
            judged?;
        }
        state.write();
        Ok(())
    }
}

/// How a request to a model is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It goes to no model, or to a path whose operation the platform team named and that is none of the
    /// interfaces.
    Not,
    /// It is read, and the answer as well.
    As(Api),
}

/// How to read a request that is allowed; what would make it unreadable is refused here.
pub(super) fn reading(asked: &mut Asked, policy: &Policy, upgrade: bool) -> Result<Reading, Denial> {
    if asked.upstream.protocol != Protocol::Llm {
        return Ok(Reading::Not);
    }
    let (question, upstream) = (&asked.question, &asked.upstream.name);
    let path = question.path.as_str();
    let api = (question.method == Method::POST && !upgrade).then(|| Api::at(path)).flatten();
    let api = match api {
        Some(api) => Some(api),
        // The platform team answers for what it names.
        None if !upgrade && question.operation(policy).is_some() => {
            (question.method == Method::POST).then(|| Api::below(path)).flatten()
        }
        None => {
            let what = if upgrade { "WebSocket" } else { question.method.as_str() };
            let detail = format!("{what} {path} is no operation of upstream {upstream}, which is a language model's");
            return Err(denial::of(Code::EndpointRefused, detail));
        }
    };
    let Some(api) = api.filter(|_| policy.plugin_optional().is_none()) else { return Ok(Reading::Not) };
    if !is_identity(&asked.headers) {
        let detail = format!("a request to upstream {upstream} has a content coding; it must be read");
        return Err(denial::of(Code::BadRequest, detail));
    }
    asked.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(Reading::As(api))
}

/// How to read an answer.
fn answer_reader(api: Api, response: &Response<Incoming>) -> Result<Option<AnswerReader>, Denial> {
    if !response.status().is_success() {
        // An error says something to the client, and asks for nothing.
        return Ok(None);
    }
    let refuse = |detail: &str| Err(denial::of(Code::UpstreamResponse, detail.to_owned()));
    if !is_identity(response.headers()) {
        return refuse("the model used a content coding although none was accepted");
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("text/event-stream") {
        Ok(Some(AnswerReader::events(api)))
    } else if essence.eq_ignore_ascii_case("application/json") {
        Ok(Some(AnswerReader::json(api)))
    } else {
        refuse("the model's answer is neither JSON nor a stream of events")
    }
}

fn is_identity(fields: &HeaderMap) -> bool {
    fields.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity")
}
