//! A pod's projected token, looked at before anybody is asked about it.
//!
//! Nothing is proven here: the signature is the API server's to check. What is plainly no token for us
//! (another audience, ended, not bound to a pod) is refused without a question, so that a flood of them
//! costs the API server nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clawlock_compile::objects::names::AUDIENCE;
use serde::Deserialize;

/// Longest token in bytes; one that is bound to a pod has some 1,500.
const MAX_TOKEN: usize = 16 * 1024;
/// How far another machine's clock may be ahead, in seconds.
const SKEW_SECONDS: u64 = 60;

/// Whose token it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The namespace.
    pub(crate) namespace: String,
    /// The ServiceAccount.
    pub(crate) service_account: String,
    /// The pod's name.
    pub(crate) pod: String,
    /// The pod's UID.
    pub(crate) uid: String,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// No JWT.
    #[error("the token is no JWT; mount a projected ServiceAccount token")]
    Shape,
    /// For someone else.
    #[error("the token is for another audience; project one for audience clawlock.dev")]
    Audience,
    /// By someone else.
    #[error("the token is of another issuer; project one of this cluster")]
    Issuer,
    /// Over.
    #[error("the token has ended; read the file again, the kubelet renews it")]
    Expired,
    /// Not yet.
    #[error("the token is not valid yet; look at the clocks")]
    Early,
    /// Of no pod.
    #[error("the token is bound to no pod; only a token that the kubelet projected into a pod counts")]
    Unbound,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    iss: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Option<Named>,
    serviceaccount: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Reads a token's claims.
///
/// # Errors
/// When it is plainly no token for us.
pub(crate) fn claims(token: &str, issuer: Option<&str>, now_seconds: u64) -> Result<Claims, TokenError> {
    let parts: Vec<&str> = token.split('.').collect();
    let &[head, payload, signature] = parts.as_slice() else { return Err(TokenError::Shape) };
    if token.len() > MAX_TOKEN || head.is_empty() || signature.is_empty() {
        return Err(TokenError::Shape);
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Shape)?;
    let Payload { aud, iss, exp, nbf, kubernetes } = serde_json::from_slice(&payload).map_err(|_| TokenError::Shape)?;
    // A token for several audiences can be presented to us by any of them.
    let ours = match aud {
        Audience::One(one) => one == AUDIENCE,
        Audience::Many(many) => many.as_slice() == [AUDIENCE],
        Audience::None => false,
    };
    if !ours {
        return Err(TokenError::Audience);
    }
    if issuer.is_some_and(|issuer| issuer != iss) {
        return Err(TokenError::Issuer);
    }
    if now_seconds >= exp {
        return Err(TokenError::Expired);
    }
    if nbf > now_seconds + SKEW_SECONDS {
        return Err(TokenError::Early);
    }
    let Some(Kubernetes { namespace, pod: Some(pod), serviceaccount: Some(account) }) = kubernetes else {
        return Err(TokenError::Unbound);
    };
    let claims = Claims { namespace, service_account: account.name, pod: pod.name, uid: pod.uid };
    let empty = [&claims.namespace, &claims.service_account, &claims.pod, &claims.uid].iter().any(|t| t.is_empty());
    if empty { Err(TokenError::Unbound) } else { Ok(claims) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub(crate) fn token(payload: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(payload))
    }

    pub(crate) fn good() -> Value {
        json!({
            "aud": ["clawlock.dev"], "iss": "https://kubernetes", "exp": 2000, "nbf": 900, "iat": 900,
            "kubernetes.io": {
                "namespace": "acme",
                "pod": {"name": "bot-0", "uid": "uid-1"},
                "serviceaccount": {"name": "bot", "uid": "uid-2"},
                "node": {"name": "n", "uid": "x"},
            },
        })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Result<Claims, TokenError> {
        let mut payload = good();
        change(&mut payload);
        claims(&token(&payload), Some("https://kubernetes"), 1000)
    }

    #[test]
    fn a_pods_token_says_whose_it_is() {
        let found = with(|_| {}).unwrap();
        assert_eq!((found.namespace.as_str(), found.service_account.as_str()), ("acme", "bot"));
        assert_eq!((found.pod.as_str(), found.uid.as_str()), ("bot-0", "uid-1"));
        assert!(with(|payload| payload["aud"] = json!("clawlock.dev")).is_ok());
    }

    #[test]
    fn class02_tokens_that_are_not_for_us_are_refused_offline() {
        for (change, error) in [
            (("aud", json!(["https://kubernetes"])), TokenError::Audience),
            (("aud", json!(["clawlock.dev", "other"])), TokenError::Audience),
            (("aud", json!([])), TokenError::Audience),
            (("iss", json!("https://other")), TokenError::Issuer),
            (("exp", json!(1000)), TokenError::Expired),
            (("nbf", json!(5000)), TokenError::Early),
            (("exp", json!("soon")), TokenError::Shape),
            (("kubernetes.io", json!({"namespace": "acme"})), TokenError::Unbound),
            (("kubernetes.io", Value::Null), TokenError::Unbound),
        ] {
            let (key, value) = change;
            assert_eq!(with(|payload| payload[key] = value.clone()), Err(error), "{key} {value}");
        }
        let unbound = with(|payload| payload["kubernetes.io"]["pod"]["uid"] = json!(""));
        assert_eq!(unbound, Err(TokenError::Unbound));
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        for text in ["", ".", "..", "a.b.c", "a.b", "a.b.c.d", "a.e30.", ".e30.x", "a.e30.x"] {
            assert_eq!(claims(text, None, 0), Err(TokenError::Shape), "{text:?}");
        }
        let long = format!("a.e30.{}", "x".repeat(MAX_TOKEN));
        assert_eq!(claims(&long, None, 0), Err(TokenError::Shape));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = claims(&text, Some("x"), 7);
        }

        #[test]
        fn no_payload_makes_it_panic(payload in "\\PC*") {
            let _ = claims(&format!("a.{}.b", URL_SAFE_NO_PAD.encode(payload)), None, u64::MAX);
        }
    }
}
