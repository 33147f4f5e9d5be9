//! The engine's tests. One program: a change of the engine is linked once, not once per file, and mutation testing
//! changes it some thousand times. The fuzz targets have a program of their own, which `make fuzz` builds.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "../common/fixtures.rs"]
mod fixtures;

mod arguments;
mod bounds;
mod build;
mod category;
mod claims;
mod classes;
mod codec;
mod condition;
mod decide;
mod envelope;
mod halt;
mod json;
mod limits;
mod manifest;
mod names;
mod pattern;
mod reference;
mod schedule;
mod ticket;
mod types;
mod words;
