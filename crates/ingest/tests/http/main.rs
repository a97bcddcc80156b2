//! The ingest over real connections. Delivery is shown with a real RabbitMQ (`rabbitmq`); how requests are bounded, refused
//! and ended is shown with a scripted broker, which proves nothing about delivery.

mod access;
mod cloudevents;
mod event_ids;
mod fixture;
mod front;
mod limits;
mod log;
mod messages;
mod rabbitmq;
mod raw;
mod scripted;
mod stop;
mod tls;
mod tokens;
