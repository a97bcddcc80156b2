//! A broker that lives in another process of this machine, reached through a Unix socket: what the commands of a second terminal
//! need of the one that serves. Publishing, depths, `control` and the shelves; queues are consumed by the serving process only.
//!
//! Every call is a connection of its own. A broken-off one takes nothing with it: an open shelf is put back by its end.

mod client;
mod server;
mod wire;

pub use client::SocketBroker;
pub use server::serve;
