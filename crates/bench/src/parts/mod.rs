//! The bench's own processes, one file each.

pub mod amqp;
pub mod fill;
pub mod http;
pub mod pace;
pub mod post;
pub mod rabbitmq_loop;
pub mod receiver;
pub mod sqlite;
pub mod sqlite_loop;
