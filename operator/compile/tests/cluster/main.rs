//! What the operator makes of a tenant beside decisions: objects, changes to pods, stored state.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "../common/world.rs"]
mod common;

mod installer;
mod manifests;
mod objects;
mod pods;
mod refusals;
mod settings;
mod sidecar;
mod state;
mod status;
