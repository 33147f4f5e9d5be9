//! What an agent gets when it is denied: a problem document (RFC 9457).
//!
//! The document says what, why and what to do next, and nothing about credentials or addresses of the
//! gates. Its text is ASCII: what an agent made up (a host, a path) stands in it escaped, so that a
//! document copied into a log or shown on a terminal stays one line and moves no cursor.

use std::io;

use clawlock_policy::{Code, Denial};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::body::GateBody;

/// Media type of problem documents.
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The `type` of every document: where the codes are explained.
pub const TYPE: &str = "https://clawlock.dev/denied";

/// The members, in the order in which they are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    code: Code,
    detail: &'a str,
    request_id: &'a str,
    retryable: bool,
    /// Seconds, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    hint: &'static str,
}

/// The document as JSON in ASCII.
#[must_use]
pub fn document(denial: &Denial, request_id: &str) -> Vec<u8> {
    // The digest and the generation are for the record, not for the agent.
    let Denial { code, rule, generation: _, detail, hint, retry_after_ms: _, halts: _ } = denial;
    let problem = Problem {
        r#type: TYPE,
        title: code.title(),
        policy: rule.as_ref().map(|rule| &*rule.policy),
        rule: rule.as_ref().map(|rule| &*rule.rule),
        code: *code,
        detail,
        request_id,
        retryable: code.retryable(),
        retry_after: retry_after(denial),
        hint,
    };
    let mut json = Vec::with_capacity(512);
    let written = problem.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Ascii(CompactFormatter)));
    // Text, booleans and a unit variant, written to memory.
    written.expect("a problem document has only serialisable members");
    json
}

/// The answer to a denied request.
#[must_use]
pub fn response(denial: &Denial, request_id: &str) -> Response<GateBody> {
    let mut response = Response::new(GateBody::full(document(denial, request_id)));
    *response.status_mut() = status(denial.code);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    // A denial holds for one request; a cache that kept it would outlive the policy.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after(denial) {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// In how many seconds to try again, when that is known (RFC 9110 section 10.2.3).
#[must_use]
pub fn retry_after(denial: &Denial) -> Option<u64> {
    denial.retry_after_ms.map(|ms| ms.div_ceil(1000))
}

/// The status of a code: 403 where policy refuses, and what HTTP has for the rest.
#[must_use]
pub const fn status(code: Code) -> StatusCode {
    match code {
        Code::TierBlock
        | Code::ApprovalUnavailable
        | Code::NoMatch
        | Code::NoPolicy
        | Code::ConditionError
        | Code::CategoryUnknown
        | Code::ResidencyRefused
        | Code::Halted
        | Code::NotDeclared
        | Code::UnknownUpstream
        | Code::AssignmentExpired
        | Code::NoAssignment
        | Code::NotIsolated
        | Code::PluginSilent
        | Code::Disobeyed
        | Code::ToolResultUnknown
        | Code::EndpointRefused
        | Code::MethodRefused
        | Code::AddressRefused => StatusCode::FORBIDDEN,
        Code::BadRequest => StatusCode::BAD_REQUEST,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::AuthorityMismatch => StatusCode::MISDIRECTED_REQUEST,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::GatewayUnavailable | Code::AuditUnavailable | Code::CredentialUnavailable | Code::Overloaded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::NameNotResolved | Code::UpstreamUnavailable | Code::UpstreamUntrusted | Code::UpstreamResponse => {
            StatusCode::BAD_GATEWAY
        }
    }
}

/// Writes everything beyond printable ASCII as `\uXXXX`.
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (at, c) in fragment.char_indices() {
            if matches!(c, ' '..='~') {
                continue;
            }
            self.0.write_string_fragment(writer, &fragment[plain..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + c.len_utf8();
        }
        self.0.write_string_fragment(writer, &fragment[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_policy::RuleRef;
    use proptest::prelude::*;
    use serde_json::json;

    fn denial(code: Code, rule: Option<RuleRef>, detail: &str) -> Denial {
        let (hint, detail) = ("use another tool", detail.to_owned());
        Denial { code, rule, generation: 41, detail, hint, retry_after_ms: None, halts: false }
    }

    fn shell() -> RuleRef {
        RuleRef { policy: "acme/support".into(), rule: "shell".into(), digest: "sha256:00".into() }
    }

    #[test]
    fn a_blocked_call_names_policy_and_rule_in_this_order() {
        let detail = "tool exec is blocked by rule shell of policy acme/support";
        let text = document(&denial(Code::TierBlock, Some(shell()), detail), "req-1");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"type":"https://clawlock.dev/denied","title":"Blocked by policy","policy":"acme/support","rule":"shell","#
                .to_owned()
                + r#""code":"TierBlock","detail":"tool exec is blocked by rule shell of policy acme/support","#
                + r#""requestId":"req-1","retryable":false,"hint":"use another tool"}"#
        );
    }

    #[test]
    fn without_a_rule_there_are_no_such_members() {
        let value: serde_json::Value =
            serde_json::from_slice(&document(&denial(Code::NoMatch, None, "d"), "r")).unwrap();
        assert_eq!(
            value,
            json!({"type": TYPE, "title": "Not allowed by any policy", "code": "NoMatch", "detail": "d",
                   "requestId": "r", "retryable": false, "hint": "use another tool"})
        );
    }

    #[test]
    fn the_response_is_a_problem_that_no_cache_keeps() {
        let response = response(&denial(Code::ApprovalUnavailable, Some(shell()), "d"), "r");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[test]
    fn every_code_has_a_status_that_refuses() {
        for code in Code::ALL {
            assert!(status(*code).is_client_error() || status(*code).is_server_error(), "{code}");
        }
        assert_eq!(status(Code::BadRequest), 400);
        assert_eq!(status(Code::BodyTooLarge), 413);
        assert_eq!(status(Code::AuthorityMismatch), 421);
        assert_eq!(status(Code::AuditUnavailable), 503);
        assert_eq!(status(Code::UpstreamUnavailable), 502);
    }

    proptest! {
        #[test]
        fn class16_whatever_the_agent_made_up_is_one_line_of_ascii_that_reads_back(
            detail in any::<String>(), id in any::<String>(),
        ) {
            let nasty = format!("{detail}\r\n\"}},{{\"code\":\"x\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}\u{1f99e}");
            let text = document(&denial(Code::UnknownUpstream, None, &nasty), &id);
            prop_assert!(text.iter().all(|b| matches!(b, b' '..=b'~')));
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(value["detail"].as_str(), Some(nasty.as_str()));
            prop_assert_eq!(value["requestId"].as_str(), Some(id.as_str()));
            prop_assert_eq!(value["code"].as_str(), Some("UnknownUpstream"));
            prop_assert_eq!(value.as_object().unwrap().len(), 7);
        }
    }
}
