//! What a broker says about itself in its first frame, which lapin keeps to itself.

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::time::timeout;

use super::connection::ConnectError;
use super::settings::RabbitMqSettings;
use super::tls;
use super::url::BrokerUrl;

/// `connection.start` of RabbitMQ has about 500 bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// AMQP 0-9-1's greeting.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Frame type, channel and size.
const FRAME_HEAD_BYTES: usize = 7;
/// Class 10 (connection), method 10 (start), version major and minor.
const START: [u8; 4] = [0, 10, 0, 10];

/// A broker's name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) product: String,
    pub(crate) version: String,
}

impl Server {
    /// Major and minor version, where it is written like that.
    pub(crate) fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// Connects, reads the greeting, and goes.
pub(crate) async fn identify(settings: &RabbitMqSettings, url: &BrokerUrl) -> Result<Server, ConnectError> {
    match timeout(settings.connect_timeout, greeting(settings, url)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout {
            waited: settings.connect_timeout,
            doing: "reading the greeting",
        }),
    }
}

async fn greeting(settings: &RabbitMqSettings, url: &BrokerUrl) -> Result<Server, ConnectError> {
    let io = |error: std::io::Error| ConnectError::Refused(error.into());
    let uri = url.uri();
    let plain = AMQPUri {
        scheme: AMQPScheme::AMQP,
        ..uri.clone()
    };
    let runtime = lapin::runtime::default_runtime()?;
    let mut stream = plain
        .connect_with_config_async(TLSConfig::default(), &runtime)
        .await
        .map_err(io)?;
    if url.is_tls() {
        let connector = tls::connector(settings).await?;
        stream = stream
            .into_rustls(&connector, &uri.authority.host)
            .await
            .map_err(io)?;
    }
    stream.write_all(PROTOCOL_HEADER).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await.map_err(io)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let no_greeting = || {
        io(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "this is no AMQP 0-9-1 greeting",
        ))
    };
    if size > FRAME_BYTES_MAX {
        return Err(no_greeting());
    }
    let mut frame = vec![0; size];
    stream.read_exact(&mut frame).await.map_err(io)?;
    parse(&frame).ok_or_else(no_greeting)
}

fn parse(frame: &[u8]) -> Option<Server> {
    let properties = frame.strip_prefix(&START)?.get(2..)?;
    let (_, properties) = parse_field_table(properties).ok()?;
    Some(Server {
        product: text(&properties, "product")?,
        version: text(&properties, "version")?,
    })
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        // Goal: 3.9 is older than 3.10.
        let release = |version: &str| {
            Server {
                product: "RabbitMQ".into(),
                version: version.into(),
            }
            .release()
        };
        assert!(release("3.9.1") < release("3.10.8"));
        assert_eq!(release("4.3.6"), Some((4, 3)));
        assert_eq!(release("unknown"), None);
    }

    #[test]
    fn other_greetings_are_none() {
        // Goal: an HTTP server on the port, or a frame cut short, must not be taken for a broker.
        for frame in [
            &b""[..],
            b"HTTP/1.1 400",
            &[0, 10, 0, 10],
            &[0, 10, 0, 10, 0, 9, 0, 0, 0, 9, 1],
        ] {
            assert_eq!(parse(frame), None, "{frame:?}");
        }
    }
}
