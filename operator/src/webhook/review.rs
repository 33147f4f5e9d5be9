//! The AdmissionReview of `admission.k8s.io/v1`: read from untrusted bytes, answered in one form.
//!
//! Anyone in the cluster who reaches the port can post one. Whatever is not a whole review of this version
//! is refused before anything looks at the object in it. The envelope is read before the objects: they are somebody
//! else's, and one that cannot be read is denied in an answer that its author gets to see.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawlock_compile::objects::sidecar::Operation as Patch;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The only version that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of the envelope.
const KIND: &str = "AdmissionReview";
/// Longest uid of a review: the API server's are UUIDs of 36 characters. It is repeated in the answer.
const MAX_UID: usize = 128;
/// Most bytes of a denial. A person reads it in a terminal, and it ends up in events of at most 1 KiB.
const MAX_MESSAGE: usize = 8 * 1024;
/// Most bytes of one warning, and of all: the API server cuts what is longer.
const MAX_WARNING: usize = 256;
const MAX_WARNINGS: usize = 4 * 1024;

/// What the API server asks about.
#[derive(Debug)]
pub(super) struct Request {
    /// Repeated in the answer.
    pub(super) uid: String,
    /// Which resource.
    pub(super) resource: Resource,
    /// Which part of it; absent or empty for all of it.
    pub(super) sub_resource: Option<String>,
    /// Where it is.
    pub(super) namespace: Option<String>,
    /// What is done to it.
    pub(super) operation: Operation,
    /// The object as it is to be; null when it is deleted.
    pub(super) object: Value,
    /// The object as it is; null when it is made or deleted.
    pub(super) old_object: Value,
}

/// The same, before anything of the objects was read but where they end.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: Operation,
    #[serde(default, borrow)]
    object: Option<&'a RawValue>,
    #[serde(default, borrow)]
    old_object: Option<&'a RawValue>,
}

/// A resource.
#[derive(Debug, Deserialize)]
pub(super) struct Resource {
    /// Its group; empty for the core.
    #[serde(default)]
    pub(super) group: String,
    /// Its version.
    pub(super) version: String,
    /// Its plural name.
    pub(super) resource: String,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
    /// Someone connects to it.
    Connect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: Option<Envelope<'a>>,
}

/// Why bytes are no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadReview {
    /// They do not have its form.
    #[error("the body is no AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// They are something else.
    #[error("the body is no {KIND} of {API_VERSION} with a request; post what the API server posts")]
    Kind,
    /// Its uid cannot be repeated.
    #[error("the request's uid is empty or longer than {MAX_UID} bytes")]
    Uid,
    /// An object in it cannot be read. Whoever wrote it is to hear that.
    #[error("{reason}")]
    Object {
        /// The request's uid.
        uid: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl Request {
    /// Reads a review.
    ///
    /// # Errors
    /// When the bytes are none.
    pub(super) fn parse(body: &[u8]) -> Result<Self, BadReview> {
        let Review { api_version, kind, request } = serde_json::from_slice(body)?;
        let envelope = match request {
            Some(request) if api_version == API_VERSION && kind == KIND => request,
            _ => return Err(BadReview::Kind),
        };
        let Envelope { uid, resource, sub_resource, namespace, operation, object, old_object } = envelope;
        if uid.is_empty() || uid.len() > MAX_UID {
            return Err(BadReview::Uid);
        }
        // Nothing is asked about what goes away, so that it can go away however it looks.
        let (object, old_object) = match operation {
            Operation::Delete => (None, None),
            Operation::Create | Operation::Update | Operation::Connect => (object, old_object),
        };
        let unreadable = |error: serde_json::Error, which: &str, advice: &str| {
            let deep = if error.to_string().contains("recursion") { "values nest at most 128 levels, " } else { "" };
            let reason = format!(
                "clawlock: the object{which} cannot be read, so that nobody can judge it: {error}; {deep}so {advice}"
            );
            BadReview::Object { uid: uid.clone(), reason }
        };
        let object = read(object).map_err(|error| unreadable(error, "", "take that out"))?;
        let old_object =
            read(old_object).map_err(|error| unreadable(error, " as it is now", "delete it and create it again"))?;
        Ok(Self { uid, resource, sub_resource, namespace, operation, object, old_object })
    }

    /// Whether it is about this resource.
    pub(super) fn is_about(&self, group: &str, version: &str, resource: &str) -> bool {
        let Resource { group: its_group, version: its_version, resource: its_resource } = &self.resource;
        its_group == group && its_version == version && its_resource == resource
    }

    /// The part of the resource; empty for all of it.
    pub(super) fn part(&self) -> &str {
        self.sub_resource.as_deref().unwrap_or_default()
    }
}

/// An object, as far down as the parser goes.
fn read(object: Option<&RawValue>) -> Result<Value, serde_json::Error> {
    object.map_or(Ok(Value::Null), |object| serde_json::from_str(object.get()))
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Whether it may be done.
    pub(super) verdict: Verdict,
    /// What the person who asked should know nevertheless.
    pub(super) warnings: Vec<String>,
}

/// Whether something may be done.
#[derive(Debug, Default)]
pub(super) enum Verdict {
    /// It may.
    #[default]
    Allowed,
    /// It may, with these changes.
    Patched(Vec<Patch>),
    /// It may not.
    Denied(Denial),
}

/// Why something may not be done.
#[derive(Debug)]
pub(super) struct Denial {
    /// Of what sort it is.
    pub(super) sort: Sort,
    /// What is wrong, why, and what to do.
    pub(super) message: String,
}

/// Of what sort a denial is, as an HTTP status has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The object has mistakes.
    Invalid,
    /// It is not allowed here.
    Forbidden,
    /// It cannot be said yet; the same may be allowed in a moment.
    NotYet,
}

