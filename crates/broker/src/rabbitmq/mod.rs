//! The port on RabbitMQ 3.10 to 4.x by AMQP 0-9-1.

pub mod connection;
pub mod settings;
mod tls;

pub use settings::{BrokerUrl, Declare, RabbitMqSettings, Role, SettingsError};
