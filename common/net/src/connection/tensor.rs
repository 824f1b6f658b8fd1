//! Tensor streams: one stream each, so that one can be late, wrong or reset alone.
//!
//! ```text
//! 0       2             4             12               12 + header length
//! +-------+-------------+-------------+----------------+------------------+
//! | "PW"  | header len  | body length | header         | body, to the end |
//! +-------+-------------+-------------+----------------+------------------+
//!          u16            u64           little-endian lengths
//! ```
//! Header and body mean nothing here.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use thiserror::Error;

use super::{CloseReason, Priority};
use crate::{AlignedBytes, BytesPerSecond, Pacer, aligned::Filling};

/// The longest header in bytes.
pub const HEADER_LIMIT: usize = 512;

const MAGIC: [u8; 2] = *b"PW";
const FRAME: usize = 12;
/// Pieces of a body, a packet's worth each, that are taken from QUIC at a time.
const PIECES: usize = 32;

/// Stream codes that this crate gives by itself; those above 255 are left to the protocol above.
pub mod code {
    /// The sender gave up before the end.
    pub const CANCELLED: u32 = 1;
    /// The receiver does not understand the stream, or its length is not what was announced.
    pub const MALFORMED: u32 = 2;
    /// The body is over the receiver's limit.
    pub const OVER_LIMIT: u32 = 3;
}

/// A tensor to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What the tensor is, in the protocol's terms; at most [`HEADER_LIMIT`] bytes.
    pub header: Bytes,
    /// The values.
    pub body: Bytes,
    /// What it may overtake.
    pub priority: Priority,
    /// The most this tensor may take, beside the limit of the whole connection.
    pub pace: Option<BytesPerSecond>,
}

/// Why a tensor could not be sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// The connection ended.
    #[error("the tensor was not sent: {0}")]
    Closed(#[source] CloseReason),
    /// The peer does not want it.
    #[error("the peer stopped the tensor's stream (code {code})")]
    Stopped {
        /// One of [`code`], or the protocol's own.
        code: u64,
    },
    /// The header is too long.
    #[error("the tensor's header has {len} bytes, at most {HEADER_LIMIT} are allowed")]
    HeaderTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped { code: code.into_inner() },
            WriteError::ConnectionLost(lost) => Self::Closed(lost.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed(CloseReason::Local),
        }
    }
}

/// A tensor that QUIC has taken; some of it may still wait to leave.
#[derive(Debug)]
pub struct Sent {
    stream: SendStream,
    /// Bytes of frame, header and body.
    pub len: u64,
    /// When the first byte was handed to QUIC.
    pub started_at: Instant,
    /// When QUIC took the last byte.
    pub taken_at: Instant,
    /// How long pacing, not the link, held it back. Above zero, its rate says little about the link.
    pub paced_for: Duration,
}

impl Sent {
    /// Waits until the peer's QUIC has all of it (not until its reader has).
    pub async fn acknowledged(&self) -> Result<(), SendError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(SendError::Stopped { code: code.into_inner() }),
            Err(quinn::StoppedError::ConnectionLost(lost)) => Err(SendError::Closed(lost.into())),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(SendError::Closed(CloseReason::Local)),
        }
    }

    /// Takes back what has not arrived: the receiver gets [`TensorError::Reset`], unless it had all of it.
    pub fn reset(mut self, code: u32) {
        // Fails only if it was reset already.
        let _ = self.stream.reset(VarInt::from_u32(code));
    }
}

/// Resets its stream when dropped before the end; QUIC by itself would call the part a whole.
struct Unfinished(Option<SendStream>);

impl Unfinished {
    async fn write(&mut self, piece: Bytes) -> Result<(), SendError> {
        match &mut self.0 {
            Some(stream) => Ok(stream.write_chunk(piece).await?),
            None => Err(SendError::Closed(CloseReason::Local)),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut stream) = self.0.take() {
            let _ = stream.reset(VarInt::from_u32(code::CANCELLED));
        }
    }
}

