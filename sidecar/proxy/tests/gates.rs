//! Both gates with their real hop, between a real client and real servers on loopback.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "gates/admin.rs"]
mod admin;
#[path = "gates/attack.rs"]
mod attack;
#[path = "gates/audit.rs"]
mod audit;
#[path = "gates/bounds.rs"]
mod bounds;
#[path = "gates/client.rs"]
mod client;
#[path = "gates/credential.rs"]
mod credential;
#[path = "gates/crosscheck.rs"]
mod crosscheck;
#[path = "gates/decide.rs"]
mod decide;
#[path = "gates/flood.rs"]
mod flood;
#[path = "gates/flow.rs"]
mod flow;
#[path = "gates/front.rs"]
mod front;
#[path = "gates/hop.rs"]
mod hop;
#[path = "gates/latch.rs"]
mod latch;
#[path = "gates/limit.rs"]
mod limit;
#[path = "gates/live.rs"]
mod live;
#[path = "gates/origin.rs"]
mod origin;
#[path = "gates/plugin.rs"]
mod plugin;
#[path = "gates/rotation.rs"]
mod rotation;
#[path = "gates/smuggling.rs"]
mod smuggling;
#[path = "gates/table.rs"]
mod table;
#[path = "gates/ticket.rs"]
mod ticket;
#[path = "gates/voucher.rs"]
mod voucher;
#[path = "gates/world.rs"]
mod world;
