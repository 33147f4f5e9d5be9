//! What happens when parts of the cluster fail; run by `make e2e-full`, one test at a time. A packet is tried
//! throughout: whatever is broken, an agent's pod must not be open. And what happens when keys, certificates, gateways and
//! the release are replaced: no request fails.

mod creations;
mod enforce_again;
mod enforce_deletion;
mod enforce_failures;
mod enforce_forced;
mod enforce_network;
mod enforce_secrets;
mod enforce_sidecar;
mod enforce_writes;
mod gitops;
mod node;
mod release;
mod rotate;
mod upgrade;
mod watch;
