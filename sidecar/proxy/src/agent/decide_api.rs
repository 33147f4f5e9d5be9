//! `POST /v1/decide`: may this tool call happen? For the agent's guard plugin and for agents of any other
//! kind. An answer is 200 with a `decision`; anything else means that nothing was decided, and the tool must not run.

use std::sync::Arc;

use bytes::Bytes;
use clawlock_audit::ActionRecord;
use clawlock_audit::record::bounded;
use clawlock_policy::{Action, Claims, Code, Context, Denial, Facts, Policy, ToolAction, Verdict};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AgentGate;
use super::api::{API_VERSION, Problem, check_version};
use super::replay::{Allowed, Answer};
use crate::gate::{Asking, Refused};
use crate::limits::REQUEST_ID;
use crate::llm::ledger::Decided;

/// Longest tool name in bytes.
const TOOL_NAME: usize = 256;

/// Longest requester, run, model or role in bytes: names and ids, not texts.
const CLAIM: usize = 256;

/// Longest id of a call in bytes. Models make some 30 to 60; routers add a signature.
const CALL_ID: usize = 1024;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecideRequest<'a> {
    /// [`API_VERSION`].
    pub version: u32,
    /// Chosen by the client, 1 to 128 visible ASCII characters. The same id with the same body gets the
    /// same answer for ten minutes, as long as the policy has not changed.
    #[serde(borrow)]
    pub request_id: std::borrow::Cow<'a, str>,
    /// The tool's name.
    #[serde(borrow)]
    pub tool: std::borrow::Cow<'a, str>,
    /// The tool's arguments: a JSON object.
    #[serde(borrow)]
    pub args: &'a RawValue,
    /// For whom the call is made, as the client knows; 1 to 256 bytes. Rules can tighten by it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<std::borrow::Cow<'a, str>>,
    /// The run that the call belongs to; 1 to 256 bytes.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub run: Option<std::borrow::Cow<'a, str>>,
    /// The model that made the call; 1 to 256 bytes.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub model: Option<std::borrow::Cow<'a, str>>,
    /// The role that the run carries; 1 to 256 bytes. The call is decided within what the agent's manifest declares of the
    /// role; a role that it does not declare has no tools.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub role: Option<std::borrow::Cow<'a, str>>,
    /// The id that the model gave the call: 1 to 1024 bytes without control characters. Absent when the call has none.
    /// A result that the model gets to see must be of a call that was decided under its id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<std::borrow::Cow<'a, str>>,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecideAnswer<'a> {
    /// [`API_VERSION`].
    pub version: u32,
    /// The question's id.
    pub request_id: &'a str,
    /// What was decided. Clients take any value that they do not know for a refusal.
    pub decision: Decision,
    /// The policy that decided, as `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'a str>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Why not, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'a str>,
    /// All of it in one sentence, for the model: whoever blocks the call hands it over as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the same call may be allowed later without a change of policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// In how many seconds, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The tool may run.
    Allow,
    /// It must not.
    Deny,
}

impl AgentGate {
    /// Answers a question; one that is repeated gets its first answer.
    pub(super) async fn decide_once(&self, body: &[u8]) -> Result<Bytes, Problem> {
        let request = parse(body)?;
        let active = self.decider.policies().active(&self.identity);
        let generation = active.as_ref().map_or(0, |(policy, _)| policy.generation());
        let place = self.replays.place(&request.request_id, body, generation).map_err(|_conflict| {
            let detail = format!("requestId {:?} was used for another request", request.request_id);
            Problem::new(StatusCode::CONFLICT, "Request id used twice", detail)
        })?;
        let answer = place.get_or_init(|| async {
            let asking = Asking::named((*request.request_id).into(), self.identity.clone());
            let verdict = self.decide_tool(&asking, active, &request).await;
            if matches!(&verdict, Verdict::Deny(denial) if denial.code.retryable()) {
                self.replays.forget(&request.request_id);
            }
            self.remember(&request, &verdict);
            Answer::new(encode(&request.request_id, &verdict), allowed(&verdict, &request.tool))
        });
        Ok(answer.await.bytes.clone())
    }

