//! The client against a control API of the real messages over real TLS.

#[cfg(test)]
#[path = "common/server.rs"]
mod server;

#[cfg(test)]
#[path = "client/enrol.rs"]
mod enrol;
#[cfg(test)]
#[path = "client/stream.rs"]
mod stream;
#[cfg(test)]
#[path = "client/world.rs"]
mod world;
