//! `POST /v1/outcome`: what came of a tool call that was allowed. It becomes a record beside that of the decision and
//! decides nothing: the agent's process says it of itself.

use std::borrow::Cow;

use bytes::Bytes;
use clawlock_audit::ActionRecord;
use http::StatusCode;
use serde::Deserialize;

use super::AgentGate;
use super::api::{API_VERSION, Problem, check_version};
use super::decide_api::check_id;
use crate::gate::Asking;

/// Hex digits of a SHA-256.
const SHA256: usize = 64;

/// What came of a tool call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ToolOutcome<'a> {
    /// [`API_VERSION`].
    version: u32,
    /// The id under which the call was allowed. Each has one outcome.
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    /// How long the tool ran, in milliseconds.
    duration_ms: u32,
    /// Whether it failed.
    error: bool,
    /// SHA-256 of its result in lower-case hex, as the plugin encodes it; absent when there is none.
    #[serde(borrow, default)]
    result_sha256: Option<Cow<'a, str>>,
}

fn parse(body: &[u8]) -> Result<ToolOutcome<'_>, Problem> {
    let outcome: ToolOutcome<'_> =
        serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body is no outcome: {error}")))?;
    let ToolOutcome { version, request_id, duration_ms: _, error: _, result_sha256 } = &outcome;
    check_version(*version)?;
    check_id(request_id)?;
    let hex = |text: &str| text.len() == SHA256 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if result_sha256.as_deref().is_some_and(|text| !hex(text)) {
        return Err(Problem::bad(format!("resultSha256: {SHA256} lower-case hex digits are needed")));
    }
    Ok(outcome)
}

impl AgentGate {
    /// Records an outcome.
    pub(super) async fn outcome(&self, body: &[u8]) -> Result<Bytes, Problem> {
        let ToolOutcome { version: _, request_id, duration_ms, error, result_sha256 } = parse(body)?;
        let place = self.replays.given(&request_id);
        let answer = place.as_ref().and_then(|place| place.get());
        let Some((answer, allowed)) = answer.and_then(|answer| Some((answer, answer.claim()?))) else {
            let detail = "requestId: no allowed call has it that is still without an outcome";
            return Err(Problem::new(StatusCode::CONFLICT, "Nothing to report on", detail));
        };
        let action = ActionRecord::ToolResult {
            tool: allowed.tool,
            duration_ms,
            error,
            result_sha256: result_sha256.map(Cow::into_owned),
        };
        let asking = Asking::named((*request_id).into(), self.identity.clone());
        if let Err(error) = self.decider.report(&asking, action, allowed.generation).await {
            answer.unclaim();
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Audit log unavailable", error.to_string()));
        }
        Ok(serde_json::json!({"version": API_VERSION}).to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_outcomes_name_the_field() {
        let hash = "0123456789abcdef".repeat(4);
        let good = format!(r#"{{"version":1,"requestId":"a","durationMs":12,"error":false,"resultSha256":"{hash}"}}"#);
        assert!(parse(good.as_bytes()).is_ok());
        assert!(parse(br#"{"version":1,"requestId":"a","durationMs":12,"error":true}"#).is_ok());
        for (from, to, field) in [
            (r#""version":1"#, r#""version":0"#, "version"),
            (r#""requestId":"a""#, r#""requestId":"a b""#, "requestId"),
            (r#""durationMs":12"#, r#""durationMs":-1"#, "invalid value"),
            (r#""durationMs":12"#, r#""durationMs":1.5"#, "invalid type"),
            (r#""error":false"#, r#""error":"no""#, "invalid type"),
            ("0123456789abcdef", "0123456789ABCDEF", "resultSha256"),
            ("0123456789abcdef", "", "resultSha256"),
            (r#""error":false"#, r#""error":false,"result":"secret""#, "result"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let detail = parse(bad.as_bytes()).unwrap_err().detail;
            assert!(detail.contains(field), "{bad}: {detail}");
        }
    }

    #[test]
    fn fuzz_outcome_body() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(outcome) = parse(bytes) else { return };
            assert!(outcome.result_sha256.is_none_or(|hash| hash.len() == SHA256));
        });
    }
}
