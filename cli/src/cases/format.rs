//! The files of cases. Strict: an unknown field, a code that does not exist or an action that no gate would decide on is
//! an error, since a case that tests nothing would pass.

use std::collections::BTreeMap;

use clawlock_policy::Code;
use serde::Deserialize;
use serde_json::Value;

use super::report::Got;
use crate::action::Asked;
use crate::args::HeaderArg;
use crate::log::Verdict;
use crate::suggest::nearest;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Suite {
    /// The agent of cases that name none, as `NAMESPACE/SERVICEACCOUNT`.
    #[serde(default)]
    pub(super) agent: Option<String>,
    /// The labels of its pod, for cases that name none.
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// The time of cases that name none, in RFC 3339; absent: that of the test.
    #[serde(default)]
    pub(super) time: Option<String>,
    /// The cases.
    pub(super) cases: Vec<Case>,
}

/// One case: an action and what is expected.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    /// Name, unique in its file.
    pub(super) name: String,
    #[serde(default)]
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) time: Option<String>,
    #[serde(default)]
    tool: Option<Tool>,
    #[serde(default)]
    request: Option<Request>,
    pub(super) expect: Expect,
}

/// A call of a tool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tool {
    name: String,
    /// An object, or the text of one, byte by byte as an agent would send it.
    #[serde(default)]
    args: Option<Value>,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text, or what becomes the JSON of the body.
    #[serde(default)]
    body: Option<Value>,
}

/// What is expected. Fields that are absent are not compared.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expect {
    verdict: Verdict,
    /// The policy that decides, as `NAMESPACE/NAME`; guardrails are `tenantgateway/NAME`.
    #[serde(default)]
    policy: Option<String>,
    /// The rule that decides.
    #[serde(default)]
    rule: Option<String>,
    /// The code of a refusal.
    #[serde(default)]
    code: Option<String>,
    /// Under mode Audit: the code with which Enforce would have refused.
    #[serde(default)]
    shadow: Option<String>,
    /// Whether the refusal halts the pod.
    #[serde(default)]
    halts: Option<bool>,
}

impl Case {
    /// The action.
    pub(super) fn action(&self) -> Result<Asked, String> {
        match (&self.tool, &self.request) {
            (Some(Tool { name, args }), None) => match args {
                None => Asked::tool(name, "{}"),
                Some(Value::String(text)) => Asked::tool(name, text),
                Some(args) => Asked::tool(name, &args.to_string()),
            },
            (None, Some(Request { method, url, headers, body })) => {
                let header = |(name, value): (&String, &String)| format!("{name}: {value}").parse::<HeaderArg>();
                let headers = headers.iter().map(header).collect::<Result<_, _>>()?;
                let body = match body {
                    None => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(body) => body.to_string(),
                };
                Asked::http(method, url, &body, headers)
            }
            _ => Err("write one of tool and request".to_owned()),
        }
    }
}

impl Expect {
    /// The same, once its words are known to exist; else the field that is wrong, and why.
    pub(super) fn check(&self) -> Result<&Self, (&'static str, String)> {
        for (field, code) in [("code", &self.code), ("shadow", &self.shadow)] {
            let Some(code) = code else { continue };
            let known = || Code::ALL.iter().map(|code| code.as_str());
            if known().any(|known| known == code) {
                continue;
            }
            let meant = nearest(code, known()).map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
            return Err((field, format!("{code:?} is no code, docs/codes.md lists them{meant}")));
        }
        if self.verdict == Verdict::Allow && self.halts == Some(true) {
            return Err(("halts", "what is allowed halts nothing".to_owned()));
        }
        if self.verdict == Verdict::Allow && self.code.is_some() {
            return Err(("code", "what is allowed has no code; under mode Audit, shadow has one".to_owned()));
        }
        Ok(self)
    }

    /// How what came differs, in words.
    pub(super) fn mismatches(&self, got: &Got) -> Vec<String> {
        let Self { verdict, policy, rule, code, shadow, halts } = self;
        let mut mismatches = Vec::new();
        if *verdict != got.verdict {
            mismatches.push(format!("expected {}, got {}", verdict.as_str(), got.verdict.as_str()));
        }
        if let Some(expected) = halts.filter(|expected| *expected != got.halts) {
            let not = |halts: bool| if halts { "that it halts the pod" } else { "that it does not halt the pod" };
            mismatches.push(format!("expected {}, got {}", not(expected), not(got.halts)));
        }
        let code_of = |code: Option<Code>| code.map(Code::as_str);
        for (what, expected, got) in [
            ("policy", policy, got.policy.as_deref()),
            ("rule", rule, got.rule.as_deref()),
            ("code", code, code_of(got.code)),
            ("shadow", shadow, code_of(got.shadow)),
        ] {
            if let Some(expected) = expected.as_deref().filter(|expected| Some(*expected) != got) {
                mismatches.push(format!("expected {what} {expected}, got {}", got.unwrap_or("none")));
            }
        }
        mismatches
    }
}
