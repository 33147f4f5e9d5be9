//! The two gates: listeners, TLS, tunnels, the hop between them and the way out.
//!
//! ```text
//! agent ── HTTP proxy, /v1/decide ──► agent (gate 1) ── hop: HTTP/2, mTLS ──► gateway (gate 2) ──► upstream
//! ```
//!
//! [`agent`] and [`gateway`] share [`gate`], which reads a request into a question, decides and records
//! it. Policy, credentials, time, names and records come in through [`policies`], [`credentials`],
//! [`clock`], [`upstream::resolve`] and `clawlock-audit`; who composes a gate decides what stands behind
//! them. The only way out is [`upstream::Upstreams::connect_upstream`].

pub mod admin;
pub mod agent;
pub mod body;
mod budget;
pub mod clock;
pub mod credentials;
pub mod denial;
pub mod drain;
pub mod gate;
pub mod gateway;
pub mod guard;
pub mod headers;
pub mod hop;
pub mod intercept;
pub mod latch;
pub mod limits;
mod listen;
pub mod llm;
mod meter;
pub mod metrics;
pub mod policies;
pub mod probe;
pub mod problem;
pub mod request;
pub mod tls;
mod tunnel;
pub mod upstream;
pub mod voucher;
mod websocket;
