//! Against a real cluster with the release installed; run by `make e2e`. The names sort by what is shown: what admission
//! refuses, what injection does, what is enforced, what rotates.

mod admit;
mod admit_changes;
mod admit_platform;
mod admit_pod_security;
mod admit_resources;
mod attempts;
mod enforce_credential;
mod enforce_edits;
mod enforce_halt;
mod enforce_identity;
mod enforce_inbound;
mod enforce_isolation;
mod enforce_manifest;
mod enforce_story;
mod inject;
