//! What the cluster tests are made of: `kubectl` as the client that people use, a tenant with an upstream and an agent,
//! and waiting for conditions instead of for time.
//!
//! Every test has namespaces of its own. A test that shows that something is dropped shows first, with the same
//! program from the same place, that it would arrive (a positive control).

pub mod agent;
pub mod beside;
pub mod kubectl;
pub mod load;
pub mod node;
pub mod pki;
pub mod program;
pub mod snapshot;
pub mod tenant;
pub mod wait;

pub use agent::Agent;
pub use beside::Beside;
pub use kubectl::{Kubectl, Refused};
pub use load::{Load, Total};
pub use tenant::Tenant;
pub use wait::eventually;

/// What a test ends with: a reason in one line.
pub type Result<T> = std::result::Result<T, String>;