impl Sort {
    fn status(self) -> (u16, &'static str) {
        match self {
            Self::Invalid => (422, "Invalid"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotYet => (503, "ServiceUnavailable"),
        }
    }
}

impl Answer {
    /// Nothing is changed, nothing to be said.
    pub(super) fn allowed() -> Self {
        Self::default()
    }

    /// No.
    pub(super) fn denied(sort: Sort, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Denied(Denial { sort, message: message.into() }), warnings: Vec::new() }
    }

    /// The answer to the request of a uid, as bytes.
    pub(super) fn render(&self, uid: &str) -> Vec<u8> {
        let Self { verdict, warnings } = self;
        let mut response = json!({ "uid": uid, "allowed": !matches!(verdict, Verdict::Denied(_)) });
        match verdict {
            Verdict::Allowed => {}
            Verdict::Patched(patch) if patch.is_empty() => {}
            Verdict::Patched(patch) => {
                let Ok(patch) = serde_json::to_vec(patch) else {
                    return Self::denied(Sort::NotYet, "the patch could not be written; this is a mistake of Clawlock")
                        .render(uid);
                };
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(BASE64_STANDARD.encode(patch));
            }
            Verdict::Denied(Denial { sort, message }) => {
                let (code, reason) = sort.status();
                response["status"] = json!({
                    "status": "Failure", "code": code, "reason": reason, "message": cut(message, MAX_MESSAGE),
                });
            }
        }
        let warnings = bounded(warnings);
        if !warnings.is_empty() {
            response["warnings"] = json!(warnings);
        }
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response }).to_string().into_bytes()
    }
}

/// As many of the warnings as the API server passes on.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut left = MAX_WARNINGS;
    let mut kept = Vec::new();
    for warning in warnings {
        // A header carries them: line breaks and other control characters do not pass.
        let line: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = cut(&line, MAX_WARNING);
        if line.len() > left {
            break;
        }
        left -= line.len();
        kept.push(line);
    }
    kept
}

