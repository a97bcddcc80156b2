#![doc = include_str!("../README.md")]

pub mod port;
pub mod rabbitmq;
pub mod topology;

pub use port::{
    Ack, AckError, Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination,
    Incoming, Outgoing, Queue, SharedBroker,
};
