use std::collections::VecDeque;

use futures_util::AsyncReadExt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Gives what it is told in pieces, and says `Pending` between them.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    is_pending: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.is_pending = !self.is_pending;
        if self.is_pending {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(mut piece) = self.pieces.pop_front() else {
            return Poll::Ready(Ok(0));
        };
        let bytes = piece.len().min(to.len());
        to[..bytes].copy_from_slice(&piece[..bytes]);
        if bytes < piece.len() {
            self.pieces.push_front(piece.split_off(bytes));
        }
        Poll::Ready(Ok(bytes))
    }
}

/// What comes out of the pieces, read with a buffer of this size.
fn read(pieces: impl IntoIterator<Item = Vec<u8>>, buffer_bytes: usize, bytes_max: Option<u32>) -> Vec<u8> {
    let stream = Pieces {
        // An empty piece would be the end.
        pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(),
        is_pending: false,
    };
    let mut stream = Mended::new(stream, bytes_max);
    let (mut all, mut buffer) = (Vec::new(), vec![0; buffer_bytes]);
    futures_util::FutureExt::now_or_never(async {
        loop {
            let reading = stream.read(&mut buffer);
            match poll_to_end(reading).await.expect("readable") {
                0 => return all,
                bytes => all.extend_from_slice(&buffer[..bytes]),
            }
        }
    })
    .expect("nothing is waited for")
}

/// Polls on: every `Pending` here wakes at once.
async fn poll_to_end<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = futures_util::poll!(&mut future) {
            return output;
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[206]].concat()
}

fn deliver(key: &[u8]) -> Vec<u8> {
    let key = [&[u8::try_from(key.len()).unwrap()][..], key].concat();
    frame(
        METHOD,
        &[&[0, 60, 0, 60, 1, b't'][..], &[0; 9], &[1, b'e'], &key].concat(),
    )
}

fn header(id: &[u8]) -> Vec<u8> {
    let id = [&[u8::try_from(id.len()).unwrap()][..], id].concat();
    frame(HEADER, &[&[0, 60, 0, 0][..], &[0; 8], &[0, 0x80], &id].concat())
}

fn tune(frame_bytes_max: u32) -> Vec<u8> {
    frame(
        METHOD,
        &[&TUNE[..], &[7, 0xff], &frame_bytes_max.to_be_bytes(), &[0, 60]].concat(),
    )
}

/// A header frame whose headers alone have 200 bytes.
fn large() -> Vec<u8> {
    let table = [&[1, b'h', b'S', 0, 0, 0, 193][..], &[b'x'; 193]].concat();
    frame(
        HEADER,
        &[&[0, 60, 0, 0][..], &[0; 8], &[0x20, 0], &[0, 0, 0, 200], &table].concat(),
    )
}

/// Two messages, bodies and heartbeats with bytes in them that would be repaired elsewhere.
fn stream(text: &[u8]) -> Vec<u8> {
    let body = frame(BODY, &[&[0xff; 40][..], &header(b"\xff")].concat());
    let heartbeat = [8, 0, 0, 0, 0, 0, 0, 206];
    [
        &deliver(text)[..],
        &header(text),
        &body,
        &heartbeat,
        &header(b""),
        &frame(BODY, b""),
        &deliver(text),
        &header(text),
        &body,
    ]
    .concat()
}

#[test]
fn a_stream_is_repaired_wherever_its_reads_are_split() {
    // Goal: one split at every place, and pieces and buffers of every small size.
    let (bad, good) = (stream(b"caf\xe9\xf0\x9f"), stream(b"caf\x1a\x1a\x1a"));
    for at in 0..=bad.len() {
        let (before, after) = bad.split_at(at);
        let out = read([before.to_vec(), after.to_vec()], 4096, None);
        assert_eq!(out, good, "split at {at}");
    }
    for piece in 1..30 {
        for buffer in [1, 2, 7, 8, 9, 31, 4096] {
            let out = read(bad.chunks(piece).map(<[u8]>::to_vec), buffer, None);
            assert_eq!(out, good, "pieces of {piece}, buffers of {buffer}");
        }
    }
}

#[test]
fn a_frame_that_gets_shorter_moves_what_follows() {
    // Goal: the limit is the broker's, or ours if that is smaller; and everything behind is whole.
    for (ours, theirs, is_cut) in [
        (None, 150, true),
        (Some(150), 4096, true),
        (None, 4096, false),
        (Some(4096), 0, false),
    ] {
        let all = [tune(theirs), large(), stream(b"text")].concat();
        for piece in [1, 50, 4096] {
            let out = read(all.chunks(piece).map(<[u8]>::to_vec), 4096, ours);
            assert_eq!(out.len() < all.len(), is_cut, "{ours:?} {theirs}");
            assert!(out.ends_with(&stream(b"text")));
            let size = u32::from_be_bytes(out[tune(0).len() + 3..][..4].try_into().unwrap()) as usize;
            assert_eq!(
                out.len(),
                tune(0).len() + size + OVERHEAD_BYTES + stream(b"text").len()
            );
        }
    }
}

#[test]
fn what_is_no_amqp_passes_at_once() {
    // Goal: a broker of another version answers with its own greeting, and closes; an HTTP server with a line.
    for foreign in [
        &b"AMQP\0\0\x09\x01"[..],
        b"H",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        for piece in [1, 3, 100] {
            assert_eq!(read(foreign.chunks(piece).map(<[u8]>::to_vec), 16, None), foreign);
        }
    }
}

#[test]
fn an_end_in_the_middle_of_a_frame_hands_on_its_beginning() {
    // Goal: nothing is held back for ever.
    let cut = &header(b"abcdef")[..15];
    for buffer in [4, 4096] {
        assert_eq!(read([cut.to_vec()], buffer, None), cut);
    }
}

proptest! {
    #[test]
    fn valid_frames_pass_unchanged(
        texts in vec("[a-zé]{0,40}", 0..6),
        bodies in vec(vec(any::<u8>(), 0..300), 0..6),
        piece in 1..400usize,
        buffer in 1..400usize,
    ) {
        // Goal: whatever is split and however it is read, not one byte differs.
        let mut all = Vec::new();
        for text in &texts {
            all.extend(deliver(text.as_bytes()));
            all.extend(header(text.as_bytes()));
        }
        for body in &bodies {
            all.extend(frame(BODY, body));
        }
        prop_assert_eq!(read(all.chunks(piece).map(<[u8]>::to_vec), buffer, None), all);
    }
}
