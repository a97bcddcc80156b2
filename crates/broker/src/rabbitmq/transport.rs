//! The transport below lapin: TCP or TLS, with [`repair`](super::repair) on its way in.
//!
//! Bytes are read straight into lapin's buffer and looked at there; only what ends in the middle of a method or header frame
//! is kept back until the frame is whole. Bodies pass untouched.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::tcp::AsyncTcpStream;

use super::repair::{BODY, HEADER, HEARTBEAT, METHOD, mend};

/// Type, channel and size.
const HEAD_BYTES: usize = 7;
/// And the byte at the end.
const OVERHEAD_BYTES: usize = HEAD_BYTES + 1;
/// A larger header or method passes as it is. RabbitMQ's frames have 128 KiB unless an operator wants more.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Read at once where lapin's buffer has no room for a frame (at the end of its ring).
const ASIDE_BYTES: usize = 4096;
/// Class and method of `connection.tune`, in which the broker says how large its frames are.
const TUNE: [u8; 4] = [0, 10, 0, 30];

/// What lapin reads from and writes to.
pub(crate) type Transport = Mended<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;

/// A stream whose incoming frames are repaired.
pub(crate) struct Mended<S> {
    stream: S,
    frames: Frames,
    /// The beginning of a frame.
    held: Vec<u8>,
    /// Repaired, and to be handed on first.
    aside: Vec<u8>,
}

impl<S> Mended<S> {
    /// `frame_bytes_max` is what we ask the broker for, if we do.
    pub(crate) fn new(stream: S, frame_bytes_max: Option<u32>) -> Mended<S> {
        Mended {
            stream,
            frames: Frames {
                place: Place::Boundary,
                bytes_max: usize::try_from(frame_bytes_max.unwrap_or(0)).unwrap_or(0),
            },
            held: Vec::new(),
            aside: Vec::new(),
        }
    }

    fn hand_on(&mut self, to: &mut [u8]) -> usize {
        let bytes = self.aside.len().min(to.len());
        to[..bytes].copy_from_slice(&self.aside[..bytes]);
        self.aside.drain(..bytes);
        bytes
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if !this.aside.is_empty() || to.is_empty() {
                return Poll::Ready(Ok(this.hand_on(to)));
            }
            let held = this.held.len();
            if held < to.len() {
                let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut to[held..]))?;
                to[..held].copy_from_slice(&this.held);
                this.held.clear();
                if read == 0 {
                    // The end, perhaps in the middle of a frame.
                    return Poll::Ready(Ok(held));
                }
                let passed = this.frames.pass(&mut to[..held + read], &mut this.held);
                if passed > 0 {
                    return Poll::Ready(Ok(passed));
                }
            } else {
                let mut more = [0; ASIDE_BYTES];
                let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut more))?;
                let mut bytes = std::mem::take(&mut this.held);
                bytes.extend_from_slice(&more[..read]);
                if read > 0 {
                    let passed = this.frames.pass(&mut bytes, &mut this.held);
                    bytes.truncate(passed);
                }
                this.aside = bytes;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[derive(Clone, Copy)]
enum Place {
    /// A frame begins.
    Boundary,
    /// That many bytes of a frame that passes untouched.
    Untouched(usize),
    /// This is no AMQP: the parser shall say so.
    Lost,
}

/// Follows the frames of a stream.
struct Frames {
    place: Place,
    /// The largest frame agreed on, with its overhead; 0 before that, and when there is no limit.
    bytes_max: usize,
}

impl Frames {
    /// Repairs what has come. What can be handed on stands at the beginning then, and its length comes back; the beginning of
    /// a frame that must be seen whole goes to `held`.
    fn pass(&mut self, bytes: &mut [u8], held: &mut Vec<u8>) -> usize {
        let (mut read, mut written) = (0, 0);
        while read < bytes.len() {
            let left = bytes.len() - read;
            let (taken, kept) = match self.place {
                Place::Lost => (left, left),
                Place::Untouched(rest) => {
                    let taken = rest.min(left);
                    self.place = match rest - taken {
                        0 => Place::Boundary,
                        rest => Place::Untouched(rest),
                    };
                    (taken, taken)
                }
                Place::Boundary => match self.begin(&mut bytes[read..]) {
                    Begun::Whole { taken, kept } => (taken, kept),
                    Begun::Placed => continue,
                    Begun::Incomplete => {
                        held.extend_from_slice(&bytes[read..]);
                        break;
                    }
                },
            };
            if read != written {
                bytes.copy_within(read..read + kept, written);
            }
            read += taken;
            written += kept;
        }
        written
    }

    fn begin(&mut self, bytes: &mut [u8]) -> Begun {
        let &mut [kind, _, _, ref size @ ..] = &mut *bytes else {
            return self.too_short(bytes);
        };
        let Some(size) = size.first_chunk::<4>() else {
            return self.too_short(bytes);
        };
        // Lossless where this runs.
        let size = u32::from_be_bytes(*size) as usize;
        match kind {
            METHOD | HEADER if size <= HELD_BYTES_MAX => {}
            METHOD | HEADER | BODY | HEARTBEAT => {
                self.place = Place::Untouched(size.saturating_add(OVERHEAD_BYTES));
                return Begun::Placed;
            }
            _ => {
                self.place = Place::Lost;
                return Begun::Placed;
            }
        }
        let Some(payload) = bytes.get_mut(HEAD_BYTES..HEAD_BYTES + size + 1) else {
            return Begun::Incomplete;
        };
        if kind == METHOD {
            self.hear(payload);
        }
        let payload_bytes_max = match self.bytes_max {
            0 => usize::MAX,
            bytes => bytes.saturating_sub(OVERHEAD_BYTES),
        };
        let kept = mend(kind, &mut payload[..size], payload_bytes_max);
        if kept != size {
            payload[kept] = payload[size];
            // It has become shorter, so it still fits.
            let size = u32::try_from(kept).unwrap_or(u32::MAX).to_be_bytes();
            bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&size);
        }
        Begun::Whole {
            taken: size + OVERHEAD_BYTES,
            kept: kept + OVERHEAD_BYTES,
        }
    }

    /// Not even a head; but what begins like no frame must not be waited for.
    fn too_short(&mut self, bytes: &[u8]) -> Begun {
        match bytes.first() {
            Some(&(METHOD | HEADER | BODY | HEARTBEAT)) => Begun::Incomplete,
            _ => {
                self.place = Place::Lost;
                Begun::Placed
            }
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        let Some(tune) = payload.strip_prefix(&TUNE) else {
            return;
        };
        // Behind the highest channel.
        if let Some(&[a, b, c, d]) = tune.get(2..6) {
            let bytes_max = u32::from_be_bytes([a, b, c, d]) as usize;
            self.bytes_max = match (self.bytes_max, bytes_max) {
                (0, bytes) | (bytes, 0) => bytes,
                (ours, theirs) => ours.min(theirs),
            };
        }
    }
}

enum Begun {
    /// A frame, which is shorter now or not.
    Whole { taken: usize, kept: usize },
    /// The place says how to go on.
    Placed,
    /// The rest has to come first.
    Incomplete,
}

/// Tokio for lapin, but with our transport: lapin takes no other stream than its runtime's.
#[derive(Clone, Debug)]
pub(crate) struct MendingTokio(pub(crate) Tokio);

impl RuntimeKit for MendingTokio {}

impl Executor for MendingTokio {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for MendingTokio {
    type TcpStream = Transport;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Mended::new(AsyncTcpStream::Plain(connecting.await?), None)) }
    }
}

#[cfg(test)]
mod tests;