    /// What models get to see of the call is compared with this.
    fn remember(&self, request: &DecideRequest<'_>, verdict: &Verdict) {
        let Some(call_id) = &request.call_id else { return };
        let denial = verdict.denial().map(sentence);
        let (tool, arguments) = (&*request.tool, request.args.get());
        self.crosscheck.decided(Decided { call_id, tool, arguments, denial: denial.as_deref() });
    }

    async fn decide_tool(
        &self,
        asking: &Asking,
        active: Result<(Arc<Policy>, u64), Denial>,
        request: &DecideRequest<'_>,
    ) -> Verdict {
        let call_id = request.call_id.as_deref().map(bounded);
        let action = ActionRecord::Tool { tool: bounded(&request.tool), call_id };
        let verdict = match active {
            Err(denial) => Verdict::Deny(denial),
            Ok((policy, now_ms)) => {
                let claims = Claims {
                    requester: request.requester.as_deref(),
                    run: request.run.as_deref(),
                    model: request.model.as_deref(),
                    role: request.role.as_deref(),
                };
                let tool = ToolAction { name: &request.tool, args: request.args.get(), claims };
                let context = Context { now_ms };
                let action = Action::Tool(tool);
                self.decider.decide_metered(&policy, &Facts { caller: policy.caller(), action, context })
            }
        };
        match verdict {
            Verdict::Allow(permit) => match self.decider.record_allow(asking, action, &permit).await {
                Ok(_receipt) => Verdict::Allow(permit),
                Err(denial) => Verdict::Deny(denial),
            },
            Verdict::Ask(denial) | Verdict::Deny(denial) => {
                Verdict::Deny(self.decider.refuse(asking, Refused { denial, action }).await)
            }
        }
    }
}

fn parse(body: &[u8]) -> Result<DecideRequest<'_>, Problem> {
    let request: DecideRequest<'_> = serde_json::from_slice(body)
        .map_err(|error| Problem::bad(format!("the body is no decide request: {error}")))?;
    let DecideRequest { version, request_id, tool, args, requester, run, model, role, call_id } = &request;
    check_version(*version)?;
    check_id(request_id)?;
    if tool.is_empty() || tool.len() > TOOL_NAME || tool.chars().any(char::is_control) {
        return Err(Problem::bad(format!("tool: 1 to {TOOL_NAME} bytes without control characters are needed")));
    }
    for (field, claim) in [("requester", requester), ("run", run), ("model", model), ("role", role)] {
        let wrong = |text: &str| text.is_empty() || text.len() > CLAIM || text.chars().any(char::is_control);
        if claim.as_deref().is_some_and(wrong) {
            return Err(Problem::bad(format!("{field}: 1 to {CLAIM} bytes without control characters are needed")));
        }
    }
    if !args.get().starts_with('{') {
        return Err(Problem::bad("args: a JSON object is needed"));
    }
    let fits = |id: &str| !id.is_empty() && id.len() <= CALL_ID && !id.chars().any(char::is_control);
    if call_id.as_deref().is_some_and(|id| !fits(id)) {
        return Err(Problem::bad(format!("callId: 1 to {CALL_ID} bytes without control characters are needed")));
    }
    Ok(request)
}

/// A denial in one sentence: what, why (with the rule, when one refused) and what to do next.
fn sentence(denial: &Denial) -> String {
    let Denial { code: _, rule: _, generation: _, detail, hint, retry_after_ms: _, halts: _ } = denial;
    // What an agent made up stands in the detail; a control character in it would be a line of its own.
    let detail: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("Blocked by policy: {detail}; {hint}.")
}

