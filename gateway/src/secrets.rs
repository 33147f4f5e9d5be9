//! Credentials from the Secrets of the gateway's own namespace, as they are now: a watch keeps them, so that a
//! rotated Secret serves the next request and a deleted one denies it.
//!
//! [`Store`] is the pure part. While the API server is away, the last values stay.

mod store;
mod watch;

pub(crate) use store::Store;
pub(crate) use watch::watch;
