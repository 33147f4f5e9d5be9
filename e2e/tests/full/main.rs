//! What happens when parts of the cluster fail; run by `make e2e-full`, one test at a time. A packet is tried
//! throughout: whatever is broken, an agent's pod must not be open.

mod enforce_deletion;
mod enforce_failures;
mod enforce_forced;
mod enforce_network;
mod enforce_sidecar;
mod enforce_writes;
mod gitops;
mod node;
mod release;
mod watch;