/// What an outcome can be reported of: a call that was allowed.
fn allowed(verdict: &Verdict, tool: &str) -> Option<Allowed> {
    let Verdict::Allow(permit) = verdict else { return None };
    Some(Allowed { tool: bounded(tool), generation: permit.generation() })
}

/// Checks a request id.
pub(super) fn check_id(id: &str) -> Result<(), Problem> {
    if id.is_empty() || id.len() > REQUEST_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::bad(format!("requestId: 1 to {REQUEST_ID} visible ASCII characters are needed")));
    }
    Ok(())
}

fn encode(request_id: &str, verdict: &Verdict) -> Bytes {
    let rule = verdict.rule();
    let denial = verdict.denial();
    let answer = DecideAnswer {
        version: API_VERSION,
        request_id,
        decision: if denial.is_none() { Decision::Allow } else { Decision::Deny },
        policy: rule.map(|rule| &*rule.policy),
        rule: rule.map(|rule| &*rule.rule),
        code: denial.map(|denial| denial.code),
        detail: denial.map(|denial| &*denial.detail),
        hint: denial.map(|denial| denial.hint),
        message: denial.map(sentence),
        retryable: denial.map(|denial| denial.code.retryable()),
        retry_after: denial.and_then(crate::problem::retry_after),
    };
    serde_json::to_vec(&answer).expect("an answer has only strings").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(body: &str) -> String {
        parse(body.as_bytes()).unwrap_err().detail
    }

    #[test]
    fn bad_bodies_name_the_field() {
        assert!(parse(br#"{"version":1,"requestId":"a","tool":"exec","args":{}}"#).is_ok());
        for (body, field) in [
            (r#"{"version":2,"requestId":"a","tool":"exec","args":{}}"#, "version"),
            (r#"{"version":1,"requestId":"","tool":"exec","args":{}}"#, "requestId"),
            (r#"{"version":1,"requestId":"a\nb","tool":"exec","args":{}}"#, "requestId"),
            (r#"{"version":1,"requestId":"a","tool":"","args":{}}"#, "tool"),
            (r#"{"version":1,"requestId":"a","tool":"ex\u0000ec","args":{}}"#, "tool"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":[]}"#, "args"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":null}"#, "args"),
            (r#"{"version":1,"requestId":"a","tool":"exec"}"#, "args"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"requester":""}"#, "requester"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"run":"a\u0000"}"#, "run"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"model":1}"#, "no decide request"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"role":""}"#, "role"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"role":"a","role":"b"}"#, "role"),
            (r#"{"version":1,"requestId":"a","tool":"exec","tool":"ls","args":{}}"#, "tool"),
            (r#"{"version":1,"requestId":"a","Tool":"exec","args":{}}"#, "Tool"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"callId":""}"#, "callId"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{},"callId":"a\nb"}"#, "callId"),
            (r#"{"version":"1","requestId":"a","tool":"exec","args":{}}"#, "line 1 column"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{}}{}"#, "trailing"),
            (r#"{"version":1,"requestId":"a","tool":"exec","args":{}"#, "EOF"),
        ] {
            assert!(detail(body).contains(field), "{body}: {}", detail(body));
        }
    }

    #[test]
    fn deep_nesting_in_args_does_not_recurse() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        let body = format!(r#"{{"version":1,"requestId":"a","tool":"exec","args":{deep}}}"#);
        // It is taken as text: the strict parser bounds the depth once a rule reads it.
        assert!(parse(body.as_bytes()).is_ok());
    }

    #[test]
    fn fuzz_decide_body() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(request) = parse(bytes) else { return };
            assert!(request.version == API_VERSION && !request.tool.is_empty() && request.tool.len() <= TOOL_NAME);
            assert!(request.request_id.bytes().all(|b| b.is_ascii_graphic()));
            assert!(
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(request.args.get()).is_ok()
                    || request.args.get().len() > 128,
                "{:?}",
                request.args
            );
        });
    }
}