pub(super) async fn send(
    quic: &quinn::Connection,
    pacer: &Pacer,
    outgoing: Outgoing,
) -> Result<Sent, SendError> {
    let Outgoing { header, mut body, priority, pace } = outgoing;
    let too_long = SendError::HeaderTooLong { len: header.len() };
    let header_len =
        u16::try_from(header.len()).ok().filter(|len| usize::from(*len) <= HEADER_LIMIT).ok_or(too_long)?;
    let mut start = BytesMut::with_capacity(FRAME + header.len());
    start.extend_from_slice(&MAGIC);
    start.extend_from_slice(&header_len.to_le_bytes());
    start.extend_from_slice(&(body.len() as u64).to_le_bytes());
    start.extend_from_slice(&header);
    let len = (start.len() + body.len()) as u64;

    let stream = quic.open_uni().await.map_err(|error| SendError::Closed(error.into()))?;
    // Fails only for a finished stream, and this one is new.
    let _ = stream.set_priority(priority.of_stream());
    let mut stream = Unfinished(Some(stream));
    let own_pacer = pace.map(|rate| Pacer::new(Some(rate)));
    let started_at = Instant::now();
    let mut paced_for = Duration::ZERO;
    stream.write(start.freeze()).await?;
    while !body.is_empty() {
        // Asked each time: the connection's rate may change on the way.
        let burst = [pace, pacer.rate()].into_iter().flatten().map(BytesPerSecond::burst).min();
        let piece = body.split_to(burst.map_or(body.len(), |burst| burst.min(body.len())));
        let before = Instant::now();
        let mut waited = false;
        if let Some(own) = &own_pacer {
            waited |= own.take(piece.len()).await;
        }
        waited |= pacer.take(piece.len()).await;
        if waited {
            paced_for += before.elapsed();
        }
        stream.write(piece).await?;
    }
    let Some(mut stream) = stream.0.take() else { return Err(SendError::Closed(CloseReason::Local)) };
    // Fails only if the stream was finished before.
    let _ = stream.finish();
    Ok(Sent { stream, len, started_at, taken_at: Instant::now(), paced_for })
}

/// A tensor that has arrived.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What the tensor is, in the protocol's terms.
    pub header: Bytes,
    /// The values.
    pub body: AlignedBytes,
    /// When its stream appeared.
    pub first_byte_at: Instant,
    /// When the last byte was read.
    pub last_byte_at: Instant,
    /// Bytes of frame, header and body.
    pub len: u64,
    /// When half of the body had been read, and how many bytes came after that.
    timed: (Instant, usize),
}

impl Incoming {
    /// How long the whole tensor takes at the rate at which its second half came. The first half says
    /// less about the link: some of it had arrived before this side looked, or the sender's congestion
    /// window had to grow.
    pub fn transfer_time(&self) -> Duration {
        let (since, bytes) = self.timed;
        if bytes == 0 {
            return Duration::ZERO;
        }
        self.last_byte_at.saturating_duration_since(since).mul_f64(self.len as f64 / bytes as f64)
    }
}

/// Why a tensor could not be received. But for [`Closed`](Self::Closed) it concerns this stream only.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The connection ended.
    #[error("no tensor: {0}")]
    Closed(#[source] CloseReason),
    /// The sender took it back.
    #[error("the sender reset the tensor's stream (code {code})")]
    Reset {
        /// One of [`code`], or the protocol's own.
        code: u64,
    },
    /// The stream does not begin like a tensor.
    #[error(
        "a tensor's stream begins with {found:02x?}, not with {MAGIC:02x?}: the peer speaks another protocol"
    )]
    Magic {
        /// What it begins with.
        found: [u8; 2],
    },
    /// The stream ended before the body.
    #[error("a tensor's stream ended after {got} of {expected} bytes of frame and header")]
    Truncated {
        /// Bytes of frame, or of frame and header.
        expected: usize,
        /// How many arrived.
        got: usize,
    },
    /// The announced header is too long.
    #[error("a tensor's header has {len} bytes, at most {HEADER_LIMIT} are allowed")]
    HeaderTooLong {
        /// Its announced length in bytes.
        len: usize,
    },
    /// The announced body is too long; nothing was allocated for it.
    #[error("a tensor's body has {len} bytes, at most {limit} are expected here")]
    OverLimit {
        /// Its announced length in bytes.
        len: u64,
        /// What the caller allows.
        limit: usize,
    },
    /// The stream ended inside the body.
    #[error("a tensor's body ended after {got} of {expected} bytes")]
    Short {
        /// Its announced length in bytes.
        expected: usize,
        /// How many arrived.
        got: usize,
    },
    /// The stream went on after the body.
    #[error("a tensor's body goes on after its {expected} bytes")]
    Long {
        /// Its announced length in bytes.
        expected: usize,
    },
}

