//! An action that somebody asks about, as facts for the engine: of the command line, or of a test case.

use clawlock_policy::document::{CredentialDoc, Scheme};
use clawlock_policy::{
    Action, Body, Claims, Code, Context, Denial, Facts, HttpAction, Policy, RequestPath, ToolAction,
};
use clawlock_proxy::headers::{strip_carriers, strip_query_carriers};
use clawlock_proxy::limits::DECIDED_BODY;
use clawlock_proxy::request::{Target, clean_headers, parse_path};
use http::{HeaderMap, Method, Uri, header};

use crate::args::HeaderArg;

const USAGE: &str = "write `tool NAME [JSON]`, for example: tool exec '{\"command\":\"ls\"}', or `METHOD URL [BODY]`, \
                     for example: GET https://api.example.com/v1/models";

/// What is asked about.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A tool call.
    Tool {
        /// The tool's name.
        name: String,
        /// Its arguments as JSON.
        args: String,
    },
    /// An HTTP request.
    Http(Box<Request>),
}

/// An HTTP request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Scheme, host and port.
    target: Target,
    /// Method.
    method: Method,
    /// Path.
    path: RequestPath,
    /// Query without `?`.
    query: String,
    /// Headers.
    headers: HeaderMap,
    /// Body; empty when there is none.
    body: String,
}

impl Asked {
    /// Parses the words of the command line; one word may hold them all.
    ///
    /// # Errors
    /// When they are no action that a gate would decide on.
    pub(crate) fn parse(words: &[String], headers: Vec<HeaderArg>) -> Result<Self, String> {
        let words: Vec<&str> = match words {
            [one] => one.splitn(3, char::is_whitespace).map(str::trim).filter(|word| !word.is_empty()).collect(),
            several => several.iter().map(String::as_str).collect(),
        };
        match *words.as_slice() {
            ["tool", _] | ["tool", _, _] if !headers.is_empty() => {
                Err("--header belongs to a request, a tool call has none".to_owned())
            }
            ["tool", name] => Self::tool(name, "{}"),
            ["tool", name, args] => Self::tool(name, args),
            [method, url] => Self::http(method, url, "", headers),
            [method, url, body] => Self::http(method, url, body, headers),
            _ => Err(USAGE.to_owned()),
        }
    }

    /// A call of a tool with the text of its arguments.
    ///
    /// # Errors
    /// When the arguments are no JSON object.
    pub(crate) fn tool(name: &str, args: &str) -> Result<Self, String> {
        match serde_json::from_str::<serde_json::Value>(args) {
            Ok(value) if value.is_object() => Ok(Self::Tool { name: name.to_owned(), args: args.to_owned() }),
            Ok(_) => Err(format!("the arguments of a tool are a JSON object; {USAGE}")),
            Err(error) => Err(format!("the arguments are not JSON: {error}; {USAGE}")),
        }
    }

