//! `POST /v1/decide`: may this tool call happen? For the agent's guard plugin and for agents of any other
//! kind, over a Unix socket or loopback.
//!
//! An answer is 200 with a `decision`; anything else means that nothing was decided, and the tool must
//! not run. The listeners answer only requests that name them (DNS rebinding) and come from no web page.

use std::sync::Arc;

use bytes::Bytes;
use clawlock_audit::ActionRecord;
use clawlock_audit::record::bounded;
use clawlock_policy::{Action, Claims, Code, Context, Denial, Facts, Policy, ToolAction, Verdict};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};

use super::AgentGate;
use crate::body::{GateBody, ReadError, read};
use crate::drain::Watcher;
use crate::gate::{Asking, Refused};
use crate::limits::{BODY_TIMEOUT, DECIDE_REQUEST, REQUEST_ID};

/// Version of the request and the answer.
pub const API_VERSION: u32 = 1;

/// Longest tool name in bytes.
const TOOL_NAME: usize = 256;

/// Longest requester, run or model in bytes: names and ids, not texts.
const CLAIM: usize = 256;

/// Which listener a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Unix,
}

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

/// Why nothing was decided.
#[derive(Debug, Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    code: Code,
    detail: String,
    #[serde(skip)]
    status: StatusCode,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: "https://clawlock.dev/bad-request", title, code: Code::BadRequest, detail: detail.into(), status }
    }
}

/// Serves one connection.
pub(super) async fn serve<S>(gate: Arc<AgentGate>, stream: S, transport: Transport, drain: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    super::http::serve(stream, drain, move |request| {
        let gate = gate.clone();
        async move {
            match gate.answer(request, transport).await {
                Ok(answer) => json(StatusCode::OK, "application/json", answer),
                Err(problem) => {
                    let body = serde_json::to_vec(&problem).expect("a problem has only strings");
                    json(problem.status, "application/problem+json", body.into())
                }
            }
        }
    })
    .await;
}

fn json(status: StatusCode, kind: &'static str, body: Bytes) -> Response<GateBody> {
    let mut response = Response::new(GateBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl AgentGate {
    async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Result<Bytes, Problem> {
        let (parts, body) = request.into_parts();
        check_origin(&parts.headers, transport)?;
        if parts.uri.path() != "/v1/decide" || parts.uri.query().is_some() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "Not found", "the only path here is /v1/decide"));
        }
        if parts.method != Method::POST {
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "use POST"));
        }
        if !is_json(&parts.headers) {
            let detail = "the Content-Type must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Wrong content type", detail));
        }
        let body = read(body, DECIDE_REQUEST, BODY_TIMEOUT, |_| true).await.map_err(|error| match error {
            ReadError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", error.to_string()),
            ReadError::Timeout(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "Body too slow", error.to_string()),
            ReadError::Broken | ReadError::NoRoom => {
                Problem::new(StatusCode::BAD_REQUEST, "Body broke off", error.to_string())
            }
        })?;
        self.decide_once(&body).await
    }

    async fn decide_once(&self, body: &[u8]) -> Result<Bytes, Problem> {
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
            encode(&request.request_id, &verdict)
        });
        Ok(answer.await.clone())
    }

    async fn decide_tool(
        &self,
        asking: &Asking,
        active: Result<(Arc<Policy>, u64), Denial>,
        request: &DecideRequest<'_>,
    ) -> Verdict {
        let action = ActionRecord::Tool { tool: bounded(&request.tool) };
        let verdict = match active {
            Err(denial) => Verdict::Deny(denial),
            Ok((policy, now_ms)) => {
                let claims = Claims {
                    requester: request.requester.as_deref(),
                    run: request.run.as_deref(),
                    model: request.model.as_deref(),
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
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "Bad request", detail);
    let request: DecideRequest<'_> =
        serde_json::from_slice(body).map_err(|error| bad(format!("the body is no decide request: {error}")))?;
    let DecideRequest { version, request_id, tool, args, requester, run, model } = &request;
    if *version != API_VERSION {
        return Err(bad(format!("version: {version} is not known; this gate speaks {API_VERSION}")));
    }
    if request_id.is_empty() || request_id.len() > REQUEST_ID || !request_id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(format!("requestId: 1 to {REQUEST_ID} visible ASCII characters are needed")));
    }
    if tool.is_empty() || tool.len() > TOOL_NAME || tool.chars().any(char::is_control) {
        return Err(bad(format!("tool: 1 to {TOOL_NAME} bytes without control characters are needed")));
    }
    for (field, claim) in [("requester", requester), ("run", run), ("model", model)] {
        let wrong = |text: &str| text.is_empty() || text.len() > CLAIM || text.chars().any(char::is_control);
        if claim.as_deref().is_some_and(wrong) {
            return Err(bad(format!("{field}: 1 to {CLAIM} bytes without control characters are needed")));
        }
    }
    if !args.get().starts_with('{') {
        return Err(bad("args: a JSON object is needed".to_owned()));
    }
    Ok(request)
}

