//! A producer that no client library would let pass: it writes its frames byte by byte.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::PATIENCE;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 206;
/// A frame's type, channel, size and end.
const FRAME_OVERHEAD_BYTES: usize = 8;

/// Flags of the properties, in the order in which they are written.
pub const CONTENT_TYPE: u16 = 0x8000;
pub const HEADERS: u16 = 0x2000;
pub const EXPIRATION: u16 = 0x0100;
pub const MESSAGE_ID: u16 = 0x0080;
pub const TYPE: u16 = 0x0020;

/// Text with a length of one byte before it.
pub fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("test texts are short");
    [&[length][..], text].concat()
}

/// Bytes with a length of four bytes before them: long strings, byte arrays, arrays and tables.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("test values are small");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// An entry of a table: its name, and its value with its type.
pub fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}

/// A message in AMQP's own bytes.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    pub routing_key: Vec<u8>,
    /// Which properties follow.
    pub flags: u16,
    /// Their bytes.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

impl Foreign {
    pub fn new(flags: u16, properties: Vec<u8>, body: &str) -> Foreign {
        Foreign {
            routing_key: b"order.paid".to_vec(),
            flags,
            properties,
            body: body.into(),
        }
    }

    pub fn headers(table: &[u8], body: &str) -> Foreign {
        Foreign::new(HEADERS, long(table), body)
    }
}

/// A connection with one channel in confirm mode.
pub struct Producer {
    socket: TcpStream,
    /// The largest frame that the broker takes, with its overhead.
    pub frame_bytes_max: usize,
}

impl Producer {
    pub async fn connect(url: &str) -> Result<Producer> {
        timeout(PATIENCE, Producer::handshake(url))
            .await
            .context("no handshake")?
    }

    async fn handshake(url: &str) -> Result<Producer> {
        let url = Url::parse(url)?;
        let address = (url.host_str().context("no host")?, url.port().context("no port")?);
        let mut producer = Producer {
            socket: TcpStream::connect(address).await?,
            frame_bytes_max: 0,
        };
        producer.socket.write_all(b"AMQP\0\0\x09\x01").await?;
        producer.expect(10, 10).await?;
        let account = format!("\0{}\0{}", url.username(), url.password().unwrap_or_default());
        let start_ok = [
            long(b""),
            short(b"PLAIN"),
            long(account.as_bytes()),
            short(b"en_US"),
        ];
        producer.method(0, 10, 11, &start_ok.concat()).await?;
        let tune = producer.expect(10, 30).await?;
        ensure!(tune.len() == 8, "a strange tune");
        producer.frame_bytes_max = u32::from_be_bytes([tune[2], tune[3], tune[4], tune[5]]) as usize;
        // No heartbeats.
        let tune_ok = [&tune[..6], &[0, 0]].concat();
        producer.method(0, 10, 31, &tune_ok).await?;
        let vhost = url.path().trim_start_matches('/').replace("%2F", "/");
        let open = [short(vhost.as_bytes()), short(b""), vec![0]].concat();
        producer.method(0, 10, 40, &open).await?;
        producer.expect(10, 41).await?;
        producer.method(1, 20, 10, &short(b"")).await?;
        producer.expect(20, 11).await?;
        producer.method(1, 85, 10, &[0]).await?;
        producer.expect(85, 11).await?;
        Ok(producer)
    }

    /// Publishes to the exchange, and waits for the confirm.
    pub async fn publish(&mut self, exchange: &str, message: &Foreign) -> Result<()> {
        let publish = [
            &[0, 0][..],
            &short(exchange.as_bytes()),
            &short(&message.routing_key),
            &[0],
        ]
        .concat();
        self.method(1, 60, 40, &publish).await?;
        let size = (message.body.len() as u64).to_be_bytes();
        let flags = message.flags.to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &flags, &message.properties].concat();
        self.frame(HEADER, 1, &header).await?;
        if !message.body.is_empty() {
            self.frame(BODY, 1, &message.body).await?;
        }
        timeout(PATIENCE, self.expect(60, 80))
            .await
            .context("no confirm")??;
        Ok(())
    }

    /// How many bytes of properties fit into a frame.
    pub fn properties_bytes_max(&self) -> usize {
        // Class, weight, body size and flags.
        self.frame_bytes_max - FRAME_OVERHEAD_BYTES - 14
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let size = u32::try_from(payload.len())?.to_be_bytes();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size, payload, &[FRAME_END]].concat();
        Ok(self.socket.write_all(&frame).await?)
    }

    /// The arguments of the next method, which must be this one.
    async fn expect(&mut self, class: u16, method: u16) -> Result<Vec<u8>> {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).await?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.socket.read_exact(&mut payload).await?;
        payload.pop();
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        match payload.strip_prefix(&wanted[..]) {
            Some(arguments) => Ok(arguments.to_vec()),
            None => bail!(
                "the broker answers {:?} instead of {class}.{method}: {}",
                payload.get(..4),
                String::from_utf8_lossy(&payload)
            ),
        }
    }
}
