//! The hop between the gates: HTTP/2 over mutual TLS.
//!
//! A request keeps its method, scheme, authority, path and body; beside it travel the upstream that the
//! agent's gate decided on ([`UPSTREAM`]) and the request's id, so that both gates' records agree. A raw
//! stream (WebSocket) is an extended CONNECT (RFC 8441). The names below never come from an agent nor
//! reach an upstream: both gates strip the whole prefix.

pub mod client;
pub mod front;
mod hello;
pub mod server;
pub mod sources;
pub mod splice;

pub use client::{HopClient, HopError};
pub use front::Front;

/// Names the upstream that the sender decided on; the gateway refuses when its own policy differs.
pub const UPSTREAM: &str = "clawlock-upstream";

/// The request's id.
pub const REQUEST_ID: &str = "clawlock-request-id";

/// Beside a refusal, once the gateway has halted the pod: why, so that the agent's gate halts it as well.
pub const HALT: &str = "clawlock-halt";

/// Microseconds that the agent's gate took to decide.
pub const AGENT_GATE_US: &str = "clawlock-agent-gate-us";