/// The text, cut at a character to at most this many bytes.
fn cut(text: &str, most: usize) -> String {
    const MORE: &str = " ...";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub(MORE.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn review(request: Value) -> Vec<u8> {
        json!({ "apiVersion": API_VERSION, "kind": KIND, "request": request }).to_string().into_bytes()
    }

    fn pod_request() -> Value {
        json!({
            "uid": "1", "resource": { "group": "", "version": "v1", "resource": "pods" }, "operation": "CREATE",
            "namespace": "acme", "object": {}, "dryRun": true, "later": { "unknown": [1] },
        })
    }

    #[test]
    fn a_review_is_read_and_what_newer_servers_add_is_ignored() {
        let request = Request::parse(&review(pod_request())).unwrap();
        assert!(request.is_about("", "v1", "pods"));
        assert!(!request.is_about("clawlock.dev", "v1", "pods"));
        assert_eq!(request.operation, Operation::Create);
        assert_eq!(request.part(), "");
        assert!(request.old_object.is_null());
    }

    #[test]
    fn what_is_no_review_is_refused() {
        let mut wrong = vec![
            b"".to_vec(),
            b"{}".to_vec(),
            b"null".to_vec(),
            b"[]".to_vec(),
            b"\xff\xfe".to_vec(),
            vec![b'['; 100_000],
            review(Value::Null),
            review(json!({})),
            json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": pod_request() })
                .to_string()
                .into_bytes(),
            json!({ "apiVersion": API_VERSION, "kind": "Pod", "request": pod_request() }).to_string().into_bytes(),
        ];
        for (key, value) in [
            ("uid", json!("")),
            ("uid", json!("x".repeat(MAX_UID + 1))),
            ("uid", json!(7)),
            ("operation", json!("create")),
            ("operation", json!("PATCH")),
            ("resource", json!("pods")),
        ] {
            let mut request = pod_request();
            request[key] = value;
            wrong.push(review(request));
        }
        for body in wrong {
            assert!(Request::parse(&body).is_err(), "{}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named_with_its_request() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "1".to_owned() + &"}".repeat(200));
        let with = |operation: &str, key: &str, object: &str| {
            let text = String::from_utf8(review(pod_request())).unwrap();
            let text = text.replace(r#""operation":"CREATE""#, &format!(r#""operation":"{operation}""#));
            let text = text.replace(r#""object":{}"#, &format!(r#""{key}":{object}"#));
            Request::parse(text.as_bytes())
        };
        for (operation, key, object, advice) in [
            ("CREATE", "object", deep.as_str(), "at most 128 levels, so take that out"),
            ("UPDATE", "object", deep.as_str(), "at most 128 levels, so take that out"),
            ("UPDATE", "oldObject", deep.as_str(), "at most 128 levels, so delete it and create it again"),
            ("CREATE", "object", r#"{"a":"\ud800"}"#, "hex escape"),
            ("CREATE", "object", r#"{"a":1e999}"#, "range"),
        ] {
            let Err(BadReview::Object { uid, reason }) = with(operation, key, object) else {
                panic!("{operation} {key}")
            };
            assert_eq!(uid, "1");
            assert!(reason.contains(advice), "{reason}");
        }
        assert!(with("DELETE", "oldObject", &deep).is_ok(), "what is deleted is not judged");
        // The envelope itself is held to its form.
        assert!(matches!(with("CREATE", "object", r#"{"a":}"#), Err(BadReview::Form(_))));
        assert!(matches!(with("CREATE", "object", "{} x"), Err(BadReview::Form(_))));
    }

    #[test]
    fn a_denial_says_why_and_is_bounded() {
        let request = Request::parse(&review(pod_request())).unwrap();
        let answer = Answer::denied(Sort::Forbidden, "é".repeat(MAX_MESSAGE)).render(&request.uid);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["uid"], "1");
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["code"], 403);
        assert!(answer["response"]["status"]["message"].as_str().unwrap().len() <= MAX_MESSAGE);
        assert!(answer["response"].get("patch").is_none());
    }

    #[test]
    fn warnings_are_single_lines_of_bounded_length() {
        let request = Request::parse(&review(pod_request())).unwrap();
        let warnings = vec![format!("a\nb\r{}", "x".repeat(1000)); 1000];
        let answer = Answer { warnings, ..Answer::allowed() }.render(&request.uid);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let warnings: Vec<&str> =
            answer["response"]["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        assert!(warnings.len() > 1);
        assert!(warnings.iter().all(|w| w.len() <= MAX_WARNING && !w.contains(['\n', '\r'])));
        assert!(warnings.iter().map(|w| w.len()).sum::<usize>() <= MAX_WARNINGS);
    }

    #[test]
    fn nothing_to_change_is_no_patch() {
        let request = Request::parse(&review(pod_request())).unwrap();
        let answer = Answer { verdict: Verdict::Patched(Vec::new()), warnings: Vec::new() }.render(&request.uid);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"], json!({ "uid": "1", "allowed": true }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&body);
        }

        #[test]
        fn cutting_keeps_whole_characters(text in ".{0,64}", most in 4usize..64) {
            prop_assert!(cut(&text, most).len() <= most.max(4));
        }
    }
}