fn encode(request_id: &str, verdict: &Verdict) -> Bytes {
    let rule = verdict.rule();
    let denial: Option<&Denial> = match verdict {
        Verdict::Allow(_) => None,
        Verdict::Ask(denial) | Verdict::Deny(denial) => Some(denial),
    };
    let answer = DecideAnswer {
        version: API_VERSION,
        request_id,
        decision: if denial.is_none() { Decision::Allow } else { Decision::Deny },
        policy: rule.map(|rule| &*rule.policy),
        rule: rule.map(|rule| &*rule.rule),
        code: denial.map(|denial| denial.code),
        detail: denial.map(|denial| &*denial.detail),
        hint: denial.map(|denial| denial.hint),
        retryable: denial.map(|denial| denial.code.retryable()),
        retry_after: denial.and_then(crate::problem::retry_after),
    };
    serde_json::to_vec(&answer).expect("an answer has only strings").into()
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A page in a browser can reach loopback, but it always says where it comes from, or it reaches it
/// under the page's own name.
fn check_origin(fields: &HeaderMap, transport: Transport) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, "Refused", detail));
    if fields.contains_key(header::ORIGIN) || fields.contains_key("sec-fetch-site") {
        return refuse("web pages may not ask");
    }
    if transport == Transport::Unix {
        return Ok(());
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if hosts.next().is_some() || !matches!(name, "127.0.0.1" | "[::1]" | "localhost") {
        return refuse("the Host must be 127.0.0.1, [::1] or localhost");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn class14_host_and_origin_matrix() {
        for host in ["127.0.0.1:15021", "localhost:15021", "[::1]:15021", "localhost"] {
            assert!(check_origin(&fields(&[("host", host)]), Transport::Tcp).is_ok(), "{host}");
            let with_origin = fields(&[("host", host), ("origin", "http://evil.example")]);
            assert!(check_origin(&with_origin, Transport::Tcp).is_err(), "{host}");
            let fetch = fields(&[("host", host), ("sec-fetch-site", "cross-site")]);
            assert!(check_origin(&fetch, Transport::Tcp).is_err(), "{host}");
        }
        for host in
            ["evil.example", "evil.example:15021", "localhost.evil.example", "0.0.0.0:15021", "127.0.0.1.evil:1", ""]
        {
            assert!(check_origin(&fields(&[("host", host)]), Transport::Tcp).is_err(), "{host}");
        }
        assert!(check_origin(&fields(&[]), Transport::Tcp).is_err());
        assert!(check_origin(&fields(&[]), Transport::Unix).is_ok());
        assert!(check_origin(&fields(&[("origin", "null")]), Transport::Unix).is_err());
    }

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
            (r#"{"version":1,"requestId":"a","tool":"exec","tool":"ls","args":{}}"#, "tool"),
            (r#"{"version":1,"requestId":"a","Tool":"exec","args":{}}"#, "Tool"),
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
