//! What sidecars and gateways say to the operator, and what it answers.
//!
//! [`message`] are the messages and [`lines`] how they travel; the operator's server and the [`client`] of the data plane
//! share them. Everything runs over TLS 1.3: the server proves itself by a certificate for [`control_name`] under the
//! anchor that a program's arguments pin, the client by the certificate that it got by [`client::enrol`].

pub mod client;
pub mod lines;
pub mod message;

pub use lines::{LineError, Lines, MAX_LINE, encode_line};
pub use message::{
    CertificateAnswer, CertificateRequest, Encoded, HaltingRule, IsolationOutcome, IsolationTarget, PluginState,
    Problem, ToClient, ToServer,
};

/// Version of the protocol, which the first message states.
pub const VERSION: u32 = 1;

/// Path of [`CertificateRequest`].
pub const CERTIFICATES: &str = "/v1/certificates";

/// Path of the stream of messages.
pub const STREAM: &str = "/v1/stream";

/// The server name of the control API for a tenant: the one name that its gateway passes on without reading.
#[must_use]
pub fn control_name(tenant: &str) -> String {
    format!("control.{tenant}.clawlock.internal")
}