impl From<ReadError> for TensorError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset { code: code.into_inner() },
            ReadError::ConnectionLost(lost) => Self::Closed(lost.into()),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::Closed(CloseReason::Local)
            }
        }
    }
}

/// A tensor's stream that has begun to arrive. Dropping it tells the sender to stop.
#[derive(Debug)]
pub struct TensorStream {
    stream: RecvStream,
    first_byte_at: Instant,
}

impl TensorStream {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, first_byte_at: Instant::now() }
    }

    /// Reads the tensor, whose body may have `limit` bytes. A stream that breaks the rules is stopped.
    pub async fn receive(mut self, limit: usize) -> Result<Incoming, TensorError> {
        let received = self.read(limit).await;
        if let Err(error) = &received {
            let code = match error {
                TensorError::OverLimit { .. } => code::OVER_LIMIT,
                _ => code::MALFORMED,
            };
            // Fails where there is nothing left to stop.
            let _ = self.stream.stop(VarInt::from_u32(code));
        }
        received
    }

    /// Refuses the tensor unread; the sender gets [`SendError::Stopped`] with this code.
    pub fn refuse(mut self, code: u32) {
        let _ = self.stream.stop(VarInt::from_u32(code));
    }

    async fn read(&mut self, limit: usize) -> Result<Incoming, TensorError> {
        let mut frame = [0; FRAME];
        let got = self.fill(&mut frame, FRAME).await?;
        if got < FRAME {
            return Err(TensorError::Truncated { expected: FRAME, got });
        }
        let [m0, m1, h0, h1, body_len @ ..] = frame;
        if [m0, m1] != MAGIC {
            return Err(TensorError::Magic { found: [m0, m1] });
        }
        let header_len = usize::from(u16::from_le_bytes([h0, h1]));
        if header_len > HEADER_LIMIT {
            return Err(TensorError::HeaderTooLong { len: header_len });
        }
        let announced = u64::from_le_bytes(body_len);
        let over = TensorError::OverLimit { len: announced, limit };
        let expected = usize::try_from(announced).ok().filter(|len| *len <= limit).ok_or(over)?;

        let mut header = vec![0; header_len];
        let got = self.fill(&mut header, header_len).await?;
        if got < header_len {
            return Err(TensorError::Truncated { expected: FRAME + header_len, got: FRAME + got });
        }
        let mut body = Filling::with_capacity(expected);
        // When half of it is here, with what is missing then; when all is.
        let (mut timed, mut last_byte_at) = (None, None);
        let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
        while let Some(count) = self.stream.read_chunks(&mut pieces).await? {
            for piece in &mut pieces[..count] {
                let piece = std::mem::take(piece);
                if piece.len() > expected - body.len() {
                    return Err(TensorError::Long { expected });
                }
                body.push(&piece);
            }
            if timed.is_none() && body.len() >= expected / 2 {
                timed = Some((Instant::now(), expected - body.len()));
            }
            if last_byte_at.is_none() && body.len() == expected {
                last_byte_at = Some(Instant::now());
            }
        }
        let last_byte_at = last_byte_at.unwrap_or_else(Instant::now);
        if body.len() < expected {
            return Err(TensorError::Short { expected, got: body.len() });
        }
        Ok(Incoming {
            header: header.into(),
            body: body.finish(),
            first_byte_at: self.first_byte_at,
            last_byte_at,
            len: (FRAME + header_len + expected) as u64,
            timed: timed.unwrap_or((last_byte_at, 0)),
        })
    }

    /// Reads what there is until at least `least` bytes of `target` are filled or the stream ends;
    /// returns how much was read.
    async fn fill(&mut self, target: &mut [u8], least: usize) -> Result<usize, ReadError> {
        let mut got = 0;
        while got < least {
            match self.stream.read(&mut target[got..]).await? {
                Some(count) => got += count,
                None => break,
            }
        }
        Ok(got)
    }
}
