#![doc = include_str!("../README.md")]

pub mod embedded;
pub mod port;
pub mod rabbitmq;
mod records;
pub mod shelf;
pub mod socket;
mod soft;
pub mod topology;
mod window;

pub use port::{
    Ack, AckError, Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination,
    Incoming, Outgoing, Queue, SUBSTITUTE, SharedBroker, UNREADABLE_HEADER,
};
pub use records::{Linger, RecordWriter};
pub use shelf::{Handle, Holder, Shelf, ShelfError, ShelfName, Shelved, Shelves};
