//! Policy documents, their codec and signatures, and [`decide`].
//!
//! This crate is the engine that both gates share. It is pure: it reads no clock, opens no socket
//! and knows neither Kubernetes nor HTTP libraries. What came in from outside is parsed here into
//! types ([`HostName`], [`RequestPath`], [`document`]), and whatever does not parse is refused.

pub mod action;
pub mod category;
pub mod codec;
pub mod condition;
mod decide;
pub mod document;
pub mod envelope;
pub mod explain;
pub mod host;
pub mod identity;
pub mod json;
pub mod limit;
pub mod manifest;
pub mod path;
pub mod pattern;
pub mod policy;
pub mod schedule;
pub mod ticket;
pub mod verdict;

pub use action::{Action, Body, Caller, Claims, Context, Facts, HttpAction, ToolAction, Workload};
pub use decide::decide;
pub use explain::{Explanation, explain};
pub use host::HostName;
pub use identity::SpiffeId;
pub use limit::Limit;
pub use path::RequestPath;
pub use policy::{BuildError, Cause, Policy, Upstream};
pub use verdict::{Code, Denial, Permit, RuleRef, Verdict};
