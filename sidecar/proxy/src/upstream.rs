//! The way out. [`Upstreams::connect_upstream`] takes a permit and a receipt, and nothing else in the
//! gateway opens a connection: nothing leaves without its reason and its record.

pub mod address;
mod connect;
mod inject;
mod pool;
pub mod redact;
pub mod resolve;

pub use connect::{Exchange, Upstreams, Way};
pub use inject::Injector;
