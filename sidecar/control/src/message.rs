//! The messages, as JSON. Senders write every field; receivers take a message of an unknown type for one that they need
//! not understand, and a known one that does not parse for a reason to end the stream.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawlock_policy::{Cause, RuleRef, SpiffeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest body of a [`CertificateRequest`] in bytes: a token has some 1,500, a signing request some 400.
pub const MAX_CERTIFICATE_REQUEST: usize = 32 * 1024;

/// Largest body of a [`CertificateAnswer`] in bytes: a chain, a few roots and keys.
pub const MAX_CERTIFICATE_ANSWER: usize = 256 * 1024;

/// Most roots, and most signing keys, that are trusted at once: the current one, the one before and the next, with room.
pub const MAX_TRUSTED: usize = 16;

/// Most documents that a `hello` names: what one tenant's pods can have together.
pub const MAX_KNOWN_DOCUMENTS: usize = 16 * 1024;

/// Longest `detail` of a report in bytes; longer ones are cut by the sender.
pub const MAX_DETAIL: usize = 512;

/// Longest `reason` of a halt in bytes.
pub const MAX_REASON: usize = 512;

/// Bytes that travel as base64 (RFC 4648 section 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoded(pub Vec<u8>);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|error| serde::de::Error::custom(format!("no base64: {error}")))
    }
}

/// Asks for a certificate. The signing request proves possession of its key and says nothing else that counts: who the
/// pod is stands in the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRequest {
    /// A projected ServiceAccount token for audience `clawlock.dev`, bound to the pod.
    pub token: String,
    /// A certificate signing request (RFC 2986), DER.
    pub csr: Encoded,
}

// The token is a credential: it must not reach a log by accident.
impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRequest").finish_non_exhaustive()
    }
}

/// A certificate and whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAnswer {
    /// The leaf first, then intermediates, DER.
    pub chain: Vec<Encoded>,
    /// The tenant's roots, DER, the issuing one first: while it rolls, the old and the new one.
    pub roots: Vec<Encoded>,
    /// Ed25519 public keys of those who sign policy, 32 bytes each.
    pub keys: Vec<Encoded>,
    /// End of the leaf's validity in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// Why there is no certificate, or no stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{code}: {detail}")]
pub struct Problem {
    /// For programs.
    pub code: String,
    /// For people: what, why and what to do.
    pub detail: String,
}

/// From a sidecar or gateway to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ToServer {
    /// The first message: what the client has already.
    Hello {
        /// [`crate::VERSION`].
        version: u32,
        /// Digests of documents that need not be sent again.
        documents: Vec<String>,
    },
    /// A generation is in force.
    Ack {
        /// The generation.
        generation: u64,
        /// Whose assignment it was; a sidecar acknowledges its own.
        identity: Option<String>,
    },
    /// What a sidecar found when it tried to get out past its gateway.
    Isolation {
        /// What came of it.
        outcome: IsolationOutcome,
        /// What was tried.
        target: IsolationTarget,
        /// The pod's own node, when it answers: NetworkPolicy always allows it.
        #[serde(default)]
        own_node: Option<IpAddr>,
        /// Addresses and errors, for people.
        detail: String,
    },
    /// What a sidecar hears of the guard plugin in its pod's OpenClaw.
    Plugin {
        /// Whether it reports.
        state: PluginState,
        /// Since when, or what was found, for people.
        detail: String,
    },
    /// A gate has halted a pod by itself, and an `AgentHalt` is to say so. Repeated until the pod's assignment does.
    Halted {
        /// The pod; a sidecar speaks of its own.
        identity: String,
        /// What was refused and why, for people. At most [`MAX_REASON`] bytes; longer ones are cut by the sender.
        reason: String,
        /// The rule that refused; `None`: the agent did what was never decided, or was blocked.
        rule: Option<HaltingRule>,
    },
}

impl ToServer {
    /// A gate has halted a pod.
    #[must_use]
    pub fn halted(pod: &SpiffeId, cause: &Cause, detail: &str) -> Self {
        let rule = match cause {
            Cause::Denial(RuleRef { policy, rule, digest: _ }) => {
                Some(HaltingRule { policy: policy.to_string(), name: rule.to_string() })
            }
            Cause::Disobedience => None,
        };
        let reason = detail[..detail.floor_char_boundary(MAX_REASON)].to_owned();
        Self::Halted { identity: pod.to_string(), reason, rule }
    }
}

