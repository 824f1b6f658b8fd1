//! The control stream: messages in order, each with its length before it.
//!
//! ```text
//! 0        4                  4 + length
//! +--------+------------------+
//! | length | message          |      length: u32, little-endian
//! +--------+------------------+
//! ```

use quinn::{ReadError, RecvStream, SendStream, WriteError};
use thiserror::Error;

use super::CloseReason;

/// Bytes of the length before a message.
const PREFIX: usize = 4;
/// Tells the peer that its message was over the limit.
const OVER_LIMIT: u32 = 1;

/// Why a control message could not be sent or received. The stream is of no more use then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ControlError {
    /// The connection ended.
    #[error("the control stream is gone: {0}")]
    Closed(#[source] CloseReason),
    /// Someone else has this connection's control stream.
    #[error("this connection's control stream was already taken: there is one per connection")]
    Taken,
    /// A message is too long.
    #[error("a control message of {len} bytes is over the limit of {limit} (`control_limit`)")]
    OverLimit {
        /// Its length in bytes.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The stream ended inside a message.
    #[error("the control stream ended after {got} of {expected} bytes of a message")]
    Truncated {
        /// Bytes of the message, or of the length before it.
        expected: usize,
        /// How many arrived.
        got: usize,
    },
    /// The peer gave up this direction of the stream.
    #[error("the peer abandoned the control stream (code {code})")]
    Abandoned {
        /// The code it gave.
        code: u64,
    },
}

/// The sending half.
#[derive(Debug)]
pub struct ControlSender {
    stream: SendStream,
    limit: usize,
}

impl ControlSender {
    pub(super) fn new(stream: SendStream, limit: usize) -> Self {
        Self { stream, limit }
    }

    /// Sends one message. A future dropped half-way leaves half a message: let it finish.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ControlError> {
        let over = ControlError::OverLimit { len: message.len(), limit: self.limit };
        let len = u32::try_from(message.len()).map_err(|_| over.clone())?;
        if message.len() > self.limit {
            return Err(over);
        }
        let write = async {
            self.stream.write_all(&len.to_le_bytes()).await?;
            self.stream.write_all(message).await
        };
        write.await.map_err(|error| match error {
            WriteError::ConnectionLost(lost) => ControlError::Closed(lost.into()),
            WriteError::Stopped(code) => ControlError::Abandoned { code: code.into_inner() },
            WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                ControlError::Closed(CloseReason::Local)
            }
        })
    }

    /// Says that no more messages follow: the peer's receiver ends with `None`.
    pub fn finish(&mut self) {
        // Fails only if it is finished already.
        let _ = self.stream.finish();
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: RecvStream,
    limit: usize,
    /// What has arrived of the message under way. Kept here so that a dropped future loses nothing.
    prefix: [u8; PREFIX],
    message: Option<Vec<u8>>,
    got: usize,
}

impl ControlReceiver {
    pub(super) fn new(stream: RecvStream, limit: usize) -> Self {
        Self { stream, limit, prefix: [0; PREFIX], message: None, got: 0 }
    }

    /// The next message, or `None` when the peer has finished. May be dropped and called again.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, ControlError> {
        loop {
            let target = self.message.as_mut().map_or(&mut self.prefix[..], |message| &mut message[..]);
            let expected = target.len();
            if self.got < expected {
                match self.stream.read(&mut target[self.got..]).await {
                    Ok(Some(count)) => self.got += count,
                    Ok(None) if self.got == 0 && self.message.is_none() => return Ok(None),
                    Ok(None) => return Err(ControlError::Truncated { expected, got: self.got }),
                    Err(error) => return Err(receive_error(error)),
                }
                continue;
            }
            self.got = 0;
            if let Some(message) = self.message.take() {
                return Ok(Some(message));
            }
            let len = u32::from_le_bytes(self.prefix) as usize;
            if len > self.limit {
                let _ = self.stream.stop(OVER_LIMIT.into());
                return Err(ControlError::OverLimit { len, limit: self.limit });
            }
            self.message = Some(vec![0; len]);
        }
    }
}

fn receive_error(error: ReadError) -> ControlError {
    match error {
        ReadError::Reset(code) => ControlError::Abandoned { code: code.into_inner() },
        ReadError::ConnectionLost(lost) => ControlError::Closed(lost.into()),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            ControlError::Closed(CloseReason::Local)
        }
    }
}
