//! The client against real servers on the loopback network.

mod bodies;
mod dns;
mod guard;
mod outcomes;
mod proxy;
mod raw;
mod reuse;
mod spellings;
mod tls;
mod world;