/// The rule for which a pod was halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HaltingRule {
    /// Its policy, as `namespace/name`.
    pub policy: String,
    /// Its name.
    pub name: String,
}

/// What is heard of a guard plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginState {
    /// The pod needs none.
    Optional,
    /// Nothing was heard yet: language models are out of reach.
    Awaited,
    /// It reports.
    Reporting,
    /// It has reported, and does no longer: language models are out of reach.
    Silent,
    /// What a model was sent is not what was decided: the agent is halted.
    Disobeyed,
}

/// What came of a try to get out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IsolationOutcome {
    /// Nothing answered: the network enforces.
    Dropped,
    /// Somebody answered: the network does not enforce, and the sidecar has closed.
    Answered,
    /// The gateway did not vouch that there was anybody to answer, so that silence proves nothing.
    NotVouched,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IsolationTarget {
    /// The release's tripwire, which accepts from everywhere.
    Tripwire,
    /// Another node's kubelet.
    Node,
}

/// From the operator to a sidecar or gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToClient {
    /// Whom to trust from now on.
    Trust {
        /// The tenant's roots, DER.
        roots: Vec<Encoded>,
        /// Ed25519 public keys of those who sign policy.
        keys: Vec<Encoded>,
    },
    /// A document that assignments name.
    Document {
        /// Its digest.
        digest: String,
        /// Its signed envelope.
        envelope: Encoded,
    },
    /// A pod's assignment. The documents that it names were sent before, or are among those of `hello`.
    Assignment {
        /// The pod's SPIFFE ID.
        identity: String,
        /// The signed envelope.
        envelope: Encoded,
        /// Digests of its documents.
        digests: Vec<String>,
    },
    /// A pod is gone: its identity is refused from now on. For gateways.
    Remove {
        /// The pod's SPIFFE ID.
        identity: String,
    },
    /// What must not be reachable from an agent's pod.
    Canaries {
        /// Addresses of the tripwire, which answers on port 53.
        tripwire: Vec<IpAddr>,
        /// Addresses of the cluster's nodes, whose kubelets answer on port 10250.
        nodes: Vec<IpAddr>,
    },
    /// All that was known when the stream began has been sent.
    Synced {},
    /// The server is there.
    Ping {},
    /// A message of a newer server.
    #[serde(other, skip_serializing)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_look_as_the_protocol_says() {
        let ack = ToServer::Ack { generation: 7, identity: None };
        assert_eq!(serde_json::to_string(&ack).unwrap(), r#"{"type":"ack","generation":7,"identity":null}"#);
        let rule = Some(HaltingRule { policy: "acme/p".into(), name: "no-rm".into() });
        let halted = ToServer::Halted { identity: "spiffe://x".into(), reason: "blocked".into(), rule };
        assert_eq!(
            serde_json::to_string(&halted).unwrap(),
            r#"{"type":"halted","identity":"spiffe://x","reason":"blocked","rule":{"policy":"acme/p","name":"no-rm"}}"#
        );
        let document = ToClient::Document { digest: "sha256:00".into(), envelope: Encoded(vec![1, 2, 3]) };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(text, r#"{"type":"document","digest":"sha256:00","envelope":"AQID"}"#);
        assert_eq!(serde_json::from_str::<ToClient>(&text).unwrap(), document);
        assert_eq!(serde_json::to_string(&ToClient::Ping {}).unwrap(), r#"{"type":"ping"}"#);
    }

    #[test]
    fn a_newer_servers_message_is_not_understood_and_a_known_one_that_is_broken_is_refused() {
        assert_eq!(serde_json::from_str::<ToClient>(r#"{"type":"later","x":1}"#).unwrap(), ToClient::Unknown);
        for broken in [
            r#"{"type":"remove"}"#,
            r#"{"type":"document","digest":"d","envelope":"%"}"#,
            r#"{"type":"canaries","tripwire":["nowhere"],"nodes":[]}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<ToClient>(broken).is_err(), "{broken}");
        }
        assert!(
            serde_json::from_str::<ToServer>(r#"{"type":"later"}"#).is_err(),
            "the server knows all of its clients"
        );
    }

    #[test]
    fn a_token_is_not_printed() {
        let request = CertificateRequest { token: "secret-token".into(), csr: Encoded(Vec::new()) };
        assert!(!format!("{request:?}").contains("secret"));
    }
}