    /// A request.
    ///
    /// # Errors
    /// When it is none that a gate would decide on.
    pub(crate) fn http(method: &str, url: &str, body: &str, named: Vec<HeaderArg>) -> Result<Self, String> {
        let method: Method = method.parse().map_err(|_| format!("{method:?} is no method; {USAGE}"))?;
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}; {USAGE}"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(format!("{url:?} has no scheme http or https; {USAGE}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{url:?} has no host; {USAGE}"))?;
        let target = Target::parse(scheme, authority).map_err(|denial| format!("{url:?}: {}", denial.detail))?;
        let path = parse_path(&uri).map_err(|denial| format!("{url:?}: {}", denial.detail))?;
        if body.len() > DECIDED_BODY {
            return Err(format!("the body is longer than the {DECIDED_BODY} bytes that a gate reads for a rule"));
        }
        let mut headers = HeaderMap::new();
        for HeaderArg { name, value } in named {
            headers.append(name, value);
        }
        if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
        let query = uri.query().unwrap_or_default().to_owned();
        Ok(Self::Http(Box::new(Request { target, method, path, query, headers, body: body.to_owned() })))
    }

    /// The action in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Tool { name, .. } => format!("tool {name}"),
            Self::Http(request) => format!("{} {}{}", request.method, request.target.text(), request.path),
        }
    }

    /// What a gate does with a request before it asks the engine: finds its upstream and takes off what
    /// no rule sees. A tool call goes as it is.
    ///
    /// # Errors
    /// What a gate would refuse without asking the engine.
    pub(crate) fn route(&self, policy: &Policy) -> Result<Routed, Denial> {
        let Self::Http(request) = self else { return Ok(Routed::default()) };
        let Request { target, method, headers, query, .. } = request.as_ref();
        let refuse = |code, detail, hint| Denial {
            code,
            rule: None,
            generation: policy.generation(),
            detail,
            hint,
            retry_after_ms: None,
            halts: false,
        };
        if *method == Method::TRACE || *method == Method::CONNECT {
            let detail = format!("{method} is never forwarded");
            return Err(refuse(Code::MethodRefused, detail, "use another method"));
        }
        let Some(upstream) = policy.upstream(target.scheme, &target.host, target.port) else {
            let detail = format!("{} is no upstream of tenant {}", target.text(), policy.tenant());
            return Err(refuse(
                Code::UnknownUpstream,
                detail,
                "declare it as an Upstream, or use one that is declared",
            ));
        };
        let mut headers = headers.clone();
        clean_headers(&mut headers)?;
        let named = match &upstream.credential {
            CredentialDoc::Header { name, secret: _ } => name.parse::<http::HeaderName>().ok(),
            CredentialDoc::None {} | CredentialDoc::Bearer { .. } | CredentialDoc::Basic { .. } => None,
        };
        strip_carriers(&mut headers, named.as_ref());
        let declared = |name: &str| upstream.arguments.iter().any(|argument| **argument == *name);
        let query = strip_query_carriers(query, &declared).into_owned();
        Ok(Routed { upstream: upstream.name.to_string(), headers, query })
    }

    /// Hands the facts to whoever asks the engine.
    pub(crate) fn with_facts<T>(
        &self,
        policy: &Policy,
        routed: &Routed,
        now_ms: u64,
        ask: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let Routed { upstream, headers, query } = routed;
        let action = match self {
            Self::Tool { name, args } => Action::Tool(ToolAction { name, args, claims: Claims::default() }),
            Self::Http(request) => {
                let Request { target, method, path, body, query: _, headers: _ } = request.as_ref();
                let content_type = headers.get(header::CONTENT_TYPE);
                let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
                let body = match body.as_str() {
                    "" => Body::Empty,
                    body => Body::Full { content_type, bytes: body.as_bytes() },
                };
                Action::Http(HttpAction {
                    upstream,
                    host: &target.host,
                    port: target.port,
                    method: method.as_str(),
                    path,
                    query,
                    headers: Some(headers),
                    body,
                })
            }
        };
        ask(&Facts { caller: policy.caller(), action, context: Context { now_ms } })
    }
}

/// What is left of a request for the engine.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// Name of the upstream.
    upstream: String,
    /// Headers.
    headers: HeaderMap,
    /// Query.
    query: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Asked, String> {
        Asked::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), Vec::new())
    }

    #[test]
    fn words_are_actions_together_or_apart() {
        for words in [&["tool", "exec", r#"{"command":"ls -l"}"#][..], &[r#"tool exec {"command":"ls -l"}"#]] {
            let Asked::Tool { name, args } = parse(words).unwrap() else { panic!("no tool") };
            assert_eq!((name.as_str(), args.as_str()), ("exec", r#"{"command":"ls -l"}"#));
        }
        let asked = parse(&["GET https://api.example.com/v1/x?y=z"]).unwrap();
        assert_eq!(asked.words(), "GET https://api.example.com:443/v1/x");
        let Asked::Http(request) = asked else { panic!("no request") };
        assert_eq!((request.query.as_str(), request.body.as_str()), ("y=z", ""));
    }

    #[test]
    fn what_no_gate_would_read_is_refused_with_what_to_write() {
        for words in [
            &["exec"][..],
            &["tool"],
            &["tool", "exec", "[1]"],
            &["tool", "exec", "{"],
            &["GET", "api.example.com/x"],
            &["GET", "ftp://api.example.com/x"],
            &["GET", "https://127.0.0.1/x"],
            &["GET", "https://api.example.com/a/../b"],
            &["GE T", "https://api.example.com/"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
